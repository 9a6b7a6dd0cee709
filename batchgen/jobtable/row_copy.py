"""The rows of batches, from one job table into another: by pages, in the order of keys, with a digest of each table.

Nothing is listed by hand: a table belongs to a batch if its foreign keys lead to `batches`; the others, such as limits
and prices, are the account's. Ids stay as they are in an empty table. Where other batches are, all ids of a table are
raised by the greatest one that is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, Table, Text, func, insert, select, text
from sqlalchemy.exc import DataError, IntegrityError

from batchgen.catalogue.amounts import json_default
from batchgen.errors import StorageError
from batchgen.jobtable.engine import allow_idle
from batchgen.jobtable.schema import batches, jobs, metadata, moves

PAGE_ROWS = 1_000
"""Rows in one page: bounds the memory, and is large enough that the size no longer matters."""
PAGE_CHARS = 8_000_000
"""Characters of requests in one page: some hold whole images."""

BatchIds = Collection[int] | None
"""The row ids of batches; None stands for every batch of a table."""
Keys = Collection[tuple[Any, ...]]
"""The primary keys of rows."""


def parent_of(table: Table) -> tuple[ColumnElement[Any], Table] | None:
    """The column and the table by which a row belongs to a batch; None for a table that refers to no other."""
    keys = (key for column in table.columns for key in column.foreign_keys if key.column.table is not table)
    return next(((key.parent, key.column.table) for key in keys), None)


TABLES = [table for table in metadata.sorted_tables if table is not moves]
BATCH_TABLES = [table for table in TABLES if table is batches or parent_of(table)]
"""The tables whose rows belong to a batch. Each comes before the tables that refer to it."""
ACCOUNT_TABLES = [table for table in TABLES if table not in BATCH_TABLES]
NUMBERED_TABLES = [
    table for table in BATCH_TABLES if [(key.name, type(key.type)) for key in table.primary_key] == [("id", Integer)]
]
"""The tables whose keys the database counts."""


class Digest:
    """How many rows were read, and the SHA-256 over them: one JSON list a row, times in ISO 8601, money as text."""

    def __init__(self) -> None:
        self.rows = 0
        self.sha256 = hashlib.sha256()

    def add(self, values: Collection[Any]) -> None:
        self.rows += 1
        self.sha256.update(encode(list(values)).encode() + b"\n")

    def __str__(self) -> str:
        return f"{self.rows} {self.sha256.hexdigest()}"


encode = json.JSONEncoder(default=json_default).encode


def in_batches(table: Table, batch_ids: Collection[int]) -> ColumnElement[bool]:
    """SQL: a row belongs to one of these batches."""
    if table is batches:
        return batches.c.id.in_(batch_ids)
    parent = parent_of(table)
    assert parent, f"{table.name} belongs to no batch"
    column, owner = parent
    if owner is batches:
        return column.in_(batch_ids)
    return column.in_(select(*owner.primary_key).where(in_batches(owner, batch_ids)))


def page_rows(connection: Connection, table: Table) -> int:
    if table is not jobs:
        return PAGE_ROWS
    longest = connection.execute(select(func.max(func.length(jobs.c.request)))).scalar() or 1
    return max(1, min(PAGE_ROWS, PAGE_CHARS // longest))


def read_rows(
    connection: Connection, table: Table, batch_ids: BatchIds = None, present: Keys = ()
) -> Iterator[list[Row[Any]]]:
    """The rows of a table, or of its batches, by pages; without those whose keys are `present` in the other table.

    In the order of the key, which is that of bytes in every database.
    """
    keys = [key.name for key in table.primary_key]
    is_sqlite = connection.dialect.name == "sqlite"
    order = (key.collate("C") if isinstance(key.type, Text) and not is_sqlite else key for key in table.primary_key)
    statement = select(table).order_by(*order)
    if batch_ids is not None:
        statement = statement.where(in_batches(table, batch_ids))
    result = connection.execute(statement, execution_options={"yield_per": page_rows(connection, table)})
    for page in result.partitions():
        yield [row for row in page if not present or tuple(getattr(row, key) for key in keys) not in present]


def digest(connection: Connection, table: Table, batch_ids: BatchIds = None, present: Keys = ()) -> Digest:
    """The digest of a table's rows, or of its batches, without those whose keys were `present` before."""
    result = Digest()
    for page in read_rows(connection, table, batch_ids, present):
        for row in page:
            result.add(row)
    return result


def entangled_table(connection: Connection, batch_ids: Collection[int]) -> str | None:
    """A table with a row of these batches that refers to a row of another batch, or the other way round."""
    for table in BATCH_TABLES:
        for key in table.foreign_keys:
            column = key.parent
            is_owned = column.in_(select(key.column).where(in_batches(key.column.table, batch_ids)))
            crossing = select(column).where(column.is_not(None), in_batches(table, batch_ids) != is_owned).limit(1)
            if connection.execute(crossing).first():
                return table.name
    return None


def last_ids(connection: Connection) -> dict[str, int]:
    """The greatest id of every table whose keys are counted; 0 for an empty one."""
    return {
        table.name: connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()
        for table in NUMBERED_TABLES
    }


def offsets_of(table: Table, last: Mapping[str, int]) -> dict[str, int]:
    """By how much the ids in the columns of a table are raised."""
    offsets = {"id": last[table.name]} if table in NUMBERED_TABLES else {}
    offsets |= {key.parent.name: last.get(key.column.table.name, 0) for key in table.foreign_keys}
    return {name: offset for name, offset in offsets.items() if offset}


def copy_rows(pages: Iterable[list[Row[Any]]], target: Connection, table: Table, last: Mapping[str, int]) -> Digest:
    """Insert rows, their ids raised by the `last` ids of the target. Returns the digest of what was inserted.

    Raises `StorageError` where the target refuses a row.
    """
    result, offsets, names = Digest(), offsets_of(table, last), table.columns.keys()
    for page in pages:
        rows = [dict(zip(names, row, strict=True)) for row in page]
        for row in rows:
            for name, offset in offsets.items():
                if row[name] is not None:
                    row[name] += offset
            result.add(row.values())
        try:
            if rows:
                target.execute(insert(table), rows)
        except (IntegrityError, DataError) as error:
            raise StorageError(
                f"TO refuses rows of the table {table.name}: {str(error.orig).strip()}. Nothing has been copied"
            ) from error
    return result


def prepare(connection: Connection) -> None:
    """Let PostgreSQL check references at the end of the transaction, because jobs and attempts refer to one another."""
    allow_idle(connection)
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET CONSTRAINTS ALL DEFERRED")


def finish(connection: Connection) -> None:
    """Check the references, and let PostgreSQL count on from the greatest id of each table. SQLite does that itself."""
    if connection.dialect.name == "sqlite":
        if orphans := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
            raise StorageError(f"{len(orphans)} rows would refer to rows that do not exist, so nothing was copied")
        return
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    for name, last in last_ids(connection).items():
        if last:
            params = {"name": name, "last": last}
            connection.execute(text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :last)"), params)

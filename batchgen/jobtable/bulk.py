"""Rows by the thousand: past the expression language, which takes longer over a row than the database does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Table, literal

CHUNK_ROWS = 1_000

Row = tuple[Any, ...]


def pour(
    connection: Connection, table: Table, alike: Mapping[str, Any], names: Sequence[str], rows: Iterable[Row]
) -> None:
    """Insert `rows`, which hold the columns `names` (of text and whole numbers), each with the values `alike`."""
    dialect = connection.dialect
    fixed = (literal(value, table.c[name].type) for name, value in alike.items())
    same = ", ".join(str(each.compile(dialect=dialect, compile_kwargs={"literal_binds": True})) for each in fixed)
    into = f"INTO {table.name} ({', '.join((*alike, *names))})"
    if dialect.name == "sqlite":
        order = f"INSERT {into} VALUES ({same}, {', '.join('?' * len(names))})"  # noqa: S608  our own names
        for piece in pieces(rows):
            connection.exec_driver_sql(order, piece)
        return
    # One statement for a whole piece, so that what a statement sets off is set off once.
    lists = ", ".join(f"%s::{table.c[name].type.compile(dialect)}[]" for name in names)
    order = f"INSERT {into} SELECT {same}, given.* FROM unnest({lists}) AS given"  # noqa: S608
    for piece in pieces(rows):
        connection.exec_driver_sql(order, tuple(list(column) for column in zip(*piece, strict=True)))


def pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Pieces small enough for one statement."""
    waiting = iter(rows)
    while piece := list(islice(waiting, CHUNK_ROWS)):
        yield piece

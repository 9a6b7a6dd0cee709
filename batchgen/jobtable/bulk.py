"""Rows by the thousand: past the expression language, which takes longer over a row than the database does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from sqlalchemy import Connection, Table, literal

CHUNK_ROWS = 250
"""In one statement. Whatever a statement has to set up to be undone, and what it sets off, is done once for them."""

Row = tuple[Any, ...]


def bulk_insert(
    connection: Connection, table: Table, alike: Mapping[str, Any], names: Sequence[str], rows: Iterable[Row]
) -> None:
    """Insert `rows`, which hold the columns `names` (of text and whole numbers), each with the values `alike`."""
    dialect = connection.dialect
    fixed = (literal(value, table.c[name].type) for name, value in alike.items())
    same = [str(each.compile(dialect=dialect, compile_kwargs={"literal_binds": True})) for each in fixed]
    sign = "?" if dialect.paramstyle == "qmark" else "%s"
    one = f"({', '.join((*same, *[sign] * len(names)))})"
    into = f"INSERT INTO {table.name} ({', '.join((*alike, *names))}) VALUES "  # noqa: S608  our own names
    for piece in pieces(rows):
        connection.exec_driver_sql(into + ", ".join([one] * len(piece)), tuple(chain.from_iterable(piece)))


def pieces(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """As many at a time as one statement takes."""
    waiting = iter(rows)
    while piece := list(islice(waiting, CHUNK_ROWS)):
        yield piece

"""Guarded UPDATEs, built once: what a statement tests and sets is known by name, and only values travel.

Building an SQLAlchemy expression costs several times what the database takes to run it, and a job meets a dozen.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, Connection, Table, Update, bindparam, update

from batchgen.jobtable.prepared import Prepared


class Increment(int):
    """A value to add to a column rather than put in its place."""


@cache
def statement(
    table: Table, guards: tuple[str, ...], choices: tuple[str, ...], values: tuple[str, ...], sums: tuple[str, ...]
) -> Update:
    """UPDATE `table`: set `values`, add to `sums`, where `guards` equal their values and `choices` are among theirs."""

    def given(prefix: str, name: str, *, several: bool = False) -> BindParameter[Any]:
        return bindparam(prefix + name, type_=table.c[name].type, expanding=several)

    return (
        update(table)
        .where(*(table.c[name] == given("is_", name) for name in guards))
        .where(*(table.c[name].in_(given("is_", name, several=True)) for name in choices))
        .values(**{name: given("to_", name) for name in values})
        .values(**{name: table.c[name] + given("to_", name) for name in sums})
    )


def guarded_update(connection: Connection, table: Table, guard: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Set `values` in the one row that `guard` describes; False where there is none.

    A list in `guard` means any of its members; a `Plus` in `values` is added.
    """
    choices = tuple(name for name, value in guard.items() if isinstance(value, list))
    guards = tuple(name for name in guard if name not in choices)
    sums = tuple(name for name, value in values.items() if isinstance(value, Increment))
    plain = tuple(name for name in values if name not in sums)
    given = {f"is_{name}": value for name, value in guard.items()}
    given |= {f"to_{name}": value for name, value in values.items()}
    if choices:
        return connection.execute(statement(table, guards, choices, plain, sums), given).rowcount == 1
    return prepared(table, guards, plain, sums).run(connection, given) == 1


@cache
def prepared(table: Table, guards: tuple[str, ...], values: tuple[str, ...], sums: tuple[str, ...]) -> Prepared:
    return Prepared(statement(table, guards, (), values, sums))

"""Statements made ready once: their words, and what turns values into the driver's and back.

SQLAlchemy's way from an expression to the driver takes longer than the database takes for what a run repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, Dialect, Select
from sqlalchemy.sql.dml import UpdateBase

Turn = Callable[[Any], Any]
Given = Mapping[str, Any]
Statement = Select[Any] | UpdateBase


class Value(NamedTuple):
    """A value of a statement: its name there, what turns it into the driver's, and what it is where none is given."""

    name: str
    turn: Turn | None
    default: Any


class Ready:
    """A statement for one kind of database."""

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.words = str(compiled)
        assert "POSTCOMPILE" not in self.words, self.words
        names = compiled.positiontup if compiled.positional else list(compiled.binds)
        self.by_name = not compiled.positional
        self.values = [value_of(compiled.binds[name], name, dialect) for name in names or ()]
        self._types = [column.type.dialect_impl(dialect) for column in statement.exported_columns]
        self._dialect = dialect
        self._turns: Sequence[Turn | None] = ()

    def fill(self, given: Given) -> Any:
        """The values of one execution, as the driver takes them."""
        found = [
            (turn(given[name]) if turn else given[name]) if name in given else default
            for name, turn, default in self.values
        ]
        return dict(zip((each.name for each in self.values), found, strict=True)) if self.by_name else tuple(found)

    def read(self, rows: Sequence[Sequence[Any]], description: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        """Rows of the driver's, with Python's values. `description` is what the driver says of their columns."""
        if not self._turns:
            kinds = (column[1] for column in description)
            self._turns = [
                each.result_processor(self._dialect, kind) for each, kind in zip(self._types, kinds, strict=True)
            ]
        return [
            tuple(turn(each) if turn else each for turn, each in zip(self._turns, row, strict=True)) for row in rows
        ]


class Prepared:
    """A statement whose values are bound parameters, none of them a list: that would have as many forms as lengths."""

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self._ready: dict[str, Ready] = {}

    def run(self, connection: Connection, given: Given) -> int:
        """Returns how many rows were changed."""
        ready = self._for(connection)
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(ready.words, ready.fill(given))
            return cursor.rowcount

    def run_many(self, connection: Connection, given: Sequence[Given]) -> None:
        """The same with several sets of values."""
        ready = self._for(connection)
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(ready.words, [ready.fill(each) for each in given])

    def rows(self, connection: Connection, given: Given) -> list[tuple[Any, ...]]:
        """What is selected or returned."""
        ready = self._for(connection)
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(ready.words, ready.fill(given))
            return ready.read(cursor.fetchall(), cursor.description or ())

    def row(self, connection: Connection, given: Given) -> tuple[Any, ...] | None:
        """The first of them."""
        return next(iter(self.rows(connection, given)), None)

    def _for(self, connection: Connection) -> Ready:
        dialect = connection.dialect
        ready = self._ready.get(dialect.name)
        if ready is None:
            ready = self._ready[dialect.name] = Ready(self.statement, dialect)
        return ready


def value_of(bind: BindParameter[Any], name: str, dialect: Dialect) -> Value:
    turn = bind.type.dialect_impl(dialect).bind_processor(dialect)
    default = bind.effective_value
    return Value(name, turn, turn(default) if turn and default is not None else default)

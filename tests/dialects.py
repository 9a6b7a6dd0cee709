"""SQLAlchemy's dialects, with one store of compiled statements for all databases of a process.

SQLAlchemy compiles a statement once for each engine. A process of batchgen opens one database, and pays for that once;
the tests open thousands, and a quarter of their time went into compiling the same statements. An engine may be given a
store (`compiled_cache`), whose keys hold the dialect: equal dialects share what is compiled.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

COMPILED: dict[Any, Any] = {}


class Shared:
    """A dialect that equals any other of its class: one library and one server serve all databases of a process."""

    supports_statement_cache = True

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=COMPILED)


class SQLite(Shared, SQLiteDialect_pysqlite):
    supports_statement_cache = True  # SQLAlchemy looks for it in the class itself


class PostgreSQL(Shared, PGDialect_psycopg):
    supports_statement_cache = True


registry.register("sqlite", __name__, SQLite.__name__)
registry.register("postgresql", __name__, PostgreSQL.__name__)

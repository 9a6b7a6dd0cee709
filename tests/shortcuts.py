"""What begins every run and takes longer than most: a new job table, and the children that decode its videos.

Migrations and children have their own tests; a run of an interpreter of its own takes no shortcut.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, inspect

from batchgen import downloader, runner
from batchgen.doctor import machine
from batchgen.files import checker, video
from batchgen.jobtable import migrations
from batchgen.review import posters

USERS: tuple[Any, ...] = (downloader, runner, machine, posters)
"""The modules whose checkers have children."""
TASKS: dict[str, Callable[..., dict[str, Any]]] = {"check": video.check, "sample": video.sample}
MIGRATE = migrations.migrate


class CheckerInProcess(checker.Checker):
    """Asks no child, but the function that a child would call."""

    async def _ask(self, task: str, path: Path, _seconds: int, read: Callable[[Any], Any], *arguments: Any) -> Any:
        answer = json.loads(json.dumps(await asyncio.to_thread(video.outcome_of, TASKS[task], path, *arguments)))
        if error := checker.read_error(answer):
            raise error
        return read(answer)


@cache
def statements() -> tuple[str, ...]:
    """What makes the tables, indexes and views of a new job table in SQLite."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        MIGRATE(connection)
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
        schema = tuple(made.scalars())
    engine.dispose()
    return (*schema, f"INSERT INTO alembic_version VALUES ('{migrations.HEAD}')")


def migrate(connection: Connection, target: str = "head") -> None:
    """A new table of SQLite is made as the migrations leave it; any other one goes through them."""
    if connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
        MIGRATE(connection, target)
        return
    for statement in statements():
        connection.exec_driver_sql(statement)


def take_shortcuts() -> None:
    decode(CheckerInProcess)
    migrations.migrate = migrate


def decode(kind: type[checker.Checker]) -> None:
    """Use this checker in every run."""
    for module in USERS:
        module.Checker = kind

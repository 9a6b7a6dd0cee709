"""Options that several commands share. It imports nothing heavy, because `--help` imports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from batchgen.advice.command_line import command_line, without_redo
from batchgen.errors import UsageError

C = TypeVar("C", bound=Callable[..., Any])

manifest = click.argument("manifest", type=click.Path(path_type=Path))
ids = click.argument("ids", nargs=-1)
db = click.option(
    "--db",
    envvar="BATCHGEN_DB",
    callback=lambda _ctx, _param, db: db and db.strip(),  # blanks round a variable are a slip
    metavar="PATH-OR-URL",
    help="The job table: a file or an SQLAlchemy URL. Default: batchgen.db beside the manifest, or here without one."
    "  [env: BATCHGEN_DB]",
)
with_simulator = click.option(
    "--simulate",
    is_flag=True,
    help="Use the built-in simulator: offline, free, 120 times faster. The batch gets a name and a folder of its own.",
)
simulate = click.option(
    "--simulate", is_flag=True, help="The batch that `run --simulate` has made of this manifest, not the real one."
)
validate = click.option(
    "--validate/--no-validate",
    default=True,
    help="Check models and parameters against the catalogue. Off: for a model that is newer than the catalogue.",
)
json_lines = click.option("--json", "as_json", is_flag=True, help="Write JSON lines, and nothing else, to stdout.")


class FilePath(click.Path):
    """The path of a file to write. A folder is refused, with a file in it as an example."""

    def __init__(self, example: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        refuse_folder(value, self.example)
        return super().convert(value, param, ctx)


def refuse_folder(path: str, example: str) -> None:
    """Raise `UsageError` for a folder, there or not: of a / at the end, a `Path` would show nothing."""
    if path.endswith(("/", os.sep)) or Path(path).is_dir():
        raise UsageError(f"{path}: this is a folder; name a file in it, such as {Path(path) / example}")


def add(*options: Callable[[C], C]) -> Callable[[C], C]:
    """A decorator that adds these options to a command, in this order."""

    def decorate(command: C) -> C:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


batch = add(manifest, db, simulate)
batch_table = add(db, simulate, json_lines)
"""For commands that take something else between the manifest and where its batch is."""
jobs_of_batch = add(manifest, ids, batch_table)


def same_command() -> str:
    """The command to type that goes on where the one that is running stops."""
    return without_redo(sys.argv[1:])


def quoted_command(name: str) -> str:
    """Another command on the same manifest and job table, for a person to type: `batchgen retry m.yaml`."""
    return f"`{command_to_type(name)}`"


def command_to_type(name: str) -> str:
    """The command to type, without backquotes, for programs."""
    context = click.get_current_context()
    manifest, simulate = context.params.get("manifest") or "MANIFEST", bool(context.params.get("simulate"))
    return command_line(name, manifest, simulate=simulate, db=db_option_as_typed())


def db_option_as_typed() -> str | None:
    """The job table that was named on the command line: another command has to name it too."""
    context = click.get_current_context()
    is_typed = context.get_parameter_source("db") is ParameterSource.COMMANDLINE
    return context.params["db"] if is_typed else None

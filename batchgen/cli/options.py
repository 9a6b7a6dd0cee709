"""Options that several commands share. It imports nothing heavy, because `--help` imports it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from batchgen import clock
from batchgen.advice.command_line import command_line, without_redo
from batchgen.errors import UsageError
from batchgen.report.terminal import keep_stdout

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


def keep(ctx: click.Context, _option: click.Parameter, as_json: bool) -> bool:
    """Standard output is for JSON alone, also where a plug-in prints."""
    if as_json and not ctx.resilient_parsing:  # of a shell that completes a command
        keep_stdout()
    return as_json


json_lines = click.option(
    "--json", "as_json", is_flag=True, callback=keep, help="Write JSON lines, and nothing else, to stdout."
)


class FilePath(click.Path):
    """The path of a file to write. A folder is refused, with a file in it as an example."""

    def __init__(self, example: str) -> None:
        super().__init__(dir_okay=False, path_type=Path)
        self.example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        refuse_elsewhere(value)
        refuse_folder(value, self.example)
        return super().convert(value, param, ctx)


def refuse_elsewhere(path: str) -> None:
    """Raise `UsageError` for an address, and for a ~ that no shell has filled in: folders of these names would be made.

    Who is shown a folder ~ may remove his own.
    """
    if re.match(r"[a-z][a-z0-9+.-]+://", path, re.IGNORECASE):
        raise UsageError(f"{path}: this command writes to a disk, not to an address; name a file, and pass that on")
    if path.startswith("~") and not Path(path).parent.exists():
        raise UsageError(f"{path}: no shell has filled in the ~ here; write the whole path")


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


def moment(text: str) -> datetime:
    """A date and time, or a time of day: the next one to come. In this machine's time zone unless it names one."""
    now = clock.utcnow().astimezone()
    try:
        if re.fullmatch(r"\d?\d:\d\d", text):
            hour, minute = map(int, text.split(":"))
            # Without an offset until the day is chosen: summer time may begin or end before then, or tell a time twice.
            today = now.replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None)
            to_come = (today, today.replace(fold=1), today + timedelta(days=1))
            return next(time for time in (local.astimezone() for local in to_come) if time > now)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text[:60]!r} is not a time such as 08:00 or 2026-03-01T08:00") from None


OVERRIDES = "overrides the manifest's limit; auto: learned from the service's answers."
limits_and_selection = add(
    click.option("--submits-per-minute", metavar="NUMBER|auto", help=f"Create requests; {OVERRIDES}"),
    click.option("-j", "--in-flight", metavar="NUMBER|auto", help=f"Videos in flight; {OVERRIDES}"),
    click.option("--downloads", metavar="NUMBER", help="Files fetched at one time; overrides the manifest's limit."),
    click.option("--max-cost", metavar="USD", help="The most that the whole batch may cost, earlier runs included."),
    click.option("--until", type=moment, metavar="TIME", help="Send only jobs likely to be done by then (08:00)."),
    click.option(
        "--only",
        multiple=True,
        callback=lambda _context, _option, patterns: patterns or None,
        metavar="GLOB",
        help="Send only jobs whose id matches. Repeatable.",
    ),
    click.option(
        "--where",
        metavar="SQL",
        help="Send only jobs whose row in the table `jobs` meets this condition; `key` is the manifest's id.",
    ),
    click.option(
        "--sample", type=click.IntRange(1), metavar="N", help="Send only so many jobs, drawn by id: always the same."
    ),
    click.option(
        "--limit", type=click.IntRange(1), metavar="N", help="Send only so many jobs, the first ones: always the same."
    ),
)
"""The options of `run` and `plan`: limits, and which jobs may be sent."""


def name_simulation() -> None:
    """Let the commands to type name the simulation, whatever was typed: they must not buy."""
    click.get_current_context().params["simulate"] = True


def same_command() -> str:
    """The command to type that goes on where the one that is running stops."""
    return without_redo([sys.argv[1], *typed_arguments()])


def typed_arguments() -> list[str]:
    """What was typed after the name of the command, with --simulate where that is meant."""
    typed = sys.argv[2:]
    is_unsaid = click.get_current_context().params.get("simulate") and "--simulate" not in typed
    return [*(["--simulate"] if is_unsaid else []), *typed]


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

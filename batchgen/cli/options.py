"""Options that several commands share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from batchgen import clock

C = TypeVar("C", bound=Callable[..., Any])

manifest_argument = click.argument("manifest", type=click.Path(path_type=Path))

db_option = click.option(
    "--db",
    envvar="BATCHGEN_DB",
    metavar="PATH-OR-URL",
    help="The job table: a file or an SQLAlchemy URL. Default: batchgen.db beside the manifest.  [env: BATCHGEN_DB]",
)

simulate_option = click.option(
    "--simulate",
    is_flag=True,
    help="Use the built-in simulator: offline, free, time-compressed. The batch gets a name and a folder of its own.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON lines to standard output, and nothing else."
)


def amount(given: str) -> Decimal:
    """USD, exact."""
    try:
        found = Decimal(given)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found <= 0:
        raise click.BadParameter(f"{given!r} is not an amount in USD, such as 50.00")
    return found


def moment(given: str) -> datetime:
    """A time of day, which is the next one to come, or a date and time; of this machine's zone unless it names one."""
    now = clock.utcnow().astimezone()
    try:
        if re.fullmatch(r"\d?\d:\d\d", given):
            hour, minute = map(int, given.split(":"))
            today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return today if today > now else today + timedelta(days=1)
        return datetime.fromisoformat(given).astimezone()
    except ValueError:
        raise click.BadParameter(f"{given!r} is not a time such as 08:00 or 2026-03-01T08:00") from None


def terms_options(command: C) -> C:
    """What a run may send: the cap, the time, the selection."""
    given = (
        click.option(
            "--max-cost",
            type=amount,
            metavar="USD",
            help="USD that the whole batch may cost, with all it has cost already. Instead of the manifest's.",
        ),
        click.option(
            "--until",
            type=moment,
            metavar="TIME",
            help="Send nothing that would not be done by then (08:00).",
        ),
        click.option("--only", multiple=True, metavar="GLOB", help="Send only jobs whose id fits. Repeatable."),
        click.option("--where", metavar="SQL", help="Send only jobs for which this holds of their row in the table."),
        click.option("--sample", type=click.IntRange(1), help="Send only so many, drawn by id: always the same."),
        click.option("--limit", type=click.IntRange(1), help="Send only the first so many: always the same."),
    )
    for option in reversed(given):
        command = option(command)
    return command


class OrAuto(click.ParamType[Any]):
    """What `within` takes, or the word auto: to be found as the run goes."""

    def __init__(self, within: click.ParamType[Any]) -> None:
        self.within, self.name = within, within.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - what click asks for
        return "NUMBER|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto":
            return value
        try:
            return self.within.convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message.rstrip('.')}; or auto", param, ctx)


def limits_options(command: C) -> C:
    """Limits to use instead of the manifest's."""
    given = (
        click.option(
            "--submits-per-minute",
            type=OrAuto(click.FloatRange(min=0, min_open=True)),
            help="Instead of the manifest's; auto: as the account turns out to allow.",
        ),
        click.option(
            "-j",
            "--in-flight",
            type=OrAuto(click.IntRange(1, 1000)),
            help="Videos generated at once, instead of the manifest's; auto: as the account turns out to allow.",
        ),
        click.option(
            "--downloads", type=click.IntRange(1, 32), help="Files downloaded at once, instead of the manifest's."
        ),
    )
    for option in reversed(given):
        command = option(command)
    return command


validate_option = click.option(
    "--validate/--no-validate",
    default=True,
    help="Check models and parameters against the catalogue. Off: for a model that is newer than it.",
)


def place_of(db: str | None, manifest: Path) -> str | Path:
    """Where the job table lies: as told, else beside the manifest, whatever the working directory."""
    return db or manifest.absolute().parent / "batchgen.db"


def is_there(place: str | Path) -> bool:
    """Whether there is a job table, as far as can be said without opening it."""
    return "://" in str(place) or Path(place).exists()


def again(command: str) -> str:
    """Another command on the same manifest and job table, to be typed by a person: ``batchgen retry m.yaml``."""
    context = click.get_current_context()
    words = ["batchgen", command, shlex.quote(str(context.params.get("manifest") or "MANIFEST"))]
    if context.params.get("simulate"):
        words.append("--simulate")
    if context.get_parameter_source("db") is ParameterSource.COMMANDLINE:
        db = str(context.params["db"])
        words += ["--db", "URL" if "://" in db else shlex.quote(db)]  # a URL may hold a password
    return f"`{' '.join(words)}`"

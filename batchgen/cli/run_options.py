"""The options of `run` and `plan`: limits instead of the manifest's, and which jobs may be sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from batchgen import clock
from batchgen.jobtable.selection import Selection
from batchgen.manifest import AUTO, Limits

C = TypeVar("C", bound=Callable[..., Any])


def usd(text: str) -> Decimal:
    """An exact amount in USD, more than zero."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount <= 0:
        raise click.BadParameter(f"{text!r} is not an amount in USD, such as 50.00")
    return amount


def moment(text: str) -> datetime:
    """A date and time, or a time of day: the next one to come. In this machine's time zone unless it names one."""
    now = clock.utcnow().astimezone()
    try:
        if re.fullmatch(r"\d?\d:\d\d", text):
            hour, minute = map(int, text.split(":"))
            today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return today if today > now else today + timedelta(days=1)
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time such as 08:00 or 2026-03-01T08:00") from None


class OrAuto(click.ParamType[Any]):
    """A number, or the word auto: the limit is learned from the account's answers."""

    def __init__(self, number: click.ParamType[Any]) -> None:
        self.number, self.name = number, number.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002 - click calls it so
        return "NUMBER|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == AUTO:
            return value
        try:
            return self.number.convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message.rstrip('.')}; or auto", param, ctx)


OPTIONS = (
    click.option(
        "--submits-per-minute",
        type=OrAuto(click.FloatRange(min=0, min_open=True)),
        help="Instead of the manifest's limit; auto: learned from the account's answers.",
    ),
    click.option(
        "-j",
        "--in-flight",
        type=OrAuto(click.IntRange(1, 1000)),
        help="Videos generated at the same time, instead of the manifest's limit; auto: learned.",
    ),
    click.option(
        "--downloads",
        type=click.IntRange(1, 32),
        help="Files downloaded at the same time, instead of the manifest's limit.",
    ),
    click.option(
        "--max-cost",
        type=usd,
        metavar="USD",
        help="USD that the whole batch may cost, with all that it has cost so far, instead of the manifest's cap.",
    ),
    click.option(
        "--until", type=moment, metavar="TIME", help="Send only jobs that are likely to be done by then (08:00)."
    ),
    click.option("--only", multiple=True, metavar="GLOB", help="Send only jobs whose id matches. Repeatable."),
    click.option("--where", metavar="SQL", help="Send only jobs whose row in the table `jobs` meets this condition."),
    click.option(
        "--sample", type=click.IntRange(1), metavar="N", help="Send only N jobs, drawn by their ids: always the same."
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Send only the first N jobs: always the same."),
)


def run_options(command: C) -> C:
    """Add all of them to a command, which gets them as keyword arguments for `RunOptions`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The values of the options; None where one was not typed."""

    submits_per_minute: Any
    in_flight: Any
    downloads: int | None
    max_cost: Decimal | None
    until: datetime | None
    only: tuple[str, ...]
    where: str | None
    sample: int | None
    limit: int | None

    def limits(self, manifest_limits: Limits) -> Limits:
        """The manifest's limits, with those that were typed instead."""
        names = ("submits_per_minute", "in_flight", "downloads", "max_cost")
        typed = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(manifest_limits, **typed)

    @property
    def selection(self) -> Selection:
        return Selection(self.only, self.where, self.sample, self.limit)

"""The options of `run` and `plan`: limits instead of the manifest's, and which jobs may be sent."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from batchgen import clock
from batchgen.cli.options import add
from batchgen.manifest.limits import AUTO


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
    """A number, or the word auto: the limit is learned from the service's answers."""

    def __init__(self, number: click.ParamType[Any]) -> None:
        self.number, self.name = number, number.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == AUTO:
            return value
        try:
            return self.number.convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message.rstrip('.')}; or auto", param, ctx)


OVERRIDES = "overrides the manifest's limit; auto: learned from the service's answers."
RATE, NUMBER = OrAuto(click.FloatRange(min=0, min_open=True)), OrAuto(click.IntRange(1, 1000))
run_options = add(
    click.option("--submits-per-minute", type=RATE, metavar="NUMBER|auto", help=f"Create requests; {OVERRIDES}"),
    click.option("-j", "--in-flight", type=NUMBER, metavar="NUMBER|auto", help=f"Videos in flight; {OVERRIDES}"),
    click.option("--downloads", type=click.IntRange(1, 32), help="Files at once; overrides the manifest's limit."),
    click.option(
        "--max-cost", type=usd, metavar="USD", help="The most that the whole batch may cost, earlier runs included."
    ),
    click.option("--until", type=moment, metavar="TIME", help="Send only jobs likely to be done by then (08:00)."),
    click.option("--only", multiple=True, metavar="GLOB", help="Send only jobs whose id matches. Repeatable."),
    click.option("--where", metavar="SQL", help="Send only jobs whose row in the table `jobs` meets this condition."),
    click.option("--sample", type=click.IntRange(1), help="Send only so many jobs, drawn by id: always the same."),
    click.option("--limit", type=click.IntRange(1), help="Send only so many jobs, the first ones: always the same."),
)

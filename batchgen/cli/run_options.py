"""The options of `run` and `plan`: limits instead of the manifest's, and which jobs may be sent."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

from batchgen import clock
from batchgen.cli.options import add


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


OVERRIDES = "overrides the manifest's limit; auto: learned from the service's answers."
run_options = add(
    click.option("--submits-per-minute", metavar="NUMBER|auto", help=f"Create requests; {OVERRIDES}"),
    click.option("-j", "--in-flight", metavar="NUMBER|auto", help=f"Videos in flight; {OVERRIDES}"),
    click.option("--downloads", metavar="NUMBER", help="Files at once; overrides the manifest's limit."),
    click.option("--max-cost", metavar="USD", help="The most that the whole batch may cost, earlier runs included."),
    click.option("--until", type=moment, metavar="TIME", help="Send only jobs likely to be done by then (08:00)."),
    click.option("--only", multiple=True, metavar="GLOB", help="Send only jobs whose id matches. Repeatable."),
    click.option("--where", metavar="SQL", help="Send only jobs whose row in the table `jobs` meets this condition."),
    click.option("--sample", type=click.IntRange(1), help="Send only so many jobs, drawn by id: always the same."),
    click.option("--limit", type=click.IntRange(1), help="Send only so many jobs, the first ones: always the same."),
)

"""The options of `run` and `plan`: limits, and which jobs may be sent. Of `run` alone: what it calls outside."""

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

hook_options = add(
    click.option(
        "--notify",
        multiple=True,
        envvar="BATCHGEN_NOTIFY",
        metavar="URL",
        help="Notify by mail, Slack, Telegram, … (an Apprise URL, such as mailto://user:password@example.com) at the"
        " end, when something stops the run, and when nothing has moved for a while. Repeatable. In the environment,"
        " where other users cannot read it, several are separated by blanks.  [env: BATCHGEN_NOTIFY]",
    ),
    click.option(
        "--notify-idle",
        type=click.FloatRange(min=0, min_open=True),
        metavar="MINUTES",
        help="How long nothing may move before --notify says so. Default: 30.",
    ),
    click.option(
        "--exec",
        metavar="COMMAND",
        help="Start this command once for each delivered file, in order of delivery, four at a time, in the manifest's"
        " folder, without a shell. {path} (or {}), {id}, {batch}, {model} and {url} stand for arguments:"
        " 'rclone copy -- {path} b2:clips'. The environment has them as BATCHGEN_PATH, …; it lacks the API key."
        " Put -- before {id}: it may begin with a dash. What failed, or was killed, is started again by the next run.",
    ),
    click.option(
        "--exec-again", is_flag=True, help="Start it also for files for which the same command ended well before."
    ),
    click.option(
        "--metrics",
        type=click.IntRange(0, 65535),
        metavar="PORT",
        help="Serve metrics for Prometheus on http://127.0.0.1:PORT/metrics; 0: any port that is free.",
    ),
)

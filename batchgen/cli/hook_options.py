"""The options of `run` for what it calls outside: notifications, a command for each delivered file, metrics."""

from __future__ import annotations

import click

from batchgen.cli.options import add

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

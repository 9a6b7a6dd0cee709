"""Why a run at work is doing less than it could, in words, and what to do about it."""

from __future__ import annotations

from datetime import timedelta

from batchgen import clock
from batchgen.advice.next_step import stop_of
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.measurer import LAST_SECONDS
from batchgen.report import hints
from batchgen.report.formats import local_time
from batchgen.report.hints import ToType
from batchgen.report.run_events import Advice
from batchgen.report.settings import pause_notice
from batchgen.runner import Runner

SOON = timedelta(seconds=3)
"""What ends sooner needs no word."""


def notice_of(
    runner: Runner, commands_left: int = 0, *, with_lock: bool, to_type: ToType = options.command_to_type
) -> tuple[str, Advice]:
    """Why a run is doing less than it could, with what it warns of, and what a person does about it.

    `commands_left` is how many commands of `--exec` its end waits for. `with_lock`: also who has locked the job table.
    """
    obstacles = runner.context.obstacles
    lock = runner.database.lock.notice if with_lock else ""
    reason = reason_of(runner, commands_left, to_type)
    waiting = f"{plural(len(obstacles), 'file')} cannot be written now" if obstacles else ""
    message = "; ".join(filter(None, (lock, reason, waiting, runner.context.warning)))
    return message, notice_advice(runner, to_type)


def reason_of(runner: Runner, commands_left: int, to_type: ToType) -> str:
    """The first reason to do less; "" where there is none."""
    context, now = runner.context, clock.utcnow()
    if commands_left:
        return f"waiting for {plural(commands_left, 'command')} of --exec to end (Ctrl-C ends it soon)"
    if runner.signal:
        return "stopping: finishing what is on the wire (Ctrl-C again ends at once)"
    if context.disk_fault:
        return f"no more downloads: {context.disk_fault}"
    if context.blocked:
        return f"no more submits: {context.blocked.reason}"
    if (pause := context.steering.pause) and context.in_flight_at_pause is not None:
        return pause_notice(pause, context.in_flight_at_pause, now, to_type)
    if context.credit_wait.refusal and context.credit_wait.next_at:
        at = local_time(context.credit_wait.next_at, now)
        return f"no more submits until the account is topped up: {context.credit_wait}; its balance is asked at {at}"
    if context.wait_reason:
        until = f", until {local_time(context.wait_until, now)}; then {context.wait_then}" if context.wait_until else ""
        return f"no more submits for now: {context.wait_reason}{until}"
    if (since := runner.measurer.remaining_since) and now - since >= SOON:
        return f"the last clips are measured, for at most {LAST_SECONDS:.0f} s"
    return ""


def notice_advice(runner: Runner, to_type: ToType) -> Advice:
    if stop := stop_of(runner.context, clock.utcnow()):
        return hints.advice(stop.hint, options.same_command())
    if runner.signal:
        return hints.advice("the same command goes on", options.same_command())
    if runner.context.steering.pause:
        return hints.advice("resume the batch", to_type("resume"))
    return hints.advice("")

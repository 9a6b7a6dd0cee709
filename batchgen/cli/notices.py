"""Why a run at work is doing less than it could, in words, and what to do about it."""

from __future__ import annotations

from batchgen import clock
from batchgen.advice.next_step import stop_of
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.report import hints
from batchgen.report.event_fields import Advice
from batchgen.report.formats import local_time
from batchgen.report.hints import CommandLine
from batchgen.report.settings import pause_notice
from batchgen.runner import Runner


def notice_of(
    runner: Runner, commands_left: int = 0, *, with_lock: bool, command_line: CommandLine = options.command_to_type
) -> str:
    """Why a run is doing less than it could, and what it warns of. `with_lock`: also who has locked the job table.

    `commands_left` is how many commands of `--exec` its end waits for.
    """
    context, reason = runner.context, ""
    lock = runner.database.lock.notice if with_lock else ""
    if commands_left:
        reason = f"waiting for {plural(commands_left, 'command')} of --exec to end (Ctrl-C ends it soon)"
    elif runner.signal:
        reason = "stopping: finishing what is on the wire (Ctrl-C again ends at once)"
    elif context.disk:
        reason = f"no more downloads: {context.disk}"
    elif context.blocked:
        reason = f"no more submits: {context.blocked.reason}"
    elif (pause := context.steering.pause) and context.in_flight_at_pause is not None:
        reason = pause_notice(pause, context.in_flight_at_pause, clock.utcnow(), command_line)
    elif context.credit_wait.refusal and context.credit_wait.next_at:
        at = local_time(context.credit_wait.next_at, clock.utcnow())
        reason = f"no more submits until the account is topped up: {context.credit_wait}; its balance is asked at {at}"
    elif context.hold:
        until = ""
        if context.hold_until:
            then = "the log is read again" if context.awaits_history else "one request tries again"
            until = f", until {local_time(context.hold_until, clock.utcnow())}; then {then}"
        reason = f"no more submits for now: {context.hold}{until}"
    waiting = f"{plural(len(context.obstacles), 'file')} cannot be written now" if context.obstacles else ""
    return "; ".join(filter(None, (lock, reason, waiting, context.warning)))


def notice_advice(runner: Runner, command_line: CommandLine = options.command_to_type) -> Advice:
    """What a person does about why a run is doing less than it could."""
    if stop := stop_of(runner.context, clock.utcnow()):
        return hints.advice(stop.hint, options.same_command())
    if runner.signal:
        return hints.advice("the same command goes on", options.same_command())
    if runner.context.steering.pause:
        return hints.advice("resume the batch", command_line("resume"))
    return hints.advice("")

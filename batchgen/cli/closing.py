"""The end of a run: the result, what a person should know about it, and the next command to type."""

from __future__ import annotations

import asyncio
import posixpath
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from batchgen import clock
from batchgen.advice.command_line import typed_again, with_ids, without
from batchgen.advice.next_step import BY_THE_MANIFEST, NextStep, is_said, next_step
from batchgen.api.opening import OpenRun
from batchgen.billing.reconcile import CLOSING_JOBS, ClosingBill, closing_bill
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.errors import ExitCode
from batchgen.files.output_paths import is_url, split_url
from batchgen.jobs import ErrorClass, State
from batchgen.jobtable import delivery, measuring, statistics
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.measuring import SuspectClips
from batchgen.report import hints, words
from batchgen.report.bill import closing_line
from batchgen.report.formats import counts, duration
from batchgen.report.terminal import OutputStream, print_json, print_lines
from batchgen.runner import Runner
from batchgen.runs.ending import Ending

LINES_SHOWN = 5  # of failures, and of remarks


async def show_result(opened: OpenRun, ending: Ending, began_at: datetime, *, as_json: bool) -> None:
    """Print how a run ended that began at that time: as the event `done`, or as text."""
    lasted = clock.utcnow() - began_at
    bill = await bill_of(opened.runner, ending, began_at)
    database, batch, batch_id = opened.database, opened.spec.batch, opened.spec.synced.batch_id
    if bill:  # it may have changed what the attempts cost
        now_charged = await database.read(statistics.batch_summary, batch_id, clock.utcnow())
        ending = replace(ending, batch_summary=now_charged)
    failed = await database.read(statistics.failed_by_class, batch_id)
    suspects = await database.read(measuring.suspect_clips, batch_id)
    if as_json:
        step = next_step(ending)
        result = {"event": "done", "exit_code": ending.exit_code, "message": ending.message}
        summary = words.summary_json(batch.name, ending.batch_summary, ending.blockers, options.command_to_type)
        remarks = await database.read(delivery.remarks, batch_id)
        more = {"missing": words.lost_json(ending.lost), "remarks": remarks, "failed": failed}
        advice = hints.advice(step.hint, command_of(step, ending.lost))
        rest = {"hooks_failed": opened.hooks.failed, "bill": bill and asdict(bill)}
        print_json({**result, **summary, **more, **words.suspects_json(suspects), **rest, **advice}, is_progress=True)
        return
    failures = await database.read(statistics.failures, batch_id, LINES_SHOWN)
    remarks = await database.read(delivery.remarks, batch_id, LINES_SHOWN)
    folder = common_folder(opened.spec.folder, await database.read(statistics.delivered_paths, batch_id))
    line = words.summary_line(batch.name, batch.service, ending.batch_summary)
    OutputStream(sys.stdout).write(f"{line}; {ending.message}")
    lines = [
        *remarkable_lines(batch.name, ending, failures, remarks, suspects),
        closing_line(bill, options.command_to_type),
        *closing_lines(opened, ending, folder, failed, lasted),
    ]
    print_lines(*(f"  {line}" for line in lines if line), err=True)


def closing_lines(
    opened: OpenRun, ending: Ending, folder: str, failed: Mapping[str, int], lasted: timedelta
) -> list[str]:
    """What was delivered, how long that took, and the next command to type."""
    hooks, delivered = opened.hooks, ending.batch_summary.counts[State.DONE]
    lines = [
        f"delivered: {plural(delivered, 'clip')}, in {folder}" if delivered else "",
        f"failed, by class of error: {counts(failed.items())}" if failed.keys() - {ErrorClass.UNKNOWN} else "",
        f"this run took {duration(lasted)}",
    ]
    hook = hooks.delivery_hook
    if hook and (ended := (hooks.ended_well, hooks.failed, hook.broken_off)) != (0, 0, 0):
        again = "; the next run with the same --exec starts the others again" if ended[1] + ended[2] else ""
        broken_off = f", {ended[2]} broken off" if ended[2] else ""
        lines.append(f"--exec: {ended[0]} ended well, {ended[1]} failed{broken_off}{again}")
    if sys.stderr.isatty():  # elsewhere they have been written already, one line each
        lines += hooks.failures
    step = next_step(ending)
    if step.hint and not is_said(step, ending):
        hint = "" if opened.runner.signal else step.hint  # the message of a run that was interrupted has it
        lines.append(hints.next_line(hint, command_of(step, ending.lost)))
    return lines


def command_of(step: NextStep, lost: LostFiles) -> str | None:
    """The next command to type. A run goes on with the options that it has: its cap is one of them."""
    if step is BY_THE_MANIFEST:
        return typed_again(without(sys.argv[1:], "--changed"))
    if step.command == "retry --download":
        return with_ids(options.command_to_type(step.command), words.keys_of(lost))
    return options.same_command() if step.command == "run" else step.command and options.command_to_type(step.command)


async def bill_of(runner: Runner, ending: Ending, began_at: datetime) -> ClosingBill | None:
    """Whether the account was charged what it should be. A run that was interrupted, or whose key is refused, ends
    without it; so does one that is interrupted now."""
    context, summary = runner.context, ending.batch_summary
    if runner.signal or context.blocked or summary.total > CLOSING_JOBS:
        return None
    with suppress(asyncio.CancelledError):
        return await closing_bill(context.database, context.service, context.batch_id, began_at, clock.utcnow())
    return None


def common_folder(root: Path, paths: Sequence[str]) -> str:
    """The folder that these outputs are in: below `root`, or in an object store."""
    stores: dict[str, list[str]] = {}
    for url in filter(is_url, paths):
        stores.setdefault(split_url(url).root, []).append(split_url(url).key)
    local = [path for path in paths if not is_url(path)]
    places = [str(root / common_parent(local))] if local or not stores else []
    places += [f"{store}/{common_parent(keys)}" for store, keys in stores.items()]
    return " and ".join(places)


def common_parent(paths: Sequence[str]) -> str:
    return posixpath.commonpath([posixpath.dirname(path) for path in paths]) if paths else ""


def remarkable_lines(
    batch: str, ending: Ending, failures: list[str], remarks: list[str], suspects: SuspectClips
) -> list[str]:
    """What a person should know about clips and jobs, and can do about it."""
    retry = options.command_to_type("retry")
    reasons = partial(words.reasons_command, options.command_to_type("sql"), batch)
    following = next_step(ending).command  # which is the last line
    lines = words.remark_lines(remarks, LINES_SHOWN, reasons(State.DONE))
    waiting = [words.blocker_line(blocker, clock.utcnow()) for blocker in ending.blockers]
    lines += [line for line in waiting if line not in ending.message]  # the result has that of most jobs
    is_next = following == "retry --download"
    if not (is_next and len(ending.lost.files) == 1):  # which the result names
        lines += words.lost_lines(ending.lost, "" if is_next else retry)
    lines += words.suspect_lines(suspects, "" if following == "review" else options.command_to_type("review"))
    if ending.exit_code is ExitCode.INCOMPLETE:
        lines += undelivered_lines(ending, failures, reasons(State.FAILED), f"`{retry}`")
    return lines


def undelivered_lines(ending: Ending, failures: list[str], reasons: str, retry: str) -> list[str]:
    """What a person can do about jobs that are not delivered. `reasons` lists why all of them failed."""
    summary, failed = ending.batch_summary, ending.batch_summary.counts[State.FAILED]
    lines = words.failure_lines(failures, failed, reasons)
    if failed > ending.outdated + ending.given_up and summary.held:  # without held jobs, it is the next step
        lines.append(f"{retry} makes the failed jobs pending again; then run.")
    if late := summary.late + summary.stuck:
        lines.append(f"{plural(late, 'job')} may still be delivered: run the same command again later.")
        lines.append(f"{options.quoted_command('cancel')} with an id gives one up, whatever it waits for.")
    return lines

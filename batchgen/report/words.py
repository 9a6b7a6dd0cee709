"""A batch, its events and its blockers as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, islice
from typing import Any, NamedTuple

from rich import filesize

from batchgen.advice.command_line import with_ids
from batchgen.catalogue.wording import plural, unknown_charges
from batchgen.jobs import State
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.measuring import ClipProblem, SuspectClips
from batchgen.jobtable.statistics import BatchSummary, Event
from batchgen.limits.blockers import Blocker, WaitKind
from batchgen.report.formats import counts, dollars, duration, local_time
from batchgen.report.hints import ToType, advice
from batchgen.report.run_events import Lost, Moved, Summary, WaitFor
from batchgen.services.registry import SIMULATOR
from batchgen.services.text import shell_word

SHOWN = 5  # lost files, and clips that look wrong


def labels(summary: BatchSummary) -> dict[State, str]:
    """The states, each with how many of its jobs need attention: "generating (2 late)"."""
    notes = {
        State.UNCONFIRMED: counts([("held for a person", summary.held)]),
        State.GENERATING: counts([("late", summary.late)]),
        State.DOWNLOADING: counts([("hard to download", summary.stuck)]),
    }
    return {state: f"{state} ({notes[state]})" if notes.get(state) else state for state in State}


def state_counts(summary: BatchSummary) -> str:
    return counts((label, summary.counts[state]) for state, label in labels(summary).items()) or "no jobs"


def summary_line(batch: str, service: str, summary: BatchSummary) -> str:
    """A batch in one line: its states, the bytes delivered, the cost."""
    size = f"; {filesize.decimal(summary.bytes)}" if summary.bytes else ""
    simulated = " (simulated)" if service == SIMULATOR else ""
    return f"{batch}: {state_counts(summary)}{size}; {money_words(summary)}{simulated}"


def cost_words(summary: BatchSummary) -> str:
    """What a batch has cost: "$1.47", or "$0.00 and 2 charges not known yet"."""
    return " and ".join(filter(None, (dollars(summary.cost_usd), unknown_charges(summary.unpriced))))


def money_words(summary: BatchSummary) -> str:
    """What a batch has cost, and what that leaves out."""
    return dollars(summary.cost_usd) + uncharged_words(summary.unpriced, summary.reserved_usd)


def uncharged_words(unpriced: int, reserved_usd: Decimal) -> str:
    """What a sum of charges leaves out, to stand behind it: charges that are not known, and what is reserved."""
    unknown = f" and {unknown_charges(unpriced)}" if unpriced else ""
    return unknown + (f", and {dollars(reserved_usd)} reserved for what is not charged yet" if reserved_usd else "")


def blocker_line(blocker: Blocker, now: datetime) -> str:
    """What jobs wait for, and when batchgen checks again."""
    text = str(blocker)
    if blocker.collect_by:
        text += f" (the service keeps the first file until {local_time(blocker.collect_by, now)})"
    if blocker.until is None or blocker.until - now < timedelta(seconds=1):
        return text
    return f"{text}; next check in {duration(blocker.until - now)}"


class Appearance(NamedTuple):
    """How a state is shown: in lines, in the bar of the live display, and on the review page."""

    words: str
    """For a job that enters it. The event's detail follows."""
    character: str
    """They differ, for terminals without colours."""
    colour: str
    without_file: str
    """The words in the place of a video that is not there."""


APPEARANCES = {
    State.DONE: Appearance("delivered", "━", "green", "No file"),
    State.DOWNLOADING: Appearance("finished at the service", "─", "cyan", "Being downloaded"),
    State.GENERATING: Appearance("accepted as", "─", "blue", "Being generated"),
    State.UNCONFIRMED: Appearance("unconfirmed:", "?", "yellow", "Sent; the answer was lost"),
    State.SUBMITTING: Appearance("submitting as", "─", "magenta", "Being sent"),
    State.FAILED: Appearance("failed:", "x", "red", "Failed"),
    State.CANCELLED: Appearance("cancelled:", "·", "bright_black", "Cancelled"),
    State.PENDING: Appearance("pending", "·", "white", "Not sent yet"),
}
"""Every state, in the order of the bar from left to right."""


def event_line(event: Event) -> str:
    words = APPEARANCES[event.to_state].words
    if event.from_state == event.to_state:
        words = f"{event.to_state}:"  # a remark, such as "archived as mona~1"
    elif event.from_state and event.to_state == State.PENDING:
        words = "back to pending:"
    return f"{event.at.astimezone():%H:%M:%S}  {event.key}  {words} {event.detail or ''}".rstrip()


def event_json(event: Event) -> Moved:
    return {
        "event": "moved",
        "at": event.at,
        "id": event.key,
        "from": event.from_state,
        "to": event.to_state,
        "detail": event.detail,
    }


def summary_json(batch: str, summary: BatchSummary, blockers: Sequence[Blocker], to_type: ToType) -> Summary:
    return {
        "batch": batch,
        "jobs": summary.total,
        "states": summary.counts,
        "held": summary.held,
        "late": summary.late,
        "stuck": summary.stuck,
        "cost_usd": summary.cost_usd,
        "reserved_usd": summary.reserved_usd,
        "unpriced": summary.unpriced,
        "bytes": summary.bytes,
        "waits": [blocker_json(blocker, to_type) for blocker in blockers],
    }


def blocker_json(blocker: Blocker, to_type: ToType) -> WaitFor:
    hint, command = blocker_hint(blocker)
    return {
        "for": blocker.reason,
        "until": blocker.until,
        "jobs": blocker.jobs,
        "collect_by": blocker.collect_by,
        "origin": blocker.origin,
        "cause": blocker.cause,
        "job": blocker.job,
        **advice(hint, command and to_type(command)),
    }


WAIT_HINTS = {
    WaitKind.PERSON: ("say what became of these requests", "resolve"),
    WaitKind.RESUME: ("resume the batch", "resume"),
    WaitKind.RUN: ("no run is at work: begin one", "run"),
    WaitKind.PLACE: ("nothing to do: a run sends them as the limits allow", "run"),
    WaitKind.RETRY: ("nothing to do: a run goes on with them by itself", "run"),
}
"""What a person can do for jobs that wait, and the command for it."""


def blocker_hint(blocker: Blocker) -> tuple[str, str]:
    """What a person can do about what jobs wait for, and the command for it, where there is one."""
    if blocker.origin:
        return "run with the address and the key with which they were sent", ""
    return WAIT_HINTS[blocker.kind]


def lost_lines(lost: LostFiles, retry: str) -> list[str]:
    """Which delivered files are not there any more, and how they come back. `retry` is the command to type; "" where
    that is said elsewhere."""
    lines = []
    if lost.files:
        lines.append(f"{plural(len(lost.files), 'delivered file')} not there as delivered: {lost.listed(SHOWN)}")
        if retry:
            lines.append(
                f"`{with_ids(f'{retry} --download', keys_of(lost))}`, then a run, fetches what is lost for nothing"
            )
    if lost.unreadable:
        lines.append(f"delivered files could not be looked at: {lost.unreadable}")
    elif not lost.is_all:
        lines.append(f"looked for the {lost.checked:,} newest delivered files only; --verify reads all of them")
    return lines


def reasons_command(sql: str, batch: str, state: State) -> str:
    """The command that lists all jobs of a batch in a state with the reason of each. `sql` is `batchgen sql` on its
    table."""
    name = batch.replace("'", "''")
    query = f"SELECT id, reason FROM job_overview WHERE batch = '{name}' AND state = '{state}' AND reason IS NOT NULL"  # noqa: S608
    return f"`{sql} --csv {shell_word(query)}`"


def failure_lines(failures: Sequence[str], failed: int, command: str) -> list[str]:
    """The newest of `failed` failures. `command` lists them all."""
    more = failed - len(failures)
    return [*failures, *([f"and {more} more; {command} lists them all"] if more > 0 else [])]


def remark_lines(remarks: Sequence[str], most: int, command: str) -> list[str]:
    """The newest remarks on delivered files, of which at most so many were read. `command` lists them all."""
    lines = [f"remark: {remark}" for remark in remarks]
    return [*lines, f"these are the newest remarks; {command} lists them all"] if len(lines) == most else lines


def keys_of(lost: LostFiles) -> list[str]:
    """The jobs that `retry --download` is to name. It reads each file of these; without ids, a file of another size
    hides those that have kept their size. None where they are too many to type."""
    return list(dict.fromkeys(missing.file.key for missing in lost.files)) if len(lost.files) <= SHOWN else []


def lost_json(lost: LostFiles) -> list[Lost]:
    return [{"id": lost.file.key, "path": lost.file.path, "fault": lost.fault} for lost in lost.files]


def suspect_lines(suspects: SuspectClips, review: str) -> list[str]:
    """Which delivered clips look wrong, and why. `review` shows them; "" where that is said elsewhere."""
    if not suspects.number:
        return []
    subject = "1 clip looks" if suspects.number == 1 else f"{suspects.number:,} clips look"
    clips = groupby(suspects.problems, key=lambda problem: problem.id)
    # A job of several files may have the same problem more than once.
    of_job = ((key, dict.fromkeys(map(problem_words, problems))) for key, problems in islice(clips, SHOWN))
    parts = [f"{key}: {', '.join(problems)}" for key, problems in of_job]
    if suspects.number > len(parts):
        parts.append(f"and {suspects.number - len(parts):,} more")
    shows = [f"`{review}` shows {'it' if suspects.number == 1 else 'them'}"] if review else []
    return [f"{subject} wrong: {'; '.join(parts)}", *shows]


def problem_words(problem: ClipProblem) -> str:
    """What is wrong with a clip: "100 % of the time it is black"."""
    return f"nearly the same video as {problem.detail}" if problem.problem == "near_copy" else f"{problem.detail}"


def suspects_json(suspects: SuspectClips) -> dict[str, Any]:
    return {"suspect": suspects.number, "problems": [asdict(problem) for problem in suspects.problems]}

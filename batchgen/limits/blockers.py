"""What the jobs of a batch wait for, why and until when: read-only queries for the display, `status` and JSON."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from batchgen.jobs import WAITS_FOR, State
from batchgen.jobtable import in_flight, settings
from batchgen.jobtable.in_flight import InFlight
from batchgen.jobtable.joins import CURRENT_ATTEMPTS, IN_BATCH
from batchgen.jobtable.kinds import LimitKind, SettingName
from batchgen.jobtable.schema import attempts, batches, jobs, limits
from batchgen.jobtable.statistics import ASKED_FOR, batch_summary
from batchgen.jobtable.transition import FIRST_DUE, IN_BATCH_AND_STATE
from batchgen.limits import rate

OF_LATE = timedelta(hours=1)
"""Learned limits are shown for this long after their last use."""
ERRORS_READ = 1_000
"""Of the jobs of a state: enough to see which error is the most common."""
OVERDUE = timedelta(minutes=2)
"""After its time, a poll has no run that would do it."""
LASTING_FAILURES = 3
"""In a row: fewer pass by themselves, and a run says nothing about them."""


class WaitKind(Enum):
    """By what waiting jobs go on."""

    RETRY = auto()  #: a run at work tries again by itself
    PLACE = auto()  #: a run at work gives them a free place within the limits
    RUN = auto()  #: a person begins a run
    RESUME = auto()  #: a person ends the pause of the batch
    PERSON = auto()  #: a person says what became of their requests


@dataclass(frozen=True, slots=True)
class Blocker:
    """What some jobs of a batch wait for, and until when (None: unknown)."""

    reason: str
    until: datetime | None
    jobs: int
    collect_by: datetime | None = None
    """When the service may delete the first of the files that wait to be downloaded."""
    origin: str | None = None
    """Where they were sent, if that is not the service in use."""
    cause: str | None = None
    """Why: the last reason of most of those that have one; of those for a place, why the run at work sends no more."""
    job: str | None = None
    """The first of the jobs with that reason."""
    alike: int = 0
    """How many jobs have that reason."""
    kind: WaitKind = WaitKind.RETRY

    def __str__(self) -> str:
        """It in words, without times: "2 jobs wait for downloads: connection refused (job a and 1 more)"."""
        text = f"{self.jobs} job{' waits' if self.jobs == 1 else 's wait'} for {self.reason}"
        if self.cause:
            others = f" and {self.alike - 1} more" if self.alike > 1 else ""
            text += f": {self.cause}{f' (job {self.job}{others})' if self.job else ''}"
        return text


def blockers(
    connection: Connection, batch_id: int, now: datetime, origin: str | None = None, *, is_run_at_work: bool = True
) -> list[Blocker]:
    """What a batch waits for, most urgent first.

    With `origin`, that of the service in use, it says which jobs were sent to another one.
    """
    summary = batch_summary(connection, batch_id, now)
    service = select(batches.c.service).where(batches.c.id == batch_id).scalar_subquery()
    pauses = select(limits).where(limits.c.service == service, limits.c.paused_until > now)
    blocked = [
        Blocker(f"a pause to end: {row.reason}", row.paused_until, number)
        for row in connection.execute(pauses)
        if (number := summary.counts[State.GENERATING if row.kind is LimitKind.POLLS else State.PENDING])
    ]
    pending_kind, reason_of_pending = reason_to_wait(connection, batch_id, now, is_run_at_work=is_run_at_work)
    waiting_for = {**WAITS_FOR, State.PENDING: reason_of_pending}
    absent = Counter[State]()
    if origin is not None:
        sent, absent = elsewhere(connection, batch_id, origin)
        blocked += sent
    for state, reason in waiting_for.items():
        number = summary.counts[state] - absent[state] - (summary.held if state == State.UNCONFIRMED else 0)
        if not number:
            continue
        collect_by = first_collect_by(connection, batch_id) if state == State.DOWNLOADING else None
        cause = cause_of(connection, batch_id, state) if state in WAITS_FOR else {}
        due = connection.execute(FIRST_UNLEASED, {"in_batch": batch_id, "in_state": state}).scalar()
        kind = pending_kind if state is State.PENDING else WaitKind.RETRY
        blocked.append(Blocker(reason, due, number, collect_by, kind=kind, **cause))
    if summary.held:
        cause = cause_of(connection, batch_id, State.UNCONFIRMED)
        blocked.append(Blocker("a person (batchgen resolve)", None, summary.held, kind=WaitKind.PERSON, **cause))
    return blocked


def first_collect_by(connection: Connection, batch_id: int) -> datetime | None:
    """After when the service may delete the first file that waits for its download."""
    first = select(func.min(attempts.c.collect_by)).select_from(CURRENT_ATTEMPTS)
    return connection.execute(first.where(jobs.c.batch_id == batch_id, jobs.c.state == State.DOWNLOADING)).scalar()


def reason_to_wait(
    connection: Connection, batch_id: int, now: datetime, *, is_run_at_work: bool
) -> tuple[WaitKind, str]:
    """What pending jobs wait for: the end of a person's pause, else a run, and in it a place within the limits."""
    for setting in settings.current(connection, batch_id):
        if setting.name is SettingName.PAUSED and setting.value:
            paused = f"paused at {setting.set_at.astimezone():%H:%M} by {setting.set_by}"
            return WaitKind.RESUME, f"`batchgen resume` ({paused})"
    others = uncollected_text(connection, batch_id, now)
    if not is_run_at_work:
        return WaitKind.RUN, f"a run{others}"
    return WaitKind.PLACE, f"a free place within the limits{learned_words(connection, batch_id, now)}{others}"


def uncollected_text(connection: Connection, batch_id: int, now: datetime) -> str:
    """Generations of other batches that hold places because no run asks for them any more, in words; else nothing."""
    params = {"in_batch": batch_id, "overdue": now - OVERDUE}
    rows = [row for row in connection.execute(UNCOLLECTED, params) if row.number]
    names = " and ".join(f"{row.number} of batch {row.name}" for row in rows)
    hold = "holds a place" if sum(row.number for row in rows) == 1 else "hold places"
    return f"; no run collects {names}, which {hold}: run {rows[0].manifest_path}" if rows else ""


def cause_of(connection: Connection, batch_id: int, state: State, failures: int = 0) -> dict[str, Any]:
    """`cause`, `alike` and `job` of a blocker: the error that most jobs of a state have. Empty where none has one.

    Only of jobs with so many `failures` in a row.
    """
    params = {"in_batch": batch_id, "in_state": state, "failures": failures}
    rows = connection.execute(ERRORS, params).all()
    numbers = Counter(without_figures(row.error) for row in rows)
    if not numbers:
        return {}
    [(cause, number)] = numbers.most_common(1)
    first = next(row for row in rows if without_figures(row.error) == cause)
    return {"cause": first.error, "alike": number, "job": first.key}


def without_figures(error: str) -> str:
    """An error without the words that have a digit in them: ids, sizes and times differ from job to job."""
    return re.sub(r"\S*\d\S*", "#", error)


def lasting_causes(connection: Connection, batch_id: int) -> list[Blocker]:
    """What jobs wait for because of an error that came several times in a row, with the error."""
    return [
        Blocker(reason, None, cause["alike"], **cause)
        for state, reason in WAITS_FOR.items()
        if (cause := cause_of(connection, batch_id, state, LASTING_FAILURES))
    ]


def elsewhere(connection: Connection, batch_id: int, origin: str) -> tuple[list[Blocker], Counter[State]]:
    """The jobs that were sent to another address, so that the service at `origin` is not asked for them.

    Returns them in words, by address, and how many of them are in each state. Those held for a person are left out.
    """
    by_origin, by_state = Counter[str](), Counter[State]()
    for state, other, number in connection.execute(SENT_ELSEWHERE, {"in_batch": batch_id, "this_origin": origin}):
        by_origin[other] += number
        by_state[state] += number
    sent = [
        Blocker(
            f"the service at {other}, where {'it was' if number == 1 else 'they were'} sent: a run that is set to that"
            " address, with its key, goes on",
            None,
            number,
            origin=other,
        )
        for other, number in sorted(by_origin.items())
    ]
    return sent, by_state


def learned_words(connection: Connection, batch_id: int, now: datetime) -> str:
    """The limits in force, in words, where a run has learned them of late; else nothing."""
    service = connection.execute(select(batches.c.service).where(batches.c.id == batch_id)).scalar_one()
    learned = rate.learned_by_model(connection, service, now - OF_LATE)
    if not learned:
        return ""
    counts = in_flight.in_flight_by_model(connection, service, now)
    texts = {}
    for model, limits_of_model in learned.items():
        window, per_minute = (limit.window if limit.threshold else None for limit in limits_of_model)
        most = f" of {int(window)}" if window else ""
        submits = f", {round(per_minute, 1):g} submits a minute" if per_minute else ""
        texts[model] = f"in flight {counts.get(model, InFlight()).total}{most}{submits}"
    limits_in_words = [f"{model}: {text}" if len(texts) > 1 else text for model, text in texts.items()]
    return f", which are learned from the service's answers ({'; '.join(limits_in_words)})"


FIRST_UNLEASED = FIRST_DUE.where(jobs.c.leased_by.is_(None))
"""A job under a lease is worked on now: the end of its lease is no time that a person waits for."""
_own = batches.alias("own")
_overdue = (
    select(func.count())
    .where(
        jobs.c.batch_id == batches.c.id,
        jobs.c.state == State.GENERATING,
        jobs.c.leased_by.is_(None),
        jobs.c.next_at < bindparam("overdue", type_=jobs.c.next_at.type),
    )
    .correlate(batches)
    .scalar_subquery()
)
UNCOLLECTED = (
    select(batches.c.name, batches.c.manifest_path, _overdue.label("number"))
    .join_from(_own, batches, (batches.c.service == _own.c.service) & (batches.c.id != _own.c.id))
    .where(_own.c.id == bindparam("in_batch"))
)
SENT_ELSEWHERE = (
    select(jobs.c.state, attempts.c.origin, func.count())
    .select_from(CURRENT_ATTEMPTS)
    .where(
        IN_BATCH,
        jobs.c.state.in_(ASKED_FOR),
        (jobs.c.state == State.GENERATING) | jobs.c.next_at.is_not(None),
        attempts.c.origin.not_in(["", bindparam("this_origin")]),
    )
    .group_by(jobs.c.state, attempts.c.origin)
)
ERRORS = (
    select(jobs.c.key, jobs.c.error)
    .where(
        IN_BATCH_AND_STATE,
        jobs.c.error.is_not(None),
        jobs.c.failures >= bindparam("failures"),
    )
    .limit(ERRORS_READ)
)

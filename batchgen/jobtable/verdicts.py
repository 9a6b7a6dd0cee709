"""What people say of delivered clips: picked, rejected, one to five stars. Append-only; the newest row counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, false, func, insert, or_, select, true

from batchgen.files.verdicts_file import CLIP_DIGITS, FileVerdict
from batchgen.jobs import State, Verdict
from batchgen.jobtable.joins import CURRENT_OR_NONE, IN_BATCH, IS_DELIVERED
from batchgen.jobtable.moves import refuse_moved
from batchgen.jobtable.rows import rows_among
from batchgen.jobtable.schema import attempts, jobs, outputs, verdicts
from batchgen.jobtable.sync import LABELS

STARS_MAX = 5


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a person says of a clip. Nothing of either takes an earlier verdict back."""

    verdict: Verdict | None = None
    stars: int | None = None
    """1 to 5."""


@dataclass(frozen=True, slots=True)
class VerdictFilter:
    """Jobs by their verdicts: with this verdict and with at least so many stars, where they are named."""

    verdict: Verdict | None = None
    stars: int | None = None


@dataclass(slots=True)
class Imported:
    new: int = 0
    old: int = 0
    """They are in the table already, or newer ones are."""
    refused: list[tuple[FileVerdict, str]] = field(default_factory=list)
    """With the reason."""


def record_verdict(connection: Connection, attempt_id: int, judgement: Judgement, now: datetime) -> bool:
    """Record a verdict on the clip of an attempt. False where the attempt has no delivered clip."""
    delivered = select(outputs.c.id).where(outputs.c.attempt_id == attempt_id, IS_DELIVERED).limit(1)
    if connection.execute(delivered).first() is None:
        return False
    if current(connection, attempt_id) != judgement:
        values = {"attempt_id": attempt_id, "at": now, "verdict": judgement.verdict, "stars": judgement.stars}
        connection.execute(insert(verdicts).values(values))
    return True


def current(connection: Connection, attempt_id: int) -> Judgement:
    of_attempt = select(verdicts.c.verdict, verdicts.c.stars).where(verdicts.c.attempt_id == attempt_id)
    row = connection.execute(of_attempt.order_by(verdicts.c.id.desc()).limit(1)).first()
    return Judgement(*row) if row else Judgement()


def import_verdicts(connection: Connection, batch_id: int, imported: Iterable[FileVerdict]) -> Imported:
    """Record verdicts from files on the clips that jobs have now, whatever ids a redo or a rename gave them.

    Only a verdict newer than all of its clip counts, so the same file may be imported again.
    """
    refuse_moved(connection, batch_id)
    from_files = sorted(imported, key=lambda verdict: verdict.at)  # the last one of a clip counts
    result = Imported()
    rows: list[dict[str, Any]] = []
    said: dict[int, dict[str, Any]] = {}
    keys = [verdict.id for verdict in from_files]
    files = partial(rows_among, connection, SELECT_CLIPS_TO_JUDGE, params={"in_batch": batch_id})
    clips = {row.key: row for row in files(jobs.c.key, keys)}  # the first file comes last
    strays = [verdict.clip for verdict in from_files if refusal(clips.get(verdict.id), verdict)]
    moved = {row.sha256[:CLIP_DIGITS]: row for row in files(CLIP_NAME, strays) if row.number == 1}
    for verdict in from_files:
        clip = clips.get(verdict.id)
        reason = refusal(clip, verdict)
        if reason and verdict.clip in moved:
            clip, reason = moved[verdict.clip], ""
        if reason:
            result.refused.append((verdict, reason))
        elif clip and clip.judged_at is not None and clip.judged_at >= verdict.at:
            result.old += 1
        elif clip:
            before = said.get(clip.attempt_id, {"verdict": clip.verdict, "stars": clip.stars})
            said[clip.attempt_id] = {**before, **verdict.changes}
            rows.append({"attempt_id": clip.attempt_id, "at": verdict.at, **said[clip.attempt_id]})
    if rows:
        connection.execute(insert(verdicts), rows)
    result.new = len(rows)
    return result


def has_any(connection: Connection, batch_id: int, from_file: Iterable[FileVerdict]) -> bool:
    """Whether a batch has any of the judged clips: one that was renamed has taken them over."""
    names = [verdict.clip for verdict in from_file]
    return any(rows_among(connection, SELECT_CLIPS_TO_JUDGE, CLIP_NAME, names, {"in_batch": batch_id}))


def refusal(clip: Row[Any] | None, verdict: FileVerdict) -> str:
    """Why a verdict cannot be recorded; "" if it can."""
    if clip is None:
        return "the batch has no job of this id"
    if clip.sha256 is None:
        return "its clip is not delivered; judge it when it is"
    if not clip.sha256.startswith(verdict.clip):
        return "its clip is another one by now; look at that, and judge it"
    return ""


def left_out(connection: Connection, batch_id: int, choice: VerdictFilter | None = None) -> dict[str, int]:
    """How many jobs of a batch are not chosen, by what is said of them. None chooses none."""
    said = select(SAID.label("said"), func.count()).select_from(JOBS_WITH_VERDICTS)
    others = said.where(jobs.c.batch_id == batch_id, ~_fits(choice) if choice else true())
    return dict(connection.execute(others.group_by("said").order_by("said")).all())


def chosen_paths(connection: Connection, batch_id: int, choice: VerdictFilter) -> dict[tuple[str, str], int]:
    """How many of the chosen jobs were sent for a model to an endpoint."""
    of_batch = select(jobs.c.model, jobs.c.endpoint, func.count()).select_from(JOBS_WITH_VERDICTS)
    of_batch = of_batch.where(jobs.c.batch_id == batch_id, _fits(choice)).group_by(jobs.c.model, jobs.c.endpoint)
    return {(model, endpoint): number for model, endpoint, number in connection.execute(of_batch)}


def chosen_ids(connection: Connection, batch_id: int, choice: VerdictFilter) -> list[int]:
    """The row ids of the chosen jobs, in the manifest's order."""
    chosen = select(jobs.c.id).select_from(JOBS_WITH_VERDICTS).where(jobs.c.batch_id == batch_id, _fits(choice))
    return list(connection.execute(chosen.order_by(jobs.c.id)).scalars())


def sent_jobs(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Jobs by their row ids, with what was sent for them, what it cost and what is said of it."""
    return list(connection.execute(SELECT_SENT_JOBS, {"ids": list(ids)}))


def _fits(choice: VerdictFilter) -> ColumnElement[bool]:
    """SQL: the current verdict on a job is as chosen. Never NULL."""
    verdict = verdicts.c.verdict == choice.verdict if choice.verdict else true()
    stars = verdicts.c.stars >= choice.stars if choice.stars else true()
    return func.coalesce(and_(verdicts.c.id.is_not(None), verdict, stars), false())


CLIP_NAME = func.substr(outputs.c.sha256, 1, CLIP_DIGITS)
_others = verdicts.alias("others")
_newest_id = select(func.max(_others.c.id)).where(_others.c.attempt_id == jobs.c.attempt_id).correlate(jobs)
IS_NEWEST = verdicts.c.id == _newest_id.scalar_subquery()
"""The verdict on a job's current attempt that counts."""
JOBS_WITH_VERDICTS = CURRENT_OR_NONE.outerjoin(verdicts, IS_NEWEST)
"""Jobs with their current attempts and the verdicts that count."""
_judged_at = select(func.max(_others.c.at)).where(_others.c.attempt_id == jobs.c.attempt_id).correlate(jobs)
SELECT_CLIPS_TO_JUDGE = (
    select(
        *(jobs.c.key, jobs.c.attempt_id, outputs.c.number, outputs.c.sha256),
        *(_judged_at.scalar_subquery().label("judged_at"), verdicts.c.verdict, verdicts.c.stars),
    )
    .select_from(JOBS_WITH_VERDICTS)
    .outerjoin(outputs, (outputs.c.attempt_id == jobs.c.attempt_id) & IS_DELIVERED)
    .where(IN_BATCH)
    .order_by(outputs.c.number.desc())
)
"""The jobs with the files of their current attempts, the last file first, and when they were judged last."""
SAID = case(
    (verdicts.c.verdict.is_not(None), verdicts.c.verdict),
    (or_(verdicts.c.stars.is_not(None), jobs.c.state == State.DONE), "without a verdict"),
    else_="not delivered",
)
SELECT_SENT_JOBS = (
    select(
        *(jobs.c.key, jobs.c.model, jobs.c.endpoint, jobs.c.request, jobs.c.input_pointers, jobs.c.take),
        *(jobs.c.fingerprint, *LABELS, attempts.c.cost_usd, attempts.c.input_digests),
        *(verdicts.c.verdict, verdicts.c.stars),
    )
    .select_from(JOBS_WITH_VERDICTS)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(jobs.c.id)
)

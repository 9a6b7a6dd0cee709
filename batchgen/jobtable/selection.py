"""Which jobs a run may send. A job that was sent is collected whether it is selected or not.

The same command, run again or twice at once, selects the same jobs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from sqlalchemy import Connection, bindparam, func, select, text

from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable.condition import bounded, condition
from batchgen.jobtable.schema import jobs

COMPARED = 1_000
"""Ids that a pattern without a match is compared with, to suggest one: comparing a million takes a minute."""
CHUNK = 500
"""Ids in one statement: below the least number of parameters that any SQLite allows (999)."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The options of a run that select jobs, applied in this order."""

    only: tuple[str, ...] = ()
    """Shell patterns of ids, of which one must match."""
    where: str | None = None
    """An SQL condition on the columns of `jobs`."""
    sample: int | None = None
    """This many, by a hash of the id: the same ones every time."""
    limit: int | None = None
    """The first so many, in the order in which they would be sent."""

    @property
    def is_everything(self) -> bool:
        """Whether every job is selected."""
        return self == Selection()

    def __str__(self) -> str:
        """The options as JSON, for the row of the run."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, ())})


class Selected:
    """The jobs that one run may send: their row ids, in the order in which they are sent.

    They belong to the run and lie in its memory, so that runs with different selections share a table.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self._first = 0
        """How many of the ids in front were accepted by the service: they need not be read again."""

    def chunks(self) -> Iterator[list[int]]:
        """The ids, a statement's worth at a time."""
        return (self.ids[start : start + CHUNK] for start in range(0, len(self.ids), CHUNK))

    def unsent(self, connection: Connection) -> Iterator[list[int]]:
        """Like `chunks`, but without the ids in front whose jobs have been accepted."""
        while chunk := self.ids[self._first : self._first + CHUNK]:
            accepted = set(connection.execute(ACCEPTED, {"ids": chunk}).scalars())
            if not accepted.issuperset(chunk):
                break
            self._first += len(chunk)
        return (self.ids[start : start + CHUNK] for start in range(self._first, len(self.ids), CHUNK))

    def drop(self, job_id: int) -> None:
        """Leave one job out from now on."""
        self.ids, self._first = [id_ for id_ in self.ids if id_ != job_id], 0

    def replace(self, ids: Sequence[int]) -> None:
        """Select these jobs from now on."""
        self.ids, self._first = list(ids), 0

    def reorder(self, connection: Connection) -> None:
        """Take over the order in which the jobs are to be sent now, since a person has changed it."""
        places = {
            row.id: (-row.rank, -row.priority, row.id)
            for ids in self.chunks()
            for row in connection.execute(PLACES, {"ids": ids})
        }
        self.ids, self._first = sorted(self.ids, key=places.__getitem__), 0

    def count(self, connection: Connection, state: State) -> int:
        """How many of them are in a state."""
        of_state = select(func.count()).where(jobs.c.state == state)
        return sum(connection.execute(of_state.where(jobs.c.id.in_(ids))).scalar_one() for ids in self.chunks())


def select_jobs(connection: Connection, batch_id: int, selection: Selection) -> Selected | None:
    """The jobs that are selected as the table stands now; None where every job is.

    A person's order decides when they are sent, and not which: `--limit` counts in the manifest's order.
    """
    if selection.is_everything:
        return None
    selected = Selected(find(connection, batch_id, selection))
    selected.reorder(connection)
    return selected


def find(connection: Connection, batch_id: int, selection: Selection) -> list[int]:
    """The row ids of the selected jobs, none of them cancelled, in the manifest's order and by its priorities.

    Raises `UsageError` for a bad condition, and for a pattern that fits no job.
    """
    statement = select(jobs.c.id, jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state != State.CANCELLED)
    if selection.where is not None:
        statement = statement.where(text(condition(selection.where)))
    ordered = statement.order_by(jobs.c.priority.desc(), jobs.c.id)
    with bounded(connection) if selection.where is not None else nullcontext():
        rows = connection.execute(ordered).all()
    for pattern in selection.only:
        if not any(fnmatchcase(row.key, pattern) for row in rows):
            similar = get_close_matches(pattern.strip("*?"), [row.key for row in rows[:COMPARED]], n=3, cutoff=0.4)
            hint = f"; did you mean {' or '.join(similar)}?" if similar else ""
            raise UsageError(f"--only {pattern}: fits the id of no job{hint}")
    if selection.only:
        rows = [row for row in rows if any(fnmatchcase(row.key, pattern) for pattern in selection.only)]
    if selection.sample is not None:
        shuffled = sorted(rows, key=lambda row: hashlib.sha256(row.key.encode("utf-8", "replace")).digest())
        sample = {row.id for row in shuffled[: selection.sample]}
        rows = [row for row in rows if row.id in sample]
    return [row.id for row in rows[: selection.limit]]


def left_out(connection: Connection, batch_id: int, selected: Selected | None) -> int:
    """How many pending jobs of the batch a run may not send."""
    if selected is None:
        return 0
    pending = select(func.count()).where(jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING)
    return int(connection.execute(pending).scalar_one()) - selected.count(connection, State.PENDING)


PLACES = select(jobs.c.id, jobs.c.rank, jobs.c.priority).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
ACCEPTED = select(jobs.c.id).where(
    jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.state.in_([state for state in State if state.is_accepted])
)

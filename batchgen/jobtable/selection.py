"""Which jobs a run may send. A job that was sent is collected whether it is selected or not.

The same command, run again or twice at once, selects the same jobs.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from sqlalchemy import Connection, bindparam, func, select

from batchgen.catalogue.wording import nearest_hint
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable.joins import SENDING_ORDER
from batchgen.jobtable.query import rows_where
from batchgen.jobtable.rows import chunks_of, rows_among
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.statistics import count

PATTERN_CHARS_MAX = 1_000  # five times the longest id; a hundred times as many would be read for minutes
COMPARED_IDS_MAX = 1_000  # with which one without a match is compared, to suggest another: a million take a minute


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
        return self == Selection()

    def __str__(self) -> str:
        """The options as JSON, for the row of the run."""
        return json.dumps({name: value for name, value in asdict(self).items() if value not in (None, ())})

    @classmethod
    def read(cls, text: str) -> Selection:
        """The selection of the row of a run, as `str` writes it."""
        values = dict(json.loads(text))
        return cls(**values | {"only": tuple(values.get("only", ()))})


class Selected:
    """The jobs that one run may send: their row ids, in the order in which they are sent.

    They lie in the run's memory, so that runs with different selections share a table. Its threads share them.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        self._order: tuple[Sequence[int], int] = tuple(ids), 0
        """The ids, and how many of those in front were accepted by the service: they need not be read again. Both are
        replaced at once, because threads read them."""
        self._lock = threading.Lock()

    @property
    def ids(self) -> Sequence[int]:
        return self._order[0]

    def unsent(self, connection: Connection) -> Iterator[Sequence[int]]:
        """The ids, a statement's worth at a time, without those in front whose jobs have been accepted."""
        ids, first = order = self._order
        for chunk in chunks_of(ids, first):
            accepted = set(connection.execute(ACCEPTED, {"ids": chunk}).scalars())
            if not accepted.issuperset(chunk):
                break
            first += len(chunk)
        self._exchange(order, ids, first)
        return chunks_of(ids, first)

    def drop(self, job_id: int) -> None:
        with self._lock:
            self._order = tuple(id_ for id_ in self.ids if id_ != job_id), 0

    def replace(self, ids: Sequence[int]) -> None:
        with self._lock:
            self._order = tuple(ids), 0

    def reorder(self, connection: Connection) -> None:
        """Take over the order in which the jobs are to be sent now, since a person has changed it."""
        is_done = False
        while not is_done:
            ids, _ = order = self._order
            places = {
                row.id: (-row.rank, -row.priority, row.id) for row in rows_among(connection, PLACES, jobs.c.id, ids)
            }
            is_done = self._exchange(order, sorted(ids, key=places.__getitem__))

    def _exchange(self, before: tuple[Sequence[int], int], ids: Sequence[int], accepted: int = 0) -> bool:
        """Put an order in the place of the one that it was made from. False where another thread came before."""
        with self._lock:
            is_same = self._order is before
            if is_same:
                self._order = ids, accepted
        return is_same


def select_jobs(
    connection: Connection, batch_id: int, selection: Selection, gone: Collection[int] = ()
) -> Selected | None:
    """The jobs that are selected as the table stands now, without those `gone` from the manifest; None: every job.

    A person's order decides when they are sent, and not which: `--limit` counts in the manifest's order.
    """
    if selection.is_everything:
        return None
    return selected_of(connection, find(connection, batch_id, selection, gone))


def selected_of(connection: Connection, ids: Sequence[int]) -> Selected:
    """These jobs, in the order in which they are sent."""
    selected = Selected(ids)
    selected.reorder(connection)
    return selected


def ids_without(connection: Connection, batch_id: int, left_out: Sequence[int]) -> list[int]:
    """The row ids of a batch's jobs but for some, in the order in which they are sent."""
    absent = set(left_out)
    ids = connection.execute(select(jobs.c.id).where(jobs.c.batch_id == batch_id).order_by(*SENDING_ORDER)).scalars()
    return [job_id for job_id in ids if job_id not in absent]


def find(connection: Connection, batch_id: int, selection: Selection, gone: Collection[int] = ()) -> list[int]:
    """The row ids of the selected jobs, none of them cancelled, in the manifest's order and by its priorities.

    Raises `UsageError` for a bad condition or one that takes ids for numbers of rows, and for a pattern that fits none.
    """
    statement = select(jobs.c.id, jobs.c.key).where(jobs.c.batch_id == batch_id, jobs.c.state != State.CANCELLED)
    ordered, where = statement.order_by(jobs.c.priority.desc(), jobs.c.id), selection.where
    met = connection.execute(ordered) if where is None else rows_where(connection, batch_id, ordered, where)
    rows = [row for row in met if row.id not in gone]
    if selection.only:
        groups = matching([row.key for row in rows], selection.only, "--only ")
        chosen = {key for group in groups for key in group}
        rows = [row for row in rows if row.key in chosen]
    if selection.sample is not None:
        shuffled = sorted(rows, key=lambda row: hashlib.sha256(row.key.encode("utf-8", "replace")).digest())
        sample = {row.id for row in shuffled[: selection.sample]}
        rows = [row for row in rows if row.id in sample]
    return [row.id for row in rows[: selection.limit]]


def is_pattern(text: str) -> bool:
    """Whether a shell would take the text for a pattern."""
    return re.search(r"[*?\[]", text) is not None


def matching(keys: Iterable[str], patterns: Sequence[str], option: str = "") -> list[list[str]]:
    """The keys that each id or shell pattern fits, each key once. Raises `UsageError` for one that fits none.

    `option` stands before a pattern in that message.
    """
    groups: list[list[str]] = []
    unmatched = dict.fromkeys(keys)
    all_keys = dict(unmatched)
    for pattern in patterns:
        if len(pattern) > PATTERN_CHARS_MAX:
            length = f"{len(pattern):,} characters; at most {PATTERN_CHARS_MAX:,} are allowed"
            raise UsageError(f"{option}{pattern[:60]}…: this has {length}")
        fitting = [pattern] if pattern in all_keys else [key for key in all_keys if fnmatchcase(key, pattern)]
        if not fitting:
            hint = nearest_hint(pattern.strip("*?"), list(all_keys)[:COMPARED_IDS_MAX])
            raise UsageError(f"{option}{pattern}: no job of this batch has such an id{f'; {hint}' if hint else ''}")
        groups.append([key for key in fitting if key in unmatched])
        for key in fitting:
            unmatched.pop(key, None)
    return groups


def left_out(connection: Connection, batch_id: int, selected: Selected | None) -> int:
    """How many pending jobs of the batch a run may not send."""
    if selected is None:
        return 0
    pending = select(func.count()).where(jobs.c.state == State.PENDING)
    chosen: int = sum(row[0] for row in rows_among(connection, pending, jobs.c.id, selected.ids))
    return count(connection, batch_id, State.PENDING) - chosen


def left_out_of(connection: Connection, batch_id: int, text: str | None) -> int:
    """How many pending jobs the selection of a run, as its row has it, leaves out; 0 where it means nothing now."""
    try:
        selected = select_jobs(connection, batch_id, Selection.read(text)) if text else None
    except (UsageError, ValueError, TypeError, RecursionError):  # its jobs are gone, or somebody else has written it
        return 0
    return left_out(connection, batch_id, selected)


def pending_outputs(connection: Connection, batch_id: int, selected: Selected | None) -> list[str]:
    pending = select(jobs.c.output_path).where(jobs.c.batch_id == batch_id, jobs.c.state == State.PENDING)
    if selected is None:
        return list(connection.execute(pending).scalars())
    return [row.output_path for row in rows_among(connection, pending, jobs.c.id, selected.ids)]


PLACES = select(jobs.c.id, jobs.c.rank, jobs.c.priority)
ACCEPTED = select(jobs.c.id).where(
    jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.state.in_([state for state in State if state.is_accepted])
)

"""Lineage: from which job of which batch a job was made. Jobs refer to their parents by name, not by row: the parent's
batch may be in another job table, or gone."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, update

from batchgen.jobtable.schema import batches, jobs

READ_AT_ONCE = 1_000
"""Requests in memory at one time."""


@dataclass(slots=True)
class UsedSeeds:
    """What tells the videos of equal requests apart: the seeds of a lineage, and the last take of each request."""

    seeds: set[int] = field(default_factory=set)
    last_takes: dict[tuple[str, str], int] = field(default_factory=dict)
    """By endpoint and request: the number of the last take in the batch and what was made from it."""

    def next_take(self, endpoint: str, request: str, take: int) -> int:
        """The number of a take of the same request that nobody has paid for yet."""
        last_take = max(self.last_takes.get((endpoint, request), 0), take)
        self.last_takes[endpoint, request] = last_take + 1
        return last_take + 1


def rename_parent(connection: Connection, job_id: int, old: tuple[int, str], new: tuple[int, str]) -> None:
    """Let the children of a job follow its new name. A name is the row id of a batch, and a key.

    A child that was not sent yet has the parent that its manifest names, from the next run on.
    """
    old_batch, new_batch = (
        connection.execute(select(batches.c.name).where(batches.c.id == batch_id)).scalar_one()
        for batch_id, _ in (old, new)
    )
    is_child = (jobs.c.parent_batch == old_batch, jobs.c.parent_key == old[1], jobs.c.id != job_id)
    connection.execute(update(jobs).where(*is_child).values(parent_batch=new_batch, parent_key=new[1]))


def reachable(connection: Connection, batch: str, step: Select[Any]) -> set[str]:
    """A batch with its ancestors (step: `PARENTS`), or with its descendants in this table (`CHILDREN`)."""
    reached: set[str] = set()
    newest = {batch}
    while newest:
        reached |= newest
        newest = set(connection.execute(step, {"names": newest}).scalars()) - reached
    return reached


def used_seeds(connection: Connection, batch: str) -> UsedSeeds:
    """The seeds of a batch, its ancestors and its descendants, and the takes of it and of its descendants. Those of its
    ancestors are lower."""
    used = UsedSeeds()
    with_seed = SEEDED.execution_options(yield_per=READ_AT_ONCE)
    descendants = reachable(connection, batch, CHILDREN)
    names = reachable(connection, batch, PARENTS) | descendants
    for (request,) in connection.execute(with_seed, {"names": names}):
        seed = json.loads(request).get("seed")
        if isinstance(seed, int | str) and str(seed).lstrip("-").isdigit():
            used.seeds.add(int(seed))
    takes = TAKES.execution_options(yield_per=READ_AT_ONCE)
    for endpoint, request, take in connection.execute(takes, {"names": descendants}):
        used.last_takes[endpoint, request] = max(take, used.last_takes.get((endpoint, request), 0))
    return used


_of_batches = batches.c.name.in_(bindparam("names", expanding=True))
PARENTS = select(jobs.c.parent_batch).join(batches).where(_of_batches, jobs.c.parent_batch.is_not(None)).distinct()
CHILDREN = (
    select(batches.c.name).join(jobs).where(jobs.c.parent_batch.in_(bindparam("names", expanding=True))).distinct()
)
SEEDED = select(jobs.c.request).join(batches).where(_of_batches, jobs.c.request.like('%"seed"%'))
TAKES = select(jobs.c.endpoint, jobs.c.request, jobs.c.take).join(batches).where(_of_batches)

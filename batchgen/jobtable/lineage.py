"""Lineage: from which job of which batch a job was made. Jobs refer to their parents by name, not by row: the parent's
batch may be in another job table, or gone."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, update

from batchgen.jobtable.schema import batches, jobs


def rename_parent(connection: Connection, job_id: int, old: tuple[int, str], new: tuple[int, str]) -> None:
    """The job `job_id` got another name, as row id of its batch and key: its children follow it.

    A child that was not sent yet has the name that its manifest says, from the next run on.
    """
    (old_batch, old_key), (new_batch, new_key) = old, new
    names = {"old_batch": old_batch, "old_key": old_key, "new_batch": new_batch, "new_key": new_key, "own": job_id}
    connection.execute(RENAME, names)


def ancestors_of(connection: Connection, batch: str) -> set[str]:
    """A batch, and the batches from which its jobs were made, through any number of generations."""
    ancestors: set[str] = set()
    newest = {batch}
    while newest:
        ancestors |= newest
        newest = set(connection.execute(PARENTS, {"names": newest}).scalars()) - ancestors
    return ancestors


def _name_of(parameter: str) -> object:
    return select(batches.c.name).where(batches.c.id == bindparam(parameter)).scalar_subquery()


RENAME = (
    update(jobs)
    .where(
        jobs.c.parent_batch == _name_of("old_batch"),
        jobs.c.parent_key == bindparam("old_key"),
        jobs.c.id != bindparam("own"),
    )
    .values(parent_batch=_name_of("new_batch"), parent_key=bindparam("new_key"))
)
PARENTS = (
    select(jobs.c.parent_batch)
    .join(batches, jobs.c.batch_id == batches.c.id)
    .where(batches.c.name.in_(bindparam("names", expanding=True)), jobs.c.parent_batch.is_not(None))
    .distinct()
)

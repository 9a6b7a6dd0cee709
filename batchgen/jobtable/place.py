"""The place of a job table in a file: whether it is there, and the one that earlier runs worked on.

A run on a new or another table would pay for the same jobs again, so a table that was moved away is noticed: by its
journal, and by the lock file of a run that did not end in good order.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select

from batchgen.errors import StorageError, os_reason
from batchgen.files.liveness import lock_name, recorded_runs
from batchgen.files.safe_open import UnsafePath, judge_database
from batchgen.jobtable.schema import runs


def is_missing(path: Path) -> bool:
    """Whether a table is yet to be made. Raises `UnsafePath` for a file or a journal that is not one of ours.

    Raises `StorageError` where traces of a table are left: whoever moved it away would pay for its jobs again.
    """
    try:
        judge_database(path)
        journal = path.with_name(f"{path.name}-wal")
        # The traces are read first: while another process makes the table, they come after it.
        traces = [lock_name(path, run) for run in recorded_runs(path)]
        traces += [journal.name] if journal.exists() and journal.stat().st_size else []
        if path.exists() and path.stat().st_size:
            return False
    except UnsafePath as error:
        raise UnsafePath(f"{error}; or name another table with --db") from error
    except OSError as error:
        raise StorageError(f"{path}: {os_reason(error)}") from error
    if traces:
        raise StorageError(
            f"{path}: the job table is gone, but {' and '.join(traces)} beside it says that a run was at work on it. A"
            " run on a new table would pay for every job again. Put the table back and run the same command; or, to"
            " begin again on purpose, delete that as well"
        )
    return True


def check_runs(connection: Connection, path: Path | None) -> None:
    """Raise `StorageError` if a run left its lock file beside this table, and the table does not have that run."""
    recorded = recorded_runs(path) if path else []
    stored = set(connection.execute(select(runs.c.id).where(runs.c.id.in_(recorded))).scalars()) if recorded else set()
    if path and (lost := [run for run in recorded if run not in stored]):
        raise StorageError(
            f"{path}: this is not the job table that an earlier run used: it does not have the run that left"
            f" {lock_name(path, lost[0])} beside it. A run on another table would pay for the same jobs again. Put the"
            " right table back and run the same command; or, if this is the right one, delete that file"
        )

"""Which delivered files the command of `--exec` has been run for: one row for each file and command.

A row is written before the command starts, for only one of two runs to start it, and again when it ends. The next run
starts a command again that failed, or whose run died before it ended: at least once for each file.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from batchgen.jobs import State
from batchgen.jobtable.joins import ATTEMPTS, CURRENT_FILES, IN_BATCH, IS_DELIVERED
from batchgen.jobtable.schema import hook_runs, jobs, outputs, runs
from batchgen.jobtable.transition import guarded_update


def waiting_outputs(connection: Connection, batch_id: int, command: str) -> list[int]:
    """The delivered files for which the command has not ended well, in order of delivery."""
    of_output = (hook_runs.c.output_id == outputs.c.id, hook_runs.c.command == command)
    ended_well = select(hook_runs.c.output_id).where(*of_output, hook_runs.c.exit_code == 0)
    waiting = SELECT_IN_ORDER_OF_DELIVERY.where(~ended_well.exists())
    return list(connection.execute(waiting, {"in_batch": batch_id}).scalars())


def outputs_of(connection: Connection, batch_id: int, keys: Collection[str]) -> list[int]:
    """The delivered files of these jobs, in order of delivery."""
    of_jobs = SELECT_IN_ORDER_OF_DELIVERY.where(jobs.c.key.in_(keys))
    return list(connection.execute(of_jobs, {"in_batch": batch_id}).scalars())


def begin(
    connection: Connection, output_id: int, command: str, run_id: str, dead_runs: Collection[str], now: datetime
) -> Any:
    """Record that a run starts the command for a file; None where it ended well, or a live run has started it.

    Returns the row of what the command is told of the file.
    """
    columns = (jobs.c.key, jobs.c.model, outputs.c.number, outputs.c.path, outputs.c.url, outputs.c.sha256)
    delivered = select(*columns).select_from(ATTEMPTS).join(outputs).where(outputs.c.id == output_id, IS_DELIVERED)
    file = connection.execute(delivered).first()
    if file is None:
        return None
    of_file = select(hook_runs, runs.c.ended_at.label("run_ended_at")).join(runs)
    of_file = of_file.where(hook_runs.c.output_id == output_id, hook_runs.c.command == command)
    row = connection.execute(of_file).first()
    started = {"run_id": run_id, "began_at": now, "ended_at": None, "exit_code": None, "message": None}
    if row is None:
        connection.execute(insert(hook_runs).values(output_id=output_id, command=command, **started))
        return file
    is_at_work = row.ended_at is None and row.run_ended_at is None and row.run_id not in dead_runs
    if row.run_id == run_id or row.exit_code == 0 or is_at_work:
        return None
    guard = {"output_id": output_id, "command": command, "run_id": row.run_id}
    return file if guarded_update(connection, hook_runs, guard, started) else None


def end(
    connection: Connection,
    output_id: int,
    command: str,
    run_id: str,
    exit_code: int,
    message: str | None,
    now: datetime,
) -> None:
    """Record how the command ended that this run started for a file."""
    guard = {"output_id": output_id, "command": command, "run_id": run_id}
    guarded_update(connection, hook_runs, guard, {"ended_at": now, "exit_code": exit_code, "message": message})


SELECT_IN_ORDER_OF_DELIVERY = (
    select(outputs.c.id)
    .select_from(CURRENT_FILES)
    .where(IN_BATCH, jobs.c.state == State.DONE, IS_DELIVERED)
    .order_by(outputs.c.delivered_at, outputs.c.id)
)

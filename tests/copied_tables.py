"""A job table that is copied: rich in rows, read as a whole, and a copy that is killed at a chosen step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE

from sqlalchemy import Connection, insert, select, update

from batchgen.jobtable import row_copy
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import attempts, batches, hook_runs, jobs, limits, outputs, prices, runs, timings
from batchgen.jobtable.views import VIEWS
from tests.conftest import NOON
from tests.forks import Fork
from tests.table import Table
from tests.view_cases import Rows, ask, everything

ODD = "a 🎬 film, “quoted”\u2028\t\x7f, and \\N"


def fill(table: Table) -> None:
    """Bring every kind of row into a table, with odd texts, exact money and values that are not there."""
    everything(table)
    table.change(fill_rest, table.batch_id)


def fill_rest(connection: Connection, batch_id: int) -> None:
    first = connection.execute(select(outputs.c.id).order_by(outputs.c.id)).scalars().first()
    moment = NOON.replace(microsecond=1)
    run = {
        "id": "0123456789ab",
        "batch_id": batch_id,
        "host": "büro",
        "pid": 7,
        "holds_lock": False,
        "started_at": moment,
        "seen_at": moment,
    }
    price = {"service": "aimlapi", "model": ODD, "highest_usd": Decimal("12345678.0000005"), "listed_at": moment}
    times = {"service": "aimlapi", "clip_seconds": 5.04, "generations": 3, "log_mean": 0.1 + 0.2, "log_m2": 1e-300}
    limit = {"service": "aimlapi", "kind": "in_flight", "account": "0badcafe", "model": ODD, "failures": 1}
    hook = {"output_id": first, "command": "ab" * 32, "run_id": run["id"], "began_at": moment, "message": ODD}
    ended = {"ended_at": moment + timedelta(days=1), "exit_code": 5, "message": ODD, "hold": "price"}
    for table, row in (
        (runs, {**run, **ended}),
        (prices, price),
        (timings, {**times, "model": "a"}),
        (timings, {**times, "model": "B"}),
        (limits, {**limit, "window": 1 / 3}),
        (hook_runs, hook),
    ):
        connection.execute(insert(table), [row])
    connection.execute(update(jobs).where(jobs.c.id == 1).values(tags=f'["{ODD}"]'))
    connection.execute(update(attempts).where(attempts.c.id == 1).values(quoted_usd=Decimal("0.0000005")))
    connection.execute(update(batches).where(batches.c.id == batch_id).values(delivered_bytes=5_000_000_000))


def digests(database: Database) -> dict[str, str]:
    """The digest of every table that is copied."""
    return {table.name: str(database.read_now(row_copy.digest, table)) for table in row_copy.TABLES}


def shown(database: Database) -> dict[str, Rows]:
    """What every view shows."""
    return {view: sorted(ask(Table(database, Path()), f"SELECT * FROM {view}"), key=str) for view in VIEWS}


DYING = """
import os, sys
from datetime import UTC, datetime
from sqlalchemy import Engine, event
from batchgen.jobtable import copying
from batchgen.jobtable.database import Database

steps = last = 0

def step(*_):
    global steps
    steps += 1
    if steps == last:
        os.kill(os.getpid(), 9)

for name in ("commit", "before_cursor_execute"):
    event.listen(Engine, name, step)
for line in sys.stdin:
    source, target, number = line.rstrip("\\n").split("\\t")
    steps, last = 0, int(number)
    if last and (child := os.fork()):
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    with Database(source) as database:
        copying.copy(database, target, None, datetime(2026, 3, 2, tzinfo=UTC), lambda *_: None)
    if last:
        os._exit(0)
    print(steps, flush=True)
"""
"""Reads lines of source, target and the number of the step (a statement, or a commit) before which it is killed."""


@contextmanager
def copier() -> Iterator[Callable[[str, str, int], int]]:
    """Copy a source to a target in a process that is killed before a step, and return its exit code, -9.

    Before step 0 nothing is killed: the number of all steps is returned.
    """
    with Fork(["-c", DYING], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin
        assert process.stdout
        requests, results = process.stdin, process.stdout

        def copy(source: str, target: str, step: int) -> int:
            requests.write(f"{source}\t{target}\t{step}\n")
            requests.flush()
            return int(results.readline())

        yield copy

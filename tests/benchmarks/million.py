"""The queries that a run repeats, with a million jobs in the table and with a thousand."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection

from batchgen.jobs import State
from batchgen.jobtable.database import Database
from tests.benchmarks.measure import Figure, sized
from tests.hot_queries import HOT_QUERIES

LARGE, SMALL = sized(1_000_000, 2_000), sized(1_000, 200)
TIMES = sized(200, 10)
MICROSECOND = 1e-6
OPEN = (State.PENDING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)
PER_STATE = 20
"""Jobs in each of the open states, in both tables; all others are done."""
NOW = "2026-03-01T12:00:00.000000Z"
LATER = "2026-03-01T13:00:00.000000Z"
MODEL = "klingai/v2.1-master-text-to-video"

NAMES = {
    "a claim and its answer": ("claim and answer",),
    "poll and answer": ("poll and answer",),
    "download and delivery": ("download and delivery",),
    "is anything pending, open, in flight, not charged": (
        "any pending",
        "any open",
        "in flight",
        "uncharged attempts",
    ),
    "all that `status` and the progress screen read": ("batch summary", "blockers", "events since", "failures"),
}


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.db", Path(folder) / "small.db"
        for place, rows in ((large, LARGE), (small, SMALL)):
            fill(place, rows)
        with Database(large) as big, Database(small) as little:
            for what, names in NAMES.items():
                slow, quick = beside(big, little, names)
                yield Figure(
                    f"{what}, at {LARGE:,} jobs and {5 * LARGE:,} events",
                    f"{slow / MICROSECOND:,.0f} µs, {slow / quick:.2f} ×",
                    f"at {SMALL:,} jobs: {quick / MICROSECOND:,.0f} µs",
                )


def beside(big: Database, little: Database, names: tuple[str, ...]) -> tuple[float, float]:
    """Median seconds in both tables, measured in turn."""
    times: list[tuple[float, float]] = [
        (big.write_now(once, names), little.write_now(once, names)) for _ in range(TIMES)
    ]
    slow, quick = zip(*times[TIMES // 10 :], strict=True)
    return statistics.median(slow), statistics.median(quick)


def once(connection: Connection, names: tuple[str, ...]) -> float:
    """Seconds within a transaction, which is then rolled back."""
    undone = connection.begin_nested()
    began = time.perf_counter()
    for name in names:
        HOT_QUERIES[name](connection, 1)
    seconds = time.perf_counter() - began
    undone.rollback()
    return seconds


def fill(place: Path, rows: int) -> None:
    """Fill a job table with jobs, each with one attempt and five events, in plain SQL."""
    with Database(place) as database:
        database.write_now(bulk_insert, rows)


def bulk_insert(connection: Connection, rows: int) -> None:
    order = connection.exec_driver_sql
    order(f"INSERT INTO batches VALUES (1, 'big', 'aimlapi', '/m.yaml', '00', '{NOW}', '{NOW}', NULL, 0, 0, 0, 0)")
    order("CREATE TEMP TABLE numbers (i INTEGER PRIMARY KEY, state TEXT, sent INTEGER, accepted INTEGER, done INTEGER)")
    states = " ".join(f"WHEN i > {rows - (number + 1) * PER_STATE} THEN '{state}'" for number, state in enumerate(OPEN))
    order(
        f"INSERT INTO numbers WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        f" SELECT i, CASE {states} ELSE 'done' END, 0, 0, 0 FROM n"
    )
    order(
        "UPDATE numbers SET sent = state <> 'pending', accepted = state NOT IN ('pending', 'unconfirmed'),"
        " done = state = 'done'"
    )
    # Jobs and attempts refer to one another. Attempts come first: SQLite finds those of a new job by an index.
    order("PRAGMA defer_foreign_keys = ON")
    order(
        "INSERT INTO attempts (id, job_id, number, service, account, origin, model, client_request_id, fingerprint,"
        " intent_at, answered_at, outcome, generation_id, handle, deadline_at, finished_at, cost_usd, charge_source)"
        f" SELECT i, i, 1, 'aimlapi', 'a', '', '{MODEL}', 'c-' || i, printf('%064d', i), '{NOW}',"
        f" iif(accepted, '{NOW}', NULL),"
        " iif(accepted, 'accepted', 'unconfirmed'), iif(accepted, 'g-' || i, NULL), iif(accepted, '{}', NULL),"
        f" '{LATER}', iif(state IN ('done', 'downloading'), '{NOW}', NULL), iif(accepted, '0.28', NULL),"
        " iif(accepted, 'poll', NULL) FROM numbers WHERE sent"
    )
    order(
        "INSERT INTO jobs (id, batch_id, key, state, priority, rank, service, endpoint, model, request, input_pointers,"
        " take, fingerprint, tags, attempt_id, failures, output_path, created_at, delivered_at, next_at)"
        f" SELECT i, 1, 'clip-' || i, state, 0, 0, 'aimlapi', '/v2/video/generations', '{MODEL}',"
        f""" '{{"model":"{MODEL}","prompt":"A slow dolly shot along the shore, take ' || i || '","duration":5}}',"""
        " '[]', 0, printf('%064d', i), '[]', iif(sent, i, NULL), 0, 'clip-' || i || '.mp4',"
        f" '{NOW}', iif(done, '{NOW}', NULL), iif(done OR NOT sent, NULL, '{NOW}') FROM numbers"
    )
    order(
        "INSERT INTO outputs (attempt_id, number, url, path, bytes, sha256, delivered_at)"
        " SELECT i, 1, 'https://cdn.test/' || i, 'clip-' || i || '.mp4', 2000000, printf('%064d', i),"
        f" iif(done, '{NOW}', NULL) FROM numbers WHERE state IN ('done', 'downloading')"
    )
    for state in ("pending", "submitting", "generating", "downloading", "done"):
        order(f"INSERT INTO events (batch_id, job_id, at, to_state) SELECT 1, i, '{NOW}', '{state}' FROM numbers")
    order("DROP TABLE numbers")

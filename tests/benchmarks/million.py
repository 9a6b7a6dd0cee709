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

SUMMARY = ("batch summary", "blockers", "events since", "failures")
NAMES = {
    "a claim and its answer": ("claim and answer",),
    "poll and answer": ("poll and answer",),
    "download and delivery": ("download and delivery",),
    "is anything pending, open, in flight, not charged": ("any pending", "any open", "in flight", "uncharged attempts"),
    "all that `status` and the progress screen read": SUMMARY,
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


def fill(place: str | Path, rows: int) -> None:
    """Fill a job table with jobs, each with one attempt and five events, in plain SQL."""
    with Database(place) as database:
        database.write_now(bulk_insert, rows)


DIGEST = "printf('%064d', i)", "lpad(CAST(i AS text), 64, '0')"
COST = "'0.28'", "0.28"
TIME = "'{}'", "timestamptz '{}'"
UNCHECKED = "PRAGMA defer_foreign_keys = ON", "SET LOCAL session_replication_role = replica"
"""What SQLite and PostgreSQL spell in two ways. Jobs and attempts refer to one another, so neither can come first."""


def bulk_insert(connection: Connection, rows: int) -> None:
    order = connection.exec_driver_sql
    is_postgres = connection.dialect.name == "postgresql"
    digest, cost, unchecked = DIGEST[is_postgres], COST[is_postgres], UNCHECKED[is_postgres]
    now, later = (TIME[is_postgres].format(time) for time in (NOW, LATER))
    order(
        "INSERT INTO batches (id, name, service, manifest_path, manifest_sha256, created_at, synced_at, spent_nanousd,"
        f" reserved_nanousd, unpriced, delivered_bytes) VALUES (1, 'big', 'aimlapi', '/m.yaml', '00', {now}, {now},"
        " 0, 0, 0, 0)"
    )
    order("CREATE TEMP TABLE numbers (i INTEGER PRIMARY KEY, state TEXT, sent BOOLEAN, accepted BOOLEAN, done BOOLEAN)")
    states = " ".join(f"WHEN i > {rows - (number + 1) * PER_STATE} THEN '{state}'" for number, state in enumerate(OPEN))
    order(
        "INSERT INTO numbers (i, state, sent, accepted, done)"
        f" WITH RECURSIVE n (i, state) AS (SELECT 1, CAST('done' AS text) UNION ALL"
        f" SELECT i + 1, CASE {states.replace('WHEN i', 'WHEN i + 1')} ELSE 'done' END FROM n WHERE i < {rows})"
        " SELECT i, state, state <> 'pending', state NOT IN ('pending', 'unconfirmed'), state = 'done' FROM n"
    )
    order(unchecked)
    # Attempts come first: SQLite finds those of a new job by an index.
    order(
        "INSERT INTO attempts (id, job_id, number, service, account, origin, model, client_request_id, fingerprint,"
        " intent_at, answered_at, outcome, generation_id, handle, deadline_at, finished_at, cost_usd, charge_source)"
        f" SELECT i, i, 1, 'aimlapi', 'a', '', '{MODEL}', 'c-' || i, {digest}, {now},"
        f" CASE WHEN accepted THEN {now} END, CASE WHEN accepted THEN 'accepted' ELSE 'unconfirmed' END,"
        f" CASE WHEN accepted THEN 'g-' || i END, CASE WHEN accepted THEN '{{}}' END, {later},"
        f" CASE WHEN state IN ('done', 'downloading') THEN {now} END, CASE WHEN accepted THEN {cost} END,"
        " CASE WHEN accepted THEN 'poll' END FROM numbers WHERE sent"
    )
    order(
        "INSERT INTO jobs (id, batch_id, key, state, priority, rank, service, endpoint, model, request, input_pointers,"
        " take, fingerprint, tags, attempt_id, failures, output_path, created_at, delivered_at, next_at)"
        f" SELECT i, 1, 'clip-' || i, state, 0, 0, 'aimlapi', '/v2/video/generations', '{MODEL}',"
        f""" '{{"model":"{MODEL}","prompt":"A slow dolly shot along the shore, take ' || i || '","duration":5}}',"""
        f" '[]', 0, {digest}, '[]', CASE WHEN sent THEN i END, 0, 'clip-' || i || '.mp4',"
        f" {now}, CASE WHEN done THEN {now} END, CASE WHEN sent AND NOT done THEN {now} END FROM numbers"
    )
    order(
        "INSERT INTO outputs (attempt_id, number, url, path, bytes, sha256, delivered_at)"
        f" SELECT i, 1, 'https://cdn.test/' || i, 'clip-' || i || '.mp4', 2000000, {digest},"
        f" CASE WHEN done THEN {now} END FROM numbers WHERE state IN ('done', 'downloading')"
    )
    for state in ("pending", "submitting", "generating", "downloading", "done"):
        order(f"INSERT INTO events (batch_id, job_id, at, to_state) SELECT 1, i, {now}, '{state}' FROM numbers")
    order("DROP TABLE numbers")
    if is_postgres:
        for table in ("jobs", "attempts", "outputs"):
            order(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    order("ANALYZE")

"""What it costs not to know an account's limits: a run that was told them, one that finds them, and one after it.

Told exactly what the account allows, a run is as fast as it can be. Throughput is jobs over the time from the first
create to the last delivery; refusals are counted by the service's own ledger.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Figure, run
from tests.conftest import simulator_process
from tests.waiting import rows

JOBS = 300
SPEED = 60  # a minute of the account is a second; a generation takes about 3.5
ACCOUNTS: dict[str, dict[str, int]] = {
    "20 creates a minute": {"creates_per_minute": 20},
    "50 videos in flight": {"in_flight": 50},
    "both": {"creates_per_minute": 20, "in_flight": 50},
}
HEAD = """\
batch: {batch}
limits: {limits}
defaults: {{model: kling-video/v2.1/standard/image-to-video, image_url: "https://example.com/a.jpg"}}
jobs:
"""


@dataclass(frozen=True, slots=True)
class Score:
    """Jobs a second, and the share of creates that were answered 429."""

    rate: float
    refused: float


def figures() -> Iterator[Figure]:
    for name, account in ACCOUNTS.items():
        with tempfile.TemporaryDirectory() as folder:
            told = {
                "submits_per_minute": account.get("creates_per_minute", 1000) * SPEED,
                "in_flight": account.get("in_flight", 1000),
            }
            base = play(Path(folder) / "told", account, {**told, "polls_per_minute": 60_000})
            auto = {"submits_per_minute": "auto", "in_flight": "auto", "polls_per_minute": 60_000}
            first, second = (play(Path(folder) / "auto", account, auto, batch) for batch in ("first", "second"))
        for which, score in (("from a cold start", first), ("the next run", second)):
            yield Figure(
                f"`limits: auto` with {name}, {JOBS} jobs, {which}",
                f"{score.rate / base.rate:.2f} × the throughput, {score.refused:.1%} of submits answered 429",
                f"told the limits: {base.rate:.1f} jobs/s, {base.refused:.1%}; ≥ 0.95 ×, ≤ 2 %",
            )


def play(folder: Path, account: dict[str, int], limits: dict[str, Any], batch: str = "told") -> Score:
    """One run against a new account of the same kind, with whatever the job table in `folder` remembers."""
    folder.mkdir(exist_ok=True)
    manifest, database = folder / f"{batch}.yaml", folder / "batchgen.db"
    jobs = "".join(f"- {{id: j{each}, prompt: number {each}}}\n" for each in range(JOBS))
    manifest.write_text(HEAD.format(batch=batch, limits=json.dumps(limits)) + jobs)
    books = folder / batch
    books.mkdir()
    options = ("--instant", "--speed", str(SPEED), "--limits", json.dumps(account))
    with simulator_process(books, *options) as service:
        run(sys.executable, "-m", "batchgen", "run", str(manifest), **service.environment)
        answers = [row["status"] for row in rows(service.ledger, "SELECT status FROM requests WHERE kind = 'create'")]
    wanted = "SELECT j.submitted_at, j.delivered_at FROM jobs j JOIN batches b ON b.id = j.batch_id WHERE b.name = ?"
    done = rows(database, wanted, batch)
    first = min(datetime.fromisoformat(row["submitted_at"]) for row in done)
    last = max(datetime.fromisoformat(row["delivered_at"]) for row in done)
    return Score(JOBS / (last - first).total_seconds(), answers.count(429) / len(answers))

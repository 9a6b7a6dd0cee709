"""What learning an account's limits costs: a run whose manifest names them, one that learns them, and the next one.

A run that knows exactly what the account allows is as fast as it can be. Throughput is jobs over the time from the
first create to the last delivery; refusals are counted by the service's own ledger.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.benchmarks.measure import Figure, run, sized
from tests.conftest import simulator_process
from tests.waiting import rows

JOBS = sized(300, 20)
RATE_BOUND, REFUSED_BOUND = 0.93, 0.02
"""Of the rate of a run that is configured with the limit, and of all creates."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a simulated account allows, in minutes that pass `speed` times as fast as real ones."""

    name: str
    speed: int
    creates_per_minute: int | None = None
    in_flight: int | None = None

    @property
    def limits(self) -> dict[str, int]:
        allowed = {"creates_per_minute": self.creates_per_minute, "in_flight": self.in_flight}
        return {name: number for name, number in allowed.items() if number}

    @property
    def named(self) -> dict[str, int]:
        """The same as a manifest names it, in real minutes."""
        return {
            "submits_per_minute": self.speed * (self.creates_per_minute or 1000),
            "in_flight": self.in_flight or 1000,
        }


ACCOUNTS = (
    Account("40 creates a minute", 30, creates_per_minute=40),  # 20 a second here; a generation takes 7 s
    Account("50 videos in flight", 60, in_flight=50),  # a generation takes 3.5 s here
)
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
    with ThreadPoolExecutor() as side_by_side:  # a run waits for its account, not for the machine
        for account_figures in side_by_side.map(compare, ACCOUNTS):
            yield from account_figures


def compare(account: Account) -> list[Figure]:
    auto = {"submits_per_minute": "auto", "in_flight": "auto"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = play(folder / "named", account, account.named, "named")
        first, second = (play(folder / "auto", account, auto, batch) for batch in ("first", "second"))
    return [
        Figure(
            f"`limits: auto`, an account of {account.name}, {JOBS} jobs, {start}",
            f"{score.rate / base.rate:.2f} × the throughput, {score.refused:.1%} of submits answered 429",
            f"≥ {RATE_BOUND} × and ≤ {REFUSED_BOUND:.0%};"
            f" with the limit configured: {base.rate:.1f} jobs/s, {base.refused:.1%}",
            score.rate >= RATE_BOUND * base.rate and score.refused <= REFUSED_BOUND,
        )
        for start, score in (("from a cold start", first), ("the next run", second))
    ]


def play(folder: Path, account: Account, limits: Mapping[str, int | str], batch: str) -> Score:
    """One run against a new account of the same kind, with what the job table in `folder` has learned."""
    folder.mkdir(exist_ok=True)
    manifest, database = folder / f"{batch}.yaml", folder / "batchgen.db"
    jobs = "".join(f"- {{id: j{index}, prompt: number {index}}}\n" for index in range(JOBS))
    manifest.write_text(HEAD.format(batch=batch, limits=json.dumps({**limits, "polls_per_minute": 60_000})) + jobs)
    ledger_folder = folder / batch
    ledger_folder.mkdir()
    options = ("--instant", "--speed", str(account.speed), "--limits", json.dumps(account.limits))
    with simulator_process(ledger_folder, *options) as service:
        run(sys.executable, "-m", "batchgen", "run", str(manifest), **service.environment)
        answers = [row["status"] for row in rows(service.ledger, "SELECT status FROM requests WHERE kind = 'create'")]
    query = "SELECT a.answered_at AS submitted_at, j.delivered_at FROM jobs j JOIN attempts a ON a.id = j.attempt_id"
    query += " JOIN batches b ON b.id = j.batch_id WHERE b.name = ?"
    done = rows(database, query, batch)
    first = min(datetime.fromisoformat(row["submitted_at"]) for row in done)
    last = max(datetime.fromisoformat(row["delivered_at"]) for row in done)
    return Score(JOBS / (last - first).total_seconds(), answers.count(429) / len(answers))

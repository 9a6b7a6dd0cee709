"""A death at every crash point of a small batch, both sides of each; then the same command again, to the end.

The batch meets what a batch can meet: a lost answer that is adopted from the log, a poll and a file server that fail,
an expired address, a file that is cut. So each kind of commit is there to die at.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.campaign.audit import audit
from tests.campaign.crashing import COMMIT_AFTER, COMMIT_BEFORE, KILLED, POINTS, REQUEST_SENT
from tests.campaign.processes import Run, Service
from tests.campaign.scenarios import Plan, Scenario
from tests.campaign.trial import ENDED, LAG_SECONDS, Trial, finish, note_ending, write_manifest

JOBS = 2
SPEED = 1500.0
FAULTS: Plan = {
    "create": {"accept_then_drop": {"count": 1}},
    "fetch": {"500": {"count": 1}},
    "cdn": {"expired_410": {"count": 1}, "cut": {"count": 1, "bytes": 9_000}, "html_200": {"count": 1}},
}
SHORT = {
    "batchgen.jobtable.writer.GROUP_MAX": 1,  # each write alone: a busy machine has as many points
    "batchgen.scheduler.FIRST_LOOK_UP": 0.1,
    "batchgen.reconciler.RETRY_FIRST_SECONDS": 0.2,
    "batchgen.poller.RETRY_FIRST_SECONDS": 0.1,
    "batchgen.downloader.RETRY_FIRST_SECONDS": 0.1,
    "batchgen.downloader.PIECE_BYTES": 1_000,
}
MARGIN = 1  # points more than the first count found: no two runs are the same to the last poll


@dataclass(frozen=True, slots=True)
class Point:
    """The `number`-th time that a kind of crash point is reached; `again`: in the run after a first death."""

    name: str
    number: int
    again: bool = False

    @property
    def row(self) -> str:
        return f"{self.name}, after a first crash" if self.again else self.name

    @property
    def command(self) -> str:
        return f"python -m tests.campaign --only '{self.row} #{self.number}'"


FIRST_DEATH = (REQUEST_SENT, 3)  # the metrics, and a create before it
POINTS_AGAIN = (COMMIT_BEFORE, COMMIT_AFTER, REQUEST_SENT)
ROWS = (*POINTS, *(f"{name}, after a first crash" for name in POINTS_AGAIN))


def points(row: str | None = None) -> Iterator[Point]:
    """Every point of every kind, or those of one row; counted in a run that is left alone."""
    for again in (False, True):
        found = count(again) if row is None or row.endswith("after a first crash") == again else Counter()
        for name in POINTS_AGAIN if again else POINTS:
            for number in range(1, found[name] + MARGIN + 1 if found else 0):
                point = Point(name, number, again)
                if row in (None, point.row):
                    yield point


def one(told: str) -> Point:
    """The point that a `command` names."""
    row, _, number = told.partition(" #")
    return Point(row.removesuffix(", after a first crash"), int(number), row.endswith("after a first crash"))


def count(again: bool) -> Counter[str]:
    """How often each kind of point is reached."""
    with tempfile.TemporaryDirectory(prefix="batchgen-campaign-") as name:
        folder, trail = Path(name), Path(name) / "points.txt"
        with begun(folder) as service:
            if again:
                Run(folder, service, {"set": SHORT, "die": FIRST_DEATH}).end()
            Run(folder, service, {"set": SHORT, "count": str(trail)}).end()
        found = Counter(trail.read_text().splitlines())
    if missing := set(POINTS) - set(found):
        raise AssertionError(f"never reached, so not where `crashing.py` looks for it: {', '.join(sorted(missing))}")
    return found


def begun(folder: Path) -> Service:
    """The batch and its service, not yet started."""
    write_manifest(folder, Scenario("crash point", 0, JOBS, local_image=True, file_in_the_way=True))
    return Service(folder, FAULTS, "--instant", "--speed", str(SPEED), "--lag", str(LAG_SECONDS))


def die_at(point: Point, folder: Path) -> Trial:
    """Die there, run again to the end, and count. The folder stays if anything surprised."""
    began = time.monotonic()
    trial = Trial(point.row, point.command, folder)
    folder.mkdir(parents=True)
    deaths: list[Any] = [FIRST_DEATH] if point.again else []
    try:
        with begun(folder) as service:
            for death in (*deaths, (point.name, point.number)):
                run = Run(folder, service, {"set": SHORT, "die": death})
                code = run.end()
                trial.kills += code == KILLED
                trial.runs += 1
                note_ending(trial, run, code, {KILLED, *ENDED})
            finish(trial, service)
            seen, trial.books = trial.books.surprises, audit(folder, service, in_the_way=True)
            trial.books.surprises[:0] = seen
    except Exception as error:  # a trial that fails is told with the others
        trial.surprise(f"the trial itself failed: {type(error).__name__}: {error}")
    trial.seconds = time.monotonic() - began
    if trial.passed:
        shutil.rmtree(folder)
    return trial

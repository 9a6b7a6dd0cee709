"""A crash at every crash point of a small batch; then the same command runs again, to the end.

The batch has one fault of each kind: a lost answer that is adopted from the log, a poll and a download that fail, an
expired URL, a file that is cut. So there is a crash point at each kind of commit and of request.
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
from tests.campaign.scenarios import FaultPlan, Scenario
from tests.campaign.trial import ENDED, LAG_SECONDS, REDO, Trial, check_exit_code, run_to_end, write_manifest

JOBS = 2
SPEED = 1500.0
FAULTS: FaultPlan = {
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
    "batchgen.download.transfer.PIECE_BYTES": 1_000,
}
MARGIN = 1
"""Crash points tried beyond those that were counted: two runs differ by a poll or two."""
FIRST_CRASH = (REQUEST_SENT, 3)
"""Where the run before a second crash ends: the requests before are one for typical times and one create."""
SECOND_CRASH_POINTS = (COMMIT_BEFORE, COMMIT_AFTER, REQUEST_SENT)
SECOND = ", after a first crash"
ROWS = (*POINTS, *(name + SECOND for name in SECOND_CRASH_POINTS))
"""The rows of the table that are crash points."""


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """The `number`-th time that a run reaches a kind of crash point; `again`: in the run after a first crash."""

    name: str
    number: int
    again: bool = False

    @property
    def row(self) -> str:
        return self.name + SECOND if self.again else self.name

    @property
    def command(self) -> str:
        """The command that repeats exactly this crash."""
        return f"python -m tests.campaign --only '{self.row} #{self.number}'"


def parse(text: str) -> CrashPoint:
    """The crash point in a `command`: its row and its number."""
    row, _, number = text.partition(" #")
    return CrashPoint(row.removesuffix(SECOND), int(number), row.endswith(SECOND))


def crash_points(row: str | None = None) -> Iterator[CrashPoint]:
    """Every crash point, or those of one row. They are counted in a run without a crash."""
    for again in (False, True):
        counts = count(again) if row is None or row.endswith(SECOND) == again else Counter()
        for name in SECOND_CRASH_POINTS if again else POINTS:
            for number in range(1, counts[name] + MARGIN + 1 if counts else 0):
                point = CrashPoint(name, number, again)
                if row in (None, point.row):
                    yield point


def count(again: bool) -> Counter[str]:
    """How often a run reaches each kind of crash point."""
    with tempfile.TemporaryDirectory(prefix="batchgen-campaign-") as name:
        folder, reached = Path(name), Path(name) / "points.txt"
        with prepare(folder) as service:
            if again:
                Run(folder, service, {"set": SHORT, "die": FIRST_CRASH}, REDO).wait()
            Run(folder, service, {"set": SHORT, "count": str(reached)}, REDO).wait()
        counts = Counter(reached.read_text().splitlines())
    if missing := set(POINTS) - set(counts):
        raise AssertionError(f"never reached, so not where `crashing.py` looks for it: {', '.join(sorted(missing))}")
    return counts


def prepare(folder: Path) -> Service:
    """Write the manifest; its service, which is not yet started."""
    write_manifest(folder, Scenario("crash point", 0, JOBS, local_image=True, foreign_file=True))
    return Service(folder, FAULTS, "--instant", "--speed", str(SPEED), "--lag", str(LAG_SECONDS))


def run_crash_point(point: CrashPoint, folder: Path) -> Trial:
    """Crash there, run again to the end, and audit. The folder stays if there is a problem."""
    began = time.monotonic()
    trial = Trial(point.row, point.command, folder, options=REDO)
    folder.mkdir(parents=True)
    crashes: list[Any] = [FIRST_CRASH] if point.again else []
    try:
        with prepare(folder) as service:
            for crash in (*crashes, (point.name, point.number)):
                run = Run(folder, service, {"set": SHORT, "die": crash}, REDO)
                code = run.wait()
                trial.kills += code == KILLED
                trial.runs += 1
                check_exit_code(trial, run, code, {KILLED, *ENDED})
            run_to_end(trial, service)
            trial.close_with(audit(folder, service, foreign_file=True))
    except Exception as error:  # the campaign goes on, and reports it with the other problems
        trial.add_problem(f"the trial itself failed: {type(error).__name__}: {error}")
    trial.seconds = time.monotonic() - began
    if trial.passed:
        shutil.rmtree(folder)
    return trial

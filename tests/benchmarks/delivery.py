"""A run of batchgen, measured until its last video is delivered.

A run measures what its clips show beside its other work, in a child process that yields the processor to everything
else, and goes on with that for up to half a minute after the last delivery. This is no part of the delivery: the run is
told to stop then, and the child's CPU time is counted for itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ExitCode
from tests.benchmarks.measure import Usage, fail, python_process, wait
from tests.waiting import rows

CHECK_SECONDS = 0.05
DELIVERED = "SELECT count(*) AS n FROM jobs WHERE state = 'done'"
MEASURED = "SELECT count(*) AS n FROM outputs WHERE signature IS NOT NULL"
PARENT, USER_TICKS, SYSTEM_TICKS, NICENESS = 1, 11, 12, 16
"""Fields of `/proc/PID/stat`, counted from the one after the name."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a run used until its last delivery, without its measuring child, and what that used for how many clips."""

    usage: Usage
    measuring_seconds: float
    measured: int

    @property
    def measuring_ms(self) -> float:
        """The CPU time of the measuring child a clip, its start included."""
        return 1000 * self.measuring_seconds / self.measured if self.measured else 0.0


def deliver(manifest: Path, jobs: int, **environment: str) -> Delivery:
    """Run a new batch of so many jobs. The job table lies beside the manifest."""
    table = manifest.with_name("batchgen.db")
    began = time.perf_counter()
    with python_process("-m", "batchgen", "run", str(manifest), **environment) as (process, output):
        while not (delivered := is_delivered(table, jobs)) and not has_ended(process.pid):
            time.sleep(CHECK_SECONDS)
        seconds = time.perf_counter() - began
        measuring = sum(patient_children(process.pid))
        process.send_signal(signal.SIGINT)
        usage = wait(process)
        if not delivered or process.returncode not in (ExitCode.DELIVERED, ExitCode.INTERRUPTED):
            fail(f"the run ended with {process.returncode}", output)
    usage = usage._replace(seconds=seconds, cpu_seconds=usage.cpu_seconds - measuring)
    return Delivery(usage, measuring, rows(table, MEASURED)[0]["n"])


def is_delivered(table: Path, jobs: int) -> bool:
    return any(row["n"] == jobs for row in rows(table, DELIVERED))


def has_ended(pid: int) -> bool:
    """Whether a child has ended. It is not waited for: the kernel would drop its account."""
    return hasattr(os, "waitid") and bool(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def patient_children(pid: int) -> Iterator[float]:
    """The CPU time in seconds of each child that yields the processor to others. On Linux only: it is in /proc."""
    if sys.platform != "linux":
        return
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[PARENT]) == pid and int(fields[NICENESS]) > 0:
            yield (int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")

"""The two sides as processes: the service, which keeps its ledger and its port when it is killed, and batchgen."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-campaign-9f31c04be2d7"
"""Looked for, afterwards, in every byte that batchgen wrote."""

LOOK_SECONDS = 0.004  # between two looks at the table
LATER_SECONDS = 0.1  # between the first signal and the second
PATIENCE_SECONDS = 120.0  # with a run; one that takes longer hangs


def environment(**more: str) -> dict[str, str]:
    """The environment of a process of the campaign: nothing of the developer's own account."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("AIMLAPI_", "BATCHGEN_"))}
    return {**ours, "PYTHONPATH": str(ROOT), **more}


class Service:
    """The simulated service. Killed and started again it is the same service."""

    def __init__(self, folder: Path, faults: Mapping[str, Any], *options: str) -> None:
        self.ledger = folder / "service.ledger"
        self.faults = faults
        self.options = options
        self.log = (folder / "service.log").open("ab")
        with socket.create_server(("127.0.0.1", 0)) as asked:
            self.port: int = asked.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()

    def start(self) -> None:
        command = [sys.executable, "-m", "batchgen.simulator", "--port", str(self.port)]
        command += ["--ledger", str(self.ledger), "--faults", json.dumps(self.faults), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=environment())
        assert self.process.stdout
        with self.process.stdout as told:
            if not told.readline():
                raise AssertionError(f"the service does not start: {' '.join(command)}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """Stop it in good order: all of its ledger is on the disk then."""
        self.process.terminate()
        self.process.wait()

    def calm(self) -> None:
        """No more faults."""
        ask = urllib.request.Request(f"{self.base_url}/_simulator/faults", b"{}", method="PUT")
        urllib.request.urlopen(ask, timeout=30).close()


class Run:
    """`batchgen run` as a process, and how the table grows meanwhile."""

    def __init__(self, folder: Path, service: Service, orders: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.database = folder / "batchgen.db"
        self.known = last_event(self.database)
        number = len(list(folder.glob("run-*.log")))
        self.log = folder / f"run-{number:02}.log"
        module = "tests.campaign.crashing" if orders else "batchgen"
        told = {"CAMPAIGN_ORDERS": json.dumps(orders)} if orders else {}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "run", "batch.yaml"],
                cwd=folder,
                env=environment(AIMLAPI_BASE_URL=service.base_url, AIMLAPI_API_KEY=KEY, **told),
                stdout=log,
                stderr=log,
            )

    def wait_for(self, events: int, seconds: float, *, to_listen: bool) -> bool:
        """Wait for so many new rows of history, and then some time; False if the process ends before.

        `to_listen`: not before its first word. Until then Python itself is being started, and answers signals its way.
        """
        while self.process.poll() is None:
            heard = self.log.stat().st_size > 0 or not to_listen
            if heard and last_event(self.database) - self.known >= events:
                return not self.ends_within(seconds)
            time.sleep(LOOK_SECONDS)
        return False

    def strike(self, how: str) -> None:
        """Send it the signal, or the same one twice."""
        name, _, twice = how.partition(" ")
        self.process.send_signal(signal.Signals[name])
        if twice:
            self.ends_within(LATER_SECONDS)
            self.process.send_signal(signal.Signals[name])

    def ends_within(self, seconds: float) -> bool:
        """Wait so long at most."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def end(self) -> int | None:
        """Wait for its end; the exit code, or None for one that hung and was killed."""
        try:
            return self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


def command(folder: Path, *arguments: str) -> str:
    """Any other command of batchgen, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "batchgen", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"batchgen {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def rows(database: Path, sql: str) -> list[dict[str, Any]]:
    """Rows of a SELECT, by a reader that leaves no trace: recovering the file is batchgen's affair."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def last_event(database: Path) -> int:
    """The newest row of the history; 0 before there is one."""
    if not database.exists():
        return 0
    try:
        return int(rows(database, "SELECT coalesce(max(id), 0) AS id FROM events")[0]["id"])
    except sqlite3.Error:  # not yet made, or just being made
        return 0

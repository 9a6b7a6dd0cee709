"""The two sides of a scenario as processes: the simulated service, and batchgen."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from subprocess import PIPE, TimeoutExpired
from types import TracebackType
from typing import Any, Self

from tests.forks import Fork
from tests.forks import run as run_fork

KEY = "sk-campaign-9f31c04be2d7"
"""The API key. The audit searches all that batchgen wrote for it."""

POLL_SECONDS = 0.004
"""Pause between two reads of the job table: short beside a transition, so that an interruption comes when it is due."""
SECOND_SIGNAL_SECONDS = 0.1
"""Pause between two signals to the same run."""
PORTS = range(20_000, 32_000)
"""Of services."""
TIMEOUT_SECONDS = 120.0
"""Bounds one run. A run of this length hangs: most take two seconds."""


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process of the campaign, without the developer's own account."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIMLAPI_", "BATCHGEN_"))}
    return {**inherited, **variables}


def free_port() -> int:
    """A port below those that a system gives to clients: no connection takes it while the service is down."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError(f"every port of {PORTS} is taken")


class Service:
    """The simulated service. It keeps its port and its ledger when it is killed and started again."""

    def __init__(self, folder: Path, faults: Mapping[str, Any], *options: str) -> None:
        self.ledger = folder / "service.ledger"
        self.faults = faults
        self.options = options
        self.log = (folder / "service.log").open("ab")
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.kill()
        self.log.close()

    def start(self) -> None:
        command = ["-m", "batchgen", "simulate", "--port", str(self.port)]
        command += ["--ledger", str(self.ledger), "--faults", json.dumps(self.faults), *self.options]
        self.process = Fork(command, stdout=PIPE, stderr=self.log.fileno(), env=environment())
        assert self.process.stdout
        with self.process.stdout as output:
            if not output.readline():
                raise AssertionError(f"the service does not start: {' '.join(command)}")
            self.control_url = output.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Stop the service in order, so that all of its ledger is on the disk."""
        self.process.terminate()
        self.process.wait()

    def clear_faults(self) -> None:
        request = urllib.request.Request(f"{self.control_url}/faults", b"{}", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()


class Run:
    """`batchgen run` as a process, with what `crashing.py` is to do to it."""

    def __init__(
        self, folder: Path, service: Service, orders: Mapping[str, Any] | None = None, options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.database = folder / "batchgen.db"
        self.events_before = last_event(self.database)
        number = len(list(folder.glob("run-*.log")))
        self.log = folder / f"run-{number:02}.log"
        self.output = self.log.with_suffix(".jsonl")
        module = "tests.campaign.crashing" if orders else "batchgen"
        variables = {"CAMPAIGN_ORDERS": json.dumps(orders)} if orders else {}
        with self.log.open("wb") as log, self.output.open("wb") as output:
            self.process = Fork(
                ["-m", module, "run", "batch.yaml", "--json", *options],
                cwd=folder,
                env=environment(AIMLAPI_BASE_URL=service.base_url, AIMLAPI_API_KEY=KEY, **variables),
                stdout=output.fileno(),
                stderr=log.fileno(),
            )

    @property
    def has_printed(self) -> bool:
        """Whether the run has printed anything. Before that, Python itself starts and handles signals its own way."""
        return self.log.stat().st_size + self.output.stat().st_size > 0

    def wait_for_events(self, events: int, seconds: float, *, printed: bool) -> bool:
        """Wait for so many new rows of history, and then for `seconds`; False if the run ends before.

        With `printed`, wait for the first output of the run as well.
        """
        while self.process.poll() is None:
            if (self.has_printed or not printed) and last_event(self.database) - self.events_before >= events:
                return not self.ends_within(seconds)
            time.sleep(POLL_SECONDS)
        return False

    def send(self, action: str) -> None:
        """Send the run the signal of an interruption, or the same signal twice."""
        name, _, twice = action.partition(" ")
        self.process.send_signal(signal.Signals[name])
        if twice:
            self.ends_within(SECOND_SIGNAL_SECONDS)
            self.process.send_signal(signal.Signals[name])

    def ends_within(self, seconds: float) -> bool:
        """Wait at most so long for the end of the run; whether it has ended."""
        with suppress(TimeoutExpired):
            self.process.wait(seconds)
        return self.process.poll() is not None

    def wait(self) -> int | None:
        """Wait for the end of the run; its exit code, or None for a run that hung and was killed."""
        try:
            return self.process.wait(TIMEOUT_SECONDS)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


def command(folder: Path, *arguments: str) -> str:
    """Run another command of batchgen; its output. Raises AssertionError if it fails."""
    done = run_fork(["-m", "batchgen", *arguments], cwd=folder, env=environment(), timeout=TIMEOUT_SECONDS)
    if done.returncode:
        raise AssertionError(f"batchgen {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def rows(database: Path, sql: str) -> list[dict[str, Any]]:
    """Rows of a SELECT, read only: recovering a database after a kill is left to batchgen."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def last_event(database: Path) -> int:
    """The id of the newest row of history; 0 while there is none."""
    if not database.exists():
        return 0
    try:
        return int(rows(database, "SELECT coalesce(max(id), 0) AS id FROM events")[0]["id"])
    except sqlite3.Error:  # batchgen is creating the file or the table
        return 0

"""Eight processes of `batchgen run` on one batch, one database and one simulated service."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import make_url

from tests.campaign.processes import KEY, Service, environment
from tests.campaign.trial import ENDED
from tests.forks import Fork
from tests.postgres import Server
from tests.tcp_proxy import TcpProxy

TEND_SECONDS = 0.05
"""Pause between two checks whether a worker has ended."""
START_SECONDS = 180.0
"""Bounds the start of all workers on a busy machine."""
END_SECONDS = 240.0
"""Bounds the rest of a batch after its fault."""


@dataclass
class Worker:
    """One process of `batchgen run` after the other, in the place of one machine."""

    number: int
    proxy: TcpProxy | None = None
    """Between it and the database."""
    clock: float = 0.0
    """Seconds by which its system's clock is wrong."""
    starts: int = 0
    process: Fork | None = None
    was_killed: bool = False
    log: Path = Path()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)


@dataclass
class Cluster:
    """The workers, what they share, and what has gone wrong so far."""

    folder: Path
    server: Server
    service: Service
    url: str
    """Of the job table."""
    size: int
    constants: dict[str, float]
    """Constants of batchgen by full name, with other values."""
    has_proxies: bool = False
    end_codes: Collection[int] = frozenset(ENDED)
    """The exit codes of a worker that has nothing more to do."""
    kills: int = 0
    problems: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        for number in range(self.size):
            proxy = self.stack.enter_context(TcpProxy(self.server.port)) if self.has_proxies else None
            self.workers.append(Worker(number, proxy))
            self.start(self.workers[-1])
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.process:
                worker.process.kill()
                worker.process.wait()
        self.stack.close()

    @property
    def database(self) -> str:
        return str(make_url(self.url).database)

    def query(self, sql: str) -> list[dict[str, Any]]:
        return self.server.ask(self.url, sql)

    def start(self, worker: Worker) -> None:
        """Start the next process of a worker."""
        worker.log = self.folder / f"worker-{worker.number}-{worker.starts:02}.log"
        worker.starts += 1
        worker.was_killed = False
        orders: dict[str, Any] = {"set": self.constants}
        if worker.clock:
            orders["clock"] = worker.clock
        url = make_url(self.url).set(port=worker.proxy.port) if worker.proxy else make_url(self.url)
        variables = {
            "AIMLAPI_BASE_URL": self.service.base_url,
            "AIMLAPI_API_KEY": KEY,
            "BATCHGEN_DB": url.render_as_string(hide_password=False),
            "CAMPAIGN_ORDERS": json.dumps(orders),
        }
        output = self.folder / f"run-{worker.number}-{worker.starts:02}.jsonl"  # the audit reads every such file
        with worker.log.open("wb") as log, output.open("wb") as lines:
            worker.process = Fork(
                ["-m", "tests.campaign.crashing", "run", "batch.yaml", "--json"],
                cwd=self.folder,
                env=environment(**variables),
                stdout=lines.fileno(),
                stderr=log.fileno(),
            )

    def kill(self, worker: Worker) -> None:
        """SIGKILL; `tend` starts the worker again."""
        if worker.is_running:
            worker.was_killed = True
            worker.send(signal.SIGKILL)
            self.kills += 1

    def tend(self) -> None:
        """Start every worker again that was killed, and note each that ended by itself although the batch goes on."""
        for worker in self.workers:
            if worker.process is None or worker.is_running:
                continue
            code = worker.process.wait()
            if worker.was_killed and code == -signal.SIGKILL:
                self.start(worker)
            elif code in self.end_codes:
                worker.process = None
            else:
                self.problems.append(f"{worker.log.name} ended with {code}: {tail(worker.log)}")
                self.start(worker)

    def pause(self, seconds: float) -> None:
        """Let the batch go on for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(TEND_SECONDS, left))

    def wait_for(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Let the batch go on until a condition holds. Raises AssertionError."""
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
            self.pause(TEND_SECONDS)

    def all_have_begun(self) -> bool:
        """Whether each worker that is running has recorded its run."""
        begun = {row["pid"] for row in self.query("SELECT pid FROM runs WHERE ended_at IS NULL")}
        return all(worker.process.pid in begun for worker in self.workers if worker.process and worker.is_running)

    def wait_until_back(self) -> None:
        """Wait until every worker that was killed has begun its next run."""
        self.tend()
        self.wait_for(self.all_have_begun, START_SECONDS, "every worker at work")

    def wait_until_working(self) -> None:
        """Wait until every worker is at work, and jobs have been accepted."""
        self.wait_until_back()
        accepted = "SELECT count(*) AS jobs FROM attempts WHERE outcome = 'accepted'"
        self.wait_for(lambda: self.query(accepted)[0]["jobs"] > 0, START_SECONDS, "a job accepted")

    def wait_until_ended(self) -> None:
        """Wait until every worker has ended by itself."""
        self.wait_for(lambda: not any(worker.process for worker in self.workers), END_SECONDS, "every worker ended")

    def pending(self) -> int:
        """The jobs that are not sent yet."""
        return int(self.query("SELECT count(*) AS jobs FROM jobs WHERE state = 'pending'")[0]["jobs"])


def tail(log: Path, length: int = 300) -> str:
    """The end of a log, on one line."""
    return " ".join(log.read_text(errors="replace")[-length:].split())

"""Draws answers, sends them over a socket to the real stages with a real job table, and judges what they make of them.

Each request is judged alone: an id in the table has to be the one in its answer, no two attempts may share one, the key
may be nowhere, and nothing may be raised.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from batchgen import clock
from batchgen.context import RunContext
from batchgen.downloader import Downloader
from batchgen.jobs import Job, State
from batchgen.jobtable import pricelist, statistics
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import attempts, jobs
from batchgen.limits import accounting, blockers
from batchgen.limits.admission import Admitted
from batchgen.limits.generation_times import GenerationTimes
from batchgen.poller import Poller
from batchgen.reconciler import Reconciler
from batchgen.scheduler import Scheduler
from batchgen.services.account import Account
from batchgen.services.base import Service, Submission
from batchgen.services.registry import plugin
from batchgen.stage import Stage
from tests.conftest import NOON
from tests.hostile import values
from tests.hostile.values import KEY
from tests.scripted import context_of
from tests.table import MODEL, Table, spec

MUCH_LATER = NOON + timedelta(days=1000)
"""Whatever a service asks for, everything is due by then."""
LEAST_ACCEPTED = 0.05
"""The share of answers that have to lead to a generation; with fewer, nothing is shown."""
JOBS = 40
"""Jobs of a job table, each with one answer of each kind that it comes to."""
USAGE = {"usage": {"credits_used": 588200, "usd_spent": 0.2941}}
CREATED = {"id": "g-?", "status": "queued", "generation_id": "g-?", "meta": USAGE}
POLLED = {
    "id": "g-?",
    "status": "completed",
    "video": {"url": "BASE/v.mp4", "content_type": "video/mp4", "file_size": 9},
    "error": {"name": "x", "message": "y", "detail": [{"loc": ["a"], "msg": "b"}]},
    "meta": USAGE,
}
LOGGED = {
    "data": [
        {
            "created": "2026-07-01T12:00:00Z",
            "status": "succeeded",
            "model": MODEL,
            "cost": {"usd": 0.2941, "credits": 588200},
            "request_id": "r",
            "inference_id": "g-?",
            "client_request_id": "CLIENT",
        }
    ],
    "pagination": {"limit": 100, "offset": 0, "total": 1, "has_more": False},
}
CHARGED = {
    "data": [{"reference_id": "g-?", "amount": {"usd": 1, "credits": 2000000}}],
    "pagination": {"next_cursor": None},
}
LISTED = {
    "data": [
        {
            "id": MODEL,
            "aliases": ["kling"],
            "type": "internal/video-generations/submit",
            "pricing": {"kind": "fixed", "units": [{"name": "second", "measure": "s", "price": 0.05, "per": 1}]},
        }
    ]
}
MEASURED = {"models": [{"alias": MODEL, "endpoint": "e", "metrics": {"duration_ms": {"p50": 210000}}}]}


@dataclass
class Result:
    """What a campaign of answers came to."""

    answers: int = 0
    accepted: int = 0
    problems: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)


class HostileService:
    """A server that answers each request with a drawn answer, and remembers those of one call."""

    def __init__(self, chance: random.Random, result: Result) -> None:
        self.chance, self.result = chance, result
        self.base_url, self.generations = "", 0
        self.client_request_id = ""
        self.sent = b""
        """The last answer."""
        self.read: list[bytes] = []
        """What a client could read since the call began: each answer, and the JSON in it before it was packed."""

    def document(self, target: str) -> Any:
        """What the service would answer."""
        if "generation_id=" in target:
            return POLLED
        documents = {
            "/v2/logs": LOGGED,
            "/v2/billing": {"current_balance": 1, "currency": "USD"},
            "/v2/billing/transactions": CHARGED,
            "/v1/models": LISTED,
            "/models/metrics": MEASURED,
        }
        return documents.get(target.partition("?")[0], CREATED)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"content-length: (\d+)", head, re.IGNORECASE):
                await reader.readexactly(int(length[1]))
            self.generations += self.chance.random() < 0.9  # sometimes an id is given twice
            text = json.dumps(self.document(head.split()[1].decode()))
            text = text.replace("g-?", f"g-{self.generations}").replace("BASE", self.base_url)
            document = json.loads(text.replace("CLIENT", self.client_request_id))
            self.sent, meant = values.answer(self.chance, document)
            self.read += [self.sent, meant]
            if b"/v.mp4" in head:  # a file server never has the key, so it cannot repeat it
                self.sent = self.sent.replace(KEY.encode(), b"key").replace(values.ESCAPED_KEY.encode(), b"key")
            self.result.answers += 1
            writer.write(self.sent)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def ids_in(answer: bytes) -> str:
    """The text of an answer with every escape of JSON resolved: an id that was taken from it stands in it."""
    text = answer.decode("utf-8", "replace")
    return text + re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)


@asynccontextmanager
async def hostile_service(chance: random.Random, result: Result) -> AsyncIterator[tuple[HostileService, Service]]:
    hostile = HostileService(chance, result)
    server = await asyncio.start_server(hostile.handle, "127.0.0.1", 0)
    hostile.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, plugin("aimlapi").open(Account(hostile.base_url, KEY), None) as service:
        yield hostile, service


class Trial:
    """One job table, its stages, and a hostile service."""

    def __init__(self, table: Table, hostile: HostileService, service: Service) -> None:
        self.table, self.hostile, self.service = table, hostile, service
        self.result = hostile.result
        self.context: RunContext = context_of(table, service)  # type: ignore[arg-type]

    async def attempt(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """One call that must not raise anything."""
        try:
            return await asyncio.wait_for(call(), 60)
        except Exception:
            self.problem(f"{name}: {traceback.format_exc(limit=-3)}")

    def problem(self, text: str) -> None:
        self.result.problems.append(f"{text}\n    answered {self.hostile.sent[:600]!r}")

    async def create(self, scheduler: Scheduler, job: Job) -> None:
        self.hostile.read.clear()
        job = replace(job, attempt=replace(job.attempt, intent_at=clock.utcnow()))  # else it is too late to send it
        request = Submission(job.model, job.endpoint, job.request, job.attempt.client_request_id)
        outcome = await scheduler.send(job, request)
        self.count(outcome)
        await scheduler.record(job, Admitted(NOON, False), outcome, None)
        self.judge_id(job)

    async def search(self, reconciler: Reconciler, job: Job) -> None:
        self.hostile.read.clear()
        self.hostile.client_request_id = job.attempt.client_request_id
        await reconciler.work([job])
        self.judge_id(job)

    def count(self, outcome: Any) -> None:
        name = type(outcome).__name__
        self.result.outcomes[name] = self.result.outcomes.get(name, 0) + 1

    def judge_id(self, job: Job) -> None:
        """The id in the table is the one of this answer; where there is none, the job is not generating."""
        state, generation_id = self.table.database.read_now(read_id, job.id)
        if (state == State.GENERATING) != (generation_id is not None):
            self.problem(f"{job.key} is {state} with the id {generation_id!r}")
        if generation_id is not None:
            self.result.accepted += 1
            if generation_id not in ids_in(b" ".join(self.hostile.read)):
                self.problem(f"{job.key} has the id {generation_id!r} of another answer")

    async def run(self) -> None:
        """Every kind of answer once for each job."""
        table, context = self.table, self.context
        scheduler, poller = Scheduler(context, 1), Poller(context, 1)
        reconciler, downloader = Reconciler(context, 1), Downloader(context, 1)
        try:
            for job in table.intend():
                await self.attempt("create", lambda job=job: self.create(scheduler, job))  # type: ignore[misc]
            for job in self.claimed(State.UNCONFIRMED):
                await self.attempt("search", lambda job=job: self.search(reconciler, job))  # type: ignore[misc]
            for job in self.claimed(State.GENERATING):
                await self.attempt("poll", lambda job=job: poller.work(job))  # type: ignore[misc]
            for job in self.claimed(State.DOWNLOADING):
                await self.attempt("download", lambda job=job: downloader.work(job))  # type: ignore[misc]
            await self.attempt("prices", lambda: accounting.learn_prices(table.database, self.service, NOON))
            await self.attempt("charges", lambda: accounting.learn_charges(table.database, self.service, 1, NOON))
            await self.attempt("balance", self.service.balance)
            await self.attempt("times", self.learn_times)
            await self.attempt("reading it again", self.read_everything)
            for stage in (scheduler, poller, reconciler, downloader):
                self.judge_stage(stage)
        finally:
            await downloader.close()
        self.judge_sharing()

    def claimed(self, state: State) -> list[Job]:
        """Every job of a state, whenever it is due."""
        self.table.now = MUCH_LATER
        return self.table.claim(state, capacity=JOBS)

    async def learn_times(self) -> None:
        """Whatever the service says of its times, a poll can be planned."""
        measured = await self.service.typical_seconds([MODEL])
        times = GenerationTimes(measured, {})
        for job in self.table.intend()[:1]:
            times.next_poll_at(job, NOON, NOON, NOON)
        times.p99(MODEL, 5.0)

    async def read_everything(self) -> None:
        """What every later run and `status` read."""
        database = self.table.database
        prices = await database.read(pricelist.load, "aimlapi")
        prices.quote(MODEL, "/v2/video/generations", '{"duration": 5}')
        await database.read(statistics.batch_summary, self.table.batch_id, NOON)
        await database.read(blockers.blockers, self.table.batch_id, NOON)
        await database.read(statistics.failures, self.table.batch_id, 100)
        self.table.everything()

    def judge_stage(self, stage: Stage) -> None:
        if stage.failure:
            self.problem(f"{type(stage).__name__}: {stage.failure!r}")

    def judge_sharing(self) -> None:
        ids = [attempt.generation_id for attempt in self.table.attempts() if attempt.generation_id]
        if len(ids) != len(set(ids)):
            self.problem("two attempts share an id")


def run_answers(number: int, seed: int, folder: Path) -> Result:
    """At least `number` answers, drawn by `seed`, in job tables in `folder`."""
    result, log = Result(), KeyFinder()
    logger = logging.getLogger()
    logger.addHandler(log)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        trial = 0
        while result.answers < number:
            place = folder / f"{trial:04}"
            place.mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a library may warn with a traceback in its message
                asyncio.run(run_trial(random.Random(f"{seed}-{trial}"), result, place))
            result.problems += [
                f"the key is in {path.name}: {keys_in(path)}" for path in place.rglob("*") if has_key(path)
            ]
            trial += 1
    finally:
        logger.removeHandler(log)
        logger.setLevel(level)
    if result.accepted < result.answers * LEAST_ACCEPTED:
        result.problems.append(f"only {result.accepted} ids were taken: most answers came to nothing")
    result.problems += [f"the log has the key or an error: {line[:300]}" for line in log.lines]
    return result


async def run_trial(chance: random.Random, result: Result, place: Path) -> None:
    with Database(place / "batchgen.db") as database:
        table = Table(database, place)
        table.sync(*(spec(f"clip-{number}") for number in range(JOBS)))
        async with hostile_service(chance, result) as (hostile, service):
            await Trial(table, hostile, service).run()


def has_key(path: Path) -> bool:
    """Whether a file that a run leaves holds the key, in its name or content."""
    return KEY in path.name or (path.is_file() and KEY.encode() in path.read_bytes())


def read_id(connection: Connection, job_id: int) -> tuple[str, str | None]:
    """The state of a job and the generation id of its newest attempt."""
    newest = jobs.outerjoin(attempts, attempts.c.id == jobs.c.attempt_id)
    row = connection.execute(
        select(jobs.c.state, attempts.c.generation_id).select_from(newest).where(jobs.c.id == job_id)
    ).one()
    return row.state, row.generation_id


def keys_in(path: Path) -> list[bytes]:
    """The places in a file where the key stands."""
    content = path.read_bytes()
    return [content[max(match.start() - 60, 0) : match.end() + 20] for match in re.finditer(KEY.encode(), content)][:5]


class KeyFinder(logging.Handler):
    """Keeps each log line in which the key stands, and every error: asyncio logs what nobody has caught."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if KEY in str(vars(record)) or record.levelno >= logging.ERROR:
            self.lines.append(record.getMessage())

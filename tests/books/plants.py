"""A job table and the simulator's books, filled with attempts of which some have a discrepancy of a known kind.

Every attempt and every foreign charge has the settlement that `reconcile` must give it.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, update

from batchgen import clock
from batchgen.billing.collect import CHARGED_DETAIL
from batchgen.billing.settlements import Settlement
from batchgen.jobs import ChargeSource, ErrorClass, Outcome, State
from batchgen.jobtable.database import Database
from batchgen.jobtable.fingerprint import new_request_id
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs
from batchgen.services.account import origin_of
from batchgen.services.aimlapi import AimlApi
from batchgen.simulator.ledger import (
    INSERT_GENERATION,
    INSERT_REQUEST,
    INSERT_TRANSACTION,
    Generation,
    Ledger,
    RequestRecord,
    TransactionRow,
    timestamp,
)

MODEL = "klingai/v2.1-master-text-to-video"
ENDPOINT = "/v2/video/generations"
MICRO_USD = 1_470_001  # an amount whose credits are odd cents
CREDITS = 2 * MICRO_USD
OLD, RECENT = timedelta(hours=9), timedelta(minutes=10)
CHUNK = 5_000  # attempts that are written at a time


@dataclass(frozen=True)
class Plant:
    """What one attempt has wrong, if anything: its job and attempt in the table, its charges, its row in the log."""

    settlement: Settlement | None
    """Of the attempt; None where the table does not have it, and the settlement is that of its charges."""
    charges: tuple[int | None, ...] = (CREDITS,)
    """Credits of its transactions, refunds negative; the last ones."""
    job: dict[str, Any] = field(default_factory=dict)
    attempt: dict[str, Any] = field(default_factory=dict)
    age: timedelta = OLD
    is_sent: bool = True
    has_file: bool = True
    strange: Settlement | None = None
    """The settlement of its charges where no attempt has them."""
    request: str | None = "own"
    """Under which client request id the log has it: its own, another one, none, or None: no row."""
    reference: str | None = "own"


FAILED = {"state": State.FAILED, "error_class": ErrorClass.UNKNOWN, "error": "it failed"}
FREE = {"cost_usd": Decimal(0), "charge_source": ChargeSource.POLL}
REFUSED = {"outcome": Outcome.REJECTED, "generation_id": None, "cost_usd": None, "charge_source": None}
UNSURE = {"outcome": Outcome.UNCONFIRMED, "generation_id": None, "cost_usd": None, "charge_source": None}
UNNAMED = {"cost_usd": None, "charge_source": None}

PLANTS: dict[str, Plant] = {
    "charged in two equal parts": Plant(Settlement.DELIVERED, (CREDITS // 2, CREDITS // 2)),
    "charged, refunded and charged again": Plant(Settlement.DELIVERED, (CREDITS, -CREDITS, CREDITS)),
    "charged what no answer had named": Plant(Settlement.DELIVERED, attempt=UNNAMED),
    "charged another amount than estimated": Plant(Settlement.DELIVERED, (CREDITS + 9,), attempt=UNNAMED),
    "not charged yet": Plant(Settlement.LATE, (), age=RECENT),
    "never charged": Plant(Settlement.UNCHARGED, ()),
    "charged twice": Plant(Settlement.CHARGED_TWICE, (CREDITS, CREDITS)),
    "charged twice what no answer had named": Plant(Settlement.CHARGED_TWICE, (CREDITS, CREDITS), attempt=UNNAMED),
    "refunded": Plant(Settlement.REFUNDED, (CREDITS, -CREDITS)),
    "refunded in part": Plant(Settlement.PARTLY_REFUNDED, (CREDITS, -200)),
    "charged a wrong amount": Plant(Settlement.AMOUNT_DIFFERS, (CREDITS + 1,)),
    "failed, and charged": Plant(Settlement.FAILED_CHARGED, job=FAILED, attempt=FREE, has_file=False),
    "failed, and charged nothing": Plant(Settlement.NOTHING_CHARGED, (), job=FAILED, attempt=FREE, has_file=False),
    "charged, and its file is not here": Plant(Settlement.NOT_DELIVERED, job=FAILED, has_file=False),
    "refused": Plant(Settlement.NOTHING_CHARGED, (), job=FAILED, attempt=REFUSED, has_file=False, request=None),
    "its answer was lost": Plant(
        Settlement.UNCONFIRMED, (), job={"state": State.UNCONFIRMED}, attempt=UNSURE, has_file=False, request=None
    ),
    "sent with another key": Plant(Settlement.ELSEWHERE, (), attempt={"account": "another"}, request=None),
    "another program's": Plant(None, strange=Settlement.FOREIGN, is_sent=False, request="other-program-1"),
    "another program's, with no client request id": Plant(None, strange=Settlement.FOREIGN, is_sent=False, request=""),
    "another key's, which this key's log lacks": Plant(None, strange=Settlement.FOREIGN, is_sent=False, request=None),
    "another job table's": Plant(None, strange=Settlement.FOREIGN, is_sent=False, request="table"),
    "of this batch, and the table does not have it": Plant(None, strange=Settlement.UNKNOWN, is_sent=False),
    "without a reference": Plant(None, strange=Settlement.UNKNOWN, is_sent=False, request=None, reference=None),
}
"""Every kind of discrepancy, and what looks like one and is none."""
PAYMENTS = (("TOPUP", "PAYMENT"), ("TOPUP", "BONUS"), ("TOPUP", "ADJUSTMENT"), ("CHARGE", "CREDITS_EXPIRED"))


@dataclass
class Truth:
    """What was planted. A job has its key as name, a charge of no attempt its generation; one without that a number."""

    settlements: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)
    """The names of each kind."""
    credits: int = 0
    rows: int = 0
    """Transactions of charges and refunds."""

    def add(self, kind: str, name: str, settlement: Settlement) -> None:
        self.settlements[name] = settlement
        self.kinds.setdefault(kind, []).append(name)


def plant_of(number: int, every: int) -> tuple[str, Plant]:
    """The plant of an attempt: of `every` consecutive ones, each kind has one, and the others are in order."""
    kinds = list(PLANTS.items())
    place = number % every
    return kinds[place] if place < len(kinds) else ("in order", Plant(Settlement.DELIVERED))


def fill(table: Path, ledger: Path, manifest: Path, environment: dict[str, str], number: int, every: int) -> Truth:
    """Fill both sides with `number` attempts, of which one in `every` has each of the plants."""
    base_url, key = environment["AIMLAPI_BASE_URL"], environment["AIMLAPI_API_KEY"]
    account = {"account": AimlApi(base_url, key).account, "origin": origin_of(base_url), "service": "aimlapi"}
    truth, now = Truth(), clock.utcnow()
    Ledger(ledger).close()
    with Database(table) as database, closing(sqlite3.connect(ledger, timeout=30)) as books:
        database.write_now(add_batch, manifest, now)
        for first in range(0, number, CHUNK):
            rows = [row_of(i, every, account, now) for i in range(first, min(first + CHUNK, number))]
            database.write_now(add_attempts, [row for row in rows if row.plant.is_sent], now)
            key_digest = sha256(key.encode()).hexdigest()[:16]
            with books:
                for row in rows:
                    add_books(books, row, key_digest, truth)
        with books:
            for seconds, (direction, kind) in enumerate(PAYMENTS):
                add_payment(books, direction, kind, timestamp(now - OLD + timedelta(seconds=seconds)))
    return truth


@dataclass
class Row:
    """One attempt, with its plant and its place in time."""

    number: int
    kind: str
    plant: Plant
    account: dict[str, str]
    at: datetime
    fingerprint: str
    request: str
    """Its client request id."""

    @property
    def key(self) -> str:
        return f"j{self.number:06}"

    @property
    def generation(self) -> str:
        return f"g-{self.number}"


def row_of(number: int, every: int, account: dict[str, str], now: datetime) -> Row:
    kind, plant = plant_of(number, every)
    # Many have exactly the same time, as where a service stores whole seconds.
    at = now - plant.age + timedelta(seconds=number // 7 % 7_000 if plant.age is OLD else 0)
    # What the table does not have is a request of the last job of its group, which is in order.
    request = number if plant.is_sent else number // every * every + every - 1
    fingerprint = sha256(str(request).encode()).hexdigest()
    return Row(number, kind, plant, account, at, fingerprint, new_request_id(fingerprint))


def add_batch(connection: Connection, manifest: Path, now: datetime) -> None:
    amounts = {"spent_nanousd": Decimal(0), "reserved_nanousd": Decimal(0), "unpriced": 0, "delivered_bytes": 0}
    of_manifest = {"name": "books", "service": "aimlapi", "manifest_path": str(manifest), "manifest_sha256": "00"}
    connection.execute(insert(batches).values(id=1, created_at=now, synced_at=now, **of_manifest, **amounts))


def add_attempts(connection: Connection, rows: list[Row], now: datetime) -> None:
    own = [(job_values(row), attempt_values(row, now)) for row in rows]
    # Jobs and attempts refer to one another.
    links = [{"of_job": job["id"], "attempt": job.pop("attempt_id")} for job, _ in own]
    for job, _ in own:
        job["state"], job["final"] = State.PENDING, job["state"]
    finals = [{name: job.pop(name) for name in ("final", "delivered_at", "failed_at")} for job, _ in own]
    connection.execute(insert(jobs), [job for job, _ in own])
    connection.execute(insert(attempts), [attempt for _, attempt in own])
    for link, final in zip(links, finals, strict=True):
        state = {"state": final["final"], "delivered_at": final["delivered_at"], "failed_at": final["failed_at"]}
        connection.execute(update(jobs).where(jobs.c.id == link["of_job"]).values(attempt_id=link["attempt"], **state))
    files = [row for row in rows if row.plant.has_file]
    connection.execute(insert(outputs), [file_values(row, now) for row in files])
    asked = [row for row in rows if row.plant.settlement is Settlement.NOT_DELIVERED]
    if asked:  # by an earlier reconciliation, so that this one does not: its generation does not exist
        moved = {"batch_id": 1, "at": now, "to_state": State.FAILED, "detail": CHARGED_DETAIL}
        connection.execute(insert(events), [{"job_id": row.number + 1, **moved} for row in asked])


def job_values(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": row.number + 1,
        "batch_id": 1,
        "key": row.key,
        "state": State.DONE,
        "priority": 0,
        "service": "aimlapi",
        "model": MODEL,
        "endpoint": ENDPOINT,
        "request": "{}",
        "input_pointers": "[]",
        "take": 1,
        "fingerprint": row.fingerprint,
        "output_path": f"{row.key}.mp4",
        "tags": "[]",
        "attempt_id": row.number + 1,
        "failures": 0,
        "created_at": row.at,
        "error_class": None,
        "error": None,
        **row.plant.job,
    }
    values["delivered_at"] = row.at if values["state"] == State.DONE else None
    values["failed_at"] = row.at if values["state"] == State.FAILED else None
    return values


def attempt_values(row: Row, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": row.number + 1,
        "job_id": row.number + 1,
        "number": 1,
        "model": MODEL,
        **row.account,
        "client_request_id": row.request,
        "fingerprint": row.fingerprint,
        "intent_at": row.at,
        "outcome": Outcome.ACCEPTED,
        "generation_id": row.generation,
        "handle": json.dumps({}),
        "finished_at": row.at,
        "deadline_at": row.at,
        "estimated_usd": usd(CREDITS),
        "cost_usd": usd(CREDITS),
        "charge_source": ChargeSource.ANSWER,
        **row.plant.attempt,
    }
    if values["generation_id"] is None:
        values["finished_at"] = None
    return values


def file_values(row: Row, now: datetime) -> dict[str, Any]:
    file = {"path": f"{row.key}.mp4", "bytes": 1, "sha256": "ab", "delivered_at": now}
    return {"attempt_id": row.number + 1, "number": 1, "url": "", **file}


def usd(credits_: int) -> Decimal:
    return Decimal(credits_) / 2_000_000


def add_books(books: sqlite3.Connection, row: Row, key: str, truth: Truth) -> None:
    """Write what the service has of an attempt: its generation, its request in the log, its transactions."""
    plant, at = row.plant, timestamp(row.at)
    if plant.settlement:
        truth.add(row.kind, row.key, plant.settlement)
    if plant.request is not None:
        named = {"own": row.request, "table": new_request_id("f" * 64), "": None}
        request = RequestRecord(
            at=at,
            kind="create",
            path=ENDPOINT,
            request_id=row.request,
            key=key,
            model=MODEL,
            client_request_id=named.get(plant.request, plant.request),
            reserved_id=row.generation,
            key_leaked=False,
            status=201,
            generation_id=row.generation,
            logged_at=at,
        )
        books.execute(INSERT_REQUEST, vars(request))
        books.execute(INSERT_GENERATION, vars(generation_of(row, key, at)))
    for number, credits_ in enumerate(plant.charges):
        assert credits_ is not None
        # Two equal ones in a row have the same time, and so nothing that tells them apart.
        charged_at = timestamp(row.at + timedelta(seconds=number * (len(plant.charges) > 2)))
        is_refund = credits_ < 0
        transaction = TransactionRow(
            at=charged_at,
            listed_at=charged_at,
            direction="TOPUP" if is_refund else "CHARGE",
            type="REFUND" if is_refund else "MODEL_USAGE",
            model=MODEL,
            reference_id=row.generation if plant.reference else None,
            credits=abs(credits_),
            key=key,
        )
        books.execute(INSERT_TRANSACTION, vars(transaction))
        truth.credits += credits_
        truth.rows += 1
    if plant.strange:
        nameless = f"nameless {len(truth.kinds.get(row.kind, ()))}"
        truth.add(row.kind, row.generation if plant.reference else nameless, plant.strange)


def generation_of(row: Row, key: str, at: str) -> Generation:
    return Generation(
        model=MODEL,
        endpoint=ENDPOINT,
        body="{}",
        digest=row.fingerprint,
        prompt="",
        seconds=5.0,
        aspect=None,
        image=None,
        micro_usd=MICRO_USD,
        id=row.generation,
        nth=0,
        key=key,
        client_request_id=row.request,
        file=f"{row.generation}.mp4",
        created_at=at,
        finishes_at=at,
        outcome="completed",
    )


def add_payment(books: sqlite3.Connection, direction: Any, kind: str, at: str, credits_: int = 100_000_000) -> None:
    payment = TransactionRow(at=at, listed_at=at, direction=direction, type=kind, credits=credits_, key=None)
    books.execute(INSERT_TRANSACTION, vars(payment))

"""The ledger: every generation that the simulated service accepted and charged, and every request that it received.

It is an SQLite file, or memory; several processes may use one file at once. A create is committed before its answer is
sent: a service that is killed still has its generations.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from batchgen.errors import StorageError
from batchgen.files.safe_open import create_database, judge_database
from batchgen.simulator.faults import Fault

OPEN_ATTEMPTS = 500  # to enter WAL mode while other processes do the same; each attempt waits for one of them


@dataclass(kw_only=True)
class GenerationRequest:
    """A valid create request in terms that every API shares: the columns of `generations` that it decides."""

    model: str
    endpoint: str  # the path of the create
    body: str  # canonical JSON, in which the digest of an image stands for its data URI
    digest: str  # of the body: generations with the same digest are of the same job
    prompt: str
    seconds: float  # of the clip
    aspect: float | None  # width over height; `None`: that of the image
    image: str | None  # the digest of the image that the video shows
    micro_usd: int  # the price, charged when the generation completes


@dataclass(kw_only=True)
class Generation(GenerationRequest):
    """A row of `generations`."""

    id: str
    nth: int  # how many generations of the same body came before
    client_request_id: str | None
    key: str  # a digest of the API key of its create request
    file: str  # the video's name at the file server
    created_at: str
    finishes_at: str | None  # `None`: never
    outcome: Literal["completed", "error", "stuck"]

    @property
    def subject(self) -> str:
        """What randomness depends on: the same for the same job in every simulation."""
        return f"{self.digest}#{self.nth}"


@dataclass(kw_only=True)
class RequestRecord:
    """A row of `requests`, completed while the request is answered."""

    at: str
    kind: str  # create, fetch, log, billing, models, cdn
    path: str
    request_id: str
    client_request_id: str | None
    reserved_id: str | None  # of a create request: the id that its generation has if it is accepted
    key: str  # a digest of the API key; empty without one
    key_leaked: bool  # an Authorization header reached the file server
    status: int | None = None  # `None`: the connection was cut or never answered
    generation_id: str | None = None
    model: str | None = None
    logged_at: str | None = None  # when the service's log shows it; `None`: never


@dataclass(kw_only=True)
class TransactionRow:
    """A row of `transactions`: what moved the account's money. A generation's is made with it, dated at its end."""

    at: str
    listed_at: str | None  # when the service shows it; `None`: never
    direction: Literal["CHARGE", "TOPUP"]
    type: str = "MODEL_USAGE"
    model: str | None = None
    reference_id: str | None = None  # the generation
    credits: int
    key: str | None  # of which API key; `None`: every key sees it


GENERATION_COLUMNS = [field.name for field in fields(Generation)]
REQUEST_COLUMNS = [field.name for field in fields(RequestRecord)]
TRANSACTION_COLUMNS = [field.name for field in fields(TransactionRow)]
CREDITS_PER_MICRO_USD = 2  # $1 is 2,000,000 credits
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
LATE_SECONDS = 7_200.0  # of the fault `late` where its rule names none: later than a charge usually is

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS images (digest PRIMARY KEY, content);
CREATE TABLE IF NOT EXISTS generations ({", ".join(GENERATION_COLUMNS)});
CREATE UNIQUE INDEX IF NOT EXISTS generations_id ON generations (id);
CREATE UNIQUE INDEX IF NOT EXISTS generations_file ON generations (file);
CREATE INDEX IF NOT EXISTS generations_digest ON generations (digest);
CREATE INDEX IF NOT EXISTS generations_finish ON generations (finishes_at);
CREATE TABLE IF NOT EXISTS requests (n INTEGER PRIMARY KEY, {", ".join(REQUEST_COLUMNS)});
CREATE INDEX IF NOT EXISTS requests_at ON requests (at);
CREATE TABLE IF NOT EXISTS transactions (n INTEGER PRIMARY KEY, {", ".join(TRANSACTION_COLUMNS)});
CREATE INDEX IF NOT EXISTS transactions_at ON transactions (at DESC, n DESC);
"""
INSERT_GENERATION = f"INSERT INTO generations VALUES (:{', :'.join(GENERATION_COLUMNS)})"  # noqa: S608
INSERT_REQUEST = f"INSERT INTO requests VALUES (NULL, :{', :'.join(REQUEST_COLUMNS)})"  # noqa: S608
INSERT_TRANSACTION = f"INSERT INTO transactions VALUES (NULL, :{', :'.join(TRANSACTION_COLUMNS)})"  # noqa: S608


def timestamp(moment: datetime) -> str:
    """A moment as the ledger stores it: UTC text of fixed length, so that it sorts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def usd(micro_usd: int) -> Decimal:
    """Millionths of a dollar as exact USD."""
    return Decimal(micro_usd) / 1_000_000


def charges_of(generation: Generation, fault: Fault | None, speed: float) -> list[TransactionRow]:
    """The transactions of a generation, each dated when it ends. One that fails or never ends is not charged."""
    name = fault.name if fault else ""
    late_seconds = LATE_SECONDS if fault is None or fault.seconds is None else fault.seconds
    ends_at = generation.finishes_at or generation.created_at
    charge = TransactionRow(
        at=ends_at,
        listed_at=ends_at,
        direction="CHARGE",
        model=generation.model,
        reference_id=generation.id,
        credits=generation.micro_usd * CREDITS_PER_MICRO_USD,
        key=generation.key,
    )

    def later(seconds: float) -> str:
        return timestamp(datetime.fromisoformat(ends_at) + timedelta(seconds=seconds / speed))

    foreign = [replace(charge, reference_id=secrets.token_urlsafe(16))] if name == "foreign" else []
    if generation.outcome != "completed" and not (name == "charged_failure" and generation.outcome == "error"):
        return foreign
    half, late = charge.credits // 2, later(1)
    return {
        "late": [replace(charge, listed_at=later(late_seconds))],
        "missing": [replace(charge, listed_at=None)],
        "doubled": [charge, charge],
        "in_parts": [replace(charge, credits=half), replace(charge, credits=charge.credits - half)],
        "refunded": [charge, replace(charge, direction="TOPUP", type="REFUND", at=late, listed_at=late)],
        "null_reference": [replace(charge, reference_id=None)],
        "wrong_amount": [replace(charge, credits=2 * charge.credits)],
    }.get(name, [charge, *foreign])


class Ledger:
    """The ledger at `path`, or one in memory. Raises `StorageError` where the file cannot be used."""

    def __init__(self, path: Path | None = None) -> None:
        try:
            if path:
                judge_database(path)
                create_database(path)
            self._db = sqlite3.connect(
                path or ":memory:", timeout=30, isolation_level="IMMEDIATE", check_same_thread=False
            )
            self._db.row_factory = sqlite3.Row
            self._enter_wal()
            # A killed process loses nothing that it committed. Only a power cut could, which no simulation outlives.
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"the simulator's ledger {path} cannot be used: {error}") from error

    def _enter_wal(self) -> None:
        # SQLite answers "busy" at once while another process enters WAL mode; a transaction waits for that process.
        for _ in range(OPEN_ATTEMPTS):
            with suppress(sqlite3.OperationalError):
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            self._db.executescript("BEGIN IMMEDIATE; COMMIT;")

    def close(self) -> None:
        self._db.close()

    def accept(
        self, generation: Generation, record: RequestRecord, image: bytes | None, transactions: Iterable[TransactionRow]
    ) -> None:
        """Commit a generation together with its create request and with what it will move of the account's money."""
        with self._db:
            if image is not None:
                self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (generation.image, image))
            self._db.execute(INSERT_GENERATION, vars(generation))
            self._db.execute(INSERT_REQUEST, vars(record))
            self._db.executemany(INSERT_TRANSACTION, map(vars, transactions))

    def record(self, record: RequestRecord) -> None:
        """Commit a request that is not an accepted create."""
        with self._db:
            self._db.execute(INSERT_REQUEST, vars(record))

    def generation(self, *, id: str | None = None, file: str | None = None) -> Generation | None:  # noqa: A002
        """The generation with an id, or the one whose video has a name at the file server."""
        return next(self._generations("WHERE id = ? OR file = ?", id, file), None)

    def accepted(self) -> list[Generation]:
        """Every generation, oldest first."""
        return list(self._generations("ORDER BY created_at, rowid"))

    def _generations(self, condition: str, *values: str | None) -> Iterator[Generation]:
        rows = self.query(f"SELECT * FROM generations {condition}", *values)  # noqa: S608
        return (Generation(**row) for row in rows)

    def image(self, generation: Generation) -> bytes | None:
        """The bytes of the image that came inside a generation's request."""
        rows = self.query("SELECT content FROM images WHERE digest = ?", generation.image)
        return rows[0]["content"] if rows else None

    def count_of(self, digest: str) -> int:
        return len(self.query("SELECT id FROM generations WHERE digest = ?", digest))

    def in_flight(self, now: datetime) -> int:
        unfinished = "SELECT id FROM generations WHERE finishes_at > ? OR finishes_at IS NULL"
        return len(self.query(unfinished, timestamp(now)))

    def charged_usd(self, until: datetime = END_OF_TIME) -> Decimal:
        """What the transactions dated until then take; those of a generation are dated at its end."""
        rows = self.query(
            "SELECT sum(iif(direction = 'CHARGE', credits, -credits)) AS charged FROM transactions WHERE at <= ?",
            timestamp(until),
        )
        return usd(rows[0]["charged"] or 0) / CREDITS_PER_MICRO_USD

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Rows of a SELECT by column name."""
        return [dict(row) for row in self._db.execute(sql, values)]

    def duplicates(self) -> dict[str, list[str]]:
        """Jobs that were accepted more than once: the ids of their generations by the body's digest."""
        rows = self.query(
            "SELECT digest, json_group_array(id) AS ids FROM generations GROUP BY digest HAVING count(*) > 1"
        )
        return {row["digest"]: json.loads(row["ids"]) for row in rows}

    def key_leaks(self) -> list[dict[str, Any]]:
        """Requests to the file server that carried an Authorization header."""
        return self.query("SELECT at, path, generation_id FROM requests WHERE key_leaked ORDER BY n")

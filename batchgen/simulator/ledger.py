"""What the simulated service accepted and charged, and every request it saw: an SQLite file, or memory.

A create is committed before its answer goes out, so that a service killed at any instant finds its generations again.
The trail of other requests is written in groups. Several processes may use one file at once.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from batchgen.errors import StorageError
from batchgen.simulator.prices import usd

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (digest TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS generations (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,         -- of the canonical body: what makes two generations the same job
    nth INTEGER NOT NULL,         -- how many generations of the same body came before
    client_request_id TEXT,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    body TEXT NOT NULL,           -- JSON, data: URIs replaced by the digest of an image
    image TEXT,
    file TEXT NOT NULL UNIQUE,    -- its name at the CDN
    created_at TEXT NOT NULL,
    finishes_at TEXT,             -- NULL: never
    outcome TEXT NOT NULL CHECK (outcome IN ('completed', 'error', 'stuck')),
    credits INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS promised (credits INTEGER NOT NULL);  -- one row: charged already, or to be charged
INSERT INTO promised SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM promised);
CREATE TRIGGER IF NOT EXISTS generations_promise AFTER INSERT ON generations WHEN new.outcome <> 'error'
BEGIN UPDATE promised SET credits = credits + new.credits; END;
CREATE INDEX IF NOT EXISTS generations_digest ON generations (digest);
CREATE INDEX IF NOT EXISTS generations_finish ON generations (finishes_at);
CREATE TABLE IF NOT EXISTS requests (
    n INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,           -- create, fetch, log, billing, models, cdn, …
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER,               -- NULL: the connection was cut or left hanging
    request_id TEXT,
    client_request_id TEXT,
    generation_id TEXT,
    model TEXT,
    key_leaked INTEGER NOT NULL,  -- an Authorization header reached the CDN
    logged_at TEXT                -- when the service's log shows it; NULL: never
);
CREATE INDEX IF NOT EXISTS requests_log ON requests (kind, at);
CREATE INDEX IF NOT EXISTS requests_generation ON requests (generation_id, kind);
"""

FLUSH_AT = 500  # rows of the trail
OPENINGS = 500  # attempts, 10 ms apart


class Generation(NamedTuple):
    """A row of `generations`."""

    id: str
    digest: str
    nth: int
    client_request_id: str | None
    model: str
    endpoint: str
    body: str
    image: str | None
    file: str
    created_at: str
    finishes_at: str | None
    outcome: str
    credits: int

    @property
    def subject(self) -> str:
        """What chance depends on: the same for the same job in every simulation."""
        return f"{self.digest}#{self.nth}"


class Entry(NamedTuple):
    """A row of `requests`."""

    at: str
    kind: str
    method: str
    path: str
    status: int | None
    request_id: str | None = None
    client_request_id: str | None = None
    generation_id: str | None = None
    model: str | None = None
    key_leaked: bool = False
    logged_at: str | None = None


def text(moment: datetime) -> str:
    """A moment as the ledger stores it: UTC, always as long, so that it sorts."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _insert(table: str, row: type[Generation] | type[Entry]) -> str:
    return f"INSERT INTO {table} ({', '.join(row._fields)}) VALUES ({', '.join('?' * len(row._fields))})"  # noqa: S608


_INSERT_GENERATION = _insert("generations", Generation)
_INSERT_ENTRY = _insert("requests", Entry)
_GENERATION = ", ".join(Generation._fields)


class Ledger:
    """Open the ledger at `path`, or one in memory. Raises `StorageError` where it cannot be used."""

    def __init__(self, path: Path | None = None) -> None:
        self._trail: list[Entry] = []
        try:
            self._db = sqlite3.connect(path or ":memory:", timeout=30, isolation_level=None, check_same_thread=False)
            self._enter_wal()
            # A killed process loses nothing that it committed; a power cut could, which a simulation need not outlive.
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            raise StorageError(f"the simulator's ledger {path} cannot be used: {error}") from error

    def _enter_wal(self) -> None:
        # While another process is doing the same, SQLite refuses at once: it does not wait for its turn here.
        for _ in range(OPENINGS):
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
                self._db.executescript("BEGIN IMMEDIATE; COMMIT;")  # but it does here

    def secret(self) -> bytes:
        """What this ledger's addresses are signed with."""
        return bytes.fromhex(self._once("secret", secrets.token_hex(16)))

    def opened_at(self, now: datetime) -> str:
        """When this ledger was first asked."""
        return self._once("opened_at", text(now))

    def _once(self, name: str, value: str) -> str:
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        found: tuple[str] = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return found[0]

    # --- what happens ------------------------------------------------------------------------------------------------

    def accept(self, generation: Generation, entry: Entry, image: bytes | None) -> None:
        """Commit a generation together with the request that asked for it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if image is not None:
                self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (generation.image, image))
            self._db.execute(_INSERT_GENERATION, generation)
            self._write_trail([entry])
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def note(self, entry: Entry) -> None:
        """Add a request to the trail: at once where a key leaked, else with the next group."""
        self._trail.append(entry)
        if entry.key_leaked or len(self._trail) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what the trail still holds."""
        if self._trail:
            self._db.execute("BEGIN IMMEDIATE")
            self._write_trail([])
            self._db.execute("COMMIT")

    def _write_trail(self, last: list[Entry]) -> None:
        rows = [*self._trail, *last]
        self._db.executemany(_INSERT_ENTRY, rows)
        self._trail.clear()

    def close(self) -> None:
        """Write the trail and let go of the file."""
        self.flush()
        self._db.close()

    # --- what is asked -----------------------------------------------------------------------------------------------

    def generation(self, generation_id: str) -> Generation | None:
        """The generation of this id."""
        return self._one("id", generation_id)

    def generation_of(self, file: str) -> Generation | None:
        """The generation whose video has this name at the CDN."""
        return self._one("file", file)

    def _one(self, column: str, value: str) -> Generation | None:
        row = self._db.execute(f"SELECT {_GENERATION} FROM generations WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
        return Generation(*row) if row else None

    def image(self, digest: str) -> bytes | None:
        """The bytes of an image that came inside a request."""
        row = self._db.execute("SELECT content FROM images WHERE digest = ?", (digest,)).fetchone()
        return row[0] if row else None

    def times_asked(self, digest: str) -> int:
        """How many generations of the same body there are."""
        return self._number("SELECT count(*) FROM generations WHERE digest = ?", digest)

    def in_flight(self, now: datetime) -> int:
        """How many generations are at work."""
        return self._number("SELECT count(*) FROM generations WHERE finishes_at > ? OR finishes_at IS NULL", text(now))

    def promised_credits(self) -> int:
        """What has been charged, or will be when it completes."""
        return self._number("SELECT credits FROM promised")

    def charged_credits(self, now: datetime) -> int:
        """What has been charged: only completed generations are."""
        return self._number(
            "SELECT coalesce(sum(credits), 0) FROM generations WHERE outcome = 'completed' AND finishes_at <= ?",
            text(now),
        )

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Rows of a SELECT by column name, the trail included."""
        self.flush()
        cursor = self._db.execute(sql, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _number(self, sql: str, *values: object) -> int:
        found: int = self._db.execute(sql, values).fetchone()[0]
        return found

    # --- what a test wants to know -----------------------------------------------------------------------------------

    def accepted(self) -> list[Generation]:
        """Every generation, oldest first."""
        rows = self._db.execute(f"SELECT {_GENERATION} FROM generations ORDER BY created_at, rowid")  # noqa: S608
        return [Generation(*row) for row in rows]

    def count(self) -> int:
        """How many generations there are."""
        return self._number("SELECT count(*) FROM generations")

    def duplicates(self) -> dict[str, list[str]]:
        """Jobs that were accepted more than once: the body's digest, and the ids it was given."""
        found: dict[str, list[str]] = {}
        for digest, generation_id in self._db.execute(
            "SELECT digest, id FROM generations WHERE digest IN"
            " (SELECT digest FROM generations GROUP BY digest HAVING count(*) > 1) ORDER BY digest, created_at, rowid"
        ):
            found.setdefault(digest, []).append(generation_id)
        return found

    def charged_usd(self, now: datetime | None = None) -> Decimal:
        """What everything accepted costs in the end; with `now`, what has been charged so far."""
        return usd(self.promised_credits() if now is None else self.charged_credits(now))

    def key_leaks(self) -> Sequence[dict[str, Any]]:
        """Requests to the CDN that carried an Authorization header."""
        return self.query("SELECT at, method, path, generation_id FROM requests WHERE key_leaked ORDER BY n")

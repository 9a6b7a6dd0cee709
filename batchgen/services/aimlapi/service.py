"""The AI/ML API: its endpoints, called over HTTP.

Create and fetch share a path; the request log, the metrics and the billing have their own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from batchgen import clock
from batchgen.jobs import ChargeSource
from batchgen.services import http
from batchgen.services.account import Account, Variables
from batchgen.services.aimlapi import answers
from batchgen.services.aimlapi.answers import LoggedRequest
from batchgen.services.answers import json_object, nested, read_amount, read_id, read_time
from batchgen.services.base import (
    Adoption,
    Features,
    History,
    Listing,
    PastGeneration,
    SentAttempt,
    Service,
    Submission,
    TransactionPage,
)
from batchgen.services.bounds import CLOCK_OFFSET_MAX
from batchgen.services.client import ApiClient
from batchgen.services.outcomes import (
    Absent,
    Accepted,
    Adopted,
    Failed,
    FetchOutcome,
    FindOutcome,
    Finished,
    NoAnswer,
    SubmitOutcome,
    Unavailable,
    Unknown,
    Working,
)
from batchgen.services.registry import Plugin
from batchgen.services.statement import ask_patiently

BEFORE, AFTER = timedelta(hours=1), timedelta(minutes=30)
"""How far around the time of sending the log is read: clocks differ, and requests take their time."""
PAGE_ROWS = 100  # of the log, of the transactions, and names of models in one request: the service allows no more
PAGES_MAX = 100  # of the log, 10,000 requests: a batch of that size. It answers at most 200 calls a minute
LOG_WAIT_SECONDS = 60.0  # the longest pause before a later page: a limit a minute is over by then
CATALOGUE_SECONDS = 20.0  # the list has 1.3 MB, and a slow line takes a while; a run does not wait for it

VARIABLES = Variables("AIMLAPI_API_KEY", "AIMLAPI_BASE_URL", "https://api.aimlapi.com")
FEATURES = Features(adopt=Adoption.EXACT_ID, charges=ChargeSource.LEDGER, prepares=True)
CLOCK_OFFSET = "clock_offset"
"""The key of a handle: how many seconds the service's clock was ahead when the request was sent."""
OFFSET_LEAST = timedelta(minutes=1)
"""A smaller offset is not kept: the window of a search has room for it."""


def handle_of(generation_id: str, endpoint: str) -> dict[str, str]:
    """What `fetch` needs to ask for a generation. It names no address: a row may have come from anywhere."""
    return {"generation_id": generation_id, "endpoint": endpoint}


@dataclass(frozen=True, slots=True)
class LogPage:
    """All rows of a window of the log that carry a client request id; `complete` unless there were too many pages."""

    rows: Sequence[LoggedRequest]
    oldest: datetime
    """How far back it reaches, by the service's clock."""
    complete: bool = True


class AimlApi(Service):
    """The AI/ML API at `base_url` (which has no version in it), used with one key. Safe to use concurrently."""

    def __init__(self, base_url: str, api_key: str, *, name: str = "aimlapi", features: Features = FEATURES) -> None:
        self.name = name
        self.account = hashlib.blake2b(api_key.encode(), digest_size=4, person=b"batchgen").hexdigest()
        self.features = features
        self.variables = VARIABLES
        self._api = ApiClient(base_url, api_key)
        self.base_url = self._api.base_url

    async def close(self) -> None:
        await self._api.close()

    @property
    def clock_offset(self) -> timedelta:
        return self._api.clock_offset

    async def prepare(self, _submission: Submission) -> Mapping[str, Any]:
        """Keep how wrong this machine's clock is, by which the log is searched after the clock was set right."""
        offset = self.clock_offset
        return {CLOCK_OFFSET: offset.total_seconds()} if abs(offset) >= OFFSET_LEAST else {}

    async def submit(self, submission: Submission) -> SubmitOutcome:
        body = await asyncio.to_thread(submission.body) if submission.files else submission.body()
        headers = {"X-Client-Request-Id": submission.client_request_id}
        answer = await self._api.create(submission.endpoint, body, headers)
        if not isinstance(answer, http.Answer):
            return answer
        echo = answer.headers.get("x-client-request-id", submission.client_request_id)
        if echo != submission.client_request_id:
            return Unknown(f"{answer.status}: a proxy gave the answer to another request ({echo})", answer.status)
        outcome = answers.read_create(answer)
        if isinstance(outcome, Accepted):
            return replace(outcome, handle=handle_of(outcome.generation_id, submission.endpoint))
        return outcome

    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        """Ask how one generation is doing. Its id may hold `:` and `/`, which travel percent-encoded."""
        answer = await self._api.ask(handle["endpoint"], {"generation_id": handle["generation_id"]})
        if isinstance(answer, Unavailable):
            return answer
        outcome = answers.read_fetch(answer, self.base_url)
        if isinstance(outcome, Finished | Failed):
            document = json_object(answer)
            return replace(outcome, about=read_id(document.get("id"), document.get("generation_id")) or "")
        return outcome

    async def find(self, attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome] | NoAnswer:
        sent_at = [moment for attempt in attempts for moment in self._sent_at(attempt)]
        asked_at = clock.utcnow()
        page = await self._log(min(sent_at) - BEFORE, max(sent_at) + AFTER)
        if not isinstance(page, LogPage):
            return page
        rows: dict[str, list[LoggedRequest]] = {}
        for row in page.rows:
            rows.setdefault(row.client_request_id, []).append(row)
        findings = await asyncio.gather(
            *(self._finding(attempt, rows.get(attempt.client_request_id, []), asked_at, page) for attempt in attempts)
        )
        pairs = zip(attempts, findings, strict=True)
        return {attempt.client_request_id: finding for attempt, finding in pairs if finding}

    def _sent_at(self, attempt: SentAttempt) -> list[datetime]:
        """When a request was sent, by the service's clock: one of these moments.

        This machine's clock may be set since, and a Date that came from a cache would lead past the request.
        """
        kept, offset = attempt.handle.get(CLOCK_OFFSET), self.clock_offset
        if isinstance(kept, int | float) and abs(kept) <= CLOCK_OFFSET_MAX.total_seconds():
            offset = timedelta(seconds=kept)
        return [attempt.intent_at, attempt.intent_at + offset]

    async def _finding(
        self, attempt: SentAttempt, rows: Sequence[LoggedRequest], as_of: datetime, page: LogPage
    ) -> FindOutcome | None:
        """What the rows of one request say; None where that is not certain. It may be logged several times."""
        if not rows:
            return Absent(as_of) if page.complete else None
        for row in rows:
            if row.succeeded and row.generation_id:
                return adopted(attempt, row, row.generation_id)
        if any(row.succeeded for row in rows):
            return None  # taken, but nobody knows as what
        for row in rows:
            # A failed request has an id too, so the row proves nothing: the id leads to a generation, or to none.
            if row.generation_id:
                outcome = await self.fetch(handle_of(row.generation_id, attempt.endpoint))
                if isinstance(outcome, Working | Finished | Failed):
                    return adopted(attempt, row, row.generation_id)
                if not isinstance(outcome, Unavailable) or outcome.http_status != 404:
                    return None
        return Absent(as_of, "the service's log shows that it failed there")

    async def history(self, since: datetime, until: datetime | None = None) -> History | NoAnswer | None:
        """The generations in the request log between two moments; the newest ones, where there are too many pages."""
        offset, end = self.clock_offset, until or clock.utcnow() + AFTER
        page = await self._log(min(since, since + offset), max(end, end + offset))
        if not isinstance(page, LogPage):
            return page
        offset = self.clock_offset  # the answers have told it
        generations = [
            PastGeneration(
                row.client_request_id,
                row.generation_id,
                row.created - offset if row.created else since,
                row.cost_usd,
                row.succeeded,
            )
            for row in page.rows
            if row.generation_id
        ]
        return History(generations, since if page.complete else page.oldest - offset)

    async def _log(self, start: datetime, end: datetime) -> LogPage | NoAnswer:
        """Read every page of the request log between two moments of the service's clock."""
        window = {"start": start.isoformat(), "end": end.isoformat(), "limit": PAGE_ROWS}
        logged: list[LoggedRequest] = []
        oldest, offset = end, 0
        for _ in range(PAGES_MAX):
            ask = partial(self._api.ask_json, "/v2/logs", {**window, "offset": offset})
            # Under a limit of requests a minute, a log that is begun again at its first page has no end.
            document = await ask_patiently(ask, wait if offset else None)
            if not isinstance(document, dict):
                return document
            rows = answers.read_rows(document, "data", "logs", "items")
            if isinstance(rows, Unavailable):
                return rows
            logged += [request for row in rows if (request := answers.read_log_row(row))]
            oldest = min((time for row in rows if (time := read_time(nested(row, "created")))), default=oldest)
            offset += len(rows)  # the service may give fewer at a time than were asked for
            has_more = nested(document, "pagination", "has_more")
            if not rows or not (len(rows) >= PAGE_ROWS if has_more is None else has_more):
                return LogPage(logged, oldest)
        return LogPage(logged, oldest, complete=False)

    async def transactions(
        self, start: datetime, end: datetime, cursor: str | None = None
    ) -> TransactionPage | NoAnswer | None:
        """A page of the account's transactions between two moments of this machine's clock.

        A cursor is valid for the same window only, which therefore stands before it: the clocks' offset may change.
        """
        offset = self.clock_offset
        first = f"{(start + offset).isoformat()} {(end + offset).isoformat()}"
        since, until, *following = (cursor or first).split(" ", 2)
        params = {"from": since, "to": until, "limit": PAGE_ROWS, **({"cursor": following[0]} if following else {})}
        # As texts, amounts keep their digits.
        document = await self._api.ask_json("/v2/billing/transactions", params, read_float=str)
        if not isinstance(document, dict):
            return document
        rows = answers.read_rows(document, "data")
        if isinstance(rows, Unavailable):
            return rows
        transactions = [transaction for row in rows if (transaction := answers.read_transaction(row))]
        after = read_id(nested(document, "pagination", "next_cursor")) if rows else None
        return TransactionPage(
            transactions, f"{since} {until} {after}" if after else None, len(rows) - len(transactions)
        )

    async def balance(self) -> Decimal | None:
        document = await self._api.ask_json("/v2/billing", {})
        is_usd = isinstance(document, dict) and document.get("currency", "USD") == "USD"
        return read_amount(nested(document, "current_balance")) if is_usd else None

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        """The price list of the video models; None where it does not come within `CATALOGUE_SECONDS`."""
        headers = {"If-None-Match": etag} if etag else {}
        url = self.base_url + "/v1/models"
        answer = await self._api.ask(url, {"include": "pricing"}, headers, with_key=False, seconds=CATALOGUE_SECONDS)
        if isinstance(answer, Unavailable):
            return None
        if answer.status == 304:
            return Listing(etag, None)
        return answers.read_price_list(answer) if answer.is_whole else None

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        medians: dict[str, float] = {}
        for first in range(0, len(models), PAGE_ROWS):
            params = {"aliases": models[first : first + PAGE_ROWS]}
            rows = nested(await self._api.ask_json("/models/metrics", params, with_key=False), "models")
            for row in rows if isinstance(rows, list) else []:
                try:
                    seconds = float(row["metrics"]["duration_ms"]["p50"]) / 1000
                    if seconds > 0:
                        medians[str(row["alias"])] = seconds
                except (KeyError, TypeError, ValueError):
                    continue
        return medians


async def wait(seconds: float, _reason: str) -> None:
    await asyncio.sleep(min(seconds, LOG_WAIT_SECONDS))


def adopted(attempt: SentAttempt, row: LoggedRequest, generation_id: str) -> Adopted:
    handle = handle_of(generation_id, attempt.endpoint)
    return Adopted(generation_id, row.created or attempt.intent_at, row.cost_usd, handle)


@asynccontextmanager
async def connect(account: Account, _state: Path | None = None) -> AsyncIterator[Service]:
    service = AimlApi(account.base_url, account.key)
    try:
        yield service
    finally:
        await service.close()


PLUGIN = Plugin(VARIABLES, connect, handle_of)

"""The AI/ML API: its endpoints, called over HTTP. Source: the service's reference, August 2026.

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
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from batchgen import clock
from batchgen.jobs import ChargeSource
from batchgen.services import answers, http
from batchgen.services.account import Account, Variables
from batchgen.services.answers import LoggedRequest
from batchgen.services.base import (
    Absent,
    Accepted,
    Adopted,
    Adoption,
    Blocked,
    Features,
    FetchOutcome,
    Finding,
    Listing,
    LocalFile,
    NotSent,
    SentAttempt,
    Service,
    Submission,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unavailable,
    Unknown,
    Unsupported,
)
from batchgen.services.registry import Plugin

BEFORE, AFTER = timedelta(hours=1), timedelta(minutes=30)
"""How far around the time of sending the log is read: clocks differ, and requests take their time."""
PAGE_ROWS = 100  # of the log, of the charges, and names of models in one request: the service allows no more
PAGES_MAX = 100  # 10,000 requests or charges: a batch of that size. The log answers at most 200 calls a minute
CATALOGUE_SECONDS = 3.0  # a run can start without fresh prices, so it waits for them only briefly


VARIABLES = Variables("AIMLAPI_API_KEY", "AIMLAPI_BASE_URL", "https://api.aimlapi.com")
FEATURES = Features(adopt=Adoption.EXACT_ID, charges=ChargeSource.LEDGER)


def handle_of(generation_id: str, endpoint: str) -> dict[str, str]:
    """What `fetch` needs to ask for a generation, at the address in use."""
    return {"generation_id": generation_id, "endpoint": endpoint}


def data_uri(file: LocalFile) -> str:
    """A local file as the service takes it."""
    return file.data_uri


@dataclass(frozen=True, slots=True)
class LogPage:
    """All rows of a window of the log that carry a client request id; `complete` unless there were too many pages."""

    rows: Sequence[LoggedRequest]
    complete: bool = True


class AimlApi:
    """The AI/ML API at `base_url` (which has no version in it), used with one key. Safe to use concurrently.

    With a lasting address, a generation is asked for where it was submitted.

    Raises `UsageError` where the environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, base_url: str, key: str, *, name: str = "aimlapi", has_lasting_address: bool = True) -> None:
        self.base_url = base_url.rstrip("/")
        self.name = name
        self.account = hashlib.blake2b(key.encode(), digest_size=4, person=b"batchgen").hexdigest()
        self.features = FEATURES
        self.variables = VARIABLES
        self._key = key
        self._has_lasting_address = has_lasting_address
        self._creates = http.create_client()
        self._questions = http.api_client()
        self._clock_offset = timedelta(0)
        """How far the service's clock is ahead of this machine's, by the last answer."""

    async def close(self) -> None:
        await self._creates.aclose()
        await self._questions.aclose()

    async def prepare(self, _submission: Submission) -> Mapping[str, Any]:
        """Nothing has to be done before a create call."""
        return {}

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one create call, once. Whatever happens becomes an outcome."""
        url = self.base_url + submission.endpoint
        body = await asyncio.to_thread(submission.body, data_uri) if submission.files else submission.body(data_uri)
        headers = {"Content-Type": "application/json", "X-Client-Request-Id": submission.client_request_id}
        # A large body on a slow line is no reason to give up a create.
        seconds = http.SUBMIT_SECONDS + len(body) / http.UPLOAD_BYTES_PER_SECOND
        try:
            answer = await http.exchange(self._creates, "POST", url, headers, body, key=self._key, seconds=seconds)
        except http.BAD_ADDRESS as error:
            reason = http.describe(error, self._key)
            return Blocked(Trouble.ADDRESS, f"{self.base_url} is not a valid address: {reason}")
        except http.NOT_SENT as error:
            return NotSent(http.describe(error, self._key))
        except http.FAILURES as error:
            return Unknown(http.describe(error, self._key))
        self._clock_offset = answers.clock_offset(answer, clock.utcnow())
        outcome = answers.read_create(answer)
        if isinstance(outcome, Accepted):
            return replace(outcome, handle=self._handle(outcome.generation_id, submission.endpoint))
        return outcome

    def _handle(self, generation_id: str, endpoint: str) -> dict[str, str]:
        """What `fetch` needs. It names the address, which may be another one in a later run."""
        address = {"base_url": self.base_url} if self._has_lasting_address else {}
        return {**handle_of(generation_id, endpoint), **address}

    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        """Ask how one generation is doing. Its id may hold `:` and `/`, which travel percent-encoded."""
        url = handle.get("base_url", self.base_url) + handle["endpoint"]
        answer = await self._ask(url, {"generation_id": handle["generation_id"]})
        return answer if isinstance(answer, Unavailable) else answers.read_fetch(answer)

    async def find(self, attempts: Sequence[SentAttempt]) -> Mapping[str, Finding] | Unavailable | Throttled:
        """Search the request log for the client request ids of these attempts."""
        sent_at = [attempt.intent_at for attempt in attempts]
        asked_at = clock.utcnow()
        page = await self._log(min(sent_at) - BEFORE, max(sent_at) + AFTER)
        if not isinstance(page, LogPage):
            return page
        # A request may be logged several times on its way. The row that names a generation is the one that counts.
        rows = {row.client_request_id: row for row in sorted(page.rows, key=lambda row: row.generation_id is not None)}
        findings: dict[str, Finding] = {}
        for attempt in attempts:
            row = rows.get(attempt.client_request_id)
            if row and row.generation_id:
                handle = self._handle(row.generation_id, attempt.endpoint)
                findings[attempt.client_request_id] = Adopted(row.generation_id, row.created, row.cost_usd, handle)
            elif row and not row.succeeded:
                findings[attempt.client_request_id] = Absent(asked_at, "the service's log shows that it failed there")
            elif page.complete and not row:
                findings[attempt.client_request_id] = Absent(asked_at)
        return findings

    async def _log(self, start: datetime, end: datetime) -> LogPage | Unavailable | Throttled:
        """Read every page of the request log between two moments of this machine's clock."""
        start, end = start + self._clock_offset, end + self._clock_offset
        window = {"start": start.isoformat(), "end": end.isoformat(), "limit": PAGE_ROWS}
        logged: list[LoggedRequest] = []
        for page in range(PAGES_MAX):
            answer = await self._ask(self.base_url + "/v2/logs", {**window, "offset": page * PAGE_ROWS})
            if isinstance(answer, Unavailable):
                return answer
            if answer.status != 200:
                return answers.read_unavailable(answer)
            document = answers.json_object(answer)
            rows = document.get("data", document.get("logs", document.get("items")))
            if not isinstance(rows, list):
                return Unavailable("the request log's answer cannot be read", http_status=200)
            logged += [request for row in rows if (request := answers.read_log_row(row))]
            if not rows or not answers.nested(document, "pagination", "has_more"):
                return LogPage(logged)
        return LogPage(logged, complete=False)

    async def cancel(self, _handle: Mapping[str, Any]) -> Unsupported:
        """The service has no call for it."""
        return Unsupported()

    async def charges(self, start: datetime, end: datetime) -> Mapping[str, Decimal]:
        """Read the account's transactions between two moments, as far as they can be read."""
        charges: dict[str, Decimal] = {}
        params = {"from": start.isoformat(), "to": end.isoformat(), "direction": "CHARGE", "limit": PAGE_ROWS}
        for _ in range(PAGES_MAX):
            document = await self._ask_json("/v2/billing/transactions", params)
            rows = document.get("data")
            for row in rows if isinstance(rows, list) else []:
                if transaction := answers.read_transaction(row):
                    generation_id, amount = transaction
                    # A generation may be charged in parts.
                    charges[generation_id] = charges.get(generation_id, Decimal(0)) + amount
            cursor = answers.nested(document, "pagination", "next_cursor")
            if not rows or not cursor:
                break
            params["cursor"] = cursor
        return charges

    async def balance(self) -> Decimal | None:
        """What the account has left, in USD; None where the service does not say."""
        document = await self._ask_json("/v2/billing", {})
        is_usd = document.get("currency", "USD") == "USD"
        return answers.read_amount(document.get("current_balance")) if is_usd else None

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        """The price list of the video models; None where it does not come within `CATALOGUE_SECONDS`."""
        headers = {"If-None-Match": etag} if etag else {}
        url = self.base_url + "/v1/models"
        answer = await self._ask(url, {"include": "pricing"}, headers, with_key=False, seconds=CATALOGUE_SECONDS)
        if isinstance(answer, Unavailable):
            return None
        if answer.status == 304:
            return Listing(etag, None)
        return answers.read_price_list(answer) if answer.status == 200 else None

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        """The median generation time of each model that the service has recent figures for."""
        medians: dict[str, float] = {}
        for first in range(0, len(models), PAGE_ROWS):
            params = {"aliases": models[first : first + PAGE_ROWS]}
            rows = (await self._ask_json("/models/metrics", params, with_key=False)).get("models")
            for row in rows if isinstance(rows, list) else []:
                try:
                    seconds = float(row["metrics"]["duration_ms"]["p50"]) / 1000
                    if seconds > 0:
                        medians[str(row["alias"])] = seconds
                except (KeyError, TypeError, ValueError):
                    continue
        return medians

    async def _ask_json(self, path: str, params: Mapping[str, Any], *, with_key: bool = True) -> dict[str, Any]:
        """The JSON object of a 200 answer; empty for anything else."""
        answer = await self._ask(self.base_url + path, params, with_key=with_key)
        return answers.json_object(answer) if not isinstance(answer, Unavailable) and answer.status == 200 else {}

    async def _ask(
        self,
        url: str,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        *,
        with_key: bool = True,
        seconds: float | None = None,
    ) -> http.Answer | Unavailable:
        """Send a question, which costs nothing and may be repeated. A list in `params` repeats its parameter."""
        url = f"{url}?{urlencode(params, doseq=True)}" if params else url
        key = self._key if with_key else ""
        try:
            answer = await http.exchange(
                self._questions, "GET", url, headers, key=key, seconds=seconds or http.FETCH_SECONDS
            )
        except (*http.FAILURES, *http.BAD_ADDRESS) as error:
            return Unavailable(http.describe(error, self._key))
        self._clock_offset = answers.clock_offset(answer, clock.utcnow())
        return answer


@asynccontextmanager
async def connect(account: Account, _state: Path | None = None) -> AsyncIterator[Service]:
    """The service with an account; its connections are closed at the end."""
    service = AimlApi(account.base_url, account.key)
    try:
        yield service
    finally:
        await service.close()


PLUGIN = Plugin("AI/ML API", VARIABLES, connect, handle_of)

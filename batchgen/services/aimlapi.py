"""The AI/ML API on the wire. Source: the service's published reference, as of August 2026.

Create and fetch share a path; the log, the metrics and the balance have their own. The key goes to the API's own host
only, in a header that no message repeats.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

from batchgen import clock
from batchgen.services import http
from batchgen.services.account import body_of, money, read_catalogue, read_charge
from batchgen.services.answers import read_create, read_fetch, read_log_row, read_trouble
from batchgen.services.base import (
    AT_ONCE,
    Blocked,
    FetchOutcome,
    Listing,
    LoggedRequest,
    LogPage,
    NotSent,
    Submission,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unavailable,
    Unknown,
)

LOG_PAGE_ROWS = 100
CHARGES_PAGE_ROWS = 100
CHARGES_PAGES_MAX = 100
CATALOGUE_SECONDS = 3.0  # prices are worth so long a wait, no more
LOG_PAGES_MAX = 100  # 10,000 requests; the log answers at most 200 calls a minute


class AimlApi:
    """The AI/ML API at `base_url` (no version in it), with one key. Safe to use concurrently."""

    name = "aimlapi"
    has_log = True

    def __init__(self, base_url: str, key: str, *, name: str = "aimlapi") -> None:
        self.base_url = base_url.rstrip("/")
        self.name = name
        self.account = hashlib.blake2b(key.encode(), digest_size=4, person=b"batchgen").hexdigest()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._lines = http.api_lines(AT_ONCE)
        self._creates = http.api_lines(AT_ONCE)  # their own: a poll must not wait behind a create that takes minutes
        self._dated: tuple[http.Response, datetime] | None = None
        """An answer and when it came, to set this machine's clock against the service's."""

    async def close(self) -> None:
        await self._creates.close()
        await self._lines.close()

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Send one create call, once. Whatever happens, the answer is a value."""
        headers = {
            **self._headers,
            "Content-Type": "application/json",
            "X-Client-Request-Id": submission.client_request_id,
        }
        url = self.base_url + submission.endpoint
        try:
            async with self._creates.stream("POST", url, headers, submission.body, http.SUBMIT_SECONDS) as response:
                await response.aread()
        except http.UNSENT as error:
            return NotSent(http.reason_of(error))
        except http.BAD_ADDRESS as error:
            return Blocked(Trouble.ADDRESS, f"{self.base_url} is not an address: {error}")
        except http.FAILURES as error:
            return Unknown(http.reason_of(error))
        self._dated = response, clock.utcnow()
        return read_create(response)

    async def fetch(self, endpoint: str, generation_id: str, base_url: str | None = None) -> FetchOutcome:
        """Ask for one generation. `generation_id` may hold `:` and `/`; it travels encoded in the query."""
        response = await self._get((base_url or self.base_url) + endpoint, {"generation_id": generation_id})
        return response if isinstance(response, Unavailable) else read_fetch(response)

    async def log(self, start: datetime, end: datetime) -> LogPage | Unavailable | Throttled:
        """Read every page of the request log between two moments."""
        rows: list[LoggedRequest] = []
        ahead = http.ahead(*self._dated) if self._dated else timedelta(0)
        start, end = start + ahead, end + ahead
        for page in range(LOG_PAGES_MAX):
            query = {
                "start": start.astimezone(UTC).isoformat(),
                "end": end.astimezone(UTC).isoformat(),
                "limit": str(LOG_PAGE_ROWS),
                "offset": str(page * LOG_PAGE_ROWS),
            }
            response = await self._get(self.base_url + "/v2/logs", query)
            if isinstance(response, Unavailable):
                return response
            if response.status_code != 200:
                return read_trouble(response)
            document = body_of(response)
            found = document.get("data", document.get("logs", document.get("items")))
            if not isinstance(found, list):
                return Unavailable("the request log's answer cannot be read", http_status=200)
            rows += [row for raw in found if (row := read_log_row(raw))]
            pagination = document.get("pagination")
            if not found or not (isinstance(pagination, dict) and pagination.get("has_more")):
                return LogPage(rows)
        return LogPage(rows, complete=False)

    async def charges(self, start: datetime, end: datetime) -> Mapping[str, Decimal]:
        """Read the ledger of transactions between two moments, as far as it can be read."""
        found: dict[str, Decimal] = {}
        query = {
            "from": start.astimezone(UTC).isoformat(),
            "to": end.astimezone(UTC).isoformat(),
            "direction": "CHARGE",
            "limit": str(CHARGES_PAGE_ROWS),
        }
        for _ in range(CHARGES_PAGES_MAX):
            response = await self._get(self.base_url + "/v2/billing/transactions", query)
            if isinstance(response, Unavailable) or response.status_code != 200:
                break
            document = body_of(response)
            rows = document.get("data")
            for raw in rows if isinstance(rows, list) else []:
                if charge := read_charge(raw):
                    # A generation may be charged in parts.
                    found[charge[0]] = found.get(charge[0], Decimal(0)) + charge[1]
            pagination = document.get("pagination")
            cursor = pagination.get("next_cursor") if isinstance(pagination, dict) else None
            if not rows or not cursor:
                break
            query["cursor"] = str(cursor)
        return found

    async def balance(self) -> Decimal | None:
        """What the account has left, in USD."""
        response = await self._get(self.base_url + "/v2/billing", {})
        if isinstance(response, Unavailable) or response.status_code != 200:
            return None
        document = body_of(response)
        return money(document.get("current_balance")) if document.get("currency", "USD") == "USD" else None

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        """The price list of the video models; nothing where it does not come within `CATALOGUE_SECONDS`."""
        told = {"If-None-Match": etag} if etag else {}
        url = self.base_url + "/v1/models"
        try:
            async with asyncio.timeout(CATALOGUE_SECONDS):
                response = await self._get(url, {"include": "pricing"}, keyless=True, told=told)
        except TimeoutError:
            return None
        if isinstance(response, Unavailable):
            return None
        if response.status_code == 304:
            return Listing(etag, None)
        if response.status_code != 200:
            return None
        return read_catalogue(response)

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        """Median generation times over the service's last window; a model without recent requests is absent."""
        response = await self._get(self.base_url + "/models/metrics", {"aliases": ",".join(models)}, keyless=True)
        if isinstance(response, Unavailable) or response.status_code != 200:
            return {}
        found = body_of(response).get("models")
        medians: dict[str, float] = {}
        for entry in found if isinstance(found, list) else []:
            try:
                seconds = float(entry["metrics"]["duration_ms"]["p50"]) / 1000
                if seconds > 0:
                    medians[str(entry["alias"])] = seconds
            except (KeyError, TypeError, ValueError):
                continue
        return medians

    async def _get(
        self, url: str, query: Mapping[str, str], *, keyless: bool = False, told: Mapping[str, str] = http.NO_HEADERS
    ) -> http.Response | Unavailable:
        headers = {**told} if keyless else {**self._headers, **told}
        try:
            async with self._lines.stream("GET", f"{url}?{urlencode(query)}" if query else url, headers) as response:
                await response.aread()
        except (*http.FAILURES, *http.BAD_ADDRESS) as error:
            return Unavailable(http.reason_of(error))
        self._dated = response, clock.utcnow()
        return response

"""The AI/ML API on the wire. Source: the service's published reference, as of August 2026.

Create and fetch share a path; the log, the metrics and the balance have their own. The key goes to the API's own host
only, in a header that no message repeats.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from batchgen import clock
from batchgen.service import http
from batchgen.service.account import CREDITS_PER_USD, body_of, charge_in, money, read_catalogue, read_charge
from batchgen.service.base import (
    Accepted,
    Blocked,
    Failed,
    FetchOutcome,
    Finished,
    Limit,
    Listing,
    LoggedRequest,
    LogPage,
    NotSent,
    Rejected,
    Submission,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unavailable,
    Unknown,
    Working,
)

FINISHED_WORDS = frozenset({"completed", "complete", "succeeded", "success", "done"})
FAILED_WORDS = frozenset({"error", "failed", "failure"})
LOG_PAGE_ROWS = 100
CHARGES_PAGE_ROWS = 100
CHARGES_PAGES_MAX = 100
CATALOGUE_SECONDS = 3.0  # prices are worth so long a wait, no more
LOG_PAGES_MAX = 100  # 10,000 requests; the log answers at most 200 calls a minute

LIMIT_WORDS = (
    (Limit.QUOTA, re.compile(r"quota|\b(per|a|each) (day|month)\b|daily|monthly", re.IGNORECASE)),
    (
        Limit.IN_FLIGHT,
        re.compile(r"concurren|parallel|simultaneous|in[- ]flight|in progress|at (once|the same time)", re.IGNORECASE),
    ),
    (Limit.RATE, re.compile(r"\bper (second|minute|hour)\b|\br(ps|pm)\b", re.IGNORECASE)),
)
"""What in the words of a 429 names the limit. "Rate limit" and "too many requests" are said of all of them."""


class AimlApi:
    """The AI/ML API at `base_url` (no version in it), with one key. Safe to use concurrently."""

    name = "aimlapi"
    has_log = True

    def __init__(self, base_url: str, key: str, *, name: str = "aimlapi") -> None:
        self.base_url = base_url.rstrip("/")
        self.name = name
        self.account = hashlib.blake2b(key.encode(), digest_size=4, person=b"batchgen").hexdigest()
        self._headers = {"Authorization": f"Bearer {key}"}
        self._lines = http.api_lines()
        self._creates = http.api_lines()  # their own: a poll must not wait behind a create that takes minutes
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
            response = await self._creates.ask("POST", url, headers, submission.body, http.SUBMIT_SECONDS)
        except http.UNSENT as error:
            return NotSent(http.reason_of(error))
        except http.BAD_ADDRESS as error:
            return Blocked(Trouble.ADDRESS, f"{self.base_url} is not an address: {error}")
        except http.TransportError as error:
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
            response = await self._lines.ask("GET", f"{url}?{urlencode(query)}" if query else url, headers)
        except (http.TransportError, *http.BAD_ADDRESS) as error:
            return Unavailable(http.reason_of(error))
        self._dated = response, clock.utcnow()
        return response


def text_of(response: http.Response) -> str:
    """The beginning of a body as text, whatever it is."""
    return hidden(response, response.content.decode("utf-8", "replace")).strip()[:200]


def hidden(response: http.Response, text: str) -> str:
    """`text` without the key: a service may repeat the one that it refuses."""
    key = response.request.headers.get("authorization", "").removeprefix("Bearer ")
    return text.replace(key, "…") if key else text


def said(response: http.Response) -> str:
    """What an error answer says, short enough for a row."""
    document = body_of(response)
    message = document.get("message") or document.get("error")
    if isinstance(message, dict):
        message = message.get("message")
    if isinstance(message, list):
        message = "; ".join(str(part) for part in message)
    text = hidden(response, str(message)) if message else text_of(response) or response.reason_phrase
    return f"{response.status_code}: {text[:2_000]}"


def read_create(response: http.Response) -> SubmitOutcome:
    """What the answer to a create call means for the job and for the money."""
    status = response.status_code
    if 200 <= status < 300:
        document = body_of(response)
        identity = document.get("id") or document.get("generation_id") or response.headers.get("x-inference-id")
        if isinstance(identity, str | int) and str(identity).strip():
            return Accepted(str(identity), charge_in(response), status)
        return Unknown(f"{status} without a generation id: {text_of(response) or 'empty'}", status)
    if status == 401:
        return Blocked(Trouble.AUTH, said(response), status)
    if status in (402, 403):
        return Blocked(Trouble.CREDITS, said(response), status)
    if status in (404, 405):
        return Blocked(Trouble.ADDRESS, said(response), status)
    if status == 429:
        return read_throttled(response)
    if status in (400, 413, 414, 415, 422, 451):
        return Rejected(said(response), status)
    # 409 "duplicate", 408, every 5xx and every redirect: it may have been taken.
    return Unknown(said(response), status)


def read_throttled(response: http.Response) -> Throttled:
    """A 429, and which limit it is for where one of them is named."""
    words = said(response)
    named = [limit for limit, pattern in LIMIT_WORDS if pattern.search(words)]
    wait = http.retry_after(response, clock.utcnow())
    return Throttled(words, wait, limit=named[0] if len(named) == 1 else None)


def read_fetch(response: http.Response) -> FetchOutcome:
    """What the answer to a fetch call says of the generation; unknown words mean that it is still working."""
    if response.status_code != 200:
        return read_trouble(response)
    document = body_of(response)
    raw = document.get("status")
    if not isinstance(raw, str) or not raw.strip():
        return Unavailable(f"200 without a status: {text_of(response) or 'empty'}", http_status=200)
    word = raw.strip()
    if word.lower() in FAILED_WORDS:
        error = document.get("error")
        if isinstance(error, dict):
            return Failed(str(error.get("name") or "error"), str(error.get("message") or ""), word)
        return Failed(str(error) if error else "error", "" if error else "the service gives no reason", word)
    if word.lower() in FINISHED_WORDS:
        video = document.get("video")
        video = video[0] if isinstance(video, list) and video else video
        url = video.get("url") if isinstance(video, dict) else video
        size = video.get("file_size") if isinstance(video, dict) else None
        meta = document.get("meta")
        usage = meta.get("usage") if isinstance(meta, dict) else None
        credits_used = usage.get("credits_used") if isinstance(usage, dict) else None
        return Finished(
            url if isinstance(url, str) else "",
            word,
            size if isinstance(size, int) else None,
            money(credits_used, CREDITS_PER_USD),
        )
    return Working(word)


def read_trouble(response: http.Response) -> Unavailable | Throttled:
    """An answer that tells nothing of the job."""
    status = response.status_code
    if status == 429:
        return read_throttled(response)
    trouble = {401: Trouble.AUTH, 402: Trouble.CREDITS, 403: Trouble.CREDITS}.get(status)
    return Unavailable(said(response), trouble, status, http.retry_after(response, clock.utcnow()))


def read_log_row(raw: Any) -> LoggedRequest | None:
    """A row of the log that carries a client request id."""
    try:
        name = raw["client_request_id"]
        created = datetime.fromisoformat(raw["created"])
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(name, str) or not name:
        return None
    cost = raw.get("cost")
    identity = raw.get("inference_id")
    return LoggedRequest(
        client_request_id=name,
        generation_id=str(identity) if identity else None,
        succeeded=raw.get("status") != "failed",  # a word that is not known is no proof
        created=created if created.tzinfo else created.replace(tzinfo=UTC),
        cost_usd=money(cost.get("usd")) if isinstance(cost, dict) else None,
    )

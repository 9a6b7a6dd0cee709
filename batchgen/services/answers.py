"""What the answers of the AI/ML API mean: for the job, for the money, for the account. Source: its published reference,
as of August 2026.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from batchgen import clock
from batchgen.services import http
from batchgen.services.account import CREDITS_PER_USD, body_of, charge_in, money
from batchgen.services.base import (
    Accepted,
    Blocked,
    Failed,
    FetchOutcome,
    Finished,
    Limit,
    LoggedRequest,
    Rejected,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unavailable,
    Unknown,
    Working,
)

FINISHED_WORDS = frozenset({"completed", "complete", "succeeded", "success", "done"})
FAILED_WORDS = frozenset({"error", "failed", "failure"})

LIMIT_WORDS = (
    (Limit.QUOTA, re.compile(r"quota|\b(per|a|each) (day|month)\b|daily|monthly", re.IGNORECASE)),
    (
        Limit.IN_FLIGHT,
        re.compile(r"concurren|parallel|simultaneous|in[- ]flight|in progress|at (once|the same time)", re.IGNORECASE),
    ),
    (Limit.RATE, re.compile(r"\bper (second|minute|hour)\b|\br(ps|pm)\b", re.IGNORECASE)),
)
"""What in the words of a 429 names the limit. "Rate limit" and "too many requests" are said of all of them."""


def text_of(response: http.Response) -> str:
    """The beginning of a body as text, whatever it is."""
    return hidden(response, response.content.decode("utf-8", "replace")).strip()[:200]


def hidden(response: http.Response, text: str) -> str:
    """`text` without the key: a service may repeat the one that it refuses."""
    key = response.extensions[http.ASKED].get("Authorization", "").removeprefix("Bearer ")
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

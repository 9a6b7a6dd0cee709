"""What answers of the AI/ML API mean for the job, the money and the account. Source: its reference, August 2026.

Amounts of money are exact: they are read digit by digit as written, never as floats.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from batchgen import catalogue, clock
from batchgen.jobs import ErrorClass
from batchgen.services.base import (
    Accepted,
    Blocked,
    Failed,
    FetchOutcome,
    Finished,
    Limit,
    Listing,
    Rejected,
    SubmitOutcome,
    Throttled,
    Trouble,
    Unavailable,
    Unknown,
    Working,
)
from batchgen.services.http import Answer
from batchgen.services.text import without_key

CREDITS_PER_USD = 2_000_000  # as the service documents it
VIDEO_TYPE = "internal/video-generations/submit"
FINISHED_WORDS = frozenset({"completed", "complete", "succeeded", "success", "done"})
FAILED_WORDS = frozenset({"error", "failed", "failure"})
ACCOUNT_TROUBLES = {401: Trouble.AUTH, 402: Trouble.CREDITS, 403: Trouble.CREDITS}
RETRY_AFTER_MAX = timedelta(days=1)  # a longer pause would outlast every run
EXCERPT_CHARS = 200  # of a body that is not the JSON object which it should be: enough to recognize a page
MESSAGE_CHARS = 2_000  # of the service's own message; validation errors of several fields fit

KIND_WORDS = {
    ErrorClass.MODERATION: r"moderat|content[_ -]?polic|safety|nsfw|prohibited|sensitive content|violat",
    ErrorClass.EXPIRED: r"expired|no longer (available|exists)",
    ErrorClass.CAPACITY: r"capacity|overloaded|no (available )?(worker|machine)|try again later",
    ErrorClass.INPUT_FILE: r"(image|video|audio|file|media).*(download|fetch|load|decode|read|format|size|resolution)",
    ErrorClass.INTERNAL: r"internal|timeout|unexpected",
}
"""Words in a message that name the kind of a failure, the first that fits."""

LIMIT_WORDS = {
    Limit.QUOTA: r"quota|\b(per|a|each) (day|month)\b|daily|monthly",
    Limit.IN_FLIGHT: r"concurren|parallel|simultaneous|in[- ]flight|in progress|at (once|the same time)",
    Limit.RATE: r"\bper (second|minute|hour)\b|\br(ps|pm)\b",
}
"""Words in a 429 that name its limit. "Rate limit" and "too many requests" are not among them: services say so of
every limit."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A create call as the service's request log has it. `cost_usd` is None while it is zero: not charged yet.

    `created` is None where the log names no readable time.
    """

    client_request_id: str
    generation_id: str | None
    succeeded: bool
    created: datetime | None
    cost_usd: Decimal | None = None


def json_object(answer: Answer, read_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """The JSON object that an answer consists of; empty for anything else."""
    try:
        document = json.loads(answer.body, parse_float=read_float)
    except (ValueError, RecursionError):  # includes UnicodeDecodeError
        return {}
    return document if isinstance(document, dict) else {}


def nested(document: Any, *keys: str) -> Any:
    """The value under a path of keys in JSON objects; None where the path breaks off."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def read_amount(value: Any, per_usd: int = 1) -> Decimal | None:
    """An amount in USD, from a number or a text in units of which `per_usd` make a dollar; None if it is no amount."""
    if value is None or isinstance(value, bool):
        return None
    try:
        amount = Decimal(str(value)) / per_usd
    except ArithmeticError:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


def excerpt(answer: Answer) -> str:
    """The beginning of a body as text, whatever it is."""
    return without_key(answer.body.decode("utf-8", "replace"), answer.key).strip()[:EXCERPT_CHARS]


def error_message(answer: Answer) -> str:
    """The status and the message of an error answer."""
    document = json_object(answer)
    message = document.get("message") or document.get("error")
    if isinstance(message, dict):
        message = message.get("message")
    if isinstance(message, list):
        message = "; ".join(str(part) for part in message)
    text = str(message) if message else excerpt(answer) or answer.reason
    return f"{answer.status}: {without_key(text, answer.key)[:MESSAGE_CHARS]}"


def read_create(answer: Answer) -> SubmitOutcome:
    """The outcome of a create call. Whatever may be charged, and names no generation, is `Unknown`."""
    status = answer.status
    if 200 <= status < 300:
        document = json_object(answer)
        generation_id = document.get("id") or document.get("generation_id") or answer.headers.get("x-inference-id")
        if isinstance(generation_id, str | int) and str(generation_id).strip():
            return Accepted(str(generation_id), charge_in_headers(answer), status)
        return Unknown(f"{status} without a generation id: {excerpt(answer) or 'empty'}", status)
    if status in ACCOUNT_TROUBLES:
        return Blocked(ACCOUNT_TROUBLES[status], error_message(answer), status)
    if status in (404, 405):
        return Blocked(Trouble.ADDRESS, error_message(answer), status)
    if status == 429:
        return read_throttled(answer)
    if status in (400, 413, 414, 415, 422, 451):
        message = error_message(answer)
        is_moderation = status == 451 or kind_of(message) is ErrorClass.MODERATION
        return Rejected(message, status, ErrorClass.MODERATION if is_moderation else ErrorClass.PARAMETER)
    # The service may have accepted it: a 408, a 409 "duplicate", every 5xx and every redirect.
    return Unknown(error_message(answer), status)


def read_throttled(answer: Answer) -> Throttled:
    """The outcome of a 429, with its limit where the words name exactly one."""
    message = error_message(answer)
    limits = [limit for limit, words in LIMIT_WORDS.items() if re.search(words, message, re.IGNORECASE)]
    pause = retry_after(answer, clock.utcnow())
    return Throttled(message, pause, limit=limits[0] if len(limits) == 1 else None)


def read_fetch(answer: Answer) -> FetchOutcome:
    """The state of a generation. A status word that is neither of success nor of failure means `Working`."""
    if answer.status != 200:
        return read_unavailable(answer)
    document = json_object(answer)
    word = document.get("status")
    if not isinstance(word, str) or not word.strip():
        return Unavailable(f"200 without a status: {excerpt(answer) or 'empty'}", http_status=200)
    word = word.strip()
    if word.lower() in FAILED_WORDS:
        return read_failure(document.get("error"), word)
    if word.lower() in FINISHED_WORDS:
        return read_finished(document, word)
    return Working(word)


def read_failure(error: Any, word: str) -> Failed:
    """A generation that failed at the service. `error` is an object, a text, or missing."""
    if isinstance(error, dict):
        name, text = str(error.get("name") or "error"), str(error.get("message") or "")
        message = f"{name}: {text}" if text else name
    else:
        message = str(error) if error else "error: the service gives no reason"
    return Failed(message, word, kind_of(message))


def kind_of(message: str) -> ErrorClass:
    """The kind of failure that the words of a message name."""
    for kind, words in KIND_WORDS.items():
        if re.search(words, message, re.IGNORECASE):
            return kind
    return ErrorClass.UNKNOWN


def read_finished(document: dict[str, Any], word: str) -> Finished:
    """A finished generation. Its `video` is an object, a list of one, or a bare address."""
    video = document.get("video")
    video = video[0] if isinstance(video, list) and video else video
    url = video.get("url") if isinstance(video, dict) else video
    cost = read_amount(nested(document, "meta", "usage", "credits_used"), CREDITS_PER_USD)
    return Finished((url,) if isinstance(url, str) and url else (), word, cost)


def read_unavailable(answer: Answer) -> Unavailable | Throttled:
    """An answer other than 200 to a question: it says nothing about the job."""
    if answer.status == 429:
        return read_throttled(answer)
    trouble = ACCOUNT_TROUBLES.get(answer.status)
    return Unavailable(error_message(answer), trouble, answer.status, retry_after(answer, clock.utcnow()))


def read_log_row(row: Any) -> LoggedRequest | None:
    """A row of the request log; None without a client request id, since only that id leads to an attempt."""
    client_request_id, generation_id = nested(row, "client_request_id"), nested(row, "inference_id")
    if not isinstance(client_request_id, str) or not client_request_id:
        return None
    try:
        created = datetime.fromisoformat(row["created"])
    except (KeyError, TypeError, ValueError):
        created = None  # The row counts all the same: without it, its request would be taken for absent.
    if created and not created.tzinfo:
        created = created.replace(tzinfo=UTC)
    return LoggedRequest(
        client_request_id=client_request_id,
        generation_id=str(generation_id) if generation_id else None,
        succeeded=row.get("status") != "failed",  # an unknown word is no proof of failure
        created=created,
        cost_usd=read_amount(nested(row, "cost", "usd")) or None,
    )


def charge_in_headers(answer: Answer) -> Decimal | None:
    """The charge in USD in the headers of a create answer; None for zero, which means that it is not charged yet."""
    usd = read_amount(answer.headers.get("x-aimlapi-usd-spent"))
    return usd or read_amount(answer.headers.get("x-aimlapi-credits-used"), CREDITS_PER_USD) or None


def read_transaction(row: Any) -> tuple[str, Decimal] | None:
    """The generation id and the amount in USD of a row of the transactions; None where either is missing."""
    generation_id = nested(row, "reference_id")
    exact = read_amount(nested(row, "amount", "credits"), CREDITS_PER_USD)
    charge = read_amount(nested(row, "amount", "usd")) if exact is None else exact
    return (str(generation_id), charge) if generation_id and charge is not None else None


def read_price_list(answer: Answer) -> Listing | None:
    """The prices of all video models, by the names under which they are documented, else by their ids.

    A name that is one model's id and another's alias stands for the id.
    """
    try:
        # Floats stay texts, so that a price keeps its digits.
        rows = json_object(answer, read_float=str)["data"]
        by_alias: dict[str, str] = {}
        by_id: dict[str, str] = {}
        documents: dict[str, str] = {}
        names: dict[str, str] = {}
        for row in rows:
            is_priced = isinstance(row["id"], str) and isinstance(row.get("pricing"), dict)
            if not is_priced or row.get("type", VIDEO_TYPE) != VIDEO_TYPE:
                continue
            pricing = json.dumps(row["pricing"], sort_keys=True)
            names |= further_names(row)
            url = nested(row, "info", "docsJson")
            if isinstance(url, str) and row["id"] not in names and not catalogue.is_known(row["id"]):
                documents[row["id"]] = url
            aliases = [name for name in row.get("aliases") or () if catalogue.is_known(name)]
            by_alias |= dict.fromkeys(aliases, pricing)
            if not aliases or catalogue.is_known(row["id"]):
                by_id[row["id"]] = pricing
    except (KeyError, TypeError):
        return None
    return Listing(answer.headers.get("etag"), by_alias | by_id, documents, names)


def further_names(row: dict[str, Any]) -> dict[str, str]:
    """The names of a listed model that the catalogue lacks, with the one that it has; else with the model's id."""
    names = [row["id"], *(name for name in row.get("aliases") or () if isinstance(name, str))]
    documented = [name for name in names if catalogue.is_known(name)]
    return {
        name: documented[0] if documented else row["id"]
        for name in names[bool(not documented) :]
        if not catalogue.is_known(name)
    }


def parse_date(value: str) -> datetime | None:
    """A date of an HTTP header (RFC 9110); None for anything else."""
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def clock_offset(answer: Answer, now: datetime) -> timedelta:
    """How far the server's clock is ahead of this machine's; zero where its Date header has no plausible date."""
    date = parse_date(answer.headers.get("date", ""))
    return date - now if date and 2000 <= date.year < 2100 else timedelta(0)


def retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """The pause that a Retry-After header asks for, in seconds or until a date; between zero and a day."""
    value = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        date = parse_date(value)
        if date is None:
            return None
        seconds = (date - now).total_seconds()
    return timedelta(seconds=max(0.0, min(seconds, RETRY_AFTER_MAX.total_seconds())))

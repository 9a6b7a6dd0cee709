"""Readers of answers that plug-ins share: JSON, amounts, messages of errors, refusals, pauses and dates.

What one service's answers mean stands in its plug-in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from batchgen import clock
from batchgen.jobs import ErrorClass
from batchgen.services.bounds import CLOCK_OFFSET_MAX
from batchgen.services.http import Answer
from batchgen.services.outcomes import Limit, NoAnswer, Throttled, Trouble, Unavailable
from batchgen.services.text import MESSAGE_CHARS

EXCERPT_CHARS = 200  # of a body that is not the JSON object which it should be: enough to recognize a page
ERRORS_MAX, ERROR_DEPTH = 20, 6  # of the errors in one answer, and how deep they nest: documented ones nest 3 deep

PAUSE_HEADERS = ("retry-after", "ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-reset-after")
"""The headers in which services say when a refused request is welcome again, the standard one (RFC 9110) first."""
CENTURY = 946_684_800.0, 4_102_444_800.0  # from 2000 to 2100, in seconds since 1970: no pause is as long as that
READABLE_PAUSE_MAX = timedelta(days=366)  # a longer one is a mistake, of which nothing can be said

KIND_WORDS = {
    ErrorClass.MODERATION: r"moderat|content[_ -]?polic|safety|nsfw|prohibited|sensitive content|violat",
    ErrorClass.EXPIRED: r"expired|no longer (available|exists)",
    ErrorClass.CAPACITY: r"capacity|overloaded|no (available )?(worker|machine)|try again later",
    ErrorClass.INPUT_FILE: r"(image|video|audio|file|media).*(download|fetch|load|decode|read|format|size|resolution)"
    r"|(download|fetch|load|decode|read|open|access)\b.*\b(image|video|audio|file|media)",
    ErrorClass.INTERNAL: r"internal|timeout|unexpected",
}
"""Words in a message that name the kind of a failure, the first that fits."""

KEY_WORDS = (
    r"\bscopes?\b|\bpermission|\b(limit|quota|budget)\b.*\b(api[- ]?)?key\b|\bkey('s)?\b.*\b(limit|quota|budget)\b"
)
"""Words in a 403 that concern the key, and not the account."""

LIMIT_WORDS = {
    Limit.QUOTA: r"quota|\b(per|a|each) (day|month)\b|daily|monthly",
    Limit.IN_FLIGHT: r"concurren|parallel|simultaneous|in[- ]flight|in progress|at (once|the same time)",
    Limit.RATE: r"\bper (second|minute|hour)\b|\br(ps|pm)\b",
}
"""Words in a 429 that name its limit. "Rate limit" and "too many requests" are not among them: services say so of
every limit."""


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


def read_id(*values: Any) -> str | None:
    """The first value that is an id: a text, or a whole number."""
    ids = (str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool))
    return next((id_ for id_ in ids if id_.strip()), None)


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
    return answer.body.decode("utf-8", "replace").strip()[:EXCERPT_CHARS]


def error_message(answer: Answer) -> str:
    """The status of an answer, and what its body or its redirect says."""
    target = answer.headers.get("location") if answer.status // 100 == 3 else None
    moved = f"it leads to {target}, and no key goes there" if target else ""
    text = moved or describe_error(json_object(answer)) or excerpt(answer) or answer.reason
    return f"{answer.status}: {text[:MESSAGE_CHARS]}"


def describe_error(error: Any, depth: int = ERROR_DEPTH) -> str:
    """What an error in JSON says: a text, a list, or an object with a message or with details.

    A detail names its parameter: `{"loc": ["body", "duration"], "msg": "must be 5"}`.
    """
    match error:
        case str():
            return error.strip()[:MESSAGE_CHARS]
        case list() if depth:
            texts = [describe_error(part, depth - 1) for part in error[:ERRORS_MAX]]
            return "; ".join(filter(None, texts))[:MESSAGE_CHARS]
        case dict() if depth:
            texts = [describe_error(error.get(name), depth - 1) for name in ("message", "msg", "detail")]
            # Beside a message, a text here is only the name of the status, such as "Bad Request".
            if isinstance(error.get("error"), dict | list) or not any(texts):
                texts.append(describe_error(error.get("error"), depth - 1))
            place = error.get("loc")
            texts.insert(0, ".".join(map(str, place)) if isinstance(place, list) and any(texts) else "")
            return ": ".join(dict.fromkeys(filter(None, texts)))[:MESSAGE_CHARS]
        case int() if not isinstance(error, bool):
            return str(error)
    return ""


def trouble_of(status: int, message: str) -> Trouble | None:
    """What a refusal by 401, 402 or 403 says about the account or its key."""
    if status == 403 and re.search(KEY_WORDS, message, re.IGNORECASE):
        return Trouble.KEY
    return {401: Trouble.AUTH, 402: Trouble.CREDITS, 403: Trouble.CREDITS}.get(status)


def read_throttled(answer: Answer) -> Throttled:
    """The outcome of a 429, with its limit where the words name exactly one."""
    message = error_message(answer)
    limits = [limit for limit, words in LIMIT_WORDS.items() if re.search(words, message, re.IGNORECASE)]
    pause = retry_after(answer, clock.utcnow(), PAUSE_HEADERS)
    return Throttled(message, pause, limit=limits[0] if len(limits) == 1 else None)


def kind_of(message: str) -> ErrorClass:
    """Why a job failed, by the words of the message."""
    for kind, words in KIND_WORDS.items():
        if re.search(words, message, re.IGNORECASE):
            return kind
    return ErrorClass.UNKNOWN


def read_unavailable(answer: Answer) -> NoAnswer:
    """An answer other than 200 to a question: it says nothing about the job."""
    if answer.status == 429:
        return read_throttled(answer)
    message = error_message(answer)
    trouble = trouble_of(answer.status, message)
    return Unavailable(message, trouble, answer.status, retry_after(answer, clock.utcnow()))


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
    offset = date - now if date else timedelta(0)
    return offset if abs(offset) <= CLOCK_OFFSET_MAX else timedelta(0)


def retry_after(answer: Answer, now: datetime, headers: Sequence[str] = ("retry-after",)) -> timedelta | None:
    """The pause that the first of these headers asks for which can be read; None where none can.

    Its value is a duration, or the moment at which it ends by the server's own clock.
    """
    pauses = (read_pause(answer.headers.get(name, ""), now + clock_offset(answer, now)) for name in headers)
    return next((pause for pause in pauses if pause is not None), None)


def read_pause(value: str, now: datetime) -> timedelta | None:
    """A pause from seconds, or until a moment.

    A moment is an HTTP date, an ISO 8601 date, or a number of seconds, milliseconds or less since 1970. None for one in
    the past, a negative number, and what is longer than anybody's pause.
    """
    value = value.strip()
    # A date alone is no moment: "20260301" may be seconds.
    iso = read_time(value) if re.search("[T ]", value) else None
    end = read_number_as_moment(value) or iso or parse_date(value)
    try:
        pause = end - now if end else timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        return None
    return pause if timedelta(0) <= pause <= READABLE_PAUSE_MAX else None


def read_number_as_moment(value: str) -> datetime | None:
    """A number of seconds, milliseconds, microseconds or nanoseconds since 1970; None where it is no time soon."""
    try:
        number = float(value)
    except ValueError:
        return None
    first, last = CENTURY
    seconds = (number / unit for unit in (1, 1e3, 1e6, 1e9))
    return next((datetime.fromtimestamp(second, UTC) for second in seconds if first <= second < last), None)


def read_time(value: Any) -> datetime | None:
    """A time in ISO 8601, in UTC unless it names a zone; None for anything else."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)

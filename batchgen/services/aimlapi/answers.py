"""What answers of the AI/ML API mean for the job, the money and the account.

Amounts of money are exact: they are read digit by digit as written, never as floats.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urljoin

from batchgen.catalogue import register
from batchgen.jobs import ErrorClass
from batchgen.services.answers import (
    describe_error,
    error_message,
    excerpt,
    json_object,
    kind_of,
    nested,
    read_amount,
    read_id,
    read_throttled,
    read_time,
    read_unavailable,
    trouble_of,
)
from batchgen.services.base import Listing, Transaction, TransactionKind
from batchgen.services.http import Answer
from batchgen.services.outcomes import (
    Accepted,
    Blocked,
    Failed,
    FetchOutcome,
    Finished,
    Rejected,
    SubmitOutcome,
    Trouble,
    Unavailable,
    Unknown,
    Working,
)

CREDITS_PER_USD = 2_000_000  # as the service documents it
BALANCE_TYPES = frozenset({"PAYMENT", "TOPUP", "BONUS", "CREDITS_EXPIRED", "INIT"})
"""Types of transactions that are of no generation."""
VIDEO_TYPE = "internal/video-generations/submit"
FINISHED_WORDS = frozenset({"completed", "complete", "succeeded", "success", "done", "finished"})
FAILED_WORDS = frozenset({"error", "failed", "failure"})
WORKING_WORDS = frozenset(
    {
        *("queued", "generating", "processing", "pending", "in_progress", "running", "waiting", "starting", "started"),
        *("active", "submitted", "created", "accepted", "preparing", "rendering", "in_queue", "working", "scheduled"),
        *("not_started", "uploading", "cancelling", "canceling"),
    }
)
CONTENT_WORDS = r"^(?!.*\b(account|plan|credits?|balance)\b).*(moderat|content[_ -]?polic|nsfw)"
"""Words in a 403 that concern the content of one request. Most of them concern the account or its key."""
ENDED_WORDS = {
    word: kind
    for kind, words in {
        ErrorClass.EXPIRED: "expired deleted removed gone not_found purged",
        ErrorClass.INTERNAL: "timeout timed_out time_out",
        ErrorClass.MODERATION: "nsfw blocked moderated moderation moderation_blocked content_moderated"
        " request_moderated content_filtered filtered flagged censored banned",
        ErrorClass.UNKNOWN: "cancelled canceled aborted rejected refused declined terminated stopped killed"
        " interrupted crashed skipped revoked invalid",
    }.items()
    for word in words.split()
}
"""Words of an end without a video, in the writing of `plain_word`. Unlike a failure, it may be charged."""


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A create call as the service's request log has it. `cost_usd` is None while it is zero: not charged yet.

    A failed call has a `generation_id` as well. `created` is None where the log names no readable time.
    """

    client_request_id: str
    generation_id: str | None
    succeeded: bool
    created: datetime | None
    cost_usd: Decimal | None = None


def read_create(answer: Answer) -> SubmitOutcome:
    """The outcome of a create call. Whatever may be charged, and names no generation, is `Unknown`."""
    status = answer.status
    if answer.is_success:
        document = json_object(answer)
        candidates = document.get("id"), document.get("generation_id"), answer.headers.get("x-inference-id")
        if generation_id := read_id(*candidates):
            # A charge of zero is one that is not known yet.
            return Accepted(generation_id, charge_in_headers(answer) or read_usage(document) or None, status)
        return Unknown(f"{status} without a generation id: {excerpt(answer) or 'empty'}", status)
    message = error_message(answer)
    if status == 403 and re.search(CONTENT_WORDS, message, re.IGNORECASE):
        return Rejected(message, status, ErrorClass.MODERATION)
    if trouble := trouble_of(status, message):
        return Blocked(trouble, message, status)
    if status in (404, 405):
        # A missing model, or a wrong address: the scheduler knows whether this address has accepted anything.
        return Blocked(Trouble.ADDRESS, message, status)
    if status == 429:
        return read_throttled(answer)
    if status in (400, 413, 414, 415, 422, 451):
        is_moderation = status == 451 or kind_of(message) is ErrorClass.MODERATION
        return Rejected(message, status, ErrorClass.MODERATION if is_moderation else ErrorClass.PARAMETER)
    # The service may have accepted it: a 408, a 409 "duplicate", every 5xx and every redirect.
    return Unknown(message, status)


def read_fetch(answer: Answer, base_url: str) -> FetchOutcome:
    """The state of a generation. A status word that nobody knows means `Working`, not `is_known`."""
    if not answer.is_success:
        return read_unavailable(answer)
    document = json_object(answer)
    word = document.get("status")
    if not isinstance(word, str) or not word.strip():
        return Unavailable(f"{answer.status} without a status: {excerpt(answer) or 'empty'}", http_status=answer.status)
    word = word.strip()
    plain = plain_word(word)
    if plain in FAILED_WORDS:
        return read_failure(document, word)
    if plain in FINISHED_WORDS:
        return read_finished(document, word, base_url)
    if plain in ENDED_WORDS:
        return read_end(document, word, ENDED_WORDS[plain])
    return Working(word, plain in WORKING_WORDS)


def plain_word(word: str) -> str:
    """A status in one way of writing: "Timed Out", "timed-out" and "timedOut" become timed_out."""
    return re.sub(r"[\s_-]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word.strip()).lower()).strip("_.!")


def read_end(document: dict[str, Any], word: str, kind: ErrorClass) -> Failed:
    """A generation that ended without a video. It counts as charged, unless the answer says otherwise."""
    error = describe_error(document.get("error")) or describe_error(document.get("message"))
    message = f"the service says {word!r}{f': {error}' if error else ', and gives no reason'}"
    if error and kind is ErrorClass.UNKNOWN:
        kind = kind_of(error)
    return Failed(message, word, kind, cost_usd=read_usage(document))


def read_failure(document: dict[str, Any], word: str) -> Failed:
    """A generation that failed at the service, which costs nothing, unless the answer names a charge.

    Its `error` is an object, a list of details, a text, or missing.
    """
    error = document.get("error")
    message = describe_error(error)
    if isinstance(error, dict):
        name = describe_error(error.get("name")) or "error"
        message = f"{name}: {message}" if message else name
    message = message or "error: the service gives no reason"
    return Failed(message, word, kind_of(message), cost_usd=read_usage(document) or Decimal(0))


def read_finished(document: dict[str, Any], word: str, base_url: str) -> Finished:
    """A finished generation. Its `video` is an object or a bare address, or a list of such.

    A charge of zero is one that is not known yet: it must not replace what the create call has named.
    """
    video = document.get("video")
    entries = video if isinstance(video, list) else [video]
    addresses = [entry.get("url") if isinstance(entry, dict) else entry for entry in entries]
    texts = (address.strip() for address in addresses if isinstance(address, str))
    files = dict.fromkeys(whole_address(text, base_url) for text in texts if text)
    return Finished(tuple(files), word, read_usage(document) or None)


def whole_address(address: str, base_url: str) -> str:
    """An address as a URL: one that begins with / is at the API, or has its scheme."""
    try:
        return urljoin(base_url, address) if address.startswith("/") else address
    except ValueError:  # The download says what is wrong with it.
        return address


def read_usage(document: dict[str, Any]) -> Decimal | None:
    """What an answer says that a generation has cost, in USD; None where it says nothing."""
    usage = nested(document, "meta", "usage")
    in_credits = read_amount(nested(usage, "credits_used"), CREDITS_PER_USD)
    return read_amount(nested(usage, "usd_spent")) if in_credits is None else in_credits


def read_rows(document: dict[str, Any], *names: str) -> list[Any] | Unavailable:
    """The rows of a page, under the first of these names; none beside an error, as what they lack would seem absent."""
    rows = next((document[name] for name in names if name in document), None)
    failed = document.get("error") or document.get("errors") or document.get("success") is False
    if isinstance(rows, list) and not failed:
        return rows
    words = describe_error(failed) or describe_error(document) or "no rows"
    return Unavailable(f"200, but no whole page: {words}", http_status=200)


def read_log_row(row: Any) -> LoggedRequest | None:
    """A row of the request log; None without a client request id, since only that id leads to an attempt."""
    client_request_id, generation_id = nested(row, "client_request_id"), nested(row, "inference_id")
    if not isinstance(client_request_id, str) or not client_request_id:
        return None
    return LoggedRequest(
        client_request_id=client_request_id,
        generation_id=read_id(generation_id),
        succeeded=str(row.get("status")).lower() not in FAILED_WORDS,  # an unknown word is no proof of failure
        created=read_time(row.get("created")),  # without one it counts all the same: its request must not seem absent
        cost_usd=read_amount(nested(row, "cost", "usd")) or None,
    )


def charge_in_headers(answer: Answer) -> Decimal | None:
    """The charge in USD in the headers of a create answer; None for zero, which means that it is not charged yet."""
    usd = read_amount(answer.headers.get("x-aimlapi-usd-spent"))
    return usd or read_amount(answer.headers.get("x-aimlapi-credits-used"), CREDITS_PER_USD) or None


def read_transaction(row: Any) -> Transaction | None:
    """A row of the transactions; None where its time or its amount cannot be read.

    What adds to the balance and names a generation gives its money back, whatever the service calls it.
    """
    at = read_time(nested(row, "created_at"))
    exact = read_signed(nested(row, "amount", "credits"), CREDITS_PER_USD)
    amount = read_signed(nested(row, "amount", "usd")) if exact is None else exact
    if at is None or amount is None:
        return None
    word, reference = str(row.get("type") or "").upper(), read_id(row.get("reference_id"))
    is_charge = str(row.get("direction") or "CHARGE").upper() == "CHARGE"
    kind = kind_of_transaction(word, is_charge=is_charge, has_reference=reference is not None)
    return Transaction(
        kind,
        at,
        -amount if kind is TransactionKind.OTHER and is_charge else amount,
        None if kind is TransactionKind.OTHER else reference,
        str(row.get("model") or ""),
        word,
        read_id(row.get("id"), row.get("transaction_id")) or "",
    )


def kind_of_transaction(word: str, *, is_charge: bool, has_reference: bool) -> TransactionKind:
    """What a transaction of a type is. An ADJUSTMENT is of the use of a model where it names a generation."""
    if word in BALANCE_TYPES or (word == "ADJUSTMENT" and not has_reference):
        return TransactionKind.OTHER
    if word == "REFUND" or (not is_charge and (has_reference or word == "MODEL_USAGE")):
        return TransactionKind.REFUND
    return TransactionKind.CHARGE if is_charge else TransactionKind.OTHER


def read_signed(value: Any, per_usd: int = 1) -> Decimal | None:
    """An amount in USD of either sign: services write a charge as 0.5 or as -0.5."""
    return read_amount(str(value).removeprefix("-") if isinstance(value, int | float | str) else value, per_usd)


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
            if isinstance(url, str) and row["id"] not in names and not register.is_known(row["id"]):
                documents[row["id"]] = url
            aliases = [name for name in row.get("aliases") or () if register.is_known(name)]
            by_alias |= dict.fromkeys(aliases, pricing)
            if not aliases or register.is_known(row["id"]):
                by_id[row["id"]] = pricing
    except (KeyError, TypeError):
        return None
    return Listing(answer.headers.get("etag"), by_alias | by_id, documents, names)


def further_names(row: dict[str, Any]) -> dict[str, str]:
    """The names of a listed model that the catalogue lacks, with the one that it has; else with the model's id."""
    names = [row["id"], *(name for name in row.get("aliases") or () if isinstance(name, str))]
    documented = [name for name in names if register.is_known(name)]
    return {
        name: documented[0] if documented else row["id"]
        for name in names[bool(not documented) :]
        if not register.is_known(name)
    }

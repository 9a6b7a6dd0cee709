"""The boundary to a service: behind it, every outcome has bounded, printable values, without the key, or is none.

A plug-in reads answers that may hold anything. Whatever it returns is judged here, once, and whatever it raises becomes
an outcome: `Unknown` for a create request, which may be charged, and `Unavailable` for a question. What is a remark,
such as a message, is cut to its length. What is an identity, such as an id or an address, is taken whole or not at all.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from functools import partial
from itertools import islice
from types import UnionType
from typing import Any, TypeVar

from batchgen.jobs import ErrorClass
from batchgen.services import bounds
from batchgen.services.base import (
    History,
    Listing,
    PastGeneration,
    SentAttempt,
    Service,
    Submission,
    Transaction,
    TransactionKind,
    TransactionPage,
)
from batchgen.services.bounds import ID_CHARS, OutOfBounds
from batchgen.services.outcomes import (
    PAUSE_MAX,
    Adopted,
    Ambiguous,
    CancelOutcome,
    FetchOutcome,
    FindOutcome,
    Limit,
    NoAnswer,
    NotSent,
    PrepareOutcome,
    SubmitOutcome,
    Trouble,
    Unavailable,
    Unknown,
)
from batchgen.services.text import MESSAGE_CHARS, error_words, one_line, without_key

LOG = logging.getLogger("batchgen.services")
T = TypeVar("T")

WORD_CHARS = 100  # of a status, or of the name of a parameter
ADDRESS_CHARS = 8_000  # a signed address has up to 2,000
HANDLE_CHARS = 20_000  # of its JSON: several addresses fit
FILES_MAX = 100  # of one generation
MODELS_MAX = 20_000  # of a price list; today's has some 700
GENERATION_SECONDS = 0.001, 30 * 86_400.0  # no generation takes less, or longer
CALL_SECONDS = 120.0  # of a call: a question of `client.py` ends after 30 s
LONGER = dict.fromkeys(("submit", "prepare", "find", "history", "transactions"), 3_600.0)
"""Seconds of calls that may take longer: five of the largest files on a slow line, or the hundred pages of a log."""


def is_of_this_process(error: BaseException) -> bool:
    """Whether a call is stopped from outside, and not a plug-in that fails in an odd way."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)


async def answer_of(service: Service, name: str, *args: Any) -> Any:
    """What a call of a plug-in returns, also one that does not wait. It may change its own decimal context only."""
    with localcontext():
        try:
            answer = getattr(service, name)(*args)
            while inspect.isawaitable(answer):
                answer = await answer
        except (SystemExit, GeneratorExit) as error:  # which would end more than this task
            return error
    return answer


class BoundedService(Service):
    """A plug-in's service behind the boundary. No call raises; `key` appears in nothing that it returns."""

    def __init__(self, service: Service, api_key: str = "") -> None:
        self._service, self._api_key = service, api_key
        self.name, self.account, self.base_url = service.name, service.account, service.base_url
        self.features, self.variables = bounds.bounded_features(service.features), service.variables
        for text in (self.name, self.account, self.base_url, self.origin):
            if not isinstance(text, str) or self.printable(text, ID_CHARS) != text:
                raise OutOfBounds("its name, account or base_url is no short text without the key")

    @property
    def clock_offset(self) -> timedelta:
        try:
            offset = self._service.clock_offset
        except Exception:
            return timedelta(0)
        is_offset = isinstance(offset, timedelta) and abs(offset) <= bounds.CLOCK_OFFSET_MAX
        return offset if is_offset else timedelta(0)

    async def close(self) -> None:
        await self._service.close()

    async def prepare(self, submission: Submission) -> Mapping[str, Any] | PrepareOutcome:
        def bound(outcome: Any) -> Any:
            return self._handle(outcome) if isinstance(outcome, Mapping) else self._outcome(PrepareOutcome, outcome)

        return await self._call("prepare", bound, NotSent, submission)

    async def submit(self, submission: Submission) -> SubmitOutcome:
        return await self._call("submit", partial(self._outcome, SubmitOutcome), Unknown, submission)

    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        return await self._call("fetch", partial(self._outcome, FetchOutcome), Unavailable, handle)

    async def find(self, attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome] | NoAnswer:
        intent_at = {attempt.client_request_id: attempt.intent_at for attempt in attempts}

        def bound(answer: Any) -> Any:
            if not isinstance(answer, Mapping):
                return self._outcome(NoAnswer, answer)
            return {id_: self._finding(answer[id_], intent_at[id_]) for id_ in answer.keys() & intent_at.keys()}

        return await self._call("find", bound, Unavailable, attempts)

    async def history(self, since: datetime, until: datetime | None = None) -> History | NoAnswer | None:
        def bound(answer: Any) -> Any:
            if not isinstance(answer, History):
                return None if answer is None else self._outcome(NoAnswer, answer)
            rows = (self._past(past, answer.since) for past in answer.generations)
            return History([past for past in rows if past], bounds.moment(answer.since))

        return await self._call("history", bound, Unavailable, since, until)

    async def cancel(self, handle: Mapping[str, Any]) -> CancelOutcome:
        return await self._call("cancel", partial(self._outcome, CancelOutcome), Unavailable, handle)

    async def transactions(
        self, start: datetime, end: datetime, cursor: str | None = None
    ) -> TransactionPage | NoAnswer | None:
        def bound(page: Any) -> Any:
            if not isinstance(page, TransactionPage):
                return None if page is None else self._outcome(NoAnswer, page)
            if page.cursor is not None and not self._is_plain(page.cursor, ADDRESS_CHARS):
                raise OutOfBounds("the cursor of the next page is too long or not printable")
            rows = [row for row in map(self._transaction, page.rows) if row]
            return TransactionPage(rows, page.cursor, page.unreadable + len(page.rows) - len(rows))

        return await self._call("transactions", bound, Unavailable, start, end, cursor)

    async def balance(self) -> Decimal | None:
        return await self._call("balance", bounds.amount, lambda _reason: None)

    async def catalogue(self, etag: str | None = None) -> Listing | None:
        return await self._call("catalogue", self._listing, lambda _reason: None, etag)

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        def bound(seconds: Mapping[str, float]) -> Mapping[str, float]:
            least, most = GENERATION_SECONDS
            return {model: seconds[model] for model in models if least <= seconds.get(model, math.nan) <= most}

        return await self._call("typical_seconds", bound, lambda _reason: {}, models)

    async def _call(self, name: str, bound: Callable[[Any], Any], failure: Callable[[str], T], *args: Any) -> T:
        """The bounded outcome of a call; `failure(reason)` where there is none."""
        seconds = LONGER.get(name, CALL_SECONDS)
        # A task of its own: a plug-in that cancels its task, or will not be cancelled, cancels and holds up no stage.
        call = asyncio.create_task(answer_of(self._service, name, *args))
        try:
            if (await asyncio.wait([call], timeout=seconds))[1]:
                reason = f"no answer within {seconds:g} seconds"
            else:
                outcome: T = bound(call.result())
                return outcome
        except BaseException as error:  # Only here: an answer, or a plug-in, can be odd in any way.
            if is_of_this_process(error):
                raise
            detail = str(error) if isinstance(error, OutOfBounds) else error_words(error)
            reason = f"the answer cannot be used: {detail}"
        finally:
            if not call.done():
                call.cancel()
                call.add_done_callback(lambda late: late.cancelled() or late.exception())  # or asyncio shows it
        LOG.warning(f"{name}.unusable", extra={"reason": self.printable(reason)})
        return failure(self.printable(reason))

    def _outcome(self, types: UnionType, outcome: Any) -> Any:
        """The outcome with its values bounded. Raises `OutOfBounds`."""
        if not is_dataclass(outcome) or isinstance(outcome, type) or not isinstance(outcome, types):
            raise OutOfBounds(f"the plug-in made a {type(outcome).__name__} of it")
        judges: dict[str, Callable[[Any], Any]] = {
            **dict.fromkeys(("reason", "message", "proof"), self.printable),
            **dict.fromkeys(("word", "input"), lambda text: self.printable(text or "", WORD_CHARS)),
            "generation_id": self._id,
            "about": lambda text: text if self._is_plain(text, ID_CHARS) else "",
            "handle": partial(self._handle, subject=getattr(outcome, "generation_id", "it")),
            "files": self._addresses,
            "cost_usd": bounds.amount,
            "http_status": bounds.status,
            "retry_after": bounds.pause,
            "kind": lambda kind: ErrorClass(kind) if kind in list(ErrorClass) else ErrorClass.UNKNOWN,
            "trouble": lambda trouble: trouble and Trouble(trouble),
            "limit": lambda limit: Limit(limit) if limit in list(Limit) else None,
            "as_of": bounds.moment,
        }
        names = [field.name for field in fields(outcome) if field.name in judges]
        bounded: Any = replace(outcome, **{name: judges[name](getattr(outcome, name)) for name in names})
        wait = getattr(outcome, "retry_after", None)
        if not isinstance(wait, timedelta) or wait <= PAUSE_MAX:
            return bounded
        return replace(bounded, reason=self.printable(f"{bounded.reason}; it asks to wait {bounds.in_words(wait)}"))

    def _finding(self, finding: FindOutcome, intent_at: datetime) -> FindOutcome:
        """A finding; `Ambiguous`, which leaves it to a person, where its generation has no usable id."""
        try:
            bounded: FindOutcome = self._outcome(FindOutcome, finding)
        except OutOfBounds as error:
            return Ambiguous(self.printable(f"the service has it, but {error}"))
        if isinstance(bounded, Adopted) and not bounds.is_near(bounded.accepted_at, intent_at):
            return replace(bounded, accepted_at=intent_at)
        return bounded

    def _past(self, past: PastGeneration, since: datetime) -> PastGeneration | None:
        """A generation of the service's memory; None for one whose ids cannot be taken over as they are."""
        ids = (past.client_request_id, past.generation_id)
        try:
            accepted_at = bounds.moment(past.accepted_at)
        except OutOfBounds:  # What was bought must not seem absent.
            accepted_at = since
        is_whole = all(self._is_plain(text, ID_CHARS) for text in ids)
        return replace(past, accepted_at=accepted_at, cost_usd=bounds.amount(past.cost_usd)) if is_whole else None

    def _transaction(self, row: Transaction) -> Transaction | None:
        """A transaction; None for one whose kind, time, amount or generation cannot be taken as it is."""
        try:
            at, kind, usd = bounds.moment(row.at), TransactionKind(row.kind), bounds.amount(abs(row.amount_usd))
        except (OutOfBounds, ArithmeticError, TypeError, ValueError):
            return None
        is_whole = row.generation_id is None or self._is_plain(row.generation_id, ID_CHARS)
        if usd is None or not is_whole or (row.amount_usd < 0 and kind is not TransactionKind.OTHER):
            return None
        words = {name: self.printable(getattr(row, name), ID_CHARS) for name in ("model", "type", "id")}
        exact = usd.quantize(bounds.CHARGE_STEP).copy_sign(row.amount_usd)
        return replace(row, kind=kind, at=at, amount_usd=exact, **words)

    def _listing(self, listing: Listing | None) -> Listing | None:
        if listing is None:
            return None
        if listing.pricing is None:
            return Listing(listing.etag, None)
        entries = [(model, entry) for model, entry in listing.pricing.items() if self._is_plain(model, ID_CHARS)]
        plain = ((model, entry) for model, entry in entries[:MODELS_MAX] if without_key(entry, self._api_key) == entry)
        pricing = {model: entry for model, entry in plain if bounds.is_pricing(entry)}
        etag = listing.etag if listing.etag and self._is_plain(listing.etag, ID_CHARS) else None
        return Listing(
            etag, pricing, self._texts(listing.documents, ADDRESS_CHARS), self._texts(listing.names, ID_CHARS)
        )

    def _texts(self, texts: Mapping[str, str], most: int) -> dict[str, str]:
        entries = list(texts.items())[:MODELS_MAX]
        return {name: text for name, text in entries if self._is_plain(name, ID_CHARS) and self._is_plain(text, most)}

    def printable(self, text: object, most: int = MESSAGE_CHARS) -> str:
        return one_line(without_key(str(text), self._api_key), most)

    def _id(self, generation_id: str) -> str:
        if not self._is_plain(generation_id, ID_CHARS):
            raise OutOfBounds(f"its generation id is none: {self.printable(generation_id, WORD_CHARS)!r}")
        return generation_id

    def _addresses(self, files: Sequence[str]) -> tuple[str, ...]:
        files = (files,) if isinstance(files, str) else tuple(islice(files, FILES_MAX + 1))
        if len(files) > FILES_MAX:
            raise OutOfBounds(f"it names more than {FILES_MAX} files")
        for address in files:
            if not self._is_plain(address, ADDRESS_CHARS):
                raise OutOfBounds(f"the address of a file is none: {self.printable(address, WORD_CHARS)!r}")
        return files

    def _handle(self, handle: Mapping[str, Any], subject: str = "it") -> Mapping[str, Any]:
        try:
            written = json.dumps(dict(handle), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError):
            written = ""
        if not self._is_plain(written, HANDLE_CHARS):
            # A person who is told the id can find what is paid for.
            raise OutOfBounds(f"what finds {subject} again is no JSON object, too long or not printable")
        return dict(json.loads(written))

    def _is_plain(self, text: object, most: int) -> bool:
        return bounds.is_identity(text, most) and without_key(text, self._api_key) == text

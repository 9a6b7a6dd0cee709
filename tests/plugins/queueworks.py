"""Queueworks, an invented service: URLs as handles, a history of bodies instead of a log, several files, cancelling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchgen import clock
from batchgen.jobs import ChargeSource, ErrorClass
from batchgen.services import answers, http
from batchgen.services.account import Account, Variables
from batchgen.services.base import Adoption, Cancelling, Features, Listing, Queueing, SentAttempt, Service, Submission
from batchgen.services.client import ApiClient
from batchgen.services.matching import PastRequest, match
from batchgen.services.outcomes import (
    Accepted,
    Blocked,
    Cancelled,
    CancelOutcome,
    Failed,
    FetchOutcome,
    FindOutcome,
    Finished,
    Rejected,
    SubmitOutcome,
    Throttled,
    TooLate,
    Trouble,
    Unavailable,
    Unknown,
    Working,
)
from batchgen.services.registry import Plugin

VARIABLES = Variables("QUEUEWORKS_KEY", "QUEUEWORKS_URL", "https://queue.example")
KINDS = {"content_policy": ErrorClass.MODERATION, "bad_image": ErrorClass.INPUT_FILE, "expired": ErrorClass.EXPIRED}


class Queueworks(Service):
    name = "queueworks"
    variables = VARIABLES
    features = Features(
        adopt=Adoption.EXACT_BODY,
        queueing=Queueing.ACCEPTS,
        cancel=Cancelling.FREE,
        keeps_results_for=timedelta(hours=2),
        charges=ChargeSource.POLL,
    )

    def __init__(self, account: Account) -> None:
        self.api = ApiClient(account.base_url, account.key, scheme="Key")
        self.base_url = self.api.base_url
        self.account = hashlib.sha256(account.key.encode()).hexdigest()[:8]

    async def submit(self, submission: Submission) -> SubmitOutcome:
        answer = await self.api.create(f"/queue/{submission.model}", submission.body())
        if not isinstance(answer, http.Answer):
            return answer
        match answer.status:
            case 200 if generation_id := answers.json_object(answer).get("request_id"):
                return Accepted(generation_id, None, 200, {"url": answers.json_object(answer).get("status_url")})
            case 401 | 402:
                trouble = Trouble.AUTH if answer.status == 401 else Trouble.CREDITS
                return Blocked(trouble, answers.error_message(answer), answer.status)
            case 422:
                problem = failure_of(answers.json_object(answer))
                return Rejected(problem.message, 422, problem.kind, problem.input)
            case 429:
                return answers.read_throttled(answer)
        return Unknown(answers.error_message(answer), answer.status)

    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        document = await self.api.ask_json(handle["url"], {}, read_float=Decimal)
        if not isinstance(document, dict):
            return document
        match document.get("status"):
            case "ENDED" if "files" in document:
                files = tuple(file["url"] for file in document["files"])
                return Finished(files, "ENDED", answers.read_amount(document.get("cost")))
            case "ENDED":
                return failure_of(document)
            case str(word):
                return Working(word)
        return Unavailable("no status")

    async def find(self, attempts: Sequence[SentAttempt]) -> Mapping[str, FindOutcome] | Unavailable | Throttled:
        as_of, since = clock.utcnow(), min(attempt.intent_at for attempt in attempts) - timedelta(minutes=5)
        document = await self.api.ask_json("/history", {"since": since.isoformat()})
        if not isinstance(document, dict):
            return document
        items = document.get("items")
        return (
            match(attempts, [past(item) for item in items], as_of) if items is not None else Unavailable("no history")
        )

    async def cancel(self, handle: Mapping[str, Any]) -> CancelOutcome:
        answer = await self.api.ask(handle["url"], method="DELETE")
        if isinstance(answer, Unavailable):
            return answer
        return Cancelled() if answer.status == 200 else TooLate()

    async def catalogue(self, _etag: str | None = None) -> Listing | None:
        return Listing(
            None, {"shortfilm": json.dumps({"kind": "fixed", "units": [{"name": "video", "price": "0.25", "per": 1}]})}
        )

    async def typical_seconds(self, models: Sequence[str]) -> Mapping[str, float]:
        return dict.fromkeys(models, 0.5)

    async def close(self) -> None:
        await self.api.close()


def past(item: dict[str, Any]) -> PastRequest:
    body = {"model": item["model"], **item["input"]}
    sent_at = datetime.fromisoformat(item["sent_at"])
    return PastRequest(item["request_id"], sent_at, body, handle={"url": item["status_url"]})


def failure_of(document: dict[str, Any]) -> Failed:
    error = document.get("error") or {}
    kind = KINDS.get(str(error.get("type")), ErrorClass.PARAMETER)
    return Failed(str(error.get("message")), "ENDED", kind, str(error.get("field") or ""))


@asynccontextmanager
async def connect(account: Account, _state: Path | None) -> AsyncIterator[Service]:
    service = Queueworks(account)
    try:
        yield service
    finally:
        await service.close()


PLUGIN = Plugin(VARIABLES, connect, lambda generation_id, _: {"url": f"/requests/{generation_id}"})

"""Adoption by exact body: which requests that a service remembers are which of our lost ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from batchgen.services.base import SentAttempt
from batchgen.services.outcomes import Absent, Adopted, Ambiguous, FindOutcome

SERVICE_CLOCK_LAG = timedelta(minutes=5)
"""How far the service's clock may be behind ours."""
ONLY_FILES_DIFFER = "a generation at the service has this request, and so have other lost ones with other files"


@dataclass(frozen=True, slots=True)
class PastRequest:
    """A request that the service remembers. `body` is what it was sent, with defaults that it may have filled in."""

    generation_id: str
    accepted_at: datetime
    body: Mapping[str, Any]
    cost_usd: Decimal | None = None
    handle: Mapping[str, Any] = field(default_factory=dict)


def match(attempts: Sequence[SentAttempt], past: Sequence[PastRequest], as_of: datetime) -> dict[str, FindOutcome]:
    """What the service's memory, read to its end at `as_of`, says about each attempt without a generation.

    Generations of other attempts are left out. Twins, whose requests are equal, take one generation each. Nothing is
    certain where there are more generations than lost twins: somebody else may have sent them. Nor is it where lost
    requests differ in their files alone.
    """
    owned = {attempt.generation_id for attempt in attempts}
    free = sorted((row for row in past if row.generation_id not in owned), key=lambda row: row.accepted_at)
    twins: dict[str, list[SentAttempt]] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.intent_at):
        if attempt.generation_id is None:
            twins.setdefault(canonical_text(compared_parameters(attempt)), []).append(attempt)
    findings: dict[str, FindOutcome] = {}
    for lost in twins.values():
        rows = [row for row in free if is_same(lost[0], row)]
        is_certain = not rows or len({canonical_text(json.loads(one.request)) for one in lost}) == 1
        for number, attempt in enumerate(lost):
            finding = finding_of(rows, number, len(lost), as_of) if is_certain else Ambiguous(ONLY_FILES_DIFFER)
            findings[attempt.client_request_id] = finding
    return findings


def finding_of(rows: Sequence[PastRequest], number: int, twins: int, as_of: datetime) -> FindOutcome:
    """What the remembered rows say about the `number`-th of so many lost twins."""
    if len(rows) > twins:
        return Ambiguous(f"{len(rows)} generations at the service have this request")
    if number >= len(rows):
        return Absent(as_of)
    row = rows[number]
    return Adopted(row.generation_id, row.accepted_at, row.cost_usd, row.handle)


def is_same(attempt: SentAttempt, row: PastRequest) -> bool:
    """Whether the service remembers this request: every parameter that was sent has its value.

    Local files are not compared; the service has them in another form.
    """
    if row.accepted_at < attempt.intent_at - SERVICE_CLOCK_LAG:
        return False
    return all(row.body.get(name) == value for name, value in compared_parameters(attempt).items())


def canonical_text(parameters: Mapping[str, Any]) -> str:
    """The same text for the same parameters, in whatever order."""
    return json.dumps(parameters, sort_keys=True)


def compared_parameters(attempt: SentAttempt) -> dict[str, Any]:
    """The parameters that were sent, without those that hold local files."""
    sent: dict[str, Any] = json.loads(attempt.request)
    files = {pointer.split("/")[1] for pointer in attempt.input_pointers}
    return {name: value for name, value in sent.items() if name not in files}

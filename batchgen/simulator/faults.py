"""Fault injection: what goes wrong on purpose, each fault by its name, with a probability and perhaps a count.

A fault is drawn from the seed, the request's subject and the number of earlier requests about it. The order in which
concurrent requests arrive does not matter.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from batchgen.errors import UsageError

FAILURES = (500, 502, 503, 504)
NAMES: dict[str, dict[str, str]] = {
    "create": {
        "reset_before_accept": "the connection is reset before the body is read; nothing is accepted",
        "accept_then_drop": "accepted and charged, but the connection ends without an answer",
        "accept_then_stall": "accepted and charged, but no answer until the client gives up",
        "accept_then_truncate": "accepted and charged; the answer, headers included, is cut after `bytes` bytes",
        **{f"accept_then_{status}": "accepted and charged, but the answer is this error" for status in FAILURES},
        "accept_then_garbage": "accepted and charged; the answer is a 2xx that is not JSON, or JSON without an id",
        "refuse_500": "not accepted, with the same error as accept_then_500",
        "throttle_429": "not accepted; Retry-After is `retry_after`, or without it 1 in half of the answers",
        "auth_401": "not accepted",
        "credits_403": "not accepted",
        "reject_400": "not accepted",
    },
    "fetch": {
        "drop": "the connection ends without an answer",
        "stall": "no answer until the client gives up",
        **dict.fromkeys(("500", "502", "503"), "this error"),
        "429": "throttled, as by throttle_429",
        "not_found_lag": "the first two fetches of a generation are answered 404",
        "unknown_status": "a status word that no document names",
        "status_case": "the final status is spelt in another way",
        "completed_without_url": "finished, but without the video's URL",
        "error_without_message": "failed, but without a reason",
        "generation_error": "drawn at the create: the generation fails",
        "stuck": "drawn at the create: the generation never ends",
    },
    "log": {
        "500": "this error",
        "429": "throttled, as by throttle_429",
        "lag": "drawn at the create: its log row appears `seconds` later",
        "missing": "drawn at the create: its log row never appears",
    },
    "billing": {
        "500": "the list of transactions answers with this error",
        "429": "throttled, as by throttle_429",
        "late": "drawn at the create: its charge is listed `seconds` later",
        "missing": "drawn at the create: its charge is never listed",
        "doubled": "drawn at the create: it is charged twice",
        "in_parts": "drawn at the create: it is charged in two parts",
        "refunded": "drawn at the create: its charge is refunded",
        "null_reference": "drawn at the create: its charge names no generation",
        "wrong_amount": "drawn at the create: it is charged twice its price, at once",
        "charged_failure": "drawn at the create: it is charged although it fails",
        "foreign": "drawn at the create: another program is charged for a generation of its own",
    },
    "cdn": {
        "cut": "the body is cut after `bytes` bytes",
        "html_200": "the page of a captive portal instead of the video",
        **{f"expired_{status}": "this URL has expired; the URL of a new fetch works" for status in (403, 404, 410)},
        "changed_etag": "from now on the file is another one",
        "no_range": "Range is ignored",
        "range_416": "Range is refused",
        "wrong_length": "fewer bytes than the fetch announced",
        "corrupt": "bytes that do not decode",
        "redirect": "to the same file under another host name",
        "slow": "the body takes `seconds` real seconds",
    },
}
"""Every fault by place and name, and what it does."""

LOG_ROW_FAULTS, CHARGE_FAULTS = (
    tuple(name for name in NAMES[place] if not name.isdigit()) for place in ("log", "billing")
)
"""Those that are drawn at the create."""
LAGGING_FETCHES = 2  # fetches of a generation that `not_found_lag` may answer


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Fault:
    """A fault that a plan names. A number in place of its settings is the probability."""

    name: str
    probability: float = Field(1.0, ge=0, le=1)
    count: int | None = None  # how often at most, in this process
    bytes: int | None = None
    seconds: Annotated[float | None, Field(ge=0, le=1e10)] = None  # which a date can hold
    retry_after: int | None = None
    choice: float = 0.5  # a random number in (0, 1), drawn when the fault happens, for what the settings leave open

    @property
    def status(self) -> int:
        """The HTTP status that the name ends with; 0 for a name without one."""
        return int(self.name[-3:]) if self.name[-3:].isdigit() else 0


class Faults:
    """The faults in force. Raises `UsageError` for an unknown place, name or setting."""

    def __init__(self, plan: Mapping[str, Any], seed: int) -> None:
        self.seed = seed
        self.replace(plan)

    def replace(self, plan: Mapping[str, Any]) -> None:
        """Replace all faults by those of `plan`, and restart all counts."""
        if not isinstance(plan, Mapping):
            raise UsageError(f"the faults must be an object with some of the places {', '.join(NAMES)}")
        if unknown := sorted(set(plan) - set(NAMES)):
            raise UsageError(f"no faults can be set for {', '.join(unknown)}: the places are {', '.join(NAMES)}")
        self._planned = {(place, fault.name): fault for place in plan for fault in _parse(place, plan[place])}
        self.fired: Counter[str] = Counter()
        self._turns: Counter[tuple[str, str, str]] = Counter()

    def draw(self, place: str, subject: str, names: Iterable[str]) -> Fault | None:
        """The first fault of `names` that happens to this request about `subject`, if any does."""
        for fault in filter(None, (self._planned.get((place, name)) for name in names)):
            turn = self._turns[place, fault.name, subject]
            self._turns[place, fault.name, subject] += 1
            if fault.name == "not_found_lag" and turn >= LAGGING_FETCHES:
                continue
            if fault.count is not None and self.fired[f"{place}.{fault.name}"] >= fault.count:
                continue
            if uniform(self.seed, place, fault.name, subject, turn) < fault.probability:
                self.fired[f"{place}.{fault.name}"] += 1
                return replace(fault, choice=uniform(self.seed, "choice", place, fault.name, subject, turn))
        return None


def _parse(place: str, faults: object) -> Iterator[Fault]:
    if not isinstance(faults, Mapping):
        raise UsageError(f"the faults of {place} must be an object: a probability or a table for each name")
    for name, value in faults.items():
        if name not in NAMES[place]:
            raise UsageError(f"{place} has no fault {name}: its faults are {', '.join(NAMES[place])}")
        settings = value if isinstance(value, Mapping) else {"probability": value}
        try:
            yield Fault(**{**settings, "name": name})
        except ValidationError as error:
            raise UsageError(f"{place}.{name}.{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from None


def uniform(*names: object) -> float:
    """A number in (0, 1) that follows from `names` on every machine."""
    digest = blake2b("\0".join(map(str, names)).encode(), digest_size=7).digest()
    return (int.from_bytes(digest) + 0.5) / 2**56

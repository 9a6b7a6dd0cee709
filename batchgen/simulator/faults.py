"""Things that go wrong on purpose, each by name, with a probability and perhaps a number of times.

    create  reset_before_accept                     the connection is reset before anything is read; nothing is accepted
            accept_then_drop, accept_then_stall     accepted and charged; no answer, or none until the client gives up
            accept_then_truncate                    … the answer cut after `bytes` bytes, headers included
            accept_then_500 / _502 / _503 / _504    … and an error told
            accept_then_garbage                     … a 2xx that is not JSON, or JSON without an id
            refuse_500                              not accepted, and the same error told
            throttle_429                            `retry_after` seconds named; without it, half of them name 1
            auth_401, credits_403, reject_400
    fetch   drop, stall, 500, 502, 503, 429
            not_found_lag                           404 to the first two fetches of a generation
            unknown_status, status_case             a word no document knows; "Completed" or "complete" at the end
            completed_without_url, error_without_message
            generation_error, stuck                 drawn at the create: it fails, or it never ends
    log     500, 429
            lag, missing                            drawn at the create: its row comes `seconds` later, or never
    cdn     cut                                     the body cut after `bytes` bytes
            html_200                                a captive portal's page in place of the video
            expired_403 / _404 / _410               this address has expired; a new one from a fetch is good
            changed_etag                            the file is another one from now on
            no_range, range_416                     Range ignored; Range refused
            wrong_length, corrupt                   fewer bytes than the fetch said; bytes that do not decode
            redirect                                to the same file under another host name
            slow                                    the body takes `seconds` seconds (real ones)

A fault is drawn from the seed, what the request is about and how often that was asked before, so that the order in
which concurrent requests arrive does not matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from batchgen.errors import UsageError
from batchgen.simulator.chance import share

UNREAD = ("reset_before_accept",)
OUTCOMES = ("generation_error", "stuck")
LOG_ROW = ("lag", "missing")

NAMES: dict[str, tuple[str, ...]] = {
    "create": (
        *UNREAD,
        "accept_then_drop",
        "accept_then_truncate",
        "accept_then_stall",
        "accept_then_500",
        "accept_then_502",
        "accept_then_503",
        "accept_then_504",
        "accept_then_garbage",
        "refuse_500",
        "throttle_429",
        "auth_401",
        "credits_403",
        "reject_400",
    ),
    "fetch": (
        "drop",
        "stall",
        "500",
        "502",
        "503",
        "429",
        "unknown_status",
        "not_found_lag",
        "completed_without_url",
        "error_without_message",
        "status_case",
        *OUTCOMES,
    ),
    "log": ("500", "429", *LOG_ROW),
    "cdn": (
        "cut",
        "html_200",
        "expired_403",
        "expired_404",
        "expired_410",
        "changed_etag",
        "no_range",
        "range_416",
        "wrong_length",
        "corrupt",
        "redirect",
        "slow",
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that may go wrong. A number in place of the table is its probability."""

    probability: float = 1.0
    count: int | None = None
    """How often at most, in this process."""
    bytes: int | None = None
    seconds: float | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A fault that happens now. `share` is a number in (0, 1) of its own, for what it leaves open."""

    name: str
    fault: Fault
    share: float


class Faults:
    """The faults in force. Raises `UsageError` for a place, a name or a setting that does not exist."""

    def __init__(self, plan: Mapping[str, Any], seed: int) -> None:
        self.seed = seed
        self.fired: Counter[tuple[str, str]] = Counter()
        self._turns: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
        self.replace(plan)

    def replace(self, plan: Mapping[str, Any]) -> None:
        """Put `plan` in place of what was in force, and count from nothing."""
        unknown = sorted(set(plan) - set(NAMES))
        if unknown:
            raise UsageError(f"no faults can be set for {', '.join(unknown)}: the places are {', '.join(NAMES)}")
        self.plan = {place: dict(_read(place, named)) for place, named in plan.items()}
        self.fired.clear()
        self._turns.clear()

    def draw(self, place: str, subject: str, among: tuple[str, ...]) -> Drawn | None:
        """The fault that befalls this turn of `subject`, the first of `among` that comes up."""
        plan = self.plan.get(place)
        if not plan:
            return None
        turn = self._turns[place, subject, among]
        self._turns[place, subject, among] += 1
        for name in among:
            fault = plan.get(name)
            if fault is None or (fault.count is not None and self.fired[place, name] >= fault.count):
                continue
            if name == "not_found_lag" and turn >= 2:
                continue
            if share(self.seed, place, name, subject, turn) < fault.probability:
                self.fired[place, name] += 1
                return Drawn(name, fault, share(self.seed, "detail", place, name, subject, turn))
        return None


def _read(place: str, named: object) -> Iterable[tuple[str, Fault]]:
    if not isinstance(named, Mapping):
        raise UsageError(f"the faults of {place} must be an object: a probability or a table for each name")
    known = [field.name for field in fields(Fault)]
    for name, setting in named.items():
        if name not in NAMES[place]:
            raise UsageError(f"no fault of {place} is called {name}: there are {', '.join(NAMES[place])}")
        if isinstance(setting, Mapping):
            strange = sorted(set(setting) - set(known))
            if strange:
                raise UsageError(f"{place}.{name} cannot be given {', '.join(strange)}: it takes {', '.join(known)}")
            fault = Fault(**setting)
        else:
            fault = Fault(probability=setting)
        if isinstance(fault.probability, bool) or not isinstance(fault.probability, int | float):
            raise UsageError(f"{place}.{name}: the probability must be a number from 0 to 1")
        if not 0 <= fault.probability <= 1:
            raise UsageError(f"{place}.{name}: the probability must be from 0 to 1, not {fault.probability}")
        yield name, fault

"""An account's limits, found by what its answers say: grow while they are good, cut where one is refused.

Nothing here reads a clock, a table or a wire. Time is measured in accepted requests where that will do, so that a
service of seconds and one of minutes are learned alike.

**Places.** While no request was ever refused for want of a place, two more than ever before may be in flight (of many,
a sixteenth more). A refusal makes what was in flight the ceiling; it is tried again by one request at a time, at first
soon, because a refusal may have been for the rate after all, and then ever more seldom. Requests that are accepted well
above the ceiling show just that.

**Rate.** While nothing was ever refused for the rate, requests go as fast as answers come. A refusal tells the rate:
what was accepted, over the time until the service is willing again. It is tried a little faster after many accepted
requests that it held back, and goes back to what was good when that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from batchgen.services.base import Limit, Throttled

STEP = 16  # growth and slack: a sixteenth, at least one
FEWEST = 2  # beyond what was ever in flight, while no ceiling is known: they are on the wire together
FIRST_TRY = timedelta(
    seconds=2
)  # of a ceiling, where the service names no wait; four times that for each refusal after
LONGEST_TRY = timedelta(minutes=10)
WAITS = (0, 0, 0, 64, 256)
"""Requests accepted with every place taken, before a ceiling is tried that was refused once, twice, …: a request in 256
that is refused is less than half a percent of them."""
DOUBT = timedelta(minutes=1)  # after a refusal for want of a place, and what it asks to wait: it may be for the rate
CUTS = 3  # refusals in a row where there should have been a place: what was known is not true any more

MARGIN = 0.98  # of a measured rate: requests that set out evenly do not arrive so
CUT = 0.98  # at least, of a rate that is refused
SHORT = 16  # accepted requests between two refusals: fewer are no measure, and show that the last cut was too small
SHORT_CUT, SHORT_CUTS = 0.95, 0.8
MOST_PER_MINUTE = 60_000.0
LEAST_PER_MINUTE = 0.1
TRIAL = 32  # accepted requests at a higher rate, before it counts as good
RATE_WAITS = (0, 64, 192)
"""Accepted requests that the rate held back, before a higher one is tried that was refused never, once, …"""
SAMPLE = 6  # a rate measured by few requests is tried after so many times their number
PACES = 4  # between two requests, at the most, while the rate is what holds them back
QUOTA = timedelta(minutes=10)  # a wait as long as this is for more than a rate


@dataclass(frozen=True, slots=True)
class Sent:
    """Requests that were accepted in the last minute, or since the last pause if that is less."""

    number: int = 0
    first_at: datetime | None = None
    enough: int = 2
    """Fewer tell no rate."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one account's limits for one model."""

    proven: int = 0
    """The most generations that were in flight at once; under a ceiling, those when it was set."""
    ceiling: int | None = None
    """With so many in flight, one more was refused. None: that has not happened."""
    tries: int = 0
    """Times that the ceiling was refused in a row."""
    wait: int = 0
    """Requests still to be accepted, with every place taken, before the ceiling is tried again."""
    try_at: datetime | None = None
    """And not before this."""
    refused_at: datetime | None = None
    """The last refusal that was counted. Those of requests sent before it are part of it."""
    willing_at: datetime | None = None
    """Until when it asked to wait."""
    refusals: int = 0
    """In a row, of requests for which there should have been a place, or which came too soon."""
    per_minute: float | None = None
    """None: never refused for the rate."""
    good: float | None = None
    """What to go back to, while a higher rate is on trial."""
    rate_tries: int = 0
    """Trials refused in a row; below 0, trials passed."""
    rate_wait: int = 0
    """Accepted requests until the next trial begins, or this one is passed."""
    resumed_at: datetime | None = None
    """When the last pause for the rate ended."""


def slack(places: int) -> int:
    """So few places more or less that they tell nothing: a generation that has ended may not have been noticed yet."""
    return max(1, places // STEP)


def places(found: Found, flying: int, now: datetime) -> int:
    """How many generations may be in flight now, with the one that tries the ceiling; `flying` are."""
    if found.ceiling is None:
        # What is in flight was accepted, by whomever it was sent; but not where a guess took the place of knowledge.
        proven = found.proven if found.refusals >= CUTS else max(found.proven, flying)
        return proven + max(FEWEST, proven // STEP)
    return found.ceiling + (found.wait <= 0 and (found.try_at is None or found.try_at <= now))


def limit_of(found: Found, said: Throttled, flying: int, held_back: bool) -> Limit:
    """What a refusal is for: by the service's words, and where they do not tell, by what was in flight.

    A request that the rate had held back was refused for the rate, unless the next one is refused as well.
    """
    if said.limit:
        return said.limit
    if said.retry_after and said.retry_after >= QUOTA:
        return Limit.QUOTA
    full = found.proven if found.ceiling is None else found.ceiling
    near = bool(flying) and flying >= full - slack(full)
    return Limit.IN_FLIGHT if near and not (held_back and not found.refusals) else Limit.RATE


def accepted(found: Found, flying: int, held_back: bool, sent: Sent, now: datetime) -> Found:
    """A request was accepted and `flying` generations are in flight with it; `held_back`: only the rate kept more from
    being sent. `sent` are those of before the last refusal."""
    if found.refusals >= CUTS:
        found = replace(found, proven=flying)  # it was a guess
    found = replace(found, refusals=0)
    if found.per_minute is not None and held_back:
        found = tried_faster(found)
    if found.ceiling is None:
        return replace(found, proven=max(found.proven, flying))
    if flying < found.ceiling:
        return found
    if flying == found.ceiling:
        return replace(found, wait=max(found.wait - 1, 0))
    asked_until = found.willing_at or found.refused_at
    doubtful = asked_until is not None and now - asked_until <= DOUBT
    measured = measure(sent, found.willing_at or now) if doubtful else None
    if flying <= found.proven + slack(found.proven):
        # If it was the rate after all, the next may not follow sooner than that.
        try_at = None if measured is None else now + timedelta(minutes=1 / measured)
        return replace(found, ceiling=flying, wait=0, try_at=try_at)
    freed = replace(found, proven=flying, ceiling=None, tries=0, wait=0, try_at=None)
    return slowed(freed, sent, found.willing_at or now) if doubtful else freed


def refused_place(found: Found, flying: int, now: datetime, again_at: datetime | None) -> Found:
    """A request was refused with `flying` generations in flight; the service wants none before `again_at`."""
    full = found.proven if found.ceiling is None else found.ceiling
    refusals = found.refusals + (flying < full)
    if refusals >= CUTS:
        guess = max(1, min(flying, full) // 2)
        lost = replace(found, proven=guess, ceiling=None, tries=0, wait=0, try_at=None)
        return replace(lost, refused_at=now, willing_at=again_at, refusals=refusals)
    if flying < full - slack(full):
        ceiling = flying if found.ceiling is None else full - slack(full)
    elif found.ceiling is None:
        ceiling = max(full, flying)
    else:
        # What was accepted above the ceiling just before may have taken the place of what had ended unnoticed.
        ceiling = (found.proven + full) // 2 if flying >= full else flying
    tries = found.tries + 1
    pause = min(FIRST_TRY * 4 ** min(tries - 1, 9), LONGEST_TRY)
    asked = again_at or now
    return replace(
        found,
        proven=max(ceiling, 1),
        ceiling=max(ceiling, 1),
        tries=tries,
        wait=WAITS[min(tries, len(WAITS)) - 1],
        try_at=again_at if again_at and tries == 1 else max(now + pause, asked),
        refused_at=now,
        willing_at=again_at,
        refusals=refusals,
    )


def refused_rate(found: Found, sent: Sent, now: datetime, again_at: datetime) -> Found:
    """A request was refused for coming too soon; none will be sent before `again_at`."""
    slower = slowed(found, sent, again_at)
    return replace(slower, refused_at=now, willing_at=again_at, refusals=found.refusals + 1)


def slowed(found: Found, sent: Sent, again_at: datetime) -> Found:
    """The rate as a refusal shows it: what was accepted, over the time until the service is willing again."""
    tries = max(found.rate_tries, 0) + 1
    measured = measure(sent, again_at)
    if measured is None:
        return replace(found, resumed_at=again_at)  # so few tell nothing: the pause must do
    if found.per_minute is None:
        rate = measured * MARGIN
    elif found.good is not None:
        rate = found.good
    elif sent.number < SHORT:
        rate = found.per_minute * (SHORT_CUT if tries < CUTS else SHORT_CUTS)
    else:
        rate = max(found.per_minute / 2, min(found.per_minute * CUT, measured * MARGIN))
    wait = RATE_WAITS[min(tries, len(RATE_WAITS) - 1)]
    if found.per_minute is None:
        wait = min(wait, SAMPLE * sent.number)
    return replace(
        found,
        per_minute=min(max(rate, LEAST_PER_MINUTE), MOST_PER_MINUTE),
        good=None,
        rate_tries=tries,
        rate_wait=wait,
        resumed_at=again_at,
    )


def sent_in(times: Sequence[datetime], per_minute: float | None, enough: int = 2) -> Sent:
    """The last of `times`, oldest first, that came one after the other as fast as the rate let them."""
    first = len(times) - 1
    longest = timedelta(minutes=PACES / per_minute) if per_minute else DOUBT
    while first > 0 and times[first] - times[first - 1] <= longest:
        first -= 1
    return Sent(len(times) - first, times[first], enough) if times else Sent()


def measure(sent: Sent, until: datetime) -> float | None:
    """Requests a minute; None where there were too few to tell."""
    if sent.number < sent.enough or sent.first_at is None:
        return None
    return sent.number * 60 / max((until - sent.first_at).total_seconds(), 0.001)


def tried_faster(found: Found) -> Found:
    """One more accepted at this rate: in time a higher one is tried, each that is passed by twice as large a step."""
    assert found.per_minute is not None
    if found.rate_wait > 1:
        return replace(found, rate_wait=found.rate_wait - 1)
    tries = found.rate_tries if found.good is None else min(found.rate_tries, 0) - 1
    growth = min(2 ** max(-tries, 0) / (2 * STEP), 0.5)
    faster = min(found.per_minute * (1 + growth), MOST_PER_MINUTE)
    return replace(found, per_minute=faster, good=found.per_minute, rate_tries=tries, rate_wait=TRIAL)

"""A plan in words and in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from batchgen.jobs import State
from batchgen.jobtable.columns import plain
from batchgen.manifest import AUTO, Limits
from batchgen.plan import Outlook, Price
from batchgen.report.words import dollars, local_time, plural, span


def told(
    batch: str, outlook: Outlook, limits: Limits, until: datetime | None, live: bool, now: datetime
) -> Iterator[str]:
    """The lines of a plan."""
    yield f"{batch}: {plural(sum(outlook.states.values()), 'job')}: {standing(outlook)}"
    width = max((len(price.model) for price in outlook.prices), default=0)
    for price in outlook.prices:
        yield f"  {price.jobs:6}  {price.model:{width}}  {each(price)}"
    if not outlook.waiting:
        yield "  nothing to send"
    else:
        yield f"  {cost(outlook)}; {source(outlook, live)}"
    if limits.max_cost is not None:
        yield f"  {cap(outlook, limits.max_cost)}"
    if outlook.affordable or outlook.states[State.GENERATING]:
        half, late = (f"{span(at - now)} ({local_time(at, now)})" for at in (outlook.half_at, outlook.late_at))
        auto = [" (found or assumed)" if each == AUTO else "" for each in (limits.in_flight, limits.submits_per_minute)]
        rate = f"{outlook.in_flight} in flight{auto[0]}, {round(outlook.per_minute, 1):g} submits a minute{auto[1]}"
        yield f"  done in about {half}, nine times of ten within {late}, with {rate}"
    if until and outlook.in_time is not None:
        yield f"  by {local_time(until, now)}: {outlook.in_time} of {outlook.affordable} would be sent and done"


def standing(outlook: Outlook) -> str:
    """Where the jobs stand, in a row."""
    sent = outlook.enrolled
    under_way = sum(
        outlook.states[state] for state in (State.SUBMITTING, State.UNCONFIRMED, State.GENERATING, State.DOWNLOADING)
    )
    parts = {
        "to send": outlook.waiting,
        "of them new": sent.new,
        "edited": sent.edited,
        "changed after they were sent (run asks for --changed)": len(sent.changed),
        "not selected": outlook.left_out,
        "under way": under_way,
        "done": outlook.states[State.DONE],
        "failed": outlook.states[State.FAILED],
        "cancelled": outlook.states[State.CANCELLED],
    }
    return ", ".join(f"{number} {what}" for what, number in parts.items() if number) or "none"


def each(price: Price) -> str:
    """What one job of a model costs, and all of them."""
    if price.lowest is None or price.highest is None:
        return "price unknown"
    one = dollars(price.lowest)
    if price.lowest != price.highest:
        one += f" to {dollars(price.highest)}"
    unknown = f", {price.unknown} at an unknown price" if price.unknown else ""
    return f"{one} each, {dollars(price.cost)}{unknown}"


def cost(outlook: Outlook) -> str:
    spent = f"; {dollars(outlook.sums.spent)} spent already" if outlook.sums.spent else ""
    reserved = f"; {dollars(outlook.sums.reserved)} reserved" if outlook.sums.reserved else ""
    known = outlook.waiting - outlook.unknown
    if not known:
        return f"cost unknown{spent}{reserved}"
    unknown = f" for {known}, and {plural(outlook.unknown, 'job')} at an unknown price" if outlook.unknown else ""
    return f"cost {dollars(outlook.cost)}{unknown}{spent}{reserved}"


def source(outlook: Outlook, live: bool) -> str:
    """Where the prices come from."""
    if outlook.listed_at is None:
        return "no price list is known"
    if live:
        return "prices as the service lists them now"
    return f"prices as listed {outlook.listed_at.astimezone():%Y-%m-%d %H:%M}, the last that are known"


def cap(outlook: Outlook, most: Decimal) -> str:
    within = f"within {dollars(most)}: "
    tried = "a model without a price is tried once, and then held to its charge"
    if outlook.unknown and outlook.unknown == outlook.waiting:
        return within + tried
    if outlook.affordable == outlook.waiting:
        told = "all"
    else:
        told = f"{outlook.affordable} of {outlook.waiting}, for {dollars(outlook.affordable_cost)}"
    return f"{within}{told}, as far as prices are known; {tried}" if outlook.unknown else within + told


def outlook_json(batch: str, outlook: Outlook, limits: Limits, until: datetime | None, live: bool) -> dict[str, Any]:
    """A plan for programs. Money is text, because it is exact."""
    enrolled = outlook.enrolled
    return {
        "batch": batch,
        "jobs": sum(outlook.states.values()),
        "new": enrolled.new,
        "edited": enrolled.edited,
        "changed": [change.key for change in enrolled.changed],
        "gone": enrolled.gone,
        "states": {str(state): number for state, number in outlook.states.items()},
        "to_send": outlook.waiting,
        "not_selected": outlook.left_out,
        "prices": [
            {
                "model": price.model,
                "jobs": price.jobs,
                "unknown": price.unknown,
                "lowest_usd": text(price.lowest),
                "highest_usd": text(price.highest),
                "cost_usd": text(price.cost) if price.lowest is not None else None,
            }
            for price in outlook.prices
        ],
        "prices_listed_at": outlook.listed_at.isoformat() if outlook.listed_at else None,
        "prices_live": live,
        "cost_usd": text(outlook.cost) if outlook.unknown < outlook.waiting or not outlook.waiting else None,
        "unknown": outlook.unknown,
        "spent_usd": text(outlook.sums.spent),
        "reserved_usd": text(outlook.sums.reserved),
        "max_cost_usd": text(limits.max_cost),
        "within_max_cost": {"jobs": outlook.affordable, "cost_usd": text(outlook.affordable_cost)},
        "finish": {"p50": outlook.half_at.isoformat(), "p90": outlook.late_at.isoformat()},
        "until": {"at": until.isoformat(), "jobs": outlook.in_time} if until else None,
    }


def text(amount: Decimal | None) -> str | None:
    return None if amount is None else plain(amount)

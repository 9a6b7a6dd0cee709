"""A plan as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from batchgen.jobs import State
from batchgen.jobtable.columns import plain
from batchgen.manifest import AUTO, Limits
from batchgen.plan import Outlook, Price
from batchgen.report.words import counts, dollars, duration, local_time, plural

LEARNED = " (learned from the account, or assumed)"


def plan_lines(
    batch: str, plan: Outlook, limits: Limits, until: datetime | None, live: bool, now: datetime
) -> Iterator[str]:
    """The lines of a plan: jobs, costs, the end. `live`: the prices were fetched from the service just now."""
    yield f"{batch}: {plural(sum(plan.states.values()), 'job')}: {job_counts(plan)}"
    width = max((len(price.model) for price in plan.prices), default=0)
    for price in plan.prices:
        yield f"  {price.jobs:6}  {price.model:{width}}  {model_cost(price)}"
    yield f"  {total_cost(plan)}; {price_source(plan, live)}" if plan.waiting else "  nothing to send"
    if limits.max_cost is not None:
        yield f"  {within_cap(plan, limits.max_cost)}"
    if plan.affordable or plan.states[State.GENERATING]:
        yield f"  {finish(plan, now)}, with {rates(plan, limits)}"
    if until and plan.in_time is not None:
        yield f"  by {local_time(until, now)}: {plan.in_time} of {plan.affordable} would be sent and done"


def job_counts(plan: Outlook) -> str:
    """How many jobs would be sent, and where the others are."""
    in_flight = sum(number for state, number in plan.states.items() if state.is_active)
    parts = [
        ("to send", plan.waiting),
        ("of them new", plan.enrolled.new),
        ("edited", plan.enrolled.edited),
        ("changed after they were sent (run asks for --changed)", len(plan.enrolled.changed)),
        ("not selected", plan.left_out),
        ("in flight", in_flight),
        *((str(state), plan.states[state]) for state in State if state.is_terminal),
    ]
    return counts(parts) or "none"


def model_cost(price: Price) -> str:
    """What one job of a model costs, and all of them."""
    if price.lowest is None or price.highest is None:
        return "price unknown"
    one = dollars(price.lowest)
    if price.lowest != price.highest:
        one += f" to {dollars(price.highest)}"
    unknown = f", {price.unknown} at an unknown price" if price.unknown else ""
    return f"{one} each, {dollars(price.cost)}{unknown}"


def total_cost(plan: Outlook) -> str:
    """What the jobs to send would cost, and what the batch has cost or reserved already."""
    spent = f"; {dollars(plan.sums.spent)} spent already" if plan.sums.spent else ""
    reserved = f"; {dollars(plan.sums.reserved)} reserved" if plan.sums.reserved else ""
    priced = plan.waiting - plan.unknown
    if not priced:
        return f"cost unknown{spent}{reserved}"
    unknown = f" for {priced}, and {plural(plan.unknown, 'job')} at an unknown price" if plan.unknown else ""
    return f"cost {dollars(plan.cost)}{unknown}{spent}{reserved}"


def price_source(plan: Outlook, live: bool) -> str:
    """Where the prices come from, and of when they are."""
    if plan.listed_at is None:
        return "no price list is known"
    if live:
        return "prices as the service lists them now"
    return (
        f"prices as listed {plan.listed_at.astimezone():%Y-%m-%d %H:%M}; the service could not be asked for newer ones"
    )


def within_cap(plan: Outlook, max_cost: Decimal) -> str:
    """How many of the jobs would be sent under the cap."""
    cap = f"within {dollars(max_cost)}: "
    unpriced = "one job of a model without a price is sent first, and its charge is then taken as the price"
    if plan.unknown and plan.unknown == plan.waiting:
        return cap + unpriced
    sent = f"{plan.affordable} of {plan.waiting}, for {dollars(plan.affordable_cost)}"
    sent = "all" if plan.affordable == plan.waiting else sent
    return f"{cap}{sent}, as far as prices are known; {unpriced}" if plan.unknown else cap + sent


def finish(plan: Outlook, now: datetime) -> str:
    """When the last video would be generated."""
    half, late = (f"{duration(at - now)} ({local_time(at, now)})" for at in (plan.half_at, plan.late_at))
    return f"done in about {half}, nine times out of ten within {late}"


def rates(plan: Outlook, limits: Limits) -> str:
    """The limits that the forecast assumes."""
    in_flight, per_minute = f"{plan.in_flight} in flight", f"{round(plan.per_minute, 1):g} submits a minute"
    in_flight += LEARNED if limits.in_flight == AUTO else ""
    per_minute += LEARNED if limits.submits_per_minute == AUTO else ""
    return f"{in_flight}, {per_minute}"


def plan_json(batch: str, plan: Outlook, limits: Limits, until: datetime | None, live: bool) -> dict[str, Any]:
    """A plan for programs. Money is text, because it is exact."""
    return {
        "batch": batch,
        "jobs": sum(plan.states.values()),
        "new": plan.enrolled.new,
        "edited": plan.enrolled.edited,
        "changed": [change.key for change in plan.enrolled.changed],
        "gone": plan.enrolled.gone,
        "states": {str(state): number for state, number in plan.states.items()},
        "to_send": plan.waiting,
        "not_selected": plan.left_out,
        "prices": [
            {
                "model": price.model,
                "jobs": price.jobs,
                "unknown": price.unknown,
                "lowest_usd": money(price.lowest),
                "highest_usd": money(price.highest),
                "cost_usd": money(price.cost if price.lowest is not None else None),
            }
            for price in plan.prices
        ],
        "prices_listed_at": plan.listed_at.isoformat() if plan.listed_at else None,
        "prices_live": live,
        "cost_usd": money(plan.cost if plan.unknown < plan.waiting or not plan.waiting else None),
        "unknown": plan.unknown,
        "spent_usd": money(plan.sums.spent),
        "reserved_usd": money(plan.sums.reserved),
        "max_cost_usd": money(limits.max_cost),
        "within_max_cost": {"jobs": plan.affordable, "cost_usd": money(plan.affordable_cost)},
        "finish": {"p50": plan.half_at.isoformat(), "p90": plan.late_at.isoformat()},
        "until": {"at": until.isoformat(), "jobs": plan.in_time} if until else None,
    }


def money(amount: Decimal | None) -> str | None:
    """USD as exact text; None where it is unknown."""
    return None if amount is None else plain(amount)

"""A plan as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from textwrap import wrap
from typing import cast

from batchgen.catalogue.wording import plural, unknown_charges
from batchgen.dry_run import ModelCost, Plan
from batchgen.errors import ManifestChanged
from batchgen.jobs import State
from batchgen.limits.admission import MOST_PER_MINUTE
from batchgen.manifest.limits import AUTO
from batchgen.report.command_events import Planned, PlannedModel
from batchgen.report.formats import counts, dollars, duration, local_time, shortened
from batchgen.report.hints import HINTS, advice
from batchgen.services.text import visible

NAMED = 5  # jobs in a warning
WIDTH = 80  # columns of the narrowest terminal in use
INDENT = " " * 6
LEARNED = " (learned from the account, or assumed)"


def plan_lines(plan: Plan, now: datetime) -> Iterator[str]:
    yield from (f"warning: {warning}" for warning in (*plan.request.warnings, *beside_warning(plan)))
    yield f"{plan.request.batch.name}: {plural(len(plan.request.specs), 'job')}: {job_counts(plan)}"
    width = max((len(model.model) for model in plan.models), default=0)
    for model in plan.models:
        yield f"  {model.jobs:6}  {model.model:{width}}  {model_cost(model)}"
    yield from prompt_lines(plan)
    yield f"  {total_cost(plan)}; {price_source(plan)}" if plan.to_send else "  nothing to send"
    if plan.request.limits.max_cost is not None:
        yield f"  {within_cap(plan, plan.request.limits.max_cost)}"
    if plan.has_end:
        half, late = (f"{duration(at - now)} ({local_time(at, now)})" for at in (plan.p50_at, plan.p90_at))
        yield f"  done in about {half}, nine times out of ten within {late}, with {assumed_limits(plan)}"
    if (kept := plan.request.features.keeps_results_for) and plan.to_send:
        yield f"  the service keeps a finished file for {duration(kept)}: a run must be at work within that time"
    if (until := plan.request.until) and plan.to_send:
        sent, cost = plan.in_time or "none", f", for {dollars(plan.in_time_cost)}" if plan.in_time_cost else ""
        yield f"  by {local_time(until, now)}: {sent} of {plan.affordable} would be sent and done{cost}"


def beside_warning(plan: Plan) -> Iterator[str]:
    """That delivered clips lie at the outputs of some jobs that are to be sent."""
    if keys := plan.table.beside:
        number = plural(len(keys), "job")
        yield f"{number} will be delivered beside a clip that lies there, as NAME~1.mp4: {shortened(keys, NAMED)}"


def prompt_lines(plan: Plan) -> Iterator[str]:
    """The first prompts in full, folded to the width of a terminal."""
    if plan.table.prompts:
        yield "  the first prompts, as they would be sent:"
    for job, prompt in plan.table.prompts.items():
        yield f"    {job}:"
        for paragraph in prompt.split("\n"):
            yield from wrap(
                visible(paragraph), WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False
            ) or [INDENT]


def job_counts(plan: Plan) -> str:
    table, summary = plan.table, plan.table.summary
    parts = [
        ("to send", plan.to_send),
        ("of them new", table.synced.new),
        ("edited", table.synced.edited),
        ("changed after being sent (run asks for --changed)", len(table.synced.changed)),
        ("paid for before, or with a video already (run asks for --changed)", len(table.repeats)),
        ("not selected", table.left_out),
        ("in flight", sum(number for state, number in summary.counts.items() if state.is_active) - summary.held),
        ("held for a person", summary.held),
        *((str(state), summary.counts[state]) for state in State if state.is_terminal),
        ("of them earlier versions, or no longer in the manifest", summary.total - len(plan.request.specs)),
    ]
    return counts(parts) or "none"


def model_cost(model: ModelCost) -> str:
    if model.lowest_usd is None or model.highest_usd is None or model.cost_usd is None:
        return "price unknown"
    one = dollars(model.lowest_usd)
    if model.lowest_usd != model.highest_usd:
        one += f" to {dollars(model.highest_usd)}"
    unpriced = f", {model.unknown} at an unknown price" if model.unknown else ""
    return f"{one} each, {dollars(model.cost_usd)}{unpriced}"


def total_cost(plan: Plan) -> str:
    """What the jobs to send would cost, and what the batch has cost or reserved already."""
    summary = plan.table.summary
    spent = f"; {dollars(summary.cost_usd)} spent already" if summary.cost_usd else ""
    reserved = f"; {dollars(summary.reserved_usd)} reserved" if summary.reserved_usd else ""
    unknown = f"; {unknown_charges(summary.unpriced)}" if summary.unpriced else ""
    already = f"{spent}{reserved}{unknown}"
    priced = plan.to_send - plan.unpriced
    if not priced:
        return f"cost unknown{already}"
    unpriced = f" for {priced}, and {plural(plan.unpriced, 'job')} at an unknown price" if plan.unpriced else ""
    return f"cost {dollars(plan.cost)}{unpriced}{already}"


def price_source(plan: Plan) -> str:
    listed_at = plan.table.prices.listed_at
    source = "no price list is known (`batchgen models --refresh` gets it)"
    if listed_at and plan.request.has_live_prices:
        source = "prices as the service lists them now"
    elif listed_at:
        at = f"{listed_at.astimezone():%Y-%m-%d %H:%M}"
        source = f"prices as listed {at}; the service could not be asked for newer ones"
    return source + (f"; {plural(plan.by_charges, 'job')} at what was charged before" if plan.by_charges else "")


def within_cap(plan: Plan, max_cost: Decimal) -> str:
    cap = f"within {dollars(max_cost)}: "
    unpriced = "one job of a model without a price is sent first, and its charge is then taken as the price"
    if plan.unpriced and plan.unpriced == plan.to_send:
        return cap + unpriced
    sent = f"{plan.affordable} of {plural(plan.to_send, 'job')}, for {dollars(plan.affordable_cost)}"
    sent = "all" if plan.affordable == plan.to_send else sent
    return f"{cap}{sent}, as far as prices are known; {unpriced}" if plan.unpriced else cap + sent


def assumed_limits(plan: Plan) -> str:
    limits = plan.request.limits
    in_flight = f"{plan.in_flight} in flight{LEARNED if limits.in_flight == AUTO else ''}"
    learned = LEARNED if limits.submits_per_minute == AUTO else ""
    if learned and plan.per_minute == MOST_PER_MINUTE:
        return f"{in_flight}, as many submits as that takes: none was refused yet"
    return f"{in_flight}, {round(plan.per_minute, 1):g} submits a minute{learned}"


def plan_json(plan: Plan, run_command: str) -> Planned:
    """A plan for programs; `run_command` is the run that it is of, to type."""
    request, table, summary, until = plan.request, plan.table, plan.table.summary, plan.request.until
    kept, following = request.features.keeps_results_for, advice("there is nothing to send")
    if table.synced.changed or table.repeats:
        following = advice(HINTS[ManifestChanged], f"{run_command} --changed keep")
    elif plan.to_send or sum(summary.counts[state] for state in State if state.is_active) > summary.held:
        following = advice("`run` does what is planned here", run_command)
    return {
        "event": "planned",
        "batch": request.batch.name,
        "jobs": summary.total,
        "new": table.synced.new,
        "edited": table.synced.edited,
        "changed": [change.key for change in table.synced.changed],
        "repeats": [repeat.job.key for repeat in table.repeats],
        "gone": table.synced.gone,
        "states": dict(summary.counts),
        "to_send": plan.to_send,
        "not_selected": table.left_out,
        "prices": [cast("PlannedModel", asdict(model)) for model in plan.models],
        "prices_listed_at": table.prices.listed_at,
        "prices_live": request.has_live_prices,
        "first_prompts": [{"job": job, "prompt": prompt} for job, prompt in table.prompts.items()],
        "warnings": [*request.warnings, *beside_warning(plan)],
        "cost_usd": plan.cost if plan.unpriced < plan.to_send or not plan.to_send else None,
        "unknown": plan.unpriced,
        "by_charges": plan.by_charges,
        "spent_usd": summary.cost_usd,
        "reserved_usd": summary.reserved_usd,
        "max_cost_usd": request.limits.max_cost,
        "within_max_cost": {"jobs": plan.affordable, "cost_usd": plan.affordable_cost},
        "results_kept_seconds": kept.total_seconds() if kept else None,
        "finish": {"p50": plan.p50_at, "p90": plan.p90_at} if plan.has_end else None,
        "until": {"at": until, "jobs": plan.in_time, "cost_usd": plan.in_time_cost} if until else None,
        **following,
    }

"""What stops a run or keeps it from sending, and the next step of a person: for notifications, JSON and summaries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from batchgen.context import RunContext
from batchgen.errors import ExitCode
from batchgen.jobs import State
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.statistics import BatchSummary
from batchgen.limits.budget import SETTING_OF
from batchgen.runs.ending import Ending, account_advice
from batchgen.services.outcomes import Trouble

SILENCE = timedelta(minutes=5)
"""Without an answer of the service: shorter outages pass by themselves, and no one has to be woken for them."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run sends no more, and what a person does about it."""

    kind: str
    """What is to be mended, in a word."""
    message: str
    hint: str


def stop_of(context: RunContext, now: datetime) -> Stop | None:
    """What keeps a run from sending more, where that needs a person; None while nothing does."""
    if context.disk_fault:
        return Stop("disk", context.disk_fault, context.disk_advice)
    if blocked := context.blocked:
        hint = f"{account_advice(blocked, context.service.variables)}, then run the same command"
        return Stop("key" if blocked.trouble is Trouble.AUTH else blocked.trouble, blocked.reason, hint)
    if refusal := context.credit_wait.refusal:
        return Stop("credits", refusal.reason, "top up the account: the run waits for it, and goes on by itself")
    if context.hold is Hold.BUDGET:
        hint = "raise max_cost: by `batchgen set` while the run is at work, else in the manifest or by --max-cost"
        return Stop("budget", context.wait_reason, hint)
    contact = context.contact
    if contact.silent_since and now - contact.silent_since >= SILENCE:
        hint = "nothing to do: the run tries again; check the network where it lasts"
        return Stop("service", f"{context.service.base_url} does not answer: {contact.reason}", hint)
    return None


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a person does next, and the command of batchgen for it, without its arguments; "" where there is none."""

    hint: str
    command: str = ""


BY_THE_MANIFEST = NextStep(
    "the manifest asks for something else than what has failed: a run without --changed keep goes by it", "run"
)
GIVEN_UP = NextStep("what was given up stays so: `retry --new` with an id pays for that job again")
RESTORED = {
    Trouble.AUTH: "with a valid key",
    Trouble.CREDITS: "once the account is topped up",
    Trouble.KEY: "once the key may do this, or with another key",
}
"""With what a run goes on that the account has ended."""
RAISED = {Hold.BUDGET: "a higher max_cost", Hold.TIME: "a later until"}
"""With what a run goes on that a limit has ended."""


def step_after(code: ExitCode, hold: Hold | None = None, is_limit_set: bool = False) -> NextStep:
    """What a person does after a run that ended so, for `hold` where that is known, whatever its jobs are."""
    if hold and is_limit_set:
        return NextStep("raise the limit where it was set; then the same command goes on", f"set {SETTING_OF[hold]}=…")
    if hold is Hold.PRICE:  # A higher cap would end so again.
        return NextStep(
            "a run without max_cost goes on at once; with it, once the service shows what it charged", "run"
        )
    return NextStep(f"with {RAISED[hold]}, the same command goes on" if hold else code.hint, code.command)


def next_step(ending: Ending) -> NextStep:
    """What a person does after a run."""
    if ending.exit_code is ExitCode.DELIVERED and not ending.batch_summary.counts[State.DONE]:
        return NextStep("")
    if ending.exit_code is ExitCode.ACCOUNT and ending.trouble in RESTORED:
        return NextStep(f"{RESTORED[ending.trouble]}, the same command goes on", ExitCode.ACCOUNT.command)
    if ending.exit_code is not ExitCode.INCOMPLETE:
        return step_after(ending.exit_code, ending.hold, ending.is_limit_set)
    lost, summary = bool(ending.lost.files), ending.batch_summary
    return next_of(summary, has_lost_files=lost, outdated=ending.outdated, given_up=ending.given_up)


def is_said(step: NextStep, ending: Ending) -> bool:
    """Whether the message of the run says the step already: how the limit is raised that has ended it."""
    return bool(ending.hold) and not step.command


def next_of(
    summary: BatchSummary,
    *,
    has_lost_files: bool = False,
    outdated: int = 0,
    given_up: int = 0,
    last: NextStep | None = None,
) -> NextStep:
    """What a person does about the jobs of a batch on which no run is at work.

    `outdated` is how many failed jobs the manifest does not ask for any more, `given_up` how many a person gave up.
    `last` is the step after the last run, where that still keeps the next one from going on.
    """
    if summary.held:
        return NextStep("say what became of the jobs that are held for a person", "resolve")
    if summary.counts[State.FAILED] > outdated + given_up:
        return NextStep("make the failed jobs pending again, then run (--new pays again for what is gone)", "retry")
    if outdated:
        return BY_THE_MANIFEST
    if has_lost_files:
        return NextStep("fetch the lost files again, for nothing, then run", "retry --download")
    if summary.waiting and last:
        return last
    if summary.waiting:
        return NextStep("the same command goes on with the jobs that are not delivered", "run")
    return GIVEN_UP if given_up else step_after(ExitCode.DELIVERED)

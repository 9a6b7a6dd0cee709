"""Whether a run is over, and how it ended: exit code and a sentence, judged by what stops the run and by the table."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from batchgen.catalogue.amounts import amount_text
from batchgen.context import RunContext
from batchgen.errors import ExitCode
from batchgen.jobs import State
from batchgen.jobtable import commands, delivery, selection, statistics
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.statistics import BatchSummary, JobResult
from batchgen.limits import blockers, budget
from batchgen.limits.blockers import Blocker, WaitKind
from batchgen.limits.budget import Choice
from batchgen.limits.steering import outdated_failures
from batchgen.services.account import Variables
from batchgen.services.outcomes import Blocked, Trouble


@dataclass(slots=True)
class Ending:
    """How a run ended: the exit code, and one sentence for a person."""

    exit_code: ExitCode
    message: str
    batch_summary: BatchSummary
    blockers: list[Blocker] = field(default_factory=list)
    """What the jobs wait for that are not delivered, and why."""
    lost: LostFiles = field(default_factory=lambda: LostFiles([], 0))
    """Delivered files that are not there any more."""
    outdated: int = 0
    """How many failed jobs the manifest does not ask for any more."""
    given_up: int = 0
    """How many a person gave up, whose answer was lost."""
    hold: Hold | None = None
    """What keeps the next job from being sent, where the run ended for that."""
    is_limit_set: bool = False
    """Whether the cap or the time that is reached was set by `batchgen set`, and is changed there only."""
    trouble: Trouble | None = None
    """Why the account may not submit, where the run ended for that."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and how the batch stands."""

    exit_code: ExitCode
    message: str
    batch: str
    summary: BatchSummary
    jobs: list[JobResult]
    """Every job of the batch, in the manifest's order."""

    @property
    def ok(self) -> bool:
        """Whether every job that the run was about is delivered."""
        return self.exit_code is ExitCode.DELIVERED


def is_any_open(connection: Connection, context: RunContext, now: datetime) -> bool:
    """Whether the run can still bring a job forward."""
    states = context.advanceable_states()
    context.heed(connection)
    if State.PENDING in states and context.may_leave_jobs:
        choice = context.choose(connection, now, 1)
        # While a batch is paused, a person may be about to raise what holds its jobs back.
        if choice.chosen or (choice.hold and context.steering.pause):
            return True
        states.remove(State.PENDING)
    return statistics.any_open(connection, context.batch_id, states, now, context.service.origin)


def judge_run(
    connection: Connection,
    context: RunContext,
    stopped_by: signal.Signals | None,
    now: datetime,
    *,
    verify: bool = False,
) -> Ending:
    """How the run ended, with what its jobs wait for, and the delivered files that are lost.

    Those are found by their sizes, with `verify` by their content.
    """
    context.heed(connection)
    ending = judge_jobs(connection, context, stopped_by, now)
    ending.message = "; ".join((ending.message, *money_remarks(context, ending.batch_summary)))
    ending.outdated = outdated_failures(connection, context.batch_id)
    ending.given_up = len(commands.given_up(connection, context.batch_id))
    waiting = blockers.blockers(connection, context.batch_id, now, context.service.origin)
    ending.blockers = [blocker for blocker in waiting if blocker.kind is not WaitKind.PLACE]
    if stopped_by:
        return ending
    cause = next((blocker for blocker in ending.blockers if blocker.cause), None)
    if cause and ending.exit_code is ExitCode.INCOMPLETE:
        ending.message += f"; {cause}"
    if context.spec.is_worker:  # Other machines deliver into folders of their own.
        return ending
    until = now + delivery.LOOK_FOR_FILES
    lost = delivery.lost_files(connection, context.batch_id, context.spec.folder, verify=verify, until=until)
    ending.lost = lost
    if lost.files and ending.exit_code is ExitCode.DELIVERED:
        number = len(lost.files)
        fault = f"{lost.files[0]}" if number == 1 else f"{number} files are not there as delivered"
        ending.exit_code = ExitCode.INCOMPLETE
        ending.message += f"; but {fault}{lost.remark}"
    return ending


def money_remarks(context: RunContext, summary: BatchSummary) -> Iterator[str]:
    """What a person should know of the money, however the run ended."""
    cap = context.limits_in_force.max_cost
    if cap is not None and summary.cost_usd > cap:
        yield (
            f"the batch has cost {amount_text(summary.cost_usd)} USD, more than its max_cost of {amount_text(cap)}:"
            " the cap came later, an earlier run had a higher one, more was charged than expected, or another run keeps"
            " to its own (`batchgen set` sets one for all)"
        )
    if context.uncompared:
        yield f"what was paid for before is known by the job table alone: the log did not answer ({context.uncompared})"


def judge_jobs(connection: Connection, context: RunContext, stopped_by: signal.Signals | None, now: datetime) -> Ending:
    """How the run ended for its jobs. What a person has to mend goes before what is merely missing."""
    summary = statistics.batch_summary(connection, context.batch_id, now)
    left_out = selection.left_out(connection, context.batch_id, context.spec.selected)
    selected = summary.total - summary.counts[State.CANCELLED] - left_out
    missing = selected - summary.counts[State.DONE]
    others = "was not selected" if left_out == 1 else "were not selected"
    if context.spec.is_worker:
        others = f"{'names' if left_out == 1 else 'name'} local files that are not here"
    not_selected = f"; {left_out} more {others}" if left_out else ""
    if stopped_by:
        pause = ", once `batchgen resume` has ended the pause" if context.steering.pause else ""
        return Ending(ExitCode(128 + stopped_by), f"interrupted; {ExitCode.INTERRUPTED.hint}{pause}", summary)
    if not missing and left_out and context.spec.is_worker:
        return Ending(ExitCode.INCOMPLETE, f"what this machine can send is delivered{not_selected}", summary)
    if not missing:
        return Ending(ExitCode.DELIVERED, explain_delivered(summary, selected, left_out) + not_selected, summary)
    number = f"{missing} of {selected} jobs"
    if stop := explain_stop(context, number):
        return Ending(*stop, summary, trouble=context.blocked.trouble if context.blocked else None)
    choice = context.choose(connection, now, 1)
    if choice.hold and not choice.chosen:
        message, is_limit_set = explain_hold(choice, context), is_set(choice, context)
        return Ending(ExitCode.LIMIT_REACHED, message, summary, hold=choice.hold, is_limit_set=is_limit_set)
    message = f"{number} {'is' if missing == 1 else 'are'} not delivered"
    absent, _ = blockers.elsewhere(connection, context.batch_id, context.service.origin)
    reasons = "".join(
        f"; {blocker.jobs} of them: sent to {blocker.origin}, and asked for only there" for blocker in absent
    )
    return Ending(ExitCode.INCOMPLETE, message + not_selected + reasons, summary)


def explain_stop(context: RunContext, number: str) -> tuple[ExitCode, str] | None:
    """What has stopped the run so that a person has to mend it, most urgent first. `number`: of jobs, in words."""
    if context.disk_fault:
        return ExitCode.STORAGE, f"{context.disk_fault}. {context.disk_advice.capitalize()}"
    if context.obstacles:
        return ExitCode.STORAGE, f"{number} not delivered; {explain_obstacles(context.obstacles)}"
    if blocked := context.blocked:
        code = ExitCode.UNREACHABLE if blocked.trouble is Trouble.ADDRESS else ExitCode.ACCOUNT
        advice = account_advice(blocked, context.service.variables)
        said = f"No job has failed for it. (The service says: {blocked.reason})"
        return code, f"{advice}, then run the same command. {said}"
    return None


def explain_delivered(summary: BatchSummary, selected: int, left_out: int) -> str:
    jobs = "every selected job" if left_out else "every job"
    message = f"{jobs} is delivered" if selected else "there is nothing to do"
    if not (cancelled := summary.counts[State.CANCELLED]):
        return message
    return f"{message}{', but' if selected else ';'} {cancelled} {'was' if cancelled == 1 else 'were'} cancelled"


def explain_obstacles(obstacles: Mapping[str, str]) -> str:
    key, reason = next(iter(obstacles.items()))
    others = f" and {len(obstacles) - 1} more like it" if len(obstacles) > 1 else ""
    return f"{reason} (job {key}{others}). What is paid waits"


def explain_hold(choice: Choice, context: RunContext) -> str:
    """Why no more is sent, and what a person does about it: a value that was set is raised where it was set."""
    how = "Raise it by `batchgen set`, or in the manifest, and enroll that again" if context.spec.is_worker else ""
    if choice.hold is Hold.BUDGET and context.spec.has_typed_cap:
        how = "Give a higher --max-cost"
    if is_set(choice, context):
        how = "Raise it by `batchgen set`, where it was set"
    return budget.explanation(choice, context.limits_in_force.max_cost, context.until_in_force, how)


def is_set(choice: Choice, context: RunContext) -> bool:
    """Whether a person has set the value that holds the next job back."""
    return budget.SETTING_OF.get(choice.hold or Hold.PRICE) in context.steering.values


def account_advice(blocked: Blocked, variables: Variables) -> str:
    """What a person does about a blocked account, which is read from `variables`."""
    return {
        Trouble.AUTH: f"the service refuses the key. Set a valid {variables.key}",
        Trouble.CREDITS: "the account has no credits left, or its plan allows no more. Top it up",
        Trouble.KEY: "the key may not do this: it lacks a scope, or has reached a limit of its own. Change that at the"
        f" service, or set another {variables.key}",
        Trouble.ADDRESS: f"the address answers, but is not this service. Check {variables.base_url}",
    }[blocked.trouble]

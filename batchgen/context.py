"""What the stages of one run share: `RunContext`, made from the `RunSpec` that a manifest and options give."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy import Connection

from batchgen import clock
from batchgen.errors import BatchgenError, ServiceUnreachable, StorageError
from batchgen.jobs import Job, State
from batchgen.jobtable import ledger, pricelist, submission
from batchgen.jobtable.batches import Batch, EnrolledBatch, StoredBatch
from batchgen.jobtable.database import Database
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.selection import Selected, Selection
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.sync import OnChanged, SyncResult
from batchgen.limits import budget
from batchgen.limits.accounting import CreditWait
from batchgen.limits.budget import LOOKAHEAD, Choice
from batchgen.limits.generation_times import GenerationTimes
from batchgen.limits.steering import Steering, read_enrolled, read_steering
from batchgen.manifest.limits import Limits
from batchgen.services.base import Service
from batchgen.services.outcomes import Blocked, Failed, FetchOutcome, Finished, Trouble, Unavailable

COMPARING = "the service's log is read, to see what was paid for before"  # why pending jobs wait meanwhile
TRY_AGAIN = "one request tries again"  # what follows on most waits
FIRST_CONTACT = timedelta(seconds=20)  # after it, the run gives up a service that has not answered once
OUTAGE = timedelta(hours=6)  # after it, the run gives up a service that answered before


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """A manifest whose jobs are rows, and what a run that sends them has to keep to."""

    batch: Batch | StoredBatch | EnrolledBatch
    synced: SyncResult
    folder: Path
    """The manifest's folder: input and output paths are relative to it."""
    jobs: int = 0
    """How many the manifest has."""
    limits: Limits = field(default_factory=Limits)
    models: Sequence[str] = ()
    """The models of the batch."""
    until: datetime | None = None
    """By when the last generation has to end."""
    selected: Selected | None = None
    """The jobs that may be submitted; None: all."""
    selection: Selection = field(default_factory=Selection)
    """The options that `selected` comes from."""
    on_changed: OnChanged = "refuse"
    """What a person said of jobs that were edited, or paid for before."""
    typed: str | None = None
    """The limits that were typed as options, as JSON for the row of the run."""
    is_worker: bool = False  # without a manifest: it leaves jobs whose local files are not here to other machines
    waits_for_credits: bool = False
    """Wait for a top-up where the account has no credits left, instead of submitting nothing more."""
    verify: bool = False
    """Read every delivered file at the end, and compare it with its SHA-256."""

    @property
    def has_typed_cap(self) -> bool:
        """Whether `max_cost` was typed as an option, which goes before that of the manifest."""
        return "max_cost" in json.loads(self.typed or "{}")


@dataclass(slots=True)
class Contact:
    """Whether the service answers at all. A silent service ends the run after a while (`check_contact`)."""

    silent_since: datetime | None = None
    has_answered: bool = False
    """Whether the service has answered in this run."""
    reason: str = ""

    def answered(self) -> None:
        """The service sent an answer, of whatever kind."""
        self.has_answered = True
        self.silent_since = None

    def silent(self, reason: str, now: datetime) -> None:
        """A request got no answer."""
        self.reason = reason
        self.silent_since = self.silent_since or now


@dataclass(slots=True)
class RunContext:
    """What the stages of one run share: the job table, the service, and what stops a stage (its breakers)."""

    database: Database
    service: Service
    spec: RunSpec
    """What the run was begun with. A person's settings go before its limits (`limits_in_force`, `until_in_force`)."""
    run_id: str
    """The id of the run, which owns the leases."""
    limits: Limits
    """Those of the spec, with what a manifest says that was enrolled again."""
    times: GenerationTimes
    steering: Steering = field(default_factory=Steering)
    """What a person has set, as it was last read."""
    in_flight_at_pause: int | None = None
    """How many jobs went on when the run noticed a pause; 0 once none is left, None while it has not noticed one."""
    prices: PriceList = field(default_factory=PriceList)
    contact: Contact = field(default_factory=Contact)
    blocked: Blocked | None = None
    """Set once the account may not submit. The run submits nothing more, and goes on polling and downloading."""
    manifest: int = 0
    """The row of the manifest from which the run has its cap, and a worker all its limits."""
    credit_wait: CreditWait = field(default_factory=CreditWait)
    """Where the run waits for a top-up of the account instead of being blocked."""
    refused: BatchgenError | None = None
    """What the run ends with once it has collected: a pending job is paid for, or a video cannot be stored."""
    locked_out: bool = False
    """Set once the service refuses the key for polls as well. The run can only download."""
    began_at: datetime = field(default_factory=clock.utcnow)
    awake_since: datetime | None = None
    """Since when the run is at work without having stood still, as a machine that sleeps or a stopped process does."""
    wait_reason: str = ""
    """Why pending jobs are not submitted although the limits have capacity. Empty while they are (`wait_to_submit`)."""
    wait_until: datetime | None = None
    """When that ends, where it is known."""
    wait_then: str = ""
    """What follows then, in words."""
    hold: Hold | None = None
    """What keeps the next pending job from being sent, where that is a cap or a time."""
    has_prices: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the price list has come, or is not to be had."""
    awaits_history: bool = False
    """Set while the service's log is read, to see what was paid for before. Nothing is submitted before."""
    uncompared: str = ""
    """Why the service's log could not be compared, where the run went on without it."""
    compared: int = 0
    """The row of the manifest whose jobs were compared with the log. Those of a later one are not sent yet."""
    orphans: Collection[int] = ()
    """The sent jobs whose requests the manifest of row `compared` does not ask for any more."""
    edited: Collection[int] = ()
    """The orphans that still stand in that manifest, with another request."""
    warning: str = ""
    """What a person should know although the run goes on."""
    disk_fault: str | None = None
    """Set once the output folder cannot be written: the run neither downloads nor submits."""
    disk_advice: str = ""
    """What a person does about it."""
    obstacles: dict[str, str] = field(default_factory=dict)
    """Jobs whose file cannot be written although others can, by key, each with the reason."""
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many requests came to what: (create, accepted), (poll, working), …"""

    @property
    def batch_id(self) -> int:
        return self.spec.synced.batch_id

    @property
    def sender(self) -> Sender:
        return Sender(self.run_id, self.service.name, self.service.account, self.service.origin)

    @property
    def decision(self) -> BatchgenError | None:
        """What a person has to decide or to mend; None where the obstacles of the jobs say it already."""
        is_said = self.obstacles and isinstance(self.refused, StorageError)
        return None if is_said else self.refused

    @property
    def limits_in_force(self) -> Limits:
        return self.steering.limits(self.limits)

    @property
    def until_in_force(self) -> datetime | None:
        return self.steering.until(self.spec.until)

    @property
    def awaits_prices(self) -> bool:
        """The prices are asked for that a cap on the cost needs. Nothing is submitted before they are there."""
        return self.limits_in_force.max_cost is not None and not self.has_prices.is_set()

    @property
    def may_leave_jobs(self) -> bool:
        """Whether pending jobs may stay behind for a cap, a time or a selection."""
        is_capped = self.limits_in_force.max_cost is not None
        return is_capped or self.until_in_force is not None or self.spec.selected is not None

    def heed(self, connection: Connection) -> None:
        """Read what a person has set. A transaction that claims does this first, so that it acts on nothing older."""
        self.follow(read_steering(connection, self.batch_id))

    def follow(self, steering: Steering) -> None:
        """Take over what a person has set, and the cap of a manifest that was enrolled again: its jobs are sent by this
        run, too. A worker takes over all limits of it."""
        if steering.version < self.steering.version:
            return
        self.steering = steering
        if steering.manifest == self.manifest:
            return
        limits, self.manifest = read_enrolled(steering).limits, steering.manifest
        max_cost = self.limits.max_cost if self.spec.has_typed_cap else limits.max_cost
        self.limits = replace(limits if self.spec.is_worker else self.limits, max_cost=max_cost)

    def choose(self, connection: Connection, now: datetime, capacity: int, barred: Collection[str] = ()) -> Choice:
        """Up to `capacity` pending jobs that keep to the cap and the time in force, in their order, with their costs.

        Jobs of the models in `barred` are left out: such a model is at its limit, or the service does not have it.
        """
        until, max_cost, prices = self.until_in_force, self.limits_in_force.max_cost, self.prices
        most = capacity + LOOKAHEAD * bool(until)
        pending = submission.ready(connection, self.batch_id, most, self.spec.selected, barred)
        in_time = [job for job in pending if not until or now + self.times.p90(*job.kind) <= until]
        hold = Hold.TIME if len(in_time) < len(pending) else None
        if max_cost is None:
            return Choice(budget.with_estimates(in_time[:capacity], prices), hold)
        prices = replace(prices, charged=pricelist.load_charges(connection, self.service.name))
        totals = ledger.totals(connection, self.batch_id)
        choice = budget.choose(budget.with_estimates(in_time[:capacity], prices), totals, max_cost)
        return choice if choice.hold else replace(choice, hold=hold)

    def expected_cost(self, connection: Connection, most: int) -> Decimal:
        """USD that the first `most` pending jobs are expected to cost, within the cap; unknown prices count nothing."""
        pending = submission.ready(connection, self.batch_id, most, self.spec.selected)
        cost = sum((job.estimated_usd or Decimal(0) for job in budget.with_estimates(pending, self.prices)), Decimal(0))
        if (max_cost := self.limits_in_force.max_cost) is None:
            return cost
        return min(cost, max(max_cost - ledger.totals(connection, self.batch_id).committed, Decimal(0)))

    async def fetch(self, job: Job) -> FetchOutcome:
        """Ask the service how the generation of a job is doing. One that was sent elsewhere is not asked for here."""
        if job.attempt.origin not in ("", self.service.origin):
            return Unavailable(f"it was sent to {job.attempt.origin}, and only there it can be asked for")
        outcome = await self.service.fetch(job.attempt.handle)
        about = outcome.about if isinstance(outcome, Finished | Failed) else ""
        # A service may have a second id for a generation, but never that of another one.
        is_other = about not in ("", job.attempt.generation_id)
        if is_other and await self.database.read(ledger.is_owned_elsewhere, job.attempt.id, about):
            return Unavailable(f"a proxy gave the answer about another generation ({about})", http_status=200)
        return outcome

    def advanceable_states(self) -> list[State]:
        """The states from which this run can still bring a job forward."""
        if self.disk_fault:
            return []
        if self.locked_out:
            return [State.DOWNLOADING]
        active = [state for state in State if state.is_active]
        return active if self.blocked or self.refused else [State.PENDING, *active]

    def check_contact(self, now: datetime) -> None:
        """Raises `ServiceUnreachable` once the service has not answered for too long."""
        contact, service = self.contact, self.service
        patience = OUTAGE if contact.has_answered else FIRST_CONTACT
        if contact.silent_since and now - contact.silent_since >= patience:
            raise ServiceUnreachable(
                f"{service.base_url} does not answer: {contact.reason.rstrip('.')}."
                "\nNothing is lost: the same command goes on once it does."
                f" ({service.variables.base_url} sets the address.)"
            )

    def wait_to_submit(self, reason: str = "", until: datetime | None = None, then: str = TRY_AGAIN) -> None:
        """Pending jobs are not submitted for this reason, until a time where that is known; "" ends it."""
        self.wait_reason, self.wait_until, self.wait_then, self.hold = reason, until, then, None

    @property
    def standstill(self) -> str:
        """Why nothing is submitted now, for `status` in another process; "" while jobs are, or may be."""
        if self.blocked:
            return self.blocked.reason
        return str(self.credit_wait) if self.credit_wait.refusal else self.wait_reason

    def block(self, blocked: Blocked) -> None:
        """The account may not submit. The first reason counts."""
        self.blocked = self.blocked or blocked

    def refuse(self, error: BatchgenError) -> None:
        """A person has to decide something, or to mend it, before more is sent. What was sent is collected first."""
        self.refused = self.refused or error
        first, *_ = str(error).split("\n")
        self.warn(f"nothing more is sent: {first.rstrip(':')}")

    def warn(self, warning: str) -> None:
        """Add what a person should know although the run goes on, once. An empty warning changes nothing."""
        if warning not in self.warning:
            self.warning = "; ".join(filter(None, (self.warning, warning)))

    def owns(self, job: Job) -> bool:
        """Whether the job was sent with this run's key. An account's log lists its own requests only: a job of another
        or an unknown account would look absent there, and could be bought twice or given up."""
        return job.attempt.account == self.service.account

    def lock_out(self, answer: Unavailable) -> None:
        """The service refuses this key for questions."""
        self.locked_out = True
        self.block(Blocked(Trouble.AUTH, answer.reason, answer.http_status))

"""The job table as a state machine: in whatever order events happen, nothing is paid for twice and nothing is lost.

Two workers, of which each may stall, be taken over while it lives, or die; a service that accepts or refuses, whose
answers come late, twice, never, or with the generation of another request; generations of several files; a log that
lags; a person who retries, cancels, edits, resolves; and a clock that jumps.
`MACHINE=deep pytest tests/test_jobtable_machine.py` looks harder. In PostgreSQL, the same events in fewer examples.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, select

from batchgen.errors import ManifestChanged
from batchgen.jobs import Job, Outcome, Output, State
from batchgen.jobtable import commands, delivery, leases, ledger, polling, reconciliation, submission, sync
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.ledger import LedgerEntry, Totals
from batchgen.jobtable.migrations import migrate
from batchgen.jobtable.schema import attempts, batches, events, jobs, outputs
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.transition import Claim, claim_due
from batchgen.services.outcomes import (
    Accepted,
    Adopted,
    Blocked,
    Failed,
    Finished,
    NotSent,
    Rejected,
    Throttled,
    Trouble,
    Unknown,
)
from tests.conftest import NOON, empty
from tests.table import ACCOUNT, HOUR, LEASE, spec

pytestmark = pytest.mark.slow

QUICK = settings(max_examples=30, stateful_step_count=40, deadline=None, derandomize=True)
FEWER = settings(QUICK, max_examples=4)
DEEP = settings(max_examples=2_000, stateful_step_count=80, deadline=None)

KEYS = ("a", "b", "c")
BATCH = Batch("spring", "aimlapi", Path("/nowhere/spring.yaml"), "00")
STAMPS = {State.DONE: "delivered_at", State.FAILED: "failed_at", State.CANCELLED: "cancelled_at"}

workers = st.sampled_from(["run-a", "run-b"])
picks = st.integers(0, 1_000)
kinds = st.integers(0, 3)


def memory() -> Engine:
    """A job table in memory, with real transactions."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        migrate(connection)
    return engine


def image(engine: Engine) -> bytes:
    """What a database in memory holds, to be put back: much faster than to create its tables again."""
    with engine.connect() as connection:
        return driver_of(connection).serialize()


def driver_of(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


@dataclass
class Hands:
    """The jobs that one worker has read from the table and may still act upon, by what it has claimed them for."""

    sent: list[Job] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    unconfirmed: list[Job] = field(default_factory=list)


def one_of(items: list[Any], pick: int) -> Any:
    return items[pick % len(items)]


BATCHES = select(batches)
TABLES = {table: select(table).order_by(table.c.id) for table in (jobs, attempts, outputs, events)}


class JobTableMachine(RuleBasedStateMachine):
    engine: Engine
    """Of one job table for all examples, because SQLAlchemy compiles each statement once for an engine."""

    def __init__(self) -> None:
        super().__init__()
        self.begin_anew()
        self.now: datetime = NOON
        self.batch_id = 0
        self.hands: dict[str, Hands] = defaultdict(Hands)
        self.version = dict.fromkeys(KEYS, 0)
        self.generations: dict[str, str] = {}  # at the service: client request id → generation id
        self.delivered: set[int] = set()  # files that lie on the disk
        self.job_of: dict[str, int] = {}  # client request id → job
        self.resends: Counter[int] = Counter()  # how often a person or the policy allowed another send
        self.recorded: dict[int, str] = {}  # attempt → generation id that the table has recorded
        self.history: list[Any] = []
        self.rows: list[Any] = []
        self.files: list[Any] = []
        """Jobs and their files as they were when the table was last checked, which is after every step."""

    def begin_anew(self) -> None:
        """Empty the job table."""
        raise NotImplementedError

    def change(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.engine.begin() as connection:
            return function(connection, *args, **kwargs)

    def held_by_workers(self, what: str) -> list[tuple[str, Any]]:
        """(worker, item) of every item of a kind that a worker may still act upon."""
        return [(worker, item) for worker, hands in sorted(self.hands.items()) for item in getattr(hands, what)]

    def in_state(self, *states: State) -> list[Any]:
        return [row for row in self.rows if row.state in states]

    # --- a person ---

    @initialize(worker=workers, far=st.integers(0, 4), accepts=st.sampled_from([True, True, False]), kind=kinds)
    def first_manifest(self, worker: str, far: int, accepts: bool, kind: int) -> None:
        """The jobs have come so far: events drawn at random seldom lead one through all of its states."""
        self.sync(set(KEYS[:2]), "refuse")
        steps: list[Callable[[], None]] = [
            lambda: self.claim_and_send(worker, 2, accepts),
            lambda: self.an_answer_comes(0, "plain", kind, again=False),
            lambda: self.due_jobs_are_claimed_and_one_is_processed(worker, 0, 3, again=False, files=2),
            lambda: self.due_jobs_are_claimed_and_one_is_processed(worker, 0, 5, again=False, files=1),
        ]
        for step in steps[:far]:
            step()

    @rule(
        what=st.sampled_from(
            ["edit", "retry", "ask again", "ask again", "fetch again", "cancel", "found", "resubmit", "give up"]
        ),
        pick=picks,
        changed=st.sampled_from(["refuse", "keep", "redo"]),
    )
    def a_person_commands(self, what: str, pick: int, changed: Any) -> None:
        ended, done = self.in_state(State.FAILED, State.CANCELLED), self.in_state(State.DONE)
        cancellable = self.in_state(*(state for state in State if state.is_cancellable))
        held = self.change(reconciliation.held_jobs, self.batch_id)
        if what == "edit":
            self.version[one_of(list(KEYS), pick)] += pick % 2
            with suppress(ManifestChanged):
                self.sync(set(KEYS[: pick % 4]), changed)
        elif what == "retry" and ended:
            row = one_of(ended, pick)
            if self.change(commands.retry, self.batch_id, [row.key], self.now):
                self.resends[row.id] += 1
        elif what == "ask again" and ended:
            keys = [one_of(ended, pick).key]
            self.change(commands.ask_again, self.batch_id, keys, self.now, self.now + HOUR)
        elif what == "fetch again" and done:
            row = one_of(done, pick)
            lost = [output for output in self.files if output.attempt_id == row.attempt_id]
            if self.change(commands.fetch_again, self.batch_id, {row.key: [lost[0].number]}, self.now):
                self.delivered.remove(lost[0].id)
        elif what == "cancel" and cancellable:
            self.change(commands.cancel, self.batch_id, [one_of(cancellable, pick).key], self.now)
        elif held:
            job = one_of(held, pick)
            if what == "resubmit":
                self.refute_by_command(job)
            elif what == "give up":
                self.change(reconciliation.abandoned, job, "given up", self.now)
            elif what == "found" and job.attempt.client_request_id in self.generations:
                self.adopt(job)

    def sync(self, keys: set[str], changed: Any) -> None:
        specs = [spec(key, prompt=f"version {self.version[key]}") for key in sorted(keys)]
        self.batch_id = self.change(sync.sync_manifest, BATCH, specs, self.now, changed).batch_id

    # --- the workers and the service ---

    @precondition(lambda self: self.in_state(State.PENDING))
    @rule(worker=workers, capacity=st.integers(1, 3), accepts=st.sampled_from([True, True, False]))
    def claim_and_send(self, worker: str, capacity: int, accepts: bool) -> None:
        """What the service makes of a request is settled when it arrives there; who learns of it, and when, is not."""
        chosen = self.change(submission.ready, self.batch_id, capacity)
        lease_ends, sender = self.now + LEASE, Sender(worker, "aimlapi", ACCOUNT)
        sent = self.change(submission.intend, self.batch_id, sender, self.now, lease_ends, chosen)
        self.hands[worker].sent += sent
        for job in sent:
            name = job.attempt.client_request_id
            self.job_of[name] = job.id
            if accepts:
                self.generations[name] = f"g-{len(self.generations)}"

    @precondition(lambda self: self.held_by_workers("sent"))
    @rule(
        pick=picks,
        answer=st.sampled_from(["plain", "plain", "plain", "lost", "another's"]),
        kind=kinds,
        again=st.booleans(),
    )
    def an_answer_comes(self, pick: int, answer: str, kind: int, again: bool) -> None:
        worker, job = one_of(self.held_by_workers("sent"), pick)
        hands = self.hands[worker]
        name = job.attempt.client_request_id
        others = [generation for attempt, generation in self.recorded.items() if attempt != job.attempt.id]
        if answer == "lost":
            self.change(submission.unconfirmed, job, Unknown("cut"), self.now, self.now)
        elif answer == "another's" and others and job.attempt.id not in self.recorded:
            accepted = Accepted(one_of(others, pick), Decimal("0.28"), 200)
            self.change(submission.accepted, job, accepted, self.now, self.now + HOUR, self.now)
        elif name in self.generations:
            accepted = Accepted(self.generations[name], Decimal("0.28"), 200, {"id": self.generations[name]})
            self.change(submission.accepted, job, accepted, self.now, self.now + HOUR, self.now)
            self.recorded[job.attempt.id] = accepted.generation_id
        elif kind == 0:
            self.change(submission.rejected, job, Rejected("no", 400), self.now)
        else:
            polite = (NotSent("no route"), Throttled("slow down"), Blocked(Trouble.CREDITS, "empty", 403))[kind - 1]
            self.change(submission.returned, job, polite, self.now)
        if not again and job in hands.sent:
            hands.sent.remove(job)

    @precondition(
        lambda self: self.held_by_workers("unconfirmed") or self.in_state(State.SUBMITTING, State.UNCONFIRMED)
    )
    @rule(worker=workers, pick=picks, seen=st.booleans(), then=st.sampled_from(["again", "hold", "resubmit"]))
    def unconfirmed_jobs_are_claimed_and_one_is_decided(self, worker: str, pick: int, seen: bool, then: str) -> None:
        self.change(leases.recover_expired, self.batch_id, self.now)
        claimed = self.change(claim_due, self.claim_of(worker), State.UNCONFIRMED)
        self.hands[worker].unconfirmed += claimed
        if not (held := self.held_by_workers("unconfirmed")):
            return
        reader, job = one_of(held, pick)
        self.hands[reader].unconfirmed.remove(job)
        if seen and job.attempt.client_request_id in self.generations:
            self.adopt(job)
        elif seen:
            self.change(reconciliation.refuted, job, "failed there", self.now)
        elif then == "resubmit":
            self.refute_by_command(job)
        elif then == "again":
            self.change(reconciliation.postponed, job, self.now + timedelta(minutes=1))
        else:
            self.change(reconciliation.hold, job)

    def claim_of(self, worker: str) -> Claim:
        return Claim(self.batch_id, worker, self.now, self.now + LEASE, 5)

    def adopt(self, job: Job) -> None:
        name = self.generations[job.attempt.client_request_id]
        if self.change(reconciliation.adopted, job, Adopted(name, self.now), self.now, self.now + HOUR):
            self.recorded[job.attempt.id] = name

    def refute_by_command(self, job: Job) -> None:
        if self.change(reconciliation.resubmitted, job, "sent again by command", self.now):
            self.resends[job.id] += 1

    @precondition(lambda self: self.held_by_workers("jobs") or self.in_state(State.GENERATING, State.DOWNLOADING))
    @rule(worker=workers, pick=picks, what=st.integers(0, 6), again=st.booleans(), files=st.sampled_from([1, 1, 2]))
    def due_jobs_are_claimed_and_one_is_processed(
        self, worker: str, pick: int, what: int, again: bool, files: int
    ) -> None:
        claim = self.claim_of(worker)
        self.hands[worker].jobs += self.change(claim_due, claim, State.GENERATING)
        self.hands[worker].jobs += self.change(delivery.claim_downloads, claim)
        if not (held := self.held_by_workers("jobs")):
            return
        worker, job = one_of(held, pick)
        hands = self.hands[worker]
        if not again:
            hands.jobs.remove(job)
        change, soon = self.change, self.now + timedelta(seconds=10)
        if job.state is State.GENERATING:
            match what:
                case 0:
                    change(polling.working, job, worker, "queued", self.now, soon)
                case 1:
                    change(polling.unanswered, job, worker, "502", soon)
                case 2:
                    change(polling.failed, job, worker, Failed("no faces"), self.now)
                case _:
                    urls = tuple(f"https://cdn.test/{number}" for number in range(files))
                    change(polling.finished, job, worker, Finished(urls), self.now, soon)
        else:
            output = one_of(list(job.outputs), pick)
            match what:
                case 0:
                    change(delivery.begun, job, worker, output, '"v1"')
                case 1:
                    change(delivery.postponed, job, worker, "cut", soon)
                case 2:
                    change(delivery.verified, job, worker, output, 9, "ab")
                case 3 if pick % 4 == 0:
                    gone = Failed("gone", "expired", cost_usd=None)
                    change(polling.failed, job, worker, gone, self.now, leaving=State.DOWNLOADING)
                case _:
                    self.deliver(job, worker, [output] if what == 4 else job.outputs)

    def deliver(self, job: Job, worker: str, files: Sequence[Output]) -> None:
        """Place files, of which another task may have placed some since the claim."""
        for output in files:
            if self.change(delivery.placed, job, worker, output, PlacedFile(9, "ab", job.output_path), self.now):
                assert output.id not in self.delivered, "a file is delivered once"
                self.delivered.add(output.id)

    # --- faults: one rule, so that they are not the most frequent ---

    @rule(
        worker=workers,
        what=st.sampled_from(["dies", "is taken for dead", "renews", "begins", "waits", "waits"]),
        minutes=st.sampled_from([0.2, 1, 10, 100]),
    )
    def a_worker_fails_or_time_passes(self, worker: str, what: str, minutes: float) -> None:
        match what:
            case "dies":
                self.hands[worker] = Hands()
                self.change(leases.recover_dead, [worker], self.now)
            case "is taken for dead":
                self.change(leases.recover_dead, [worker], self.now)
            case "renews":
                self.change(leases.renew, worker, self.now, self.now + LEASE)
            case "begins":
                self.change(leases.wake_waiting, self.batch_id, self.now)
            case "waits":
                self.now += timedelta(minutes=minutes)

    # --- what is always true ---

    @invariant()
    def the_table_is_consistent(self) -> None:
        with self.engine.begin() as connection:
            rows, entries, files, history = (list(connection.execute(statement)) for statement in TABLES.values())
            totals = ledger.totals(connection, self.batch_id)
            batch = connection.execute(BATCHES).one()
        self.rows, self.files = rows, files
        self.nothing_is_paid_for_twice_without_a_command()
        self.attempts_agree_with_their_jobs(rows, entries)
        self.no_generation_id_is_lost(rows, entries)
        self.files_agree_with_their_jobs(rows, entries, files)
        self.rows_are_consistent(rows)
        self.history_is_a_chain_and_is_never_rewritten(rows, history)
        shares = (
            LedgerEntry(1, "", "", Outcome(row.outcome), row.estimated_usd, row.cost_usd).totals for row in entries
        )
        assert totals == sum(shares, Totals())
        assert batch.delivered_bytes == sum(row.bytes for row in files if row.delivered_at)

    def nothing_is_paid_for_twice_without_a_command(self) -> None:
        for job_id, number in Counter(self.job_of[name] for name in self.generations).items():
            assert number <= 1 + self.resends[job_id]

    def attempts_agree_with_their_jobs(self, rows: list[Any], entries: list[Any]) -> None:
        by_job: dict[int, list[Any]] = defaultdict(list)
        for attempt in entries:
            by_job[attempt.job_id].append(attempt)
        for row in rows:
            own = by_job[row.id]
            assert [attempt.number for attempt in own] == list(range(1, len(own) + 1))
            open_ = [attempt for attempt in own if Outcome(attempt.outcome).may_be_paid and attempt.released_at is None]
            assert len(open_) <= 1
            if row.state == State.PENDING:
                assert not open_
                assert row.attempt_id is None
            elif row.state == State.FAILED:
                assert row.attempt_id in {attempt.id for attempt in own}
            elif row.state == State.CANCELLED:
                assert row.attempt_id in {None, *(attempt.id for attempt in own)}
                assert not open_ or row.attempt_id or open_[0].cost_usd == 0
            else:
                assert [attempt.id for attempt in open_] == [row.attempt_id]
                (attempt,) = open_
                outcomes = {State.SUBMITTING: Outcome.SENDING, State.UNCONFIRMED: Outcome.UNCONFIRMED}
                assert attempt.outcome == outcomes.get(State(row.state), Outcome.ACCEPTED)
                assert (attempt.generation_id is not None) == State(row.state).is_accepted
                assert (attempt.finished_at is not None) == (row.state in (State.DOWNLOADING, State.DONE))

    def no_generation_id_is_lost(self, rows: list[Any], entries: list[Any]) -> None:
        attempt_of = {attempt.id: attempt for attempt in entries}
        row_of = {row.id: row for row in rows}
        for attempt_id, generation_id in self.recorded.items():
            attempt = attempt_of[attempt_id]
            assert attempt.generation_id == generation_id
            row = row_of[attempt.job_id]
            given_up_by_a_person = row.state in (State.FAILED, State.CANCELLED)
            assert attempt.released_at or row.attempt_id == attempt_id or given_up_by_a_person
        ids = [attempt.generation_id for attempt in entries if attempt.generation_id]
        assert len(ids) == len(set(ids)), "one attempt has a generation"
        assert set(ids) == set(self.recorded.values()), "no attempt has one that the service did not tell it"

    def files_agree_with_their_jobs(self, rows: list[Any], entries: list[Any], files: list[Any]) -> None:
        by_attempt: dict[int, list[Any]] = defaultdict(list)
        for output in files:
            by_attempt[output.attempt_id].append(output)
        finished = {attempt.id for attempt in entries if attempt.finished_at and attempt.remote_status == "completed"}
        assert finished <= set(by_attempt) <= {attempt.id for attempt in entries if attempt.finished_at}
        for own in by_attempt.values():
            assert [output.number for output in own] == list(range(1, len(own) + 1))
        for row in rows:
            undelivered = [output for output in by_attempt[row.attempt_id] if output.delivered_at is None]
            if row.state in (State.DOWNLOADING, State.DONE):
                assert by_attempt[row.attempt_id]
                assert bool(undelivered) == (row.state == State.DOWNLOADING)
        assert {output.id for output in files if output.delivered_at} == self.delivered

    def rows_are_consistent(self, rows: list[Any]) -> None:
        for row in rows:
            stamped = {state for state, stamp in STAMPS.items() if getattr(row, stamp) is not None}
            state = State(row.state)
            assert stamped == ({state} if state.is_terminal else set()), "STAMPS has each terminal state"
            assert (row.leased_by is None) == (row.leased_until is None)
            if row.leased_by:
                assert row.next_at == row.leased_until
                assert state.is_active
            if state.is_terminal:
                assert row.next_at is None

    def history_is_a_chain_and_is_never_rewritten(self, rows: list[Any], history: list[Any]) -> None:
        assert history[: len(self.history)] == self.history
        self.history = history
        stands: dict[int, str | None] = defaultdict(lambda: None)
        for line in history:
            assert line.from_state == stands[line.job_id]
            assert line.batch_id == self.batch_id
            stands[line.job_id] = line.to_state
        assert stands == {row.id: row.state for row in rows}


def look(machine: type[JobTableMachine], quick: settings) -> None:
    chosen = DEEP if os.environ.get("MACHINE") == "deep" else quick
    quiet = settings(chosen, suppress_health_check=[HealthCheck.too_slow], database=None)
    run_state_machine_as_test(machine, settings=quiet)


@pytest.mark.timeout(0)
def test_no_order_of_events_pays_twice_or_loses_a_video() -> None:
    made = memory()
    empty_table = image(made)

    class InMemory(JobTableMachine):
        engine = made

        def begin_anew(self) -> None:
            with self.engine.connect() as connection:
                driver_of(connection).deserialize(empty_table)

    look(InMemory, QUICK)
    made.dispose()


@pytest.mark.timeout(0)
def test_no_order_of_events_does_so_in_postgresql(shared: Database) -> None:
    class OnPostgres(JobTableMachine):
        engine = shared.engine

        def begin_anew(self) -> None:
            empty(shared)

    look(OnPostgres, FEWER)

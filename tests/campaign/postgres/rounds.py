"""One round: a batch on a cluster, a fault in its middle, the audit at the end. It follows from a name and a seed."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count, cycle, islice
from pathlib import Path

from batchgen.errors import ExitCode
from batchgen.jobtable.schema import metadata
from batchgen.simulator.ledger import Generation, Ledger, usd
from tests.campaign.audit import Query, audit
from tests.campaign.postgres import limits
from tests.campaign.postgres.cluster import Cluster
from tests.campaign.postgres.faults import FAULT_SECONDS, FAULTS, SHORT_LEASE
from tests.campaign.postgres.limits import Recovery
from tests.campaign.processes import Service
from tests.campaign.trial import ENDED, MODEL, Trial
from tests.postgres import Server

WORKERS = 8
SPEED = 60.0
"""Of the simulated service: a video takes 3.5 s."""
LAG_SECONDS = 60.0
"""How late a row of the service's log is, in seconds of the service: one second."""
UNCONFIRMED_MINUTES = 0.1
"""Six seconds: the log shows an accepted create long before a lost one is sent again."""
PER_MINUTE = 300
"""Far below what eight workers on two cores can send, so that the limit is the rate that a fault can disturb."""
IN_FLIGHT = 40
"""The generations of eight seconds: the rate alone holds the batch back, unless workers are gone."""
FULL_PER_MINUTE, FULL_IN_FLIGHT = 60_000, 16
"""Limits of a round in which the number in flight alone holds the batch back."""
FULL_EVERY = 3
"""Of so many rounds of a fault, the last is such a round. Its rate goes up and down, so it is not measured."""
FULL_JOBS, FULL_MAX_COST = 200, Decimal(45)
"""Its budget ends before its jobs do: about 150 are paid for, and the workers end with the exit code for that."""
WARM_UP_SECONDS = 3.0
MARGIN_SECONDS = 25.0
"""Added to the length of a round: a slow start and a long fault must not empty the batch before its end."""
CREATES = "SELECT a.client_request_id, a.intent_at FROM attempts AS a"
LATEST_ARRIVAL_SECONDS, EARLIEST_ARRIVAL_SECONDS = 60.0, -2.0
"""Between the intent and the arrival of a request. Others show that intents are dated by a wrong clock."""


@dataclass(frozen=True, slots=True)
class Round:
    """A fault and what is drawn for it."""

    name: str
    seed: int
    workers: int = WORKERS
    jobs: int = 0
    per_minute: int = PER_MINUTE
    in_flight: int = IN_FLIGHT
    max_cost: Decimal | None = None
    speed: float = SPEED
    fault_seconds: float = FAULT_SECONDS
    measures_rate: bool = True

    @property
    def command(self) -> str:
        """The command that repeats this round: the fault is the same, the moments of the processes are not."""
        return f"python -m tests.campaign postgres --only {self.name!r} --seed {self.seed} --runs 1"


@dataclass(slots=True)
class RoundTrial(Trial):
    """How one round went."""

    over_limits: int = 0
    """Requests and generations beyond a limit."""
    recovery: Recovery | None = None
    """None where the rate is not measured."""
    url: str = ""
    """Of the job table, which stays in the server."""


@dataclass(slots=True)
class Moments:
    """When the fault began and ended, in seconds since 1970."""

    began: float = field(default_factory=time.time)
    ended: float = 0.0


def rounds(runs: int, seed: int, only: str | None = None) -> Iterator[Round]:
    """The first `runs` rounds of a seed, of all faults or of one."""
    names = [only] if only else [name for name, fault in FAULTS.items() for _ in range(fault.share)]
    if not only:
        random.Random(0).shuffle(names)  # so that a short campaign has rounds of all kinds
    for number, name in islice(zip(count(seed), cycle(names), strict=False), runs):
        yield draw(name, number)


def draw(name: str, seed: int) -> Round:
    """The round of a fault and a seed."""
    if seed % FULL_EVERY == 0:
        limits_of_full = {"per_minute": FULL_PER_MINUTE, "in_flight": FULL_IN_FLIGHT}
        return Round(name, seed, jobs=FULL_JOBS, **limits_of_full, max_cost=FULL_MAX_COST, measures_rate=False)
    seconds = WARM_UP_SECONDS + 2 * limits.WINDOW_SECONDS + limits.RECOVERY_SECONDS + MARGIN_SECONDS
    return Round(name, seed, jobs=round(seconds * PER_MINUTE / 60))


def run_round(round_: Round, server: Server, template: str, folder: Path, *, keeps_folder: bool = False) -> RoundTrial:
    """Start a cluster, strike, let the batch end, and audit. The folder stays if there is a problem.

    `template` is the name of a database with an empty job table.
    """
    began = time.monotonic()
    trial = RoundTrial(round_.name, round_.command, folder, url=server.create(like=template))
    folder.mkdir(parents=True)
    write_manifest(folder / "batch.yaml", round_)
    fault = FAULTS[round_.name]
    options = ("--instant", "--speed", str(round_.speed), "--lag", str(LAG_SECONDS), "--sigma", "0")
    try:
        with Service(folder, {}, *options) as service:
            cluster = Cluster(
                folder,
                server,
                service,
                trial.url,
                round_.workers,
                SHORT_LEASE if fault.has_short_lease else {},
                fault.has_proxies,
                ENDED if round_.max_cost is None else {*ENDED, int(ExitCode.LIMIT_REACHED)},
            )
            with cluster:
                moments = strike(cluster, round_)
                cluster.wait_until_ended()
            trial.kills, trial.runs = cluster.kills, sum(worker.starts for worker in cluster.workers)
            trial.audit.problems += cluster.problems
            check_limits(trial, round_, service, cluster.query)
            if round_.measures_rate:
                check_recovery(trial, service, moments)
            trial.close_with(audit(folder, service, query=cluster.query))
    except Exception as error:  # the campaign goes on, and reports it with the other problems
        trial.add_problem(f"the round itself failed: {type(error).__name__}: {error}")
    trial.seconds = time.monotonic() - began
    if trial.passed and not keeps_folder:
        shutil.rmtree(folder)
    if not trial.passed:
        keep_tables(folder, partial(server.ask, trial.url))
    return trial


def keep_tables(folder: Path, query: Query) -> None:
    """Write the rows of the job table beside the logs, since the server and its data are deleted."""
    for name in metadata.tables:
        lines = (json.dumps(row, default=str) + "\n" for row in query(f"SELECT * FROM {name}"))
        (folder / f"{name}.jsonl").write_text("".join(lines))


def strike(cluster: Cluster, round_: Round) -> Moments:
    """Let the cluster come to its full rate, and the fault pass; wait until the rate after it can be measured."""
    cluster.wait_until_working()
    if round_.measures_rate:
        cluster.pause(WARM_UP_SECONDS + limits.WINDOW_SECONDS)
    moments = Moments()
    FAULTS[round_.name].strike(cluster, random.Random(f"{round_.name} {round_.seed}"), round_.fault_seconds)
    moments.ended = time.time()
    if round_.measures_rate:
        cluster.pause(limits.RECOVERY_SECONDS + limits.WINDOW_SECONDS)
        if not cluster.pending():
            cluster.problems.append("no job was pending at the end of the measurement: the batch is too small")
    return moments


def check_limits(trial: RoundTrial, round_: Round, service: Service, query: Query) -> None:
    """Count what exceeds a limit. Each is a problem."""
    generations, arrivals = read_ledger(service)
    intents = {row["client_request_id"]: row["intent_at"] for row in query(CREATES)}
    sent = [(intents[request_id], at) for request_id, at in arrivals.items() if request_id in intents]
    delays = [(arrival - intent).total_seconds() for intent, arrival in sent]
    excesses = {
        "admitted earlier than the rate allows": limits.early_submits(list(intents.values()), round_.per_minute),
        "in one minute of the ledger beyond the rate": limits.crowded_submits(sent, round_.per_minute),
        "in flight at once beyond the limit": limits.excess_in_flight(generations, round_.in_flight),
        "dated by a wrong clock": sum(
            not EARLIEST_ARRIVAL_SECONDS <= delay <= LATEST_ARRIVAL_SECONDS for delay in delays
        ),
    }
    if round_.max_cost is not None:
        affordable = limits.affordable([usd(generation.micro_usd) for generation in generations], round_.max_cost)
        excesses["paid for beyond max_cost"] = max(0, -affordable)
        if affordable > 0:
            trial.add_problem(f"{affordable} more job(s) could have been paid for: a dead worker's share is not back")
    trial.over_limits = sum(excesses.values())
    for what, number in excesses.items():
        if number:
            trial.add_problem(f"{number} request(s) {what}")


def check_recovery(trial: RoundTrial, service: Service, moments: Moments) -> None:
    """Measure the rate before and after the fault."""
    generations, _ = read_ledger(service)
    created = [datetime.fromisoformat(generation.created_at).timestamp() for generation in generations]
    recovery = trial.recovery = limits.measure_recovery(created, moments.began, moments.ended)
    if recovery.seconds is None:
        trial.add_problem(
            f"{recovery.before:.1f} creates/s before the fault, at most {recovery.after:.1f} in the windows that begin"
            f" within {limits.RECOVERY_SECONDS:.0f} s after its end"
        )


def read_ledger(service: Service) -> tuple[list[Generation], dict[str, datetime]]:
    """The accepted generations, and when each create request arrived, by client request id."""
    ledger = Ledger(service.ledger)
    try:
        creates = ledger.query("SELECT client_request_id, at FROM requests WHERE kind = 'create'")
        arrivals = {row["client_request_id"]: datetime.fromisoformat(row["at"]).astimezone(UTC) for row in creates}
        return ledger.accepted(), arrivals
    finally:
        ledger.close()


def write_manifest(path: Path, round_: Round) -> None:
    """Every job has a body of its own, so the same body twice is the same job twice."""
    jobs = "".join(f"- {{id: j{number}, prompt: job {number} of {round_.seed}}}\n" for number in range(round_.jobs))
    budget = "" if round_.max_cost is None else f", max_cost: {round_.max_cost}"
    path.write_text(
        "batch: campaign\nservice: aimlapi\n"
        f"limits: {{submits_per_minute: {round_.per_minute}, in_flight: {round_.in_flight}, polls_per_minute: 60000,"
        f" downloads: 4, unconfirmed_minutes: {UNCONFIRMED_MINUTES}, on_unconfirmed: resubmit{budget}}}\n"
        f'defaults: {{model: {MODEL}, image_url: "https://example.com/a.jpg"}}\njobs:\n{jobs}'
    )

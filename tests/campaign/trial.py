"""A scenario carried out: the service, batchgen, the blows, and a person for what only a person may decide."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchgen.simulator.ledger import Ledger
from tests.campaign.audit import IN_THE_WAY, SOMEBODYS, Books, audit
from tests.campaign.processes import ROOT, Run, Service, command, rows
from tests.campaign.scenarios import Blow, Scenario

NOTHING: Mapping[str, Any] = {}
MODEL = "kling-video/v2.1/standard/image-to-video"
IMAGE = ROOT / "manifests" / "images" / "balloons.jpg"
LAG_SECONDS = 200.0  # of the service: a row of its log is a fraction of our second late
PATIENCE_MINUTES = 0.05  # 3 s, several times the lag: what was accepted is always found first
PAUSE_SECONDS = 15.0  # a run that takes longer waits for a pause to end, which a new run cuts short
RUNS_MOST = 12  # to bring a batch to its end after the last blow
DOWN_SECONDS = 0.3  # the service, between its death and its return
STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}
ENDED = {0, 3, 4}  # delivered; ended without all; the account
HELD = """
SELECT j.key, a.client_request_id FROM jobs AS j JOIN attempts AS a ON a.id = j.attempt_id
WHERE j.state = 'unconfirmed' AND j.next_at IS NULL"""


@dataclass(slots=True)
class Trial:
    """How one scenario went."""

    name: str
    repeat: str
    folder: Path
    kills: int = 0
    sigkills: int = 0
    runs: int = 0
    seconds: float = 0.0
    books: Books = field(default_factory=Books)

    @property
    def passed(self) -> bool:
        return not self.books.surprises

    def surprise(self, told: str) -> None:
        self.books.surprises.append(told)


def carry_out(scenario: Scenario, folder: Path) -> Trial:
    """Strike, run again until it ends, and count. The folder stays if anything surprised."""
    began = time.monotonic()
    trial = Trial(scenario.name, scenario.command, folder)
    folder.mkdir(parents=True)
    write_manifest(folder, scenario)
    options = ["--speed", str(scenario.speed), "--seed", str(scenario.seed), "--lag", str(LAG_SECONDS)]
    if not scenario.rendered:
        options.append("--instant")
    orders: dict[str, Any] = {"set": dict(scenario.set)} if scenario.set else {}
    if scenario.defect:
        orders["defect"] = scenario.defect
    try:
        with Service(folder, scenario.faults, *options) as service:
            for number, blow in enumerate(scenario.blows):
                if strike(trial, service, blow, orders, 1 if number else scenario.processes) == 0:
                    break
            finish(trial, service, orders)
            seen, trial.books = trial.books.surprises, audit(folder, service, in_the_way=scenario.file_in_the_way)
            trial.books.surprises[:0] = seen
    except (AssertionError, OSError, ValueError, KeyError) as error:
        trial.surprise(f"the trial itself failed: {type(error).__name__}: {error}")
    trial.seconds = time.monotonic() - began
    if trial.passed:
        shutil.rmtree(folder)
    return trial


def write_manifest(folder: Path, scenario: Scenario) -> None:
    """The jobs: each one's body is its own, so that the same body twice is the same job twice."""
    image = "https://example.com/a.jpg"
    if scenario.local_image:
        shutil.copy(IMAGE, folder / "frame.jpg")
        image = "frame.jpg"
    if scenario.file_in_the_way:
        (folder / IN_THE_WAY).parent.mkdir()
        (folder / IN_THE_WAY).write_bytes(SOMEBODYS)
    service = "{name: aimlapi, endpoint: legacy}" if scenario.legacy else "aimlapi"
    jobs = "".join(f"- {{id: j{each}, prompt: job {each} of {scenario.seed}}}\n" for each in range(scenario.jobs))
    (folder / "batch.yaml").write_text(
        f"batch: campaign\nservice: {service}\n"
        "limits: {submits_per_minute: 60000, in_flight: 1000, downloads: 4,"
        f" deadline_minutes: {scenario.deadline_minutes}, unconfirmed_minutes: {PATIENCE_MINUTES},"
        f" on_unconfirmed: {scenario.policy}}}\n"
        f"defaults: {{model: {MODEL}, image_url: {image}}}\njobs:\n{jobs}"
    )


def strike(trial: Trial, service: Service, blow: Blow, orders: dict[str, Any], processes: int) -> int | None:
    """Run, and let the blow fall; the exit code of the process that was to be struck."""
    struck, *others = [Run(trial.folder, service, orders) for _ in range(processes)]
    trial.runs += processes
    if struck.wait_for(blow.events, blow.seconds, to_listen=blow.how.startswith(("SIGINT", "SIGTERM"))):
        trial.kills += 1
        if blow.how == "service":
            trial.sigkills += 1
            service.kill()
            time.sleep(DOWN_SECONDS)
            service.start()
        else:
            trial.sigkills += blow.how == "SIGKILL"
            struck.strike(blow.how)
    for run in others:
        note_ending(trial, run, run.end(), ENDED)
    code = struck.end()
    usual = {-signal.SIGKILL} if blow.how == "SIGKILL" else STOPPED
    note_ending(trial, struck, code, ENDED | usual)
    return code


def note_ending(trial: Trial, run: Run, code: int | None, usual: set[int]) -> None:
    if code is None:
        trial.surprise(f"{run.log.name}: hung, and was killed")
    elif code not in usual:
        trial.surprise(f"{run.log.name}: ended with {code}: {run.log.read_text(errors='replace')[-300:]}")


def finish(trial: Trial, service: Service, orders: Mapping[str, Any] = NOTHING) -> None:
    """The same command, again and again, until there is nothing left that it can do."""
    for _ in range(RUNS_MOST):
        run = Run(trial.folder, service, orders)
        trial.runs += 1
        if not run.ends_within(PAUSE_SECONDS):
            trial.kills += 1
            run.strike("SIGTERM")
        code = run.end()
        note_ending(trial, run, code, ENDED | STOPPED)
        if code == 0:
            return
        if not decide(trial.folder, service) and code == 3 and ended(trial.folder, service):
            return
    trial.surprise(f"not ended after {RUNS_MOST} runs")


def ended(folder: Path, service: Service) -> bool:
    """Whether what is left is only jobs that failed, and generations that the service will never end."""
    ledger = Ledger(service.ledger)
    stuck = {each.id for each in ledger.accepted() if each.outcome == "stuck"}
    ledger.close()
    left = rows(folder / "batchgen.db", "SELECT * FROM jobs WHERE state NOT IN ('done', 'failed', 'cancelled')")
    return all(job["state"] == "generating" and job["generation_id"] in stuck for job in left)


def decide(folder: Path, service: Service) -> int:
    """The person: looks on the service's site for every job that is held, and settles it. Returns how many."""
    held = rows(folder / "batchgen.db", HELD)
    if not held:
        return 0
    ledger = Ledger(service.ledger)
    made = {each.client_request_id: each.id for each in ledger.accepted()}
    ledger.close()
    absent = [job["key"] for job in held if job["client_request_id"] not in made]
    for job in held:
        if job["client_request_id"] in made:
            command(folder, "resolve", "batch.yaml", job["key"], "--found", made[job["client_request_id"]])
    if absent:
        command(folder, "resolve", "batch.yaml", *absent, "--resubmit")
    return len(held)

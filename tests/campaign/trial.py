"""One trial: a scenario is run to its end and audited. What batchgen leaves to a person is decided here."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchgen.simulator.ledger import Ledger
from tests.campaign.audit import FOREIGN_CONTENT, FOREIGN_FILE, AuditResult, audit
from tests.campaign.processes import Run, Service, command, rows
from tests.campaign.scenarios import Interruption, Scenario
from tests.forks import ROOT

NO_ORDERS: Mapping[str, Any] = {}
MODEL = "kling-video/v2.1/standard/image-to-video"
IMAGE = ROOT / "manifests" / "images" / "balloons.jpg"
LAG_SECONDS = 200.0
"""How late a row of the service's log is, in seconds of the service: a fraction of a second at its speed."""
UNCONFIRMED_MINUTES = 0.05
"""Three seconds, several times the lag: the log always shows an accepted create before the policy is applied."""
PAUSE_SECONDS = 15.0
"""A run that takes longer waits for a pause to end. It is stopped, since a new run starts without the pause."""
RUNS_MAX = 12
"""Bounds the runs after the last interruption. Most scenarios need one or two."""
RESTART_SECONDS = 0.3
"""How long the service is down."""
REDO = ("--changed", "redo")
"""A person wants the jobs at whose outputs another file lies."""
KEEP = ("--changed", "keep")
STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}
ENDED = {0, 3, 4}
"""Exit codes: all delivered; ended without all; the account."""
HELD = """
SELECT j.key, a.client_request_id FROM jobs AS j JOIN attempts AS a ON a.id = j.attempt_id
WHERE j.state = 'unconfirmed' AND j.next_at IS NULL"""

LEFT = """
SELECT j.state, a.generation_id FROM jobs AS j LEFT JOIN attempts AS a ON a.id = j.attempt_id
WHERE j.state NOT IN ('done', 'failed', 'cancelled')"""


@dataclass(slots=True)
class Trial:
    """How one scenario went. `command` repeats it, `kills` counts its interruptions."""

    name: str
    command: str
    folder: Path
    options: tuple[str, ...] = ()
    """Options of every run."""
    kills: int = 0
    runs: int = 0
    seconds: float = 0.0
    audit: AuditResult = field(default_factory=AuditResult)

    @property
    def passed(self) -> bool:
        return not self.audit.problems

    def add_problem(self, problem: str) -> None:
        self.audit.problems.append(problem)

    def close_with(self, result: AuditResult) -> None:
        """Take the counts of the audit, and put its problems after those of the runs."""
        result.problems[:0] = self.audit.problems
        self.audit = result


def run_scenario(scenario: Scenario, folder: Path) -> Trial:
    """Interrupt, run again until the batch ends, and audit. The folder stays if there is a problem."""
    began = time.monotonic()
    trial = Trial(scenario.name, scenario.command, folder, options=REDO if scenario.foreign_file else ())
    folder.mkdir(parents=True)
    write_manifest(folder, scenario)
    options = ["--speed", str(scenario.speed), "--seed", str(scenario.seed), "--lag", str(LAG_SECONDS)]
    if not scenario.rendered:
        options.append("--instant")
    orders: dict[str, Any] = {"set": dict(scenario.constants)} if scenario.constants else {}
    if scenario.defect:
        orders["defect"] = scenario.defect
    try:
        with Service(folder, scenario.faults, *options) as service:
            for number, interruption in enumerate(scenario.interruptions):
                if interrupt(trial, service, interruption, orders, 1 if number else scenario.processes) == 0:
                    break
                if scenario.loss and not number:
                    lose_table(folder, scenario.loss)
                    trial.options = KEEP
            run_to_end(trial, service, orders)
            lost = bool(scenario.loss)
            trial.close_with(audit(folder, service, foreign_file=scenario.foreign_file, table_was_lost=lost))
    except Exception as error:  # the campaign goes on, and reports it with the other problems
        trial.add_problem(f"the trial itself failed: {type(error).__name__}: {error}")
    trial.seconds = time.monotonic() - began
    if trial.passed:
        shutil.rmtree(folder)
    return trial


def write_manifest(folder: Path, scenario: Scenario) -> None:
    """Write the manifest. Every job has a body of its own, so the same body twice is the same job twice."""
    image = "https://example.com/a.jpg"
    if scenario.local_image:
        shutil.copy(IMAGE, folder / "frame.jpg")
        image = "frame.jpg"
    if scenario.foreign_file:
        (folder / FOREIGN_FILE).parent.mkdir()
        (folder / FOREIGN_FILE).write_bytes(FOREIGN_CONTENT)
    service = "{name: aimlapi, endpoint: legacy}" if scenario.legacy else "aimlapi"
    jobs = "".join(f"- {{id: j{number}, prompt: job {number} of {scenario.seed}}}\n" for number in range(scenario.jobs))
    (folder / "batch.yaml").write_text(
        f"batch: campaign\nservice: {service}\n"
        "limits: {submits_per_minute: 60000, in_flight: 1000, downloads: 4,"
        f" deadline_minutes: {scenario.deadline_minutes}, unconfirmed_minutes: {UNCONFIRMED_MINUTES},"
        f" on_unconfirmed: {scenario.policy}}}\n"
        f"defaults: {{model: {MODEL}, image_url: {image}}}\njobs:\n{jobs}"
    )


def lose_table(folder: Path, loss: str) -> None:
    """Take away the job table or its journal, and the mark of the dead run by which the next one would notice it."""
    for path in folder.glob("batchgen.db*"):
        if loss == "table" or path.suffix != ".db":
            path.unlink()


def interrupt(
    trial: Trial, service: Service, interruption: Interruption, orders: dict[str, Any], processes: int
) -> int | None:
    """Start the runs and interrupt the first of them; its exit code."""
    target, *others = [Run(trial.folder, service, orders, trial.options) for _ in range(processes)]
    trial.runs += processes
    action = interruption.action
    printed = action.startswith(("SIGINT", "SIGTERM"))
    if target.wait_for_events(interruption.events, interruption.seconds, printed=printed):
        trial.kills += 1
        if action == "service":
            service.kill()
            time.sleep(RESTART_SECONDS)
            service.start()
        else:
            target.send(action)
    for run in others:
        check_exit_code(trial, run, run.wait(), ENDED)
    code = target.wait()
    check_exit_code(trial, target, code, ENDED | ({-signal.SIGKILL} if action == "SIGKILL" else STOPPED))
    return code


def check_exit_code(trial: Trial, run: Run, code: int | None, expected: set[int]) -> None:
    """Add a problem for a run that hung, or ended with another exit code."""
    if code is None:
        trial.add_problem(f"{run.log.name}: hung, and was killed")
    elif code not in expected:
        trial.add_problem(f"{run.log.name}: ended with {code}: {run.log.read_text(errors='replace')[-300:]}")


def run_to_end(trial: Trial, service: Service, orders: Mapping[str, Any] = NO_ORDERS) -> None:
    """Repeat the same command until it can do nothing more."""
    for _ in range(RUNS_MAX):
        run = Run(trial.folder, service, orders, trial.options)
        trial.runs += 1
        if run.wait_for_events(0, PAUSE_SECONDS, printed=True):
            trial.kills += 1
            run.send("SIGTERM")
        code = run.wait()
        check_exit_code(trial, run, code, ENDED | STOPPED)
        if code == 0:
            return
        if not resolve_held_jobs(trial.folder, service) and code == 3 and is_over(trial.folder, service):
            return
    trial.add_problem(f"not ended after {RUNS_MAX} runs")


def is_over(folder: Path, service: Service) -> bool:
    """Whether only failed jobs are left, and generations that the service never ends."""
    ledger = Ledger(service.ledger)
    stuck = {generation.id for generation in ledger.accepted() if generation.outcome == "stuck"}
    ledger.close()
    left = rows(folder / "batchgen.db", LEFT)
    return all(job["state"] == "generating" and job["generation_id"] in stuck for job in left)


def resolve_held_jobs(folder: Path, service: Service) -> int:
    """Do what a person does: search the service's site for every held job, and resolve it. The number of held jobs."""
    held = rows(folder / "batchgen.db", HELD)
    if not held:
        return 0
    ledger = Ledger(service.ledger)
    ids = {generation.client_request_id: generation.id for generation in ledger.accepted()}
    ledger.close()
    absent = [job["key"] for job in held if job["client_request_id"] not in ids]
    for job in held:
        if job["client_request_id"] in ids:
            command(folder, "resolve", "batch.yaml", job["key"], "--found", ids[job["client_request_id"]])
    if absent:
        command(folder, "resolve", "batch.yaml", *absent, "--resubmit")
    return len(held)

"""Jobs that were sent to another address or with another key: shown, and never asked for here or bought again."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import Connection, Update, update

from batchgen.jobs import State
from batchgen.jobtable import leases, ledger, reconciliation, statistics
from batchgen.jobtable.schema import attempts
from batchgen.limits import blockers
from batchgen.manifest.limits import Limits
from batchgen.poller import Poller
from batchgen.reconciler import OTHER_KEY, Reconciler
from batchgen.services.base import Adoption, Features
from batchgen.services.outcomes import Absent, Adopted, Finished, Unavailable, Working
from batchgen.simulator.ledger import Ledger
from batchgen.simulator.service import Simulation
from tests.batches import write_manifest
from tests.conftest import NOON, Command, Launch
from tests.scripted import ScriptedService, context_of, turn
from tests.serving import served
from tests.table import ACCOUNT, MINUTE, SECOND, Table
from tests.waiting import states, until

pytestmark = pytest.mark.hostile(
    "jobs that were sent to another address, or with another key",
    "they are shown with their address, and not asked for",
)

HERE, THERE = "http://127.0.0.1:9", "https://api.other.example"
ASKED_FOR = [State.GENERATING, State.UNCONFIRMED]


def execute(connection: Connection, statement: Update) -> None:
    connection.execute(statement)


def stages_of(table: Table, service: ScriptedService) -> list[Any]:
    return [Poller(context_of(table, service), 1), Reconciler(context_of(table, service), 1)]


@pytest.mark.parametrize("state", ASKED_FOR)
@pytest.mark.parametrize(("origin", "is_asked"), [(HERE, True), ("", True), (THERE, False), (f"{HERE}/", False)])
async def test_only_a_job_that_was_sent_here_is_asked_for(
    table: Table, clock: Clock, state: State, origin: str, is_asked: bool
) -> None:
    table.origin = origin
    table.bring(state)
    service = ScriptedService()
    clock.tick(MINUTE)
    for stage in stages_of(table, service):
        await turn(stage)
    assert bool(service.fetched or service.searched) is is_asked
    assert table.database.read_now(statistics.any_open, table.batch_id, [state], NOON, HERE) is is_asked
    shown, _ = table.database.read_now(blockers.elsewhere, table.batch_id, HERE)
    assert [(blocker.origin, blocker.jobs) for blocker in shown] == ([] if is_asked else [(origin, 1)])


async def test_a_service_without_a_lasting_address_asks_for_its_own_jobs(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    service = ScriptedService(features=Features(Adoption.NONE, has_lasting_address=False))
    await turn(Poller(context_of(table, service), 1))
    assert len(service.fetched) == 1


@pytest.mark.parametrize("origin", [HERE, THERE])
async def test_a_fresh_address_of_a_file_is_asked_for_where_the_job_was_sent(table: Table, origin: str) -> None:
    table.origin = origin
    job = table.bring(State.DOWNLOADING)
    service = ScriptedService(fetches=[Finished(("https://cdn.test/v.mp4",))])
    outcome = await context_of(table, service).fetch(job)
    assert isinstance(outcome, Finished if origin == HERE else Unavailable)
    assert len(service.fetched) == (origin == HERE)


def test_charges_are_looked_up_for_jobs_that_were_sent_here(table: Table) -> None:
    for key, origin in {"here": HERE, "there": THERE, "anywhere": ""}.items():
        table.origin = origin
        table.bring(State.DONE, key)
    uncharged = table.database.read_now(ledger.uncharged, table.batch_id, HERE)
    assert {attempt.generation_id for attempt in uncharged} == {"g-here", "g-anywhere"}


@pytest.mark.parametrize(("origin", "is_due"), [(HERE, True), (THERE, False)])
def test_a_job_that_is_held_for_a_person_stays_held_where_it_cannot_be_asked_for(
    table: Table, origin: str, is_due: bool
) -> None:
    table.origin = origin
    job = table.bring(State.UNCONFIRMED)
    table.change(reconciliation.hold, job)
    table.change(leases.wake_waiting, table.batch_id, NOON, HERE)
    assert (table.row().next_at is not None) is is_due


HOLD, RESUBMIT = Limits(), Limits(on_unconfirmed="resubmit")
FINDINGS = {
    "nothing": (Absent(NOON), "unconfirmed"),
    "that it failed": (Absent(NOON, "the log shows that it failed"), "unconfirmed"),
    "its generation": (Adopted("g-1", NOON), "generating"),
}


@pytest.mark.parametrize("sent_with", [ACCOUNT, ""], ids=["another key", "a key that is not known"])
@pytest.mark.parametrize("limits", [HOLD, RESUBMIT], ids=["hold", "resubmit"])
@pytest.mark.parametrize("age", [SECOND, 9 * 15 * MINUTE])
@pytest.mark.parametrize(("finding", "state"), FINDINGS.values(), ids=FINDINGS)
async def test_what_another_key_shows_is_no_reason_to_send_again(
    table: Table, clock: Clock, finding: Absent | Adopted, state: str, age: timedelta, limits: Limits, sent_with: str
) -> None:
    table.bring(State.UNCONFIRMED)
    table.sent_with(sent_with)
    service = ScriptedService(findings=[finding], account="a-new-key")
    clock.tick(age)
    await turn(Reconciler(context_of(table, service, limits), 1))
    row = table.row()
    assert row.state == state
    assert not service.submitted
    if state == "unconfirmed":
        assert (row.next_at, row.error) == (None, OTHER_KEY)


async def test_a_generation_of_another_key_is_polled(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    service = ScriptedService(fetches=[Working("queued")], account="a-new-key")
    await turn(Poller(context_of(table, service), 1))
    assert len(service.fetched) == 1


def test_a_run_with_another_address_ends_and_says_where_its_jobs_are(
    tmp_path: Path, batchgen: Command, launch: Launch
) -> None:
    write_manifest(tmp_path / "m.yaml", 2)
    slow = Simulation(speed=1, instant=True, ledger=tmp_path / "slow.ledger")
    other = Simulation(speed=1000, instant=True, ledger=tmp_path / "other.ledger", key="another-key")
    with served(slow) as there, served(other) as here:
        running = launch("run", "m.yaml", **there)
        until(lambda: states(tmp_path / "batchgen.db").get("generating", 0) == 2)
        running.signal(signal.SIGINT)
        assert running.end().returncode == 130
        here["AIMLAPI_API_KEY"] = "another-key"
        ended = batchgen("run", "m.yaml", **here)
        as_json = batchgen("run", "m.yaml", "--json", **here)
        status = batchgen("status", "m.yaml", **here)
        at_home = batchgen("status", "m.yaml", **there)
    address = there["AIMLAPI_BASE_URL"]
    assert ended.returncode == as_json.returncode == 3, ended.stderr
    assert f"2 jobs wait for the service at {address}, where they were sent" in ended.stderr
    assert f"2 of them: sent to {address}" in ended.stdout
    lines = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [line["origin"] for line in lines if line["event"] == "elsewhere"] == [address]
    assert address in status.stdout
    assert address not in at_home.stdout
    assert states(tmp_path / "batchgen.db") == {"generating": 2}


def test_a_table_that_came_with_a_folder_draws_the_key_nowhere(tmp_path: Path, batchgen: Command, table: Table) -> None:
    """Its rows claim to have been sent here, and name another server in every place that held an address."""
    write_manifest(tmp_path / "m.yaml", 1, batch="spring")
    with (
        served(Simulation(speed=1000, instant=True)) as here,
        served(Simulation(ledger=tmp_path / "evil.ledger")) as evil,
    ):
        host = evil["AIMLAPI_BASE_URL"].removeprefix("http://")
        table.origin = here["AIMLAPI_BASE_URL"]
        for number, endpoint in enumerate((f"//{host}/x", f"@{host}/x", f"\\\\{host}/x", f"http://{host}/x")):
            key = f"job-{number}"
            table.bring(State.GENERATING, key)
            handle = {"base_url": evil["AIMLAPI_BASE_URL"], "endpoint": endpoint, "generation_id": "g"}
            forged = update(attempts).where(attempts.c.id == table.attempt(key).id)
            table.change(execute, forged.values(handle=json.dumps(handle), deadline_at=NOON))
        ended = batchgen("run", "m.yaml", **here)
    assert ended.returncode in (3, 6), ended.stderr
    seen = Ledger(tmp_path / "evil.ledger")
    assert seen.query("SELECT * FROM requests") == []
    seen.close()

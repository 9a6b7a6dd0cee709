"""Retry asks for the same generation first, --download pays for nothing, and cancel works on whatever cannot end."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from click.testing import CliRunner, Result
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.cli import load
from batchgen.cli.retry import lines_of
from batchgen.errors import ManifestChanged
from batchgen.jobs import CHARGES, ErrorClass, State
from batchgen.jobtable import polling, reconciliation, settings, statistics
from batchgen.jobtable.invariants import violations
from batchgen.limits.steering import EnrolledManifest
from batchgen.manifest.limits import Limits
from batchgen.poller import Poller
from batchgen.services.outcomes import Failed, FetchOutcome, Finished, Unavailable, Working
from tests.conftest import NOON, Command
from tests.scripted import ScriptedService, context_of, turn
from tests.table import MINUTE, RUN, Table, spec

ACTIVE = [state for state in State if state.is_active]
FREE = Failed("error: no faces")
CHARGED = Failed("the service says 'cancelled', and gives no reason", "cancelled", cost_usd=None)
NO_FILE = Failed("the service says 'completed' and names no file", "completed", ErrorClass.NO_FILE, cost_usd=None)
GONE = Failed("the result has expired", "expired", ErrorClass.EXPIRED, cost_usd=None)


def fail(outcome: Failed, leaving: State = State.GENERATING) -> Callable[[Table], None]:
    def act(table: Table) -> None:
        table.bring(leaving)
        (job,) = table.claim(leaving)
        assert table.change(polling.failed, job, RUN, outcome, table.now, leaving=leaving)

    return act


def give_up(table: Table) -> None:
    table.bring(State.UNCONFIRMED)
    (job,) = table.unconfirmed()
    table.change(reconciliation.abandoned, job, "given up by a person", table.now)


def cancel(state: State) -> Callable[[Table], None]:
    def act(table: Table) -> None:
        table.bring(state)
        assert table.cancel("mona") == ["mona"]

    return act


ENDINGS = [
    # what became of the job, its state after retry, after retry --download ("" for unchanged), with the same attempt
    ("rejected", lambda table: table.bring(State.FAILED), "pending", ""),
    ("failed for nothing", fail(FREE), "pending", ""),
    ("cancelled before it was sent", cancel(State.PENDING), "pending", ""),
    ("failed and perhaps charged", fail(CHARGED), "generating", "generating"),
    ("completed without a video", fail(NO_FILE), "generating", "generating"),
    ("a result that expired", fail(GONE, State.DOWNLOADING), "downloading", "downloading"),
    ("expired, and called free", fail(replace(GONE, cost_usd=Decimal(0))), "generating", "generating"),
    ("no file that plays", fail(NO_FILE, State.DOWNLOADING), "downloading", "downloading"),
    ("an unknown answer, given up", give_up, "unconfirmed", ""),
    ("an unknown answer, cancelled", cancel(State.UNCONFIRMED), "unconfirmed", ""),
    ("cancelled at the service's work", cancel(State.GENERATING), "generating", "generating"),
    ("cancelled before its download", cancel(State.DOWNLOADING), "downloading", "downloading"),
]
IDS = [row[0] for row in ENDINGS]


def run_command(table: Table, name: str, *arguments: str) -> Result:
    """Type a command about the manifest of the table, in its folder."""
    manifest = table.folder / "spring.yaml"
    manifest.touch()
    command = load(name)
    typed = [str(manifest), *arguments, "--db", str(table.folder / "batchgen.db")]
    return CliRunner().invoke(command, typed, obj=None)


@pytest.mark.parametrize(("name", "end", "plain", "download"), ENDINGS, ids=IDS)
@pytest.mark.parametrize("flag", ["", "--download", "--new"])
def test_retry_asks_for_the_same_generation_before_it_pays(
    table: Table, flag: str, name: str, end: Callable[[Table], None], plain: str, download: str
) -> None:
    end(table)
    before, (attempt,) = table.row(), table.attempts()[:1] or (None,)
    result = run_command(table, "retry", "mona", *filter(None, [flag]))
    assert result.exit_code == 0, result.output
    row = table.row()
    expected = {"": plain, "--download": download or before.state, "--new": "pending"}[flag]
    assert row.state == expected
    if flag == "--download":
        assert State.PENDING not in table.story()[1:], "never a new create"
    if expected == "pending":
        assert row.attempt_id is None
        assert all(attempt.released_at for attempt in table.attempts()), "a person has released what may be paid"
    elif row.state != before.state:
        assert attempt is not None
        assert (row.attempt_id, len(table.attempts())) == (attempt.id, 1), "the same attempt"
        assert table.attempts()[0].cost_usd == attempt.cost_usd
        assert row.next_at is not None


def test_a_retry_of_a_job_that_was_given_up_promises_no_generation(table: Table) -> None:
    give_up(table)
    shown = run_command(table, "retry", "mona").output
    assert "the service will be asked again what became of the same request, for nothing: mona" in shown


@pytest.mark.parametrize("option", [[], ["--new"], ["--download"]])
def test_a_job_that_was_given_up_is_tried_again_only_where_its_id_is_typed(table: Table, option: list[str]) -> None:
    give_up(table)
    advised = json.loads(run_command(table, "status", "--json").output)
    assert (advised["next"], "`retry --new` with an id" in advised["hint"]) == (None, True), "no loop of advice"
    shown = run_command(table, "retry", *option).output
    assert (shown, table.row().state) == (
        "mona: given up by a person, and retried only where the id is typed\n",
        "failed",
    )


def test_a_job_that_is_given_up_and_retried_keeps_the_reason_for_which_it_is_held(table: Table) -> None:
    table.bring(State.UNCONFIRMED)
    (job,) = table.unconfirmed()
    table.change(reconciliation.abandoned, job, "given up by a person", table.now)
    assert table.ask_again("mona") == ["mona"]
    assert (table.row().error, table.attempt().error) == ("cut", "cut")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Finished(("https://cdn.test/v.mp4",)), "downloading"),
        (Working("queued"), "generating"),
        (CHARGED, "failed"),
        (Unavailable("502", None, 502), "generating"),
    ],
    ids=["it has finished", "it is at work", "it has failed for good", "nobody answers"],
)
async def test_what_the_service_says_when_it_is_asked_again_is_followed(
    table: Table, clock: Clock, outcome: FetchOutcome, state: str
) -> None:
    fail(NO_FILE)(table)
    assert table.ask_again("mona") == ["mona"]
    service = ScriptedService(fetches=[outcome])
    await turn(Poller(context_of(table, service), 8))
    assert table.row().state == state
    assert (service.submitted, len(service.fetched), len(table.attempts())) == ([], 1, 1)
    if state == "generating":
        assert table.attempt().finished_at is None
        open_ = table.database.read_now(statistics.any_open, table.batch_id, ACTIVE, table.now)
        assert open_, "the run waits for it"


def hold(table: Table) -> None:
    table.bring(State.UNCONFIRMED)
    (job,) = table.unconfirmed()
    table.change(reconciliation.hold, job)


@pytest.mark.parametrize(
    ("end", "command"),
    [(fail(NO_FILE), ["retry", "mona"]), (hold, ["resolve", "mona", "--found", "g-1"])],
    ids=["retried", "found by a person"],
)
def test_a_generation_that_is_awaited_again_has_the_deadline_of_the_manifest(
    table: Table, clock: Clock, end: Callable[[Table], None], command: list[str]
) -> None:
    end(table)
    enrolled = str(EnrolledManifest(Limits(deadline_minutes=180.0)))
    table.change(settings.record_manifest, table.batch_id, enrolled, table.now, "anna@studio")
    assert run_command(table, *command).exit_code == 0
    assert table.states() == {"mona": "generating"}
    assert table.attempt().deadline_at == NOON + 180 * MINUTE


def test_a_job_that_is_asked_for_again_is_retried_once(table: Table) -> None:
    fail(CHARGED)(table)
    assert table.ask_again("mona") == ["mona"]
    assert table.ask_again("mona") == []
    assert table.retry("mona") == []


def test_a_late_acceptance_of_a_cancelled_job_stays_in_the_ledger_and_is_found_by_retry(table: Table) -> None:
    job = table.bring(State.UNCONFIRMED)
    table.cancel("mona")
    assert not table.accept(job, "g-late")
    assert table.states() == {"mona": "cancelled"}
    assert table.attempt().generation_id == "g-late"
    assert table.ask_again("mona") == ["mona"]
    assert table.states() == {"mona": "generating"}


CANCELLED = [
    (State.PENDING, "not sent, so nothing more is charged"),
    (State.UNCONFIRMED, "sent, and the answer is unknown: it may be charged"),
    (State.GENERATING, "accepted by the service, which may finish it and charge it"),
    (State.DOWNLOADING, "finished and charged; the video is not fetched"),
    (State.FAILED, "failed before; what it cost stays as it was"),
]


@pytest.mark.parametrize(("state", "meaning"), CANCELLED, ids=[str(row[0]) for row in CANCELLED])
def test_cancel_works_on_whatever_cannot_end_and_says_what_it_means_for_the_money(
    table: Table, state: State, meaning: str
) -> None:
    table.bring(state)
    before = table.recomputed_totals()
    result = run_command(table, "cancel", "mona")
    assert (result.exit_code, table.states()) == (0, {"mona": "cancelled"}), result.output
    assert meaning in result.output
    assert table.recomputed_totals() == before, "the ledger keeps what it may cost"
    assert not table.database.read_now(statistics.any_open, table.batch_id, ACTIVE, table.now)


def test_a_command_is_about_the_batch_that_the_manifest_made_last(table: Table) -> None:
    table.sync("mona", "lisa")
    table.now += MINUTE
    table.sync("anna", batch=replace(table.batch, name="autumn"))
    assert run_command(table, "cancel").exit_code == 0
    assert table.states() == {"mona": "pending", "lisa": "pending", "anna": "cancelled"}


def test_without_ids_only_what_was_never_sent_is_cancelled(table: Table) -> None:
    table.bring(State.GENERATING, "lisa")
    table.bring(State.PENDING, "mona")
    assert run_command(table, "cancel").exit_code == 0
    assert table.states() == {"lisa": "generating", "mona": "cancelled"}


def test_a_pattern_cancels_what_was_never_sent_of_the_jobs_that_it_fits(table: Table) -> None:
    table.bring(State.GENERATING, "hero-1")
    for key in ("hero-2", "hero-3", "tram-1"):
        table.bring(State.PENDING, key)
    assert run_command(table, "cancel", "hero-*", "hero-3").exit_code == 0
    states = {"hero-1": "generating", "hero-2": "cancelled", "hero-3": "cancelled", "tram-1": "pending"}
    assert table.states() == states
    for pattern, reason in (
        ("hero-*", "fits 3 jobs, of which none is pending"),
        ("moon-*", "no job of this batch has such an id"),
    ):
        refused = run_command(table, "cancel", "tram-1", pattern)
        assert (type(refused.exception).__name__, reason in str(refused.exception)) == ("UsageError", True)
    unknown, unmatched, _ = str(run_command(table, "cancel", "hero1", "moon-*").exception).splitlines()
    assert unknown == "hero1: there is no such job in this batch; did you mean hero-1?"
    assert unmatched.startswith("moon-*: no job of this batch has such an id")
    assert table.states() == states, "a command that is refused changes nothing"


@pytest.mark.parametrize("left", [State.GENERATING, State.CANCELLED])
def test_a_generation_that_a_person_named_by_mistake_is_corrected(table: Table, left: State) -> None:
    lost = table.bring(State.UNCONFIRMED)
    table.change(reconciliation.hold, lost)
    assert run_command(table, "resolve", "mona", "--found", "g-wrong").exit_code == 0
    if left is State.CANCELLED:
        assert table.cancel("mona") == ["mona"]
    assert run_command(table, "resolve", "mona", "--found", "g-right").exit_code == 0
    assert (table.attempt().generation_id, table.states()) == ("g-right", {"mona": "generating"})
    table.now = table.row().next_at
    (job,) = table.claim(State.GENERATING)
    table.finish(job)
    refused = run_command(table, "resolve", "mona", "--found", "g-other")
    assert "not held for a person: mona" in str(refused.exception), "its video is known"
    assert table.database.read_now(violations, table.batch_id) == []


@pytest.mark.parametrize("state", State)
def test_what_a_cancelled_job_has_cost_is_said_for_each_state_that_it_can_leave(state: State) -> None:
    assert (state in CHARGES) is state.is_cancellable


def test_a_pattern_takes_up_failed_and_cancelled_jobs_again_and_no_delivered_one(table: Table) -> None:
    for key, state in (("hero-1", State.FAILED), ("hero-3", State.DONE), ("hero-2", State.PENDING)):
        table.bring(state, key)
    table.cancel("hero-2")
    result = run_command(table, "retry", "*")
    assert (result.exit_code, "2 jobs pending again" in result.output) == (0, True), result.output
    assert table.states() == {"hero-1": "pending", "hero-2": "pending", "hero-3": "done"}
    result = run_command(table, "retry", "hero-3*", "--download")
    assert "the file will be fetched again, for nothing: hero-3" in result.output
    assert table.states()["hero-3"] == "downloading"


def test_a_job_that_left_the_manifest_is_not_taken_up_again(table: Table) -> None:
    table.sync("hero-1", "hero-2")
    table.cancel("hero-2")
    table.sync("hero-2")
    assert table.states() == {"hero-1": "cancelled", "hero-2": "cancelled"}
    assert run_command(table, "retry", "hero-*").exit_code == 0
    assert table.states() == {"hero-1": "cancelled", "hero-2": "pending"}
    refused = run_command(table, "retry", "hero-1")
    assert "hero-1: it left the manifest, or goes on under another name" in str(refused.exception)
    assert table.retry("hero-1") == []


def test_a_run_that_holds_a_job_which_is_cancelled_writes_nothing_more(table: Table) -> None:
    table.bring(State.GENERATING)
    (job,) = table.claim(State.GENERATING)
    table.cancel("mona")
    before = table.everything()
    assert not table.finish(job)
    assert not table.fail(job)
    assert table.everything() == before


def test_a_cancelled_job_that_was_sent_does_not_follow_the_manifest(table: Table) -> None:
    table.bring(State.GENERATING)
    table.cancel("mona")
    table.sync("mona")
    with pytest.raises(ManifestChanged):
        table.sync(spec("mona", prompt="Another one."))
    table.sync()
    assert table.states() == {"mona": "cancelled"}


def test_status_names_the_query_that_lists_all_failures(table: Table, batchgen: Command) -> None:
    for number in range(23):
        table.bring(State.FAILED, f"j{number}")
    (table.folder / "spring.yaml").touch()
    shown = batchgen("status", "spring.yaml").stdout
    assert shown.count(" failed: ") == 20
    (command,) = re.findall("and 3 more; `(.*)` lists them all", shown)
    listed = batchgen(*shlex.split(command)[1:])
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 1 + 23)


def test_a_failure_says_what_it_may_have_cost(table: Table) -> None:
    fail(CHARGED)(table)
    (line,) = table.database.read_now(statistics.failures, table.batch_id)
    assert line.endswith("(charged, unless the service says otherwise)")
    table.database.write_now(
        lambda c: c.exec_driver_sql("UPDATE attempts SET cost_usd = '0.28', charge_source = 'poll'")
    )
    assert table.database.read_now(statistics.failures, table.batch_id)[0].endswith("(charged 0.28 USD)")


def test_an_expired_generation_is_not_shown_as_free(table: Table) -> None:
    fail(replace(GONE, cost_usd=Decimal(0)))(table)
    (line,) = table.database.read_now(statistics.failures, table.batch_id)
    assert line.endswith("(charged, unless the service says otherwise)")


def test_a_job_that_the_manifest_does_not_ask_for_is_not_passed_over_in_silence() -> None:
    jobs: dict[str, list[str]] = {"pending": [], "asked_again": [], "fetched_again": []}
    (line,) = lines_of(jobs, ["mona"], [], free_only=False, are_named=True)
    assert line.startswith("mona: the manifest, as it was last run, does not ask for this.")

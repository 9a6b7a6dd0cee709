"""What `status` says of a batch on which no run is at work: why it stands still, and the command that goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchgen import clock
from batchgen.errors import ExitCode, UsageError
from batchgen.jobs import State
from batchgen.jobtable import leases
from batchgen.jobtable.batches import open_table
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.run_lock import Owner
from tests.conftest import Command
from tests.events import check_events
from tests.table import RUN, Table


def end_run(
    table: Table,
    code: int,
    message: str,
    *,
    hold: Hold | None = None,
    selection: str | None = None,
    limits: str | None = None,
) -> None:
    """A run that ended so, with these options in its row."""
    table.change(leases.begin_run, RUN, table.batch_id, Owner("elsewhere", 1, True), table.now, selection, limits)
    table.change(leases.end_run, RUN, code, table.now, message, hold)


def test_jobs_on_which_no_run_is_at_work_wait_for_a_run_and_for_the_end_of_a_pause(
    table: Table, batchgen: Command
) -> None:
    table.sync("mona")
    shown = batchgen("status", "spring.yaml").stdout.splitlines()
    assert shown[1:] == ["  1 job waits for a run", "  no run is at work: `batchgen run spring.yaml` goes on"]
    (event,) = check_events(batchgen("status", "spring.yaml", "--json").stdout)
    assert [wait["for"] for wait in event["waits"]] == ["a run"]
    batchgen("pause", "spring.yaml")
    shown = batchgen("status", "spring.yaml").stdout.splitlines()
    assert shown[-1] == "  no run is at work: `batchgen run spring.yaml` goes on, once the pause has ended"


@pytest.mark.parametrize(
    ("code", "command"),
    [
        (2, "batchgen run spring.yaml --changed keep"),
        (5, None),  # by an older batchgen
        (4, "batchgen run spring.yaml"),
        (6, "batchgen run spring.yaml"),
        (8, "batchgen run spring.yaml"),
        (130, "batchgen run spring.yaml"),
    ],
)
def test_how_the_last_run_ended_is_how_the_next_one_goes_on(
    code: int, command: str | None, table: Table, batchgen: Command
) -> None:
    table.sync("mona")
    end_run(table, code, "the reason")
    shown = batchgen("status", "spring.yaml").stdout.splitlines()
    run = f"`{command or 'batchgen run spring.yaml'}`"
    goes_on = f"; {ExitCode(code).hint}: {run}" if code != 130 else f": {run} goes on"
    assert shown[-1] == f"  no run is at work{goes_on}"
    (event,) = check_events(batchgen("status", "spring.yaml", "--json").stdout)
    assert (event["next"], event["last_run"]["message"]) == (command, "the reason")
    batchgen("set", "spring.yaml", "max_cost=9")
    shown_again = batchgen("status", "spring.yaml").stdout
    assert shown_again.endswith("` goes on\n") is (code in (5, 130))
    assert ("the reason" in shown_again) is (code != 5), "how a limit is raised that was raised meanwhile is old news"


@pytest.mark.parametrize(
    ("selection", "options", "is_sent"),
    [
        ('{"only": ["mona"]}', "", True),
        ('{"only": ["m*"], "limit": 1}', "", True),
        ('{"only": ["gone"]}', " --only gone", False),
        ('{"sample": 2}', " --sample 2", False),
        ('{"sample": "x"}', " --sample x", False),
    ],
)
def test_the_run_without_a_selection_is_proposed_once_nothing_of_it_is_left(
    selection: str, options: str, is_sent: bool, table: Table, batchgen: Command
) -> None:
    table.bring(State.DONE)
    (table.folder / "mona.mp4").write_bytes(bytes(9))
    table.sync("mona", "lisa")
    end_run(table, 0, "every selected job is delivered", selection=selection, limits='{"max_cost": "9"}')
    run = f"batchgen run spring.yaml --max-cost 9{options}"
    shown = batchgen("status", "spring.yaml").stdout.splitlines()
    (event,) = check_events(batchgen("status", "spring.yaml", "--json").stdout)
    assert (event["next"], [wait["next"] for wait in event["waits"]]) == (run, [run])
    assert ("without the selection" in event["hint"]) is is_sent
    assert shown[-1] == "  no run is at work" + (f"; {event['hint']}: `{run}`" if is_sent else f": `{run}` goes on")


CAP, UNTIL = '{"max_cost": "2", "in_flight": "3"}', '{"until": "2026-11-28T08:00:00+00:00"}'


@pytest.mark.parametrize(
    ("hold", "limits", "assignment", "run", "command"),
    [
        (Hold.BUDGET, None, None, "", None),
        (Hold.BUDGET, CAP, None, " --max-cost … --in-flight 3", None),
        (Hold.BUDGET, CAP, "max_cost=1", "", "max_cost=…"),
        (Hold.TIME, UNTIL, None, " --until …", None),
        (Hold.TIME, None, "until=2026-11-28T08:00", "", "until=…"),
    ],
)
def test_the_limit_that_ended_the_last_run_is_named_where_it_is_raised(
    hold: Hold,
    limits: str | None,
    assignment: str | None,
    run: str,
    command: str | None,
    table: Table,
    batchgen: Command,
) -> None:
    table.sync("mona")
    if assignment:
        batchgen("set", "spring.yaml", assignment)
        table.now = clock.utcnow()
    end_run(table, 5, "the reason, in whatever words", hold=hold, limits=limits)
    set_it = command and f"batchgen set spring.yaml {command}"
    shown = batchgen("status", "spring.yaml").stdout.splitlines()[-1]
    (event,) = check_events(batchgen("status", "spring.yaml", "--json").stdout)
    assert shown == f"  no run is at work; {event['hint']}: `{set_it or f'batchgen run spring.yaml{run}'}`"
    assert [(wait["hint"], wait["next"]) for wait in event["waits"]] == [(event["hint"], event["next"])]
    assert (event["next"], "until" in event["hint"], "max_cost" in event["hint"]) == (
        set_it,
        hold is Hold.TIME and not set_it,
        hold is Hold.BUDGET and not set_it,
    )


@pytest.mark.parametrize(
    ("state", "following"),
    [
        (State.FAILED, "make the failed jobs pending again, then run (--new pays again for what is gone)"),
        (State.PENDING, ""),
    ],
)
def test_the_command_for_jobs_that_no_run_goes_on_with_is_shown(
    state: State, following: str, table: Table, batchgen: Command
) -> None:
    table.sync("mona")
    table.bring(state)
    shown = batchgen("status", "spring.yaml").stdout
    (event,) = check_events(batchgen("status", "spring.yaml", "--json").stdout)
    assert (f"  Next: {following}: `{event['next']}`\n" in shown) is bool(following)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("summer", "summer: this is the name of a batch; name its manifest: {folder}/spring.yaml"),
        ("summer-simulated", "…: this is the name of a batch; name its manifest: {folder}/spring.yaml --simulate"),
        ("spring", "spring: this is the name of a batch; name its manifest: {folder}/spring.yaml"),
        ("autumn", "autumn: there is no such manifest; did you mean autumn.yaml?\nThe job table "),
        ("sprng.yaml", "sprng.yaml: there is no such manifest; did you mean spring.yaml?\nThe job table "),
        ("autumn.yaml", "autumn.yaml: it is not in the job table "),
        ("videos", "videos: this is a folder; did you mean videos.yaml?"),
    ],
)
def test_a_name_that_stands_for_no_batch_is_answered_with_what_is_meant(
    name: str, says: str, table: Table, batchgen: Command
) -> None:
    for file in ("spring.yaml", "spring.csv", "autumn.yaml", "videos.yaml"):
        (table.folder / file).touch()
    (table.folder / "videos").mkdir()
    for batch in ("summer", "summer-simulated"):
        service = "simulator" if batch.endswith("simulated") else "aimlapi"
        table.sync("mona", batch=replace(table.batch, name=batch, service=service))
    refused = batchgen("status", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(says.replace("…", name).format(folder=table.folder)), refused.stderr


def test_the_table_of_a_manifest_opens_only_for_one_that_is_there_or_was_run(table: Table) -> None:
    db, was_run, is_there = table.folder / "batchgen.db", table.batch.manifest, table.folder / "autumn.yaml"
    table.sync("mona")
    is_there.touch()
    was_run.unlink(missing_ok=True)
    for manifest in (was_run, is_there, None):
        with open_table(db, manifest):
            pass
    with pytest.raises(UsageError, match="there is no such manifest"), open_table(db, table.folder / "nosuch.yaml"):
        pass

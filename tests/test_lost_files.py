"""A delivered file that was deleted, emptied or replaced is noticed, and what jobs wait for is said with its reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

import batchgen
from batchgen import clock as clock_module
from batchgen.errors import ExitCode
from batchgen.files.delivered import DeliveredFile, LostFile, loss_of
from batchgen.jobs import State
from batchgen.jobtable import delivery, polling, statistics
from batchgen.jobtable.delivery import LostFiles, PlacedFile
from batchgen.jobtable.leases import begin_run, end_run
from batchgen.jobtable.run_lock import Owner
from batchgen.jobtable.selection import Selection, select_jobs
from batchgen.limits import blockers
from batchgen.report.hints import advice
from batchgen.report.live_view import LiveView
from batchgen.report.progress import CAUSE_AGAIN, RunProgress
from batchgen.report.words import blocker_line, lost_lines
from batchgen.runs.ending import judge_run
from tests.conftest import NOON
from tests.scripted import ScriptedService, change_spec, context_of
from tests.stores import TestStore
from tests.table import MINUTE, RUN, SECOND, Table
from tests.test_retry import run_command

CONTENT = b"a delivered video"


def deliver(table: Table, key: str = "mona") -> Path:
    """A job whose file is at its place, as its row says."""
    table.bring(State.DOWNLOADING, key)
    (job,) = table.claim(State.DOWNLOADING)
    (output,) = job.outputs
    path = table.folder / job.output_path
    path.write_bytes(CONTENT)
    digest = sha256(CONTENT).hexdigest()
    assert table.change(delivery.placed, job, RUN, output, PlacedFile(len(CONTENT), digest, job.output_path), table.now)
    return path


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


def move_and_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere.mp4"))
    path.symlink_to("elsewhere.mp4")


DAMAGES: list[tuple[str, Callable[[Path], Any], str, str]] = [
    # what somebody does to the file, the fault that is seen by its size, and by its content
    ("nothing", lambda path: None, "", ""),
    ("deleted", Path.unlink, "is missing", "is missing"),
    ("moved", lambda path: path.rename(path.with_name("x")), "is missing", "is missing"),
    ("emptied", lambda path: path.write_bytes(b""), "is empty", "is empty"),
    ("cut", lambda path: path.write_bytes(CONTENT[:5]), "has 5 bytes, and had 17", "has 5 bytes"),
    ("longer", lambda path: path.write_bytes(CONTENT * 2), "has 34 bytes, and had 17", "has 34 bytes"),
    ("replaced by a folder", become_folder, "is no file any more", "is no file any more"),
    ("a link to nowhere", link_to_nowhere, "is missing", "is missing"),
    ("moved, with a link in its place", move_and_link, "", ""),
    ("changed in its content", lambda path: path.write_bytes(CONTENT.upper()), "", "has other content"),
]


def lost(table: Table, *, verify: bool = False) -> list[str]:
    files = table.database.read_now(delivery.lost_files, table.batch_id, table.folder, verify=verify)
    return [str(file) for file in files.files]


@pytest.mark.parametrize(("name", "damage", "by_size", "by_content"), DAMAGES, ids=[row[0] for row in DAMAGES])
def test_a_delivered_file_that_is_not_there_as_it_was_is_noticed(
    table: Table, name: str, damage: Callable[[Path], Any], by_size: str, by_content: str
) -> None:
    damage(deliver(table))
    assert lost(table) == ([f"mona.mp4 (job mona) {by_size}"] if by_size else [])
    texts = lost(table, verify=True)
    assert [by_content in text for text in texts] == [True] * bool(by_content)


def test_a_run_does_not_say_that_all_is_delivered_while_a_file_is_missing(table: Table, clock: Clock) -> None:
    path = deliver(table)
    context = context_of(table, ScriptedService())
    whole = table.database.read_now(judge_run, context, None, NOON)
    assert (whole.exit_code, whole.message) == (ExitCode.DELIVERED, "every job is delivered")
    path.write_bytes(CONTENT.upper())
    assert table.database.read_now(judge_run, context, None, NOON).exit_code is ExitCode.DELIVERED
    verified = table.database.read_now(judge_run, context, None, NOON, verify=True)
    assert "mona.mp4 (job mona) has other content" in verified.message
    path.unlink()
    ending = table.database.read_now(judge_run, context, None, NOON)
    assert ending.exit_code is ExitCode.INCOMPLETE
    assert ending.message == "every job is delivered; but mona.mp4 (job mona) is missing"
    table.change(begin_run, "batchgen-2", table.batch_id, Owner("another machine", 1, holds_lock=False), NOON)
    ending = table.database.read_now(judge_run, context, None, NOON)
    assert "other machines worked on this batch, and may have them" in lost_lines(ending.lost, "batchgen retry")[0]
    assert ending.message.endswith("may have them")


def test_a_missing_file_hides_neither_the_jobs_that_were_not_selected_nor_a_log_that_was_silent(
    table: Table, clock: Clock
) -> None:
    deliver(table).unlink()
    table.sync("mona", "lisa")
    selected = table.database.read_now(select_jobs, table.batch_id, Selection(only=("mona",)))
    context = context_of(table, ScriptedService())
    change_spec(context, selected=selected)
    context.uncompared = "no answer"
    ending = table.database.read_now(judge_run, context, None, NOON)
    assert ending.message.startswith("every selected job is delivered; 1 more was not selected; what was paid")
    assert ending.message.endswith("; but mona.mp4 (job mona) is missing")


def test_the_advice_for_lost_files_is_a_command_to_type() -> None:
    file = DeliveredFile("it's 1", 1, "a.mp4", 9, "")
    one = LostFiles([LostFile(file, "is missing")], 1)
    assert lost_lines(one, "batchgen retry m.yaml") == [
        "1 delivered file not there as delivered: a.mp4 (job it's 1) is missing",
        '`batchgen retry m.yaml --download "it\'s 1"`, then a run, fetches what is lost for nothing',
    ]
    two = LostFiles([*one.files, LostFile(replace(file, key="b"), "has other content than")], 2)
    assert '--download "it\'s 1" b`, then a run, fetches what' in lost_lines(two, "batchgen retry m.yaml")[1]
    seven = LostFiles(one.files * 7, 900, is_all=False)
    first, second, third = lost_lines(seven, "batchgen retry m.yaml")
    assert first.startswith("7 delivered files not there as delivered: ")
    assert first.endswith("; and 2 more")
    assert second == "`batchgen retry m.yaml --download`, then a run, fetches what is lost for nothing"
    assert "900 newest delivered files only" in third


def test_looking_for_files_ends_in_time(table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(clock_module, "utcnow", lambda: NOON + MINUTE)
    for key in "abc":
        deliver(table, key)
    files = table.database.read_now(delivery.lost_files, table.batch_id, table.folder, until=NOON + SECOND)
    assert (files.checked, files.is_all) == (1, False)


def test_a_file_that_cannot_be_looked_at_is_not_called_lost(table: Table) -> None:
    path = deliver(table)
    path.unlink()
    path.symlink_to(path.name)
    lost = table.database.read_now(delivery.lost_files, table.batch_id, table.folder)
    assert (lost.files, "mona.mp4: cannot be read: Too many levels" in lost.unreadable) == ([], True)
    result = run_command(table, "retry", "--download")
    assert "Nothing has been changed." in str(result.exception)


def test_the_files_of_a_bucket_that_is_gone_are_not_called_lost(bucket: TestStore, tmp_path: Path) -> None:
    missing = DeliveredFile("mona", 1, f"{bucket.url}/mona.mp4", 9, "")
    assert loss_of(tmp_path, missing, verify=False) == LostFile(missing, "is missing")
    with pytest.raises(OSError, match="there is no such bucket"):
        loss_of(tmp_path, replace(missing, path="s3://gone/mona.mp4"), verify=False)


@pytest.mark.parametrize("ids", [["mona"], []], ids=["by its id", "without ids"])
def test_retry_download_fetches_what_is_lost_and_nothing_else(table: Table, ids: list[str]) -> None:
    deliver(table, "lisa")
    deliver(table).unlink()
    table.bring(State.PENDING, "anna")
    result = run_command(table, "retry", *ids, "--download")
    assert "the file will be fetched again, for nothing: mona" in result.output
    assert table.states() == {"lisa": "done", "mona": "downloading", "anna": "pending"}
    assert len(table.attempts()) == 2


def test_files_of_another_content_are_fetched_as_a_run_that_reads_them_advises(table: Table) -> None:
    for key in ("lisa", "mona"):
        deliver(table, key).write_bytes(CONTENT.upper())
    deliver(table, "anna")
    result = run_command(table, "retry", "--download")
    assert "the file will be fetched again, for nothing: lisa, mona" in result.output
    assert table.states() == {"lisa": "downloading", "mona": "downloading", "anna": "done"}


def test_a_file_that_is_there_is_not_fetched_again(table: Table) -> None:
    deliver(table)
    before = table.everything()
    for flags in ([], ["--download"], ["--new"]):
        result = run_command(table, "retry", "mona", *flags)
        assert (result.exit_code, result.exception is not None) != (0, False)
        assert "the file is there as it was" in str(result.exception or result.output)
    assert table.everything() == before


def test_status_shows_lost_files_remarks_and_how_the_last_run_ended(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(table).unlink()
    table.bring(State.PENDING, "anna")
    table.change(begin_run, RUN, table.batch_id, Owner("host", 1, True), NOON)
    table.change(end_run, RUN, 4, NOON, "the account has no credits left")
    table.change(lambda c: c.exec_driver_sql("UPDATE outputs SET remark = 'without 2 bytes'"))
    output = run_command(table, "status").output
    assert "mona.mp4 (job mona) is missing" in output
    assert "retry" in output
    assert "--download mona`, then a run, fetches what is lost for nothing" in output
    assert "remark: mona: mona.mp4: without 2 bytes" in output
    assert "the last run ended" in output
    assert "the account has no credits left" in output
    (document,) = map(json.loads, run_command(table, "status", "--json").output.splitlines())
    assert document["missing"] == [{"id": "mona", "path": "mona.mp4", "fault": "is missing"}]
    assert document["remarks"] == ["mona: mona.mp4: without 2 bytes"]
    assert (document["last_run"]["exit_code"], document["waits"][0]["cause"]) == (4, None)
    (status,) = batchgen.status(table.folder / "spring.yaml", verify=True)
    assert [lost_file.file.key for lost_file in status.lost.files] == ["mona"]


# --- why jobs wait ---------------------------------------------------------------------------------------------------


def wait_for_downloads(table: Table, reason: str, *keys: str, tries: int = 3) -> None:
    for key in keys:
        table.bring(State.DOWNLOADING, key)
    table.bury()
    for _ in range(tries):
        for job in table.claim(State.DOWNLOADING):
            table.change(delivery.postponed, job, RUN, reason.replace("KEY", job.key), table.now)


def test_what_waits_says_why_with_a_job_and_how_many_are_alike(table: Table) -> None:
    wait_for_downloads(table, "the file server files.test: connection refused", "a", "b", "c")
    (blocker,) = table.database.read_now(blockers.blockers, table.batch_id, table.now)
    words = "3 jobs wait for downloads: the file server files.test: connection refused (job a and 2 more)"
    assert blocker_line(blocker, table.now) == words
    later = blocker_line(blocker, table.now - 9 * SECOND)
    assert later == f"{words}; next check in 9 s"


def test_the_end_of_a_lease_is_not_called_the_next_check(table: Table) -> None:
    table.bring(State.DOWNLOADING, "a")
    table.claim(State.DOWNLOADING)
    (blocker,) = table.database.read_now(blockers.blockers, table.batch_id, table.now)
    assert blocker_line(blocker, table.now) == "1 job waits for downloads"


def test_reasons_that_differ_in_their_figures_are_alike(table: Table) -> None:
    for key in ("a", "b"):
        table.bring(State.GENERATING, key)
    for number, job in enumerate(table.claim(State.GENERATING)):
        table.change(polling.unanswered, job, RUN, f"502: trace {number}af3", table.now)
    (blocker,) = table.database.read_now(blockers.blockers, table.batch_id, table.now)
    assert str(blocker) == "2 jobs wait for generations at the service: 502: trace 0af3 (job a and 1 more)"


def test_the_end_of_a_run_says_why_jobs_wait(table: Table, clock: Clock) -> None:
    wait_for_downloads(table, "no route to files.test", "a", tries=8)
    ending = table.database.read_now(judge_run, context_of(table, ScriptedService()), None, NOON)
    assert ending.exit_code is ExitCode.INCOMPLETE
    assert ending.message == ("1 of 1 jobs is not delivered; 1 job waits for downloads: no route to files.test (job a)")
    assert [blocker.cause for blocker in ending.blockers] == ["no route to files.test"]


async def test_a_run_says_once_why_jobs_wait_and_again_when_the_reason_changes_or_much_later(
    table: Table, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    wait_for_downloads(table, "503 after 3 bytes", "a", tries=2)
    stream = io.StringIO()
    progress = RunProgress(
        *(table.database, table.batch_id, "spring", 10**9, "batchgen {}".format, lambda: ("", advice(""))),
        stream=stream,
        as_json=True,
    )
    summary = table.database.read_now(statistics.batch_summary, table.batch_id, NOON)
    view = LiveView("spring", NOON, 0, summary)

    async def lines() -> list[str]:
        before = len(stream.getvalue())
        progress.last_line_at = clock_module.utcnow()  # only causes, not the line after a silence
        await progress.show_summary(view)
        return [line[10:] for line in stream.getvalue()[before:].splitlines()]

    assert await lines() == [], "a few failures pass by themselves"
    wait_for_downloads(table, "503 after 3 bytes", tries=1)
    assert await lines() == ["1 job waits for downloads: 503 after 3 bytes (job a)"]
    wait_for_downloads(table, "503 after 4 bytes", tries=1)
    assert await lines() == [], "only its figures are new"
    wait_for_downloads(table, "connection refused", tries=1)
    assert await lines() == ["1 job waits for downloads: connection refused (job a)"]
    clock.tick(CAUSE_AGAIN)
    assert await lines() == ["1 job waits for downloads: connection refused (job a)"]
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(event["event"], event["job"], event["for"]) for event in events} == {("waiting", "a", "downloads")}
    assert events[-1]["cause"] == "connection refused"

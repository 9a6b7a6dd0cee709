"""The commands on one batch: run --json, status, retry, cancel, resolve, check, simulate; edits of a manifest."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx2 as httpx
import pytest

from batchgen import cli
from batchgen.advice.command_line import TAKE_SIMULATE, command_line, typed_again, with_ids
from batchgen.errors import ExitCode
from batchgen.report.terminal import OutputStream
from batchgen.services.text import is_harmless
from tests.batches import MASTER, TEXT_MODEL, Bill, check_delivered, write_image, write_manifest
from tests.conftest import Command, Launch, Simulate, Simulator
from tests.forks import Fork
from tests.waiting import rows, states, until

pytestmark = pytest.mark.slow


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_are_all_of_standard_output_and_report_every_transition(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2)
    ended = batchgen("run", "m.yaml", "--json", "--log-file", "log", **simulator.environment)
    first, *following, done = lines_of(ended.stdout)
    # On a machine under load, the run says that it waits for the service's prices and log.
    notices = [line["message"] for line in following if line["event"] == "notice" and line["message"]]
    moved = [line for line in following if line["event"] != "notice"]
    assert (ended.returncode, len(ended.stderr.splitlines())) == (0, len(notices))
    assert (first["event"], first["batch"], first["new"]) == ("enrolled", "m", 2)
    assert {line["event"] for line in moved} == {"moved"}
    assert [line["to"] for line in moved if line["id"] == "clip-1"] == [
        "submitting",
        "generating",
        "downloading",
        "done",
    ]
    assert done["message"] == "every job is delivered"
    assert (done["event"], done["exit_code"], done["jobs"], done["states"]["done"]) == ("done", 0, 2, 2)
    assert len((tmp_path / "log").read_text().splitlines()) == len(moved) + len(notices)
    assert "delivered m/clip-1.mp4" in (tmp_path / "log").read_text()


def test_a_run_goes_on_when_the_reader_of_its_output_is_gone(
    tmp_path: Path, simulate: Simulate, launch: Launch
) -> None:
    simulator = simulate(speed=1_000)
    write_manifest(tmp_path / "m.yaml", 4)
    running = launch("run", "m.yaml", "--json", **simulator.environment)
    assert running.process.stdout
    running.process.stdout.readline()
    running.process.stdout.close()
    assert running.process.wait(60) == 0
    assert running.process.stderr
    assert running.process.stderr.read() == ""
    check_delivered(tmp_path, tmp_path / "batchgen.db")


def test_status_shows_a_batch_while_it_runs_and_after(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=1)
    folder = tmp_path / "work"
    write_manifest(folder / "m.yaml", 3)
    running = launch("run", "work/m.yaml", **simulator.environment)
    until(lambda: states(folder / "batchgen.db").get("generating") == 3)
    during = batchgen("status", "work/m.yaml")
    assert during.stdout.startswith("m: 3 generating; $")
    assert "3 jobs wait for generations at the service" in during.stdout
    assert "1 run at work" in during.stdout
    status = lines_of(batchgen("status", "work/../work/m.yaml", "--json").stdout)[0]
    assert (status["states"]["generating"], status["runs"], status["waits"][0]["jobs"]) == (3, 1, 3)
    # A poll that is on the wire has no time.
    until(lambda: lines_of(batchgen("status", "work/m.yaml", "--json").stdout)[0]["waits"][0]["until"])
    running.signal(signal.SIGKILL)
    running.end()
    folder.rename(tmp_path / "moved")
    after = batchgen("status", "moved/m.yaml")
    assert (after.returncode, after.stderr) == (0, "")
    assert "no run is at work: `batchgen run moved/m.yaml` goes on" in after.stdout
    assert batchgen("status", "--db", "moved/batchgen.db").stdout.startswith("m: 3 generating; $")


def test_a_manifest_that_was_renamed_is_found_by_the_name_it_had(tmp_path: Path, batchgen: Command) -> None:
    manifest = write_manifest(tmp_path / "spring.yaml")
    assert batchgen("run", "spring.yaml", "--enroll").returncode == 0
    manifest.rename(tmp_path / "summer.yaml")
    has = f"it is not in the job table {tmp_path}/batchgen.db, which has {manifest}"
    assert batchgen("status", "summer.yaml").stderr == f"summer.yaml: {has}; if it was renamed, name it as it was\n"
    assert batchgen("status", "spring.yaml").stdout.startswith("spring: 1 pending")


def test_a_batch_that_was_copied_with_its_table_can_be_read_and_judged_but_is_not_run_twice(
    tmp_path: Path, batchgen: Command
) -> None:
    manifest = write_manifest(tmp_path / "work" / "m.yaml", 2, service="simulator")
    assert batchgen("run", manifest, "--limit", "1").returncode == 0
    shutil.copytree(manifest.parent, tmp_path / "colleague")
    copied = Path("work/../colleague/m.yaml")
    next((tmp_path / "work/simulated").rglob("*.mp4")).unlink()
    assert "1 pending, 1 done" in batchgen("status", copied).stdout
    exported = batchgen("export", copied, "--format", "csv", "-o", "colleague/clips.csv")
    assert (exported.returncode, exported.stderr) == (0, "colleague/clips.csv: 1 clip of m-simulated\n")
    assert batchgen("report", copied).returncode == 0
    next((tmp_path / "colleague/simulated").rglob("*.mp4")).unlink()
    status = batchgen("status", copied).stdout
    assert "1 delivered file not there" in status
    goes_on = f"this is a copy: the batch goes on where it was copied from, {manifest}"
    assert (goes_on in status, "`" in status) == (True, False), "a copy refuses run and retry, so none is advised"
    without_manifest = batchgen("status", "--db", "colleague/batchgen.db").stdout
    assert (goes_on in without_manifest, "`" in without_manifest) == (True, False)
    document = json.loads(batchgen("status", copied, "--json").stdout)
    hints = [(entry["hint"], entry["next"]) for entry in (document, *document["waits"])]
    assert set(hints) == {(goes_on, None)} and len(hints) > 1
    lost = batchgen("export", copied, "--format", "csv")
    assert ("1 delivered file not there" in lost.stderr, "retry" in lost.stderr) == (True, False)
    for steering in ("pause", "set max_cost=1", "cancel", "retry", "resume", "prioritize j1", "resolve"):
        name, *words = steering.split()
        refused = batchgen(name, copied, *words)
        assert (refused.returncode, f"was copied from: name {manifest}. Nothing" in refused.stderr) == (2, True), name
    refused = batchgen("run", copied)
    assert (refused.returncode, "two of them would pay twice" in refused.stderr) == (2, True)
    (tmp_path / "colleague/batchgen.db").rename(tmp_path / "other.db")
    assert "is not in the job table" in batchgen("status", copied, "--db", "other.db").stderr


def test_in_a_copied_folder_commands_steer_the_batch_that_was_begun_there(tmp_path: Path, batchgen: Command) -> None:
    manifest = write_manifest(tmp_path / "work" / "m.yaml")
    assert batchgen("run", manifest, "--enroll").returncode == 0
    shutil.copytree(manifest.parent, tmp_path / "colleague")
    own = write_manifest(tmp_path / "colleague" / "m.yaml", batch="own", service="simulator")
    assert batchgen("run", own, "--enroll").returncode == 0
    assert batchgen("pause", own).returncode == 0
    lines = lines_of(batchgen("status", own, "--json").stdout)
    assert {line["batch"]: bool(line["paused_at"]) for line in lines} == {"m": False, "own-simulated": True}


def test_a_manifest_never_stands_for_the_batch_of_another_one_of_its_name(batchgen: Command, tmp_path: Path) -> None:
    """As on a server, where each has the batch that a manifest.yaml on the other's machine made."""
    for name in ("bob", "alice"):
        write_manifest(tmp_path / name / "m.yaml", 2, batch=name)
        assert batchgen("run", f"{name}/m.yaml", "--enroll", "--db", "shared.db").returncode == 0
    (tmp_path / "alice").rename(tmp_path / "gone")
    assert batchgen("status", "bob/m.yaml", "--db", "shared.db").stdout.startswith("bob: 2 pending")
    batchgen("cancel", "bob/m.yaml", "clip-0", "--db", "shared.db")
    (tmp_path / "bob").rename(tmp_path / "new")
    refused = batchgen("cancel", "new/m.yaml", "--db", "shared.db")
    assert refused.returncode == 2
    assert f"Name one of them by its path: {tmp_path / 'alice/m.yaml'}, {tmp_path / 'bob/m.yaml'}" in refused.stderr
    rows_of = batchgen(
        "sql",
        "SELECT batch, count(*) FROM job_overview WHERE state = 'cancelled' GROUP BY 1",
        "--csv",
        "--db",
        "shared.db",
    )
    assert rows_of.stdout == "batch,count(*)\nbob,1\n"


def test_a_batch_of_a_moved_manifest_is_not_hidden_by_a_simulation_since(batchgen: Command, tmp_path: Path) -> None:
    write_manifest(tmp_path / "old" / "m.yaml", 1)
    assert batchgen("run", "old/m.yaml", "--enroll", "--db", "shared.db").returncode == 0
    (tmp_path / "old").rename(tmp_path / "new")
    assert batchgen("run", "new/m.yaml", "--simulate", "--db", "shared.db").returncode == 0
    shown = batchgen("status", "new/m.yaml", "--db", "shared.db").stdout
    assert "m: 1 pending" in shown and "m-simulated: 1 done" in shown
    assert batchgen("cancel", "new/m.yaml", "--db", "shared.db").stdout.startswith("1 job cancelled:")


def test_a_command_to_type_is_on_the_same_batch_in_the_same_table(tmp_path: Path, batchgen: Command) -> None:
    """Else it would buy what is simulated, or begin a second job table."""
    manifest = write_manifest(tmp_path / "work" / "m.yaml", 2)
    table = tmp_path / "other.db"
    assert batchgen("run", manifest, "--simulate", "--limit", "1", "--db", "other.db").returncode == 0
    shown = batchgen("status", manifest, "--db", "other.db")
    assert (
        f"a run without the selection sends the rest: `batchgen run {manifest} --simulate --db other.db`"
        in shown.stdout
    )
    status = lines_of(batchgen("status", manifest, "--db", "other.db", "--json").stdout)[0]
    assert status["next"] == f"batchgen run {manifest} --simulate --db other.db"
    shown = batchgen("run", manifest, "--simulate", "--max-cost", "1.5", "--only", "clip-*", "--db", "other.db")
    assert shown.returncode == 5, shown.stderr
    shown = batchgen("status", manifest, "--db", "other.db")
    assert f": `batchgen run {manifest} --simulate --db other.db --max-cost … --only 'clip-*'`" in shown.stdout
    next((tmp_path / "work/simulated").rglob("*.mp4")).unlink()
    exported = batchgen("export", manifest, "--simulate", "--db", "other.db", "--format", "csv", "-o", "clips.csv")
    assert re.search(rf"`batchgen retry {manifest} --simulate --db other.db --download clip-\d`", exported.stderr)
    table.rename(tmp_path / "batchgen.db")
    assert f"`batchgen run {manifest} --simulate --db batchgen.db --max-cost" in batchgen("status").stdout
    assert command_line("models", "m.yaml", simulate=True) == "batchgen models m.yaml"


def test_the_simulation_of_a_manifest_is_shown_alone_where_it_is_asked_for(tmp_path: Path, batchgen: Command) -> None:
    manifest = write_manifest(tmp_path / "m.yaml")
    assert batchgen("run", manifest.name, "--enroll").returncode == 0
    for words in ((manifest.name,), ()):
        refused = batchgen("status", *words, "--simulate")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.endswith(": not run with --simulate yet\n")
    assert batchgen("run", manifest.name, "--enroll", "--simulate").returncode == 0
    both = [line["batch"] for line in lines_of(batchgen("status", manifest.name, "--json").stdout)]
    for words in ((manifest.name,), ()):
        shown = lines_of(batchgen("status", *words, "--simulate", "--json").stdout)
        assert [line["batch"] for line in shown] == [both[1]]
    assert both[1] == f"{both[0]}-simulated"
    watched = batchgen("status", manifest.name, "--simulate", "--watch").stderr
    assert watched == f"no run is at work on {both[1]}: there is nothing to watch\n"


def test_a_manifest_of_the_simulator_means_its_newest_batch_where_it_was_renamed(
    tmp_path: Path, batchgen: Command
) -> None:
    for name in ("first", "second"):
        manifest = write_manifest(tmp_path / "m.yaml", batch=name, service="simulator")
        assert batchgen("run", manifest.name, "--enroll").returncode == 0
    assert batchgen("pause", manifest.name).returncode == 0
    lines = lines_of(batchgen("status", manifest.name, "--json").stdout)
    assert {line["batch"]: bool(line["paused_at"]) for line in lines} == {
        "first-simulated": False,
        "second-simulated": True,
    }


FOLDERS = {
    "blanks": "my photos  of  spring",
    "a blank that breaks no line": "photos\xa0été",
    "the blank of Japanese": "写真\u3000一",
    "a joined emoji": "👩\u200d💻",
    "quotes": 'it\'s "$HOME" `x` \\n !',
    "a turn of direction": "a\u202e'\\b7",
    "line ends and escapes": "a\n\t\x1b[31m9",
    "no text": "caf\udce98",
}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS)
def test_a_shell_reads_a_command_to_type_exactly(folder: str) -> None:
    shown = io.StringIO()
    for line in (
        with_ids(command_line("retry", f"{folder}/m.yaml", db=f"{folder}/b.db"), [folder]),
        typed_again(["retry", f"{folder}/m.yaml", "--db", f"{folder}/b.db", folder]),
    ):
        OutputStream(shown).write(line)
    script = f"batchgen() {{ printf '%s\\0' \"$@\"; }}\n{shown.getvalue()}"
    read = subprocess.run(["bash", "-c", script.encode("utf-8", "surrogateescape")], stdout=subprocess.PIPE, check=True)
    words = [os.fsdecode(word) for word in read.stdout.split(b"\0")[:-1]]
    assert words == ["retry", f"{folder}/m.yaml", "--db", f"{folder}/b.db", folder] * 2
    if all(map(is_harmless, folder)):
        assert shlex.split(shown.getvalue()) == (["batchgen", *words[:5]]) * 2


def test_an_id_that_reads_like_an_option_is_an_id_in_a_command_to_type(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", [{"id": "--new", "prompt": "A cat."}], service="simulator")
    assert batchgen("run", "m.yaml").returncode == 0
    (video,) = tmp_path.rglob("*.mp4")
    video.unlink()
    shown = batchgen("status", "m.yaml").stdout
    command = "batchgen retry m.yaml --simulate --download -- --new"
    assert f"`{command}`" in shown
    assert batchgen(*shlex.split(command)[1:]).stdout.endswith("for nothing: --new\n")
    assert batchgen("sql", "SELECT count(*) FROM ledger", "--csv").stdout.split()[1] == "1"
    (document,) = map(json.loads, batchgen("cancel", "m.yaml", "--json", "--", "--new").stdout.splitlines())
    assert document["next"] == "batchgen retry m.yaml --simulate -- --new"


def test_a_command_to_type_has_only_options_that_it_takes() -> None:
    loaded = {name: cli.load(name) for name in cli.COMMANDS}
    takers = {name for name, command in loaded.items() for part in parts(command) if "simulate" in names_of(part)}
    assert takers == set(TAKE_SIMULATE), "TAKE_SIMULATE in advice/command_line.py lists them"


def parts(command: click.Command) -> list[click.Command]:
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


def names_of(command: click.Command) -> set[str | None]:
    return {parameter.name for parameter in command.params}


@dataclass(frozen=True)
class FailedRun:
    """A run on three jobs, of which one has failed."""

    ended: subprocess.CompletedProcess[str]
    environment: dict[str, str]
    database: Path
    failed: str
    """The id of that job."""
    done: str
    """The id of another one."""


@pytest.fixture
def failed_run(tmp_path: Path, simulate: Simulate, batchgen: Command) -> FailedRun:
    simulator = simulate(faults={"fetch": {"generation_error": {"count": 1}}})
    write_manifest(tmp_path / "m.yaml", 3)
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 3
    database = tmp_path / "batchgen.db"
    keys = {row["state"]: row["key"] for row in rows(database, "SELECT key, state FROM jobs")}
    return FailedRun(ended, simulator.environment, database, keys["failed"], keys["done"])


def test_a_run_with_a_failed_job_says_how_to_go_on_and_status_says_why_it_failed(
    failed_run: FailedRun, batchgen: Command
) -> None:
    assert "2 done, 1 failed" in failed_run.ended.stdout
    assert "1 of 3 jobs is not delivered" in failed_run.ended.stdout
    assert "Next: make the failed jobs pending again, then run" in failed_run.ended.stderr
    assert ": `batchgen retry m.yaml`" in failed_run.ended.stderr
    (row,) = rows(failed_run.database, "SELECT error FROM jobs WHERE state = 'failed'")
    assert f"{failed_run.failed} failed: {row['error']}" in batchgen("status", "m.yaml").stdout


def test_failed_jobs_are_retried_all_or_none(failed_run: FailedRun, batchgen: Command) -> None:
    wrong = batchgen("retry", "m.yaml", "clip-9", failed_run.failed)
    assert (wrong.returncode, states(failed_run.database)["failed"]) == (2, 1)
    assert "clip-9: there is no such job in this batch" in wrong.stderr
    no_text = batchgen("retry", "m.yaml", "caf\udce9", failed_run.failed)
    assert (no_text.returncode, "there is no such job in this batch" in no_text.stderr) == (2, True)
    retried = batchgen("retry", "m.yaml")
    assert retried.stdout == f"1 job pending again: {failed_run.failed}\n"
    assert "`batchgen run m.yaml`" in retried.stderr
    assert "there is nothing to retry" in batchgen("retry", "m.yaml").stdout


def test_a_cancelled_job_is_left_out_and_a_delivered_one_is_not_cancelled(
    failed_run: FailedRun, batchgen: Command
) -> None:
    batchgen("retry", "m.yaml")
    assert batchgen("cancel", "m.yaml").stdout.startswith(f"1 job cancelled:\n  {failed_run.failed}: ")
    ended = batchgen("run", "m.yaml", **failed_run.environment)
    assert ended.returncode == 0
    assert "2 done, 1 cancelled" in ended.stdout
    assert "; every job is delivered, but 1 was cancelled" in ended.stdout
    assert f"{failed_run.done}: it is done" in batchgen("cancel", "m.yaml", failed_run.done).stderr


def test_a_cancelled_job_that_is_retried_by_its_id_is_delivered_and_its_history_kept(
    tmp_path: Path, failed_run: FailedRun, batchgen: Command
) -> None:
    batchgen("retry", "m.yaml")
    batchgen("cancel", "m.yaml")
    assert batchgen("retry", "m.yaml", failed_run.failed).returncode == 0
    assert batchgen("run", "m.yaml", **failed_run.environment).returncode == 0
    check_delivered(tmp_path, failed_run.database)
    history = rows(
        failed_run.database,
        "SELECT to_state FROM events JOIN jobs ON jobs.id = job_id WHERE key = ? ORDER BY events.id",
        failed_run.failed,
    )
    first = ["pending", "submitting", "generating", "failed"]
    assert [row["to_state"] for row in history] == [
        *first, "pending", "cancelled", "pending", "submitting", "generating", "downloading", "done"
    ]  # fmt: skip
    attempts = rows(
        failed_run.database,
        "SELECT outcome FROM attempts JOIN jobs ON jobs.id = job_id WHERE key = ?",
        failed_run.failed,
    )
    assert len(attempts) == 2


@dataclass(frozen=True)
class HeldRun:
    """A run on three jobs, whose answers were all lost: each is held for a person."""

    ended: subprocess.CompletedProcess[str]
    simulator: Simulator
    request_ids: dict[str, str]
    """Of each job, the client request id."""

    def generation_of(self, key: str) -> str:
        """The generation that the service has made for a job."""
        ids = {row["client_request_id"]: row["id"] for row in Bill(self.simulator.ledger).accepted}
        return str(ids[self.request_ids[key]])


@pytest.fixture
def held_run(tmp_path: Path, simulate: Simulate, batchgen: Command) -> HeldRun:
    faults = {"create": {"accept_then_drop": {"count": 3}}, "log": {"missing": 1}}
    simulator = simulate("--lag", "0", faults=faults)
    limits = {"submits_per_minute": 60_000, "unconfirmed_minutes": 0.001}
    write_manifest(tmp_path / "m.yaml", 3, limits=limits)
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 3
    query = "SELECT key, client_request_id FROM attempts JOIN jobs ON jobs.id = job_id"
    request_ids = {row["key"]: row["client_request_id"] for row in rows(tmp_path / "batchgen.db", query)}
    return HeldRun(ended, simulator, request_ids)


def test_a_job_whose_answer_was_lost_is_held_for_a_person(held_run: HeldRun, batchgen: Command) -> None:
    assert "3 unconfirmed (3 held for a person)" in held_run.ended.stdout
    assert "for a person: `batchgen resolve m.yaml`" in held_run.ended.stderr
    status = batchgen("status", "m.yaml").stdout
    assert "3 jobs wait for a person (batchgen resolve)" in status
    assert "for a person: `batchgen resolve m.yaml`\n" in status
    shown = batchgen("resolve", "m.yaml").stdout
    assert all(key in shown and request_id in shown for key, request_id in held_run.request_ids.items())


@pytest.mark.usefixtures("held_run")
def test_a_slip_of_the_person_who_settles_a_held_job_is_refused(batchgen: Command) -> None:
    assert batchgen("resolve", "m.yaml", "--found", "x").returncode == 2
    assert batchgen("resolve", "m.yaml", "nobody", "--give-up").returncode == 2
    for slip in (" ", "g-1 ", "a\x1b[2Jb", "g" * 501):
        refused = batchgen("resolve", "m.yaml", "clip-0", "--found", slip)
        assert (refused.returncode, "is no id of a generation" in refused.stderr) == (2, True)
        assert "\x1b" not in refused.stderr


def test_a_person_settles_held_jobs_by_a_generation_by_another_request_or_by_giving_up(
    held_run: HeldRun, batchgen: Command
) -> None:
    generation = held_run.generation_of("clip-0")
    for generation_id in ("a-slip-of-the-pen", generation):
        settled = batchgen("resolve", "m.yaml", "clip-0", "--found", generation_id)
        assert settled.stdout == "1 job settled: clip-0\n"
    taken = batchgen("resolve", "m.yaml", "clip-1", "--found", generation)
    assert (taken.returncode, "belongs to another request" in taken.stderr) == (2, True)
    assert "belongs to another request" not in batchgen("resolve", "m.yaml", "clip-1").stdout, "nothing has changed"
    assert "stays reserved, until `batchgen reconcile" in batchgen("resolve", "m.yaml", "clip-1", "--resubmit").stderr
    assert batchgen("resolve", "m.yaml", "clip-2", "--give-up").returncode == 0
    assert batchgen("resolve", "m.yaml").stdout == "no job is held for a person\n"

    ended = batchgen("run", "m.yaml", **held_run.simulator.environment)
    assert ended.returncode == 3
    assert "2 done, 1 failed" in ended.stdout
    assert Bill(held_run.simulator.ledger).duplicates == 1  # the one that --resubmit paid for


def test_check_counts_the_jobs_of_a_manifest_and_writes_nothing(tmp_path: Path, batchgen: Command) -> None:
    jobs = [
        {"id": "a", "prompt": "x"},
        {"id": "b", "model": MASTER, "image_url": "http://e.invalid/x.png", "prompt": "y"},
    ]
    write_manifest(tmp_path / "m.yaml", jobs, batch="spring")
    ended = batchgen("check", "m.yaml")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"spring: 2 jobs, all valid\n       1  {TEXT_MODEL}\n       1  {MASTER}\n"
    document = json.loads(batchgen("check", "m.yaml", "--json").stdout)
    assert document == {
        "event": "checked",
        "batch": "spring",
        "jobs": 2,
        "models": {TEXT_MODEL: 1, MASTER: 1},
        "warnings": [],
        "hint": "`plan` says what a run would cost",
        "next": "batchgen plan m.yaml",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["m.yaml"]
    (tmp_path / "m.yaml").write_text("jobs: []\n")
    ended = batchgen("check", "m.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("m.yaml:1:1: the manifest has no jobs\n")


def test_the_simulator_serves_any_client(tmp_path: Path) -> None:
    command = ["-m", "batchgen", "simulate", "--port", "0", "--speed", "6000", "--ledger", "ledger"]
    with Fork(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        base_url = process.stdout.readline().strip()
        with httpx.Client(base_url=base_url, headers={"Authorization": "Bearer anything"}) as client:
            body = {"model": TEXT_MODEL, "prompt": "A client of its own."}
            generation = client.post("/v2/video/generations", json=body).raise_for_status().json()
            query = {"generation_id": generation["id"]}

            def finished() -> Any:
                answer = client.get("/v2/video/generations", params=query).raise_for_status().json()
                return answer if answer["status"] == "completed" else None

            url = until(finished)["video"]["url"]
        video = httpx.get(url).raise_for_status().content
        assert video[4:8] == b"ftyp"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
    assert len(Bill(tmp_path / "ledger").accepted) == 1


def test_an_edit_after_submit_is_refused_until_a_person_says_keep_or_redo(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    database = tmp_path / "batchgen.db"
    manifest = write_manifest(tmp_path / "m.yaml", 2)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    manifest.write_text(manifest.read_text().replace("Number 1.", "Number one."))
    before = rows(database, "SELECT * FROM jobs")
    refused = batchgen("run", "m.yaml", **simulator.environment)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert 'm.yaml:10: clip-1 (done): prompt: "Number 1." → "Number one."' in refused.stderr
    assert "--changed keep" in refused.stderr
    assert "--changed redo" in refused.stderr
    assert rows(database, "SELECT * FROM jobs") == before

    assert batchgen("run", "m.yaml", "--changed", "keep", **simulator.environment).returncode == 0
    assert len(Bill(simulator.ledger).accepted) == 2
    assert batchgen("run", "m.yaml", "--changed", "redo", **simulator.environment).returncode == 0
    assert len(Bill(simulator.ledger).accepted) == 3
    check_delivered(tmp_path, database)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["clip-0.mp4", "clip-1.mp4", "clip-1~1.mp4"]
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    assert len(Bill(simulator.ledger).accepted) == 3


def test_where_only_a_kept_edited_job_has_failed_the_advice_is_the_run_that_sends_it(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    """A retry would leave it alone: the manifest asks for something else."""
    simulator = simulate("--faults", '{"fetch": {"generation_error": 1}}')
    manifest = write_manifest(tmp_path / "m.yaml", 1)
    first = batchgen("run", "m.yaml", "--no-validate", **simulator.environment)
    assert "`batchgen retry m.yaml`" in first.stderr
    manifest.write_text(manifest.read_text().replace("Number 0.", "Number nought."))
    kept = batchgen("run", "m.yaml", "--changed", "keep", "--no-validate", **simulator.environment)
    shown = batchgen("status", "m.yaml", **simulator.environment)
    says = "Next: the manifest asks for something else than what has failed: a run without --changed keep goes by it"
    assert f"{says}: `batchgen run m.yaml --no-validate`\n" in kept.stderr
    assert f"{says}: `batchgen run m.yaml`\n" in shown.stdout
    assert "clip-0: the manifest, as it was last run, does not ask for this" in batchgen("retry", "m.yaml").stdout
    assert len(Bill(simulator.ledger).accepted) == 1
    assert batchgen("run", "m.yaml", "--no-validate", **simulator.environment).returncode == 3
    assert len(Bill(simulator.ledger).accepted) == 2
    assert "`batchgen retry m.yaml`" in batchgen("status", "m.yaml").stdout


def test_a_paid_video_is_downloaded_although_its_image_and_its_entry_are_gone(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=150)
    database = tmp_path / "batchgen.db"
    write_image(tmp_path / "a.png", 64, 64)
    jobs = [{"id": name, "model": MASTER, "prompt": name, "image_url": "a.png"} for name in ("stays", "leaves")]
    manifest = write_manifest(tmp_path / "m.yaml", jobs)
    running = launch("run", "m.yaml", **simulator.environment)
    until(lambda: states(database).get("generating") == 2)
    running.signal(signal.SIGINT)
    assert running.end().returncode == 130

    (tmp_path / "a.png").unlink()
    write_manifest(manifest, [*jobs[:1], {"id": "unsent", "model": MASTER, "prompt": "new", "image_url": "a.png"}])
    refused = batchgen("run", "m.yaml", **simulator.environment)
    assert refused.returncode == 2
    assert refused.stderr.count("there is no such file beside the manifest: a.png") == 1
    write_manifest(manifest, jobs[:1])
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    check_delivered(tmp_path, database)
    assert len(Bill(simulator.ledger).accepted) == 2


def test_a_rejected_job_that_is_corrected_in_the_manifest_is_sent_again(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate(faults={"create": {"reject_400": {"count": 1}}})
    manifest = write_manifest(tmp_path / "m.yaml", 1)
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 3
    assert "clip-0 failed: 400: " in ended.stderr
    assert "\n  failed, by class of error: 1 parameter\n" in ended.stderr
    manifest.write_text(manifest.read_text().replace("Number 0.", "Something else."))
    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    assert Bill(simulator.ledger).bodies()[0]["prompt"] == "Something else."


def test_a_run_that_reads_its_files_names_all_jobs_that_have_lost_one(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2)
    assert batchgen("run", "m.yaml", **simulator.environment).returncode == 0
    emptied, changed = sorted(tmp_path.rglob("*.mp4"))
    emptied.write_bytes(b"")
    changed.write_bytes(changed.read_bytes()[:-1] + b"?")
    ended = batchgen("run", "m.yaml", "--verify", **simulator.environment)
    assert ended.returncode == 3
    command = re.search(r"`batchgen (retry m.yaml --download .+)`", ended.stderr)
    assert command and batchgen(*command[1].split()).returncode == 0
    assert states(tmp_path / "batchgen.db") == {"downloading": 2}


def test_help_imports_nothing_heavy_and_lists_every_command_and_exit_code(batchgen_interpreter: Command) -> None:
    ended = batchgen_interpreter("--help", PYTHONPROFILEIMPORTTIME="1")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in ended.stdout
    for codes, meaning in ExitCode.legend().items():
        assert re.search(rf"\n  {codes} +{meaning}\n", ended.stdout)
    imported = {line.rsplit("|", 1)[-1].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"sqlalchemy", "httpx2", "pydantic", "alembic", "rich", "av", "yaml", "PIL", "starlette"}


def test_the_readme_names_every_command() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    missing = [name for name in cli.COMMANDS if not re.search(rf"(`|batchgen ){name}\b", readme)]
    assert not missing, "README.md has a line for each command"


def test_every_command_file_is_listed_once_with_its_help() -> None:
    folder = Path(cli.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if "\ndef command(" in path.read_text("utf-8")}
    assert files == set(cli.COMMANDS), "`COMMANDS` of `cli/__init__.py` has a line for each file with a command"
    for name, summary in cli.COMMANDS.items():
        text = cli.load(name).help or ""
        whole = cli.load(name).get_help(click.Context(cli.load(name)))
        assert "INTEGER RANGE" not in whole, "metavar= says what an option takes"
        assert ("120 times faster" in whole) == (name in ("run", "plan")), "elsewhere --simulate names a batch"
        assert text.startswith(f"{summary}\n\n")
        assert "\n  " not in text, "the details are indented, and would be shown so"

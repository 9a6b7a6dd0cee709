"""What surrounds a run breaks: nobody reads its streams, a disk is full, a clock is set, its table is locked.

The run goes on, waits, or ends with a sentence; what it was paid for is never at stake.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy.exc import OperationalError

import batchgen
from batchgen import clock as batchgen_clock
from batchgen.api import opening
from batchgen.cli import worker
from batchgen.cli.signals import signals_handled
from batchgen.errors import ExitCode, StorageError, TableLocked
from batchgen.hooks.delivery_hook import HookResult
from batchgen.jobs import State
from batchgen.jobtable import engine, repeats, settings, submission, table_lock
from batchgen.jobtable.batches import table_location
from batchgen.jobtable.database import errors_for_people
from batchgen.jobtable.engine import database_url
from batchgen.jobtable.sync import SyncResult
from batchgen.report import hints
from batchgen.report.progress import RunProgress
from batchgen.report.terminal import LossyStream, OutputStream, UnawaitedLines, print_json, print_lines
from batchgen.runs.upkeep import Upkeep
from batchgen.services.outcomes import Unknown
from tests.batches import Bill, check_delivered, write_manifest
from tests.conftest import NOON, Command, Launch, Simulate, Simulator
from tests.forks import Fork
from tests.scripted import ScriptedService, context_of
from tests.table import Table
from tests.waiting import rows, until

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def test_a_folder_that_was_deleted_under_the_shell_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    script = 'cd "$1/gone"; rmdir "$1/gone"; "$2" -m batchgen status m.yaml'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", tmp_path, sys.executable], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith("the current folder cannot be used (No such file or directory)")


def test_a_time_zone_that_is_none_is_a_sentence(batchgen_interpreter: Command) -> None:
    ended = batchgen_interpreter("status", "m.yaml", TZ="XXX-24:59:59YYY,J365")
    assert (ended.returncode, ended.stderr[:39]) == (2, "TZ=XXX-24:59:59YYY,J365 is no time zone")


# --- Ctrl-C ---


def test_ctrl_c_while_a_command_is_imported_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run(
        [sys.executable, "-m", "batchgen", "--version"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == ExitCode.INTERRUPTED
    assert ended.stderr == "interrupted; the same command goes on where this one stopped\n"


CTRL_C_IN_A_CALLBACK = """
import signal, threading, weakref
from batchgen.cli.signals import interrupts_end

class Thing: pass

signal.signal(signal.SIGINT, signal.default_int_handler)
thing = Thing()
reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
try:
    with interrupts_end():
        del thing
        print(threading.Event().wait(30))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_ctrl_c_in_a_callback_that_cannot_raise_comes_again() -> None:
    program = [sys.executable, "-c", CTRL_C_IN_A_CALLBACK]
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("interrupted\n", "")


# --- nobody reads ---


@contextmanager
def left_pipe() -> Iterator[IO[str]]:
    """A pipe whose reader has left."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        yield stream


@contextmanager
def full_disk() -> Iterator[IO[str]]:
    with FULL.open("w") as stream:
        yield stream


@contextmanager
def shown_in(encoding: str) -> Iterator[IO[str]]:
    with Path(os.devnull).open("w", encoding=encoding, errors="strict") as stream:
        yield stream


BROKEN = [
    pytest.param(left_pipe, id="a reader that left"),
    pytest.param(full_disk, id="a full disk", marks=needs_full),
    pytest.param(lambda: shown_in("ascii"), id="an encoding without the character"),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_stream_that_cannot_be_written_falls_silent(broken: Callable[[], AbstractContextManager[IO[str]]]) -> None:
    with broken() as stream:
        output = OutputStream(stream)
        for _ in range(2):
            output.write("Léo")
        assert output.failure


def test_a_process_without_a_console_has_no_stream() -> None:
    output = OutputStream(None)
    output.write("nobody hears it")
    assert output.failure is None


@needs_full
def test_nothing_depends_on_whether_standard_error_can_be_written() -> None:
    stream = LossyStream(FULL.open("wb", buffering=0), "ascii", line_buffering=True)
    for line in ("a\n", "Léo\n"):
        assert stream.write(line) == len(line)
    stream.flush()
    stream.close()


@needs_full
def test_a_result_that_cannot_be_written_ends_a_command_and_the_progress_of_a_run_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writes: list[Callable[[], None]] = [lambda: print_lines("result"), lambda: print_json({"result": 1})]
    for write in writes:
        with FULL.open("w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            with pytest.raises(StorageError, match=r"^standard output cannot be written: No space left on device$"):
                write()
    with FULL.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        for _ in range(2):
            print_json({"event": "job"}, is_progress=True)
    sentence = "standard output cannot be written: No space left on device; the command goes on without it"
    assert capsys.readouterr().err.startswith(sentence)


def run_in_shell(folder: Path, command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = command.replace("batchgen", f"{sys.executable} -m batchgen", 1)
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@needs_full
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"], ids=["all closed", "both full"])
def test_a_run_goes_on_without_its_streams(streams: str, tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2)
    assert run_in_shell(tmp_path, f"batchgen run m.yaml {streams}", simulator.environment).returncode == 0
    check_delivered(tmp_path, tmp_path / "batchgen.db")


@pytest.mark.slow
@needs_full
def test_a_command_whose_result_cannot_be_written_ends_with_a_sentence(tmp_path: Path) -> None:
    ended = run_in_shell(tmp_path, "batchgen schema >/dev/full", {})
    assert ended.returncode == ExitCode.STORAGE
    assert ended.stderr == "standard output cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes a pipe smaller")
@pytest.mark.parametrize("options", [(), ("--json",), ("-vv",)], ids=lambda options: " ".join(options))
def test_a_reader_that_does_not_read_holds_up_no_run(
    options: tuple[str, ...], tmp_path: Path, simulate: Simulate, launch: Launch
) -> None:
    simulator = simulate(speed=3_600)
    running = launch("run", write_manifest(tmp_path / "m.yaml", 28), *options, **simulator.environment)
    for stream in (running.process.stdout, running.process.stderr):
        assert stream
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, 4_096)
    done = "SELECT count(*) AS jobs FROM jobs WHERE state = 'done' HAVING count(*) = 28"
    until(lambda: rows(tmp_path / "batchgen.db", done), "every job is done, although nobody reads")
    assert running.process.poll() is None, "what it has to say waits"
    ended = running.end()
    lines = ended.stdout if "--json" in options else ended.stderr
    assert ended.returncode == 0, ended.stderr
    assert (
        sum("clip-" in line and "done" in line for line in lines.splitlines()) >= 28
        if "--json" in options
        else (sum(" delivered " in line for line in lines.splitlines()) == 28)
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes a pipe smaller")
@pytest.mark.parametrize(
    ("command", "number", "code", "pipe_bytes"),
    [
        pytest.param(["run", "m.yaml"], signal.SIGINT, 130, 4_096, id="run, full before"),
        pytest.param(["run", "m.yaml", "-vv"], signal.SIGINT, 130, 16_384, id="run -vv, full after"),
        pytest.param(["worker"], signal.SIGTERM, 143, 16_384, id="worker, full after"),
        pytest.param(["worker", "-vv"], signal.SIGTERM, 143, 4_096, id="worker -vv, full before"),
    ],
)
def test_a_signal_ends_what_nobody_reads(
    command: list[str],
    number: signal.Signals,
    code: int,
    pipe_bytes: int,
    tmp_path: Path,
    simulate: Simulate,
    launch: Launch,
    batchgen: Command,
) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 100)
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    running = launch(*command, **simulator.environment)
    assert running.process.stderr
    fcntl.fcntl(running.process.stderr.fileno(), fcntl.F_SETPIPE_SZ, pipe_bytes)
    sent = "SELECT count(*) AS jobs FROM jobs WHERE state = 'generating' HAVING count(*) = 100"
    until(lambda: rows(tmp_path / "batchgen.db", sent), "every job is sent, although nobody reads")
    running.signal(number)
    assert running.process.wait(30) == code


@contextmanager
def unread_pipe() -> Iterator[tuple[int, IO[str]]]:
    """A stream that is full, and before it the end of its reader, who stays."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write_end, b"." * 4_096)
    os.set_blocking(write_end, True)
    with os.fdopen(write_end, "w", buffering=1) as stream:
        yield read_end, stream
        os.close(read_end)


def test_the_steps_of_a_worker_wait_once_for_a_reader_that_does_not_read(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "READER_SECONDS", 0.2)
    display = worker.WorkerDisplay(table.database, as_json=True, lines=UnawaitedLines())
    with unread_pipe() as (_, stream):
        monkeypatch.setattr(sys, "stdout", stream)
        began_at = time.monotonic()
        for _ in range(20):
            display.show_idle("nothing to do now", None)
        assert 0.2 <= time.monotonic() - began_at < 2


async def test_what_hooks_come_to_waits_for_the_reader_and_the_run_does_not(table: Table) -> None:
    table.sync("mona")
    with unread_pipe() as (read_end, stream):
        words = ("batchgen {}".format, lambda: ("", hints.advice("")))
        progress = RunProgress(table.database, table.batch_id, "spring", 0, *words, stream=stream)
        async with progress.following():
            progress.add_hook("run", HookResult("mona", "mona.mp4", 1, "no such bucket"))
            os.read(read_end, 1 << 20)
        assert b"mona: --exec ended with exit code 1: no such bucket" in os.read(read_end, 1 << 20)


@pytest.mark.slow
def test_a_summary_that_nobody_reads_holds_up_no_worker(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    environment = {**os.environ, **simulate().environment}
    write_manifest(tmp_path / "m.yaml", 1)
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    with unread_pipe() as (_, stream):
        worker = Fork(["-m", "batchgen", "worker"], stdout=stream.fileno(), cwd=tmp_path, env=environment)
        assert worker.wait(60) == 0
    check_delivered(tmp_path, tmp_path / "batchgen.db")


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    with left_pipe() as stream:
        command = [sys.executable, "-m", "batchgen", "models"]
        ended = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (
        ExitCode.DELIVERED,
        b"no stored prices: `batchgen models --refresh` gets those of aimlapi, without a key\n",
    )


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no terminals that hang up")
async def test_a_hang_up_stops_a_run_in_good_order_unless_nohup_has_it_ignored() -> None:
    stops: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for handler, number in ((signal.SIG_IGN, None), (signal.SIG_DFL, signal.SIGTERM)):
        before = signal.signal(signal.SIGHUP, handler)
        with signals_handled(stops.put_nowait):
            signal.raise_signal(signal.SIGHUP)
            if number:
                assert await stops.get() == number
        assert stops.empty()
        signal.signal(signal.SIGHUP, before)


# --- a wrong clock ---


class AnHourBehind(ScriptedService):
    """A service by whose clock it is an hour earlier."""

    @property
    def clock_offset(self) -> timedelta:
        return -timedelta(hours=1)


async def test_a_run_says_once_that_its_clock_is_not_that_of_the_service(table: Table) -> None:
    context = context_of(table, AnHourBehind())
    upkeep = Upkeep(context, wake=lambda: None, resize=lambda _downloads: None)
    for _ in range(2):
        await upkeep.check_clock()
        assert context.warning == "this machine's clock is 60 minutes ahead of the service's"


async def test_a_run_that_stood_still_knows_since_when_it_is_at_work_again(table: Table) -> None:
    context = context_of(table, ScriptedService())
    upkeep = Upkeep(context, wake=lambda: None, resize=lambda _downloads: None)
    for second, awake_since in ((0, 0), (2, 0), (20, 0), (22, 0), (3_600, 3_600), (3_602, 3_600)):
        upkeep.note_gap(NOON + timedelta(seconds=second))
        assert context.awake_since == NOON + timedelta(seconds=awake_since)


def test_after_the_clock_was_set_back_the_whole_log_is_compared_again(table: Table) -> None:
    table.bring(State.DONE)
    table.change(settings.record_comparison, table.batch_id, NOON)
    synced = SyncResult(table.batch_id)
    for at, since in (
        (NOON, NOON - repeats.LOG_CLOCK_SKEW),
        (NOON - timedelta(hours=2), NOON - timedelta(hours=2) - repeats.HISTORY),
    ):
        assert table.database.read_now(repeats.compared_since, synced, at) == since


# --- a locked table ---


@pytest.mark.slow
def test_a_run_waits_while_another_program_holds_the_table_and_sends_nothing(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    simulator = hurried(simulate, monkeypatch)
    bill = Bill(simulator.ledger)
    assert batchgen.run(write_manifest(tmp_path / "m.yaml", 1)).ok
    with ThreadPoolExecutor(1) as thread, closing(locker(tmp_path / "batchgen.db")) as browser:
        browser.execute("BEGIN IMMEDIATE")
        running = thread.submit(batchgen.run, write_manifest(tmp_path / "m.yaml", 3))
        until(lambda: "is locked by" in caplog.text, "the run says that it waits")
        assert len(bill.accepted) == 1
        assert not running.done()
        browser.execute("ROLLBACK")
        assert running.result(30).ok
    check_delivered(tmp_path, tmp_path / "batchgen.db")
    assert (len(bill.accepted), bill.duplicates) == (3, 0)


@pytest.mark.slow
def test_ctrl_c_ends_a_run_that_waits_for_a_locked_table(
    tmp_path: Path, simulate: Simulate, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate(speed=1)
    manifest = write_manifest(tmp_path / "m.yaml", 2, limits={"in_flight": 1, "submits_per_minute": 60_000})
    running = launch("run", manifest, **simulator.environment)
    until(lambda: rows(tmp_path / "batchgen.db", "SELECT 1 FROM jobs WHERE state = 'generating'"), "one is accepted")
    with closing(locker(tmp_path / "batchgen.db")) as browser:
        browser.execute("BEGIN IMMEDIATE")
        running.signal(signal.SIGINT)
        ended = running.end()
    assert ended.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_command_on_a_locked_table_reads_or_ends_with_a_sentence(
    tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(simulate, monkeypatch)
    manifest = write_manifest(tmp_path / "m.yaml", 1)
    assert batchgen.run(manifest).ok
    with closing(locker(tmp_path / "batchgen.db")) as browser:
        browser.execute("BEGIN IMMEDIATE")
        assert batchgen.status(manifest)[0].summary.counts[State.DONE] == 1
        assert batchgen.check(manifest).jobs == 1
    with closing(locker(tmp_path / "batchgen.db")) as browser:
        browser.execute("PRAGMA locking_mode=EXCLUSIVE")
        browser.execute("UPDATE jobs SET tags = tags")
        for command in (batchgen.status, batchgen.plan):
            with pytest.raises(TableLocked, match=r"batchgen.db: the job table is locked by .*once it is free"):
                command(manifest)


def locker(path: Path) -> sqlite3.Connection:
    """A database browser: it waits for its turn, and then holds a lock."""
    return sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)


def hurried(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """A simulator in the environment; and locks are tried often, and soon worth a word."""
    simulator = simulate()
    for name, value in simulator.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(engine, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(table_lock, "NOTICED_TRIES", 2)
    return simulator


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (sqlite3.SQLITE_FULL, "its disk is full. Free some space, then run the same command"),
        (
            sqlite3.SQLITE_IOERR_WRITE,
            "its disk is full, or fails. Free some space or check the disk, then run the same",
        ),
        (sqlite3.SQLITE_IOERR_FSYNC, "its disk is full, or fails"),
        (sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
    ],
)
def test_an_error_of_the_disk_is_a_sentence(tmp_path: Path, code: int, sentence: str) -> None:
    cause = sqlite3.OperationalError("attempt to write a readonly database")
    cause.sqlite_errorcode = code
    with pytest.raises(StorageError, match=sentence), errors_for_people(database_url(tmp_path / "a.db")):
        raise OperationalError("UPDATE", {}, cause)


# --- the clock and the environment ---


async def test_a_run_notices_that_its_clock_was_set_back(tmp_path: Path, clock: Clock) -> None:
    manifest = write_manifest(tmp_path / "m.yaml", 1)
    async with opening.open_run(manifest, {"simulate": True}) as opened:
        runner, database = opened.runner, opened.database
        await runner.upkeep.check_clock()
        batch_id = runner.context.batch_id
        ready = await database.read(submission.ready, batch_id, 1)
        sender = submission.Sender("run", "simulator", "account")
        (job,) = await database.write(submission.intend, batch_id, sender, NOON, NOON, ready)
        await database.write(submission.unconfirmed, job, Unknown("lost"), NOON, NOON)
        clock.move_to(NOON - timedelta(hours=1))
        await runner.upkeep.check_clock()
    (row,) = rows(tmp_path / "batchgen.db", "SELECT next_at FROM jobs")
    assert row["next_at"].startswith("2026-03-01T11:00:00")


def test_a_clock_that_runs_and_one_that_is_set_forward_were_not_set_back(clock: Clock) -> None:
    steady = batchgen_clock.SteadyClock()
    for seconds, moved in ((0, 0), (10, 10), (20, 86_400), (30, 10)):
        clock.tick(moved)
        assert not steady.was_set_back(seconds)
    clock.tick(-3_600)
    assert steady.was_set_back(40)
    assert not steady.was_set_back(40)


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_an_empty_variable_is_none(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_DB", value)
    assert table_location(None, tmp_path / "m.yaml") == tmp_path / "batchgen.db"


def test_blanks_round_a_variable_are_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHGEN_DB", " /tables/a.db\n")
    assert table_location(None, tmp_path / "m.yaml") == "/tables/a.db"


HUNG = """
import asyncio, sys, threading
import batchgen.__main__ as main, batchgen.cli as cli
from batchgen.api import event_loop
main.END_SECONDS = event_loop.END_SECONDS = 0.1
async def stay():
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            pass
async def call():
    if sys.argv[1] == "call":
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    else:
        asyncio.create_task(stay())
        await asyncio.sleep(0)
    return 3
def command():
    threading.Thread(target=threading.Event().wait, daemon=sys.argv[1] != "thread").start()
    print("ended")
    sys.exit(3 if sys.argv[1] == "thread" else event_loop.complete(call()))
cli.main = command
main.main()
"""


@pytest.mark.parametrize("who_hangs", ["call", "task", "thread"])
def test_a_thread_or_task_of_a_plug_in_that_never_ends_does_not_keep_a_command_from_ending(who_hangs: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HUNG, who_hangs], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "ended\n", "")

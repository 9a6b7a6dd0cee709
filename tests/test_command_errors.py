"""Errors say what happened, where, and what to do next. Each exit code is caused by a real failure."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from batchgen import context
from batchgen.errors import ExitCode
from batchgen.jobtable.database import Database
from tests.batches import STANDARD, Bill, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.disks import small_disk
from tests.forks import run as run_fork
from tests.waiting import rows, states, until

README = Path(__file__).resolve().parents[1] / "README.md"

BAD_MANIFESTS: dict[str, tuple[str | None, list[str]]] = {
    "missing": (None, [":1:1: there is no such manifest"]),
    "a missing image": (
        f"jobs:\n  - {{id: a, prompt: p, model: {STANDARD}, image_url: no.png}}\n",
        [r":2:\d+: there is no such file beside the manifest: no.png"],
    ),
    "everything at once": (
        "limits: {in_flight: many}\njobs:\n  - {id: a}\n  - {id: a, model: veo2}\n  - 7\n",
        [":1:21: ", ":3:5: ", ":4:5: ", ":4:10: ", ":5:5: "],
    ),
}


@pytest.mark.parametrize(("content", "expected"), BAD_MANIFESTS.values(), ids=BAD_MANIFESTS)
@pytest.mark.parametrize("command", ["run", "check"])
def test_the_problems_of_a_manifest_are_shown_with_their_positions_and_cost_nothing(
    command: str, content: str | None, expected: list[str], tmp_path: Path, batchgen: Command
) -> None:
    if content is not None:
        (tmp_path / "m.yaml").write_text(content)
    before = set(tmp_path.iterdir())
    ended = batchgen(command, "m.yaml", AIMLAPI_API_KEY="k", AIMLAPI_BASE_URL="http://127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert set(tmp_path.iterdir()) == before
    assert "Traceback" not in ended.stderr
    positions = re.findall(r"^m\.yaml:\d+:\d+: ", ended.stderr, re.MULTILINE)
    assert len(positions) == len(expected), ended.stderr
    for pattern in expected:
        assert re.search(rf"^m\.yaml{pattern}", ended.stderr, re.MULTILINE), ended.stderr


def corrupt(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\x5a" * 8000)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()


def newer(path: Path) -> None:
    with Database(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v999'")
        connection.commit()


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (corrupt, 8, "`batchgen doctor` says how"),
        (lambda path: path.write_text("jobs: []\n" * 100), 8, "not a database"),
        (foreign, 2, "a database of something else, left untouched"),
        (newer, 2, "upgrade batchgen"),
    ],
    ids=["corrupt", "text", "not ours", "newer"],
)
@pytest.mark.parametrize("command", ["run", "status"])
def test_a_database_that_cannot_be_used_is_left_untouched(
    command: str, make: Callable[[Path], None], code: int, message: str, tmp_path: Path, batchgen: Command
) -> None:
    database = tmp_path / "batchgen.db"
    make(database)
    content = database.read_bytes()
    write_manifest(tmp_path / "m.yaml")
    ended = batchgen(command, "m.yaml", AIMLAPI_API_KEY="k", AIMLAPI_BASE_URL="http://127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (code, "")
    assert message in ended.stderr
    assert str(database) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert database.read_bytes() == content
    beside = {path.name.removesuffix("-wal").removesuffix("-shm") for path in tmp_path.iterdir()}
    assert beside == {"batchgen.db", "m.yaml"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "m.yaml", "--db", "nowhere/x.db"], "its folder does not exist"),
        (["run", "m.yaml", "--db", "mysql://me:hush@host/x"], "--db"),
        (["run", "m.yaml", "--db", "sqlite://"], "memory"),
        (["run", "m.yaml", "--log-file", "nowhere/log"], "--log-file nowhere/log"),
        (["run", "m.yaml", "--log-file", "logs/"], "logs/: this is a folder; name a file in it, such as logs/run.log"),
        (
            ["init", "new/"],
            "new: the name of a manifest must end in .yaml; for a folder of this name, first `mkdir new`",
        ),
        (["simulate", "--ledger", "new/"], "new/: this is a folder; name a file in it, such as new/ledger.db"),
        (["reconcile", "m.yaml", "--csv", "new/"], "new/: this is a folder; name a file in it, such as new/bill.csv"),
        (["run", "m.yaml", "--in-flight", "0"], "`in_flight` must be more than 0 and at most 1,000, not 0"),
        (["run", "m.yaml", "--in-flight", "many"], '`in_flight` must be a whole number or auto, not "many"'),
        (["run", "m.yaml", "--max-cost", "none"], "left out, the manifest's is in force, and without one no cap"),
        (["run", "m.yaml", "--max-cost", ""], "`max_cost` has no value"),
        (["run", "m.yaml", "--max-cost", "~"], "`max_cost` has no value"),
        (["status", "--db", "none.db"], "there is no job table yet"),
        (["status", "none.yaml"], "there is no such manifest"),
        (["retry", "m.yaml"], "`batchgen run m.yaml` makes it"),
        (["cancel", "m.yaml", "--simulate"], "`batchgen run m.yaml --simulate` makes it"),
        (["run", "none.yaml"], "there is no such manifest\n`batchgen init` writes one\n"),
        (["run"], "Missing argument 'MANIFEST'. It is the YAML file with the jobs; `batchgen init` writes one.\n"),
        (["run", "m.yaml", "n.yaml"], "extra argument (n.yaml). It takes one manifest, whose `include:` takes in"),
        (["worker", "m.yaml"], "extra argument (m.yaml). A worker takes no manifest: `batchgen run MANIFEST --enroll`"),
        (["frobnicate"], "There is no command 'frobnicate'.\n"),
        (["statsu"], "Did you mean `status`?"),
        (["help"], "There is no command 'help'. Did you mean `--help`?"),
        (["help", "run"], "There is no command 'help'. Did you mean `batchgen run --help`?"),
        (["list"], "There is no command 'list'. Did you mean `status`?"),
        (["m.yaml"], "m.yaml is no command. Did you mean `batchgen run m.yaml`?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_carried_out_says_why(
    arguments: list[str], message: str, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml")
    ended = batchgen(*arguments, AIMLAPI_API_KEY="k", AIMLAPI_BASE_URL="http://127.0.0.1:1")
    assert ended.returncode in (2, 8)
    assert message in ended.stderr
    assert "hush" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"m.yaml"}


def test_a_path_that_the_locale_cannot_read_is_no_fault_of_the_path(
    tmp_path: Path, batchgen_interpreter: Command
) -> None:
    write_manifest(tmp_path / "é.yaml")
    ended = batchgen_interpreter("check", "é.yaml", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert ended.returncode == 2
    assert "the path of this manifest is not UTF-8\nrename it, or set LC_ALL=C.UTF-8" in ended.stderr


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_any_more_ends_with_8_and_the_paid_videos_wait(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=100)
    write_manifest(tmp_path / "m.yaml", 3, output="out/{{ id }}.mp4")
    running = launch("run", "m.yaml", **simulator.environment)
    until(lambda: len(Bill(simulator.ledger).accepted) == 3)
    with small_disk(tmp_path / "out", 1 << 20, read_only=True):
        ended = running.end()
    assert ended.returncode == 8, ended.stderr
    assert "Let it be written, then run the same command" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "failed" not in states(tmp_path / "batchgen.db")

    ended = batchgen("run", "m.yaml", **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    assert len(rows(simulator.ledger, "SELECT * FROM generations")) == 3


def test_an_address_that_is_another_service_ends_with_6(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2)
    wrong = {**simulator.environment, "AIMLAPI_BASE_URL": simulator.base_url + "/shop"}
    ended = batchgen("run", "m.yaml", **wrong)
    assert ended.returncode == 6
    assert "Check AIMLAPI_BASE_URL" in ended.stdout
    assert states(tmp_path / "batchgen.db") == {"pending": 2}


def test_a_defect_ends_with_1_and_asks_for_a_report(tmp_path: Path, batchgen_interpreter: Command) -> None:
    """The interpreter's start-up file (sitecustomize.py) breaks a module of batchgen."""
    package = Path(__file__).parents[1]
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/sitecustomize.py").write_text("import batchgen.manifest.reader as m\nm.read = None\n")
    write_manifest(tmp_path / "m.yaml")
    ended = batchgen_interpreter("check", "m.yaml", PYTHONPATH=f"{tmp_path / 'broken'}{os.pathsep}{package}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "This is a defect in batchgen" in ended.stderr
    assert "TypeError" in ended.stderr


LONG = "a" * 300
PATHS = ["status {}.yaml", "init {}.yaml", "doctor {}.yaml", "review {}.yaml", "status --db {}.db"]


@pytest.mark.parametrize("words", PATHS)
def test_a_path_that_the_system_refuses_is_no_defect(tmp_path: Path, batchgen: Command, words: str) -> None:
    ended = batchgen(*words.format(LONG).split())
    assert ended.returncode == 2
    assert "File name too long. Name a shorter path\n" in ended.stderr
    assert "Traceback" not in ended.stderr


FULL = """
import resource, threading
from pathlib import Path
from batchgen import cli
{}
cli.main()
"""
NO_ROOM_FOR_A_STACK = """
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
threading.stack_size(1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
"""
NO_MEMORY = "cli.check_folder = lambda: bytes(1 << 60)"
NO_DESCRIPTORS = """
import os
def take_all():
    taken = []
    try:
        while True:
            taken.append(os.dup(1))
    finally:
        for descriptor in taken:
            os.close(descriptor)
cli.check_folder = take_all
"""
MEMORY = "this machine gives batchgen no more memory or threads. End other programs, or raise"
DESCRIPTORS = "too many files are open here: raise the number that may be (ulimit -n). Then type the same command again"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is bounded, and told, elsewhere otherwise")
@pytest.mark.parametrize(
    ("shortage", "words", "sentence"),
    [
        (NO_ROOM_FOR_A_STACK, "run m.yaml --simulate --json", MEMORY),
        (NO_MEMORY, "check m.yaml --json", MEMORY),
        (NO_DESCRIPTORS, "check m.yaml --json", DESCRIPTORS),
    ],
)
def test_a_machine_that_gives_no_more_memory_threads_or_files_is_no_defect(
    shortage: str, words: str, sentence: str, tmp_path: Path
) -> None:
    write_manifest(tmp_path / "m.yaml")
    ended = run_fork(["-c", FULL.format(shortage), *words.split()], cwd=tmp_path, env=os.environ, timeout=100)
    assert ended.returncode == 8, ended.stderr
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr and "defect" not in ended.stderr
    assert '"exit_code": 8' in ended.stdout.splitlines()[-1]


AS_NOBODY = """
import os, runpy, sys
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
runpy.run_module("batchgen", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "words",
    [
        "status {}/m.yaml",
        "run {}/m.yaml --simulate",
        "plan {}/m.yaml",
        "export {}/m.yaml --format csv",
        "status --db {}/batchgen.db",
        "worker --db {}/batchgen.db",
        "db copy {}/batchgen.db copy.db",
        "init {}/new.yaml",
        "doctor {}/m.yaml",
    ],
)
def test_a_folder_that_may_not_be_entered_is_no_defect(words: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # which every user may enter, unlike those of pytest
        Path(name).chmod(0o755)
        folder = Path(name) / "closed"
        folder.mkdir()
        write_manifest(folder / "m.yaml")
        with Database(folder / "batchgen.db"):
            pass
        folder.chmod(0)
        arguments = words.format(folder).split()
        environment = {**os.environ, "HOME": name}
        ended = run_fork(["-c", AS_NOBODY, *arguments], cwd=name, env=environment, timeout=60)
        folder.chmod(0o700)
    assert ended.returncode == 8, ended.stderr
    assert "Permission denied. Let this user read it" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_copy_of_a_batch_is_read_where_the_folder_of_the_original_may_not_be_entered(batchgen: Command) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        private, copy = Path(name) / "private", Path(name) / "copy"
        assert batchgen("run", write_manifest(private / "m.yaml", 2), "--enroll").returncode == 0
        shutil.copytree(private, copy)
        for path, mode in ((private, 0), (copy, 0o777), (copy / "batchgen.db", 0o666)):
            path.chmod(mode)
        environment = {**os.environ, "HOME": name}
        read, run = (
            run_fork(["-c", AS_NOBODY, command, f"{copy}/m.yaml", *more], cwd=name, env=environment, timeout=60)
            for command, *more in (("status",), ("run", "--enroll"))
        )
        private.chmod(0o700)
    assert (read.returncode, read.stderr) == (0, "")
    assert "2 pending" in read.stdout
    assert (run.returncode, "two of them would pay twice" in run.stderr) == (2, True)


def packages_are_closed() -> bool:
    """Whether other users may not enter the folder of the packages, where a plan reads which services there are."""
    packages = Path(sysconfig.get_path("purelib"))
    return any(not folder.stat().st_mode & 0o001 for folder in (packages, *packages.parents))


@pytest.mark.skipif(packages_are_closed(), reason="another user may not read the packages of this environment")
def test_a_plan_needs_no_right_to_write_the_job_table_or_its_folder(batchgen: Command) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = write_manifest(folder / "m.yaml", 2)
        assert batchgen("run", manifest, "--enroll").returncode == 0
        write_manifest(folder / "m.yaml", 3)
        before = {path: path.read_bytes() for path in folder.iterdir()}
        for path in before:
            path.chmod(0o444)
        folder.chmod(0o555)
        arguments = ["-c", AS_NOBODY, "plan", str(manifest), "--json"]
        planned = run_fork(arguments, cwd=name, env=os.environ, timeout=60)
        folder.chmod(0o700)
        assert planned.returncode == 0, planned.stderr
        plan = json.loads(planned.stdout)
        assert (plan["jobs"], plan["new"], plan["states"]["pending"]) == (3, 1, 3), "the table's rows are counted"
        assert {path: path.read_bytes() for path in folder.iterdir()} == before


PLACES = ["a\nb.db", "a\r.db", "t\x1b[31m.db", "gone\n/x.db", "sqlite:///u\n.db", "postgresql://user:geheim\n@h/x"]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_a_slip_of_the_shell_has_made_gets_no_second_table(
    place: str, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml")
    (tmp_path / "folder").mkdir()
    with Database(tmp_path / "batchgen.db"):
        pass
    before = sorted(tmp_path.rglob("*"))
    for words in ("run m.yaml --enroll", "plan m.yaml", "status", "db check", "worker", "doctor m.yaml"):
        refused = batchgen(*words.split(), BATCHGEN_DB=place)
        assert (refused.returncode, refused.stdout) == (2, ""), words
        assert re.fullmatch("--db holds a character that cannot be printed: .*made under such a name\n", refused.stderr)
    copied = batchgen("db", "copy", "batchgen.db", place)
    assert (copied.returncode, copied.stderr) == (2, refused.stderr)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "place", ["host=db user=me password=secret dbname=x", "dbname = x", "service=x", "postgresql:x", "postgres:/h/x"]
)
@pytest.mark.parametrize("command", ["run m.yaml --db", "status --db", "db check", "db copy", "BATCHGEN_DB"])
def test_a_database_in_another_form_than_a_url_makes_no_second_job_table(
    place: str, command: str, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml")
    words = ["db", "copy", place, "x.db"] if command == "db copy" else [*command.split(), place]
    refused = batchgen("run", "m.yaml", BATCHGEN_DB=place) if command == "BATCHGEN_DB" else batchgen(*words)
    assert refused.returncode == 2
    assert refused.stderr.startswith("--db: a server's database is written as a URL here: postgresql://")
    assert "secret" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"m.yaml"}


def test_a_table_whose_name_has_a_line_end_is_used_and_named_in_one_line(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml")
    (tmp_path / "a\nb.db").write_text("no database, but a text of some length")
    refused = batchgen("status", "--db", "a\nb.db")
    assert refused.returncode == 8
    assert refused.stderr.startswith(f"{tmp_path}/a\\nb.db: the job table cannot be used: it is no job table")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("worker --max-cost 5", "`batchgen run` has it; a worker takes limits and the cap from the manifest and from"),
        ("worker --exec x", "`batchgen run` has it;"),
        ("worker --notify x", "`batchgen run` has it;"),
        ("worker -j 3", "`batchgen run` has it;"),
        ("set m.yaml --max-cost 5", "`batchgen set` takes it as max_cost=VALUE)"),
        ("set m.yaml -j 5", "`batchgen set` takes it as in_flight=VALUE)"),
        ("set m.yaml --polls-per-minute=5", "`batchgen set` takes it as polls_per_minute=VALUE)"),
        ("set m.yaml --sample 5", "`batchgen run` has it)"),
        ("next m.yaml --json", "`batchgen run` has it)"),
        ("run m.yaml --concurrency 4", "--in-flight bounds the videos that are made at one time"),
        ("run m.yaml --output x", "`output:` in the manifest says where videos go"),
        ("run m.yaml -o x", "`output:` in the manifest says where videos go"),
        ("run m.yaml --retries=3", "a run tries again by itself what costs nothing"),
        ("plan m.yaml --dry-run", "`batchgen plan` shows what a run would send"),
        ("db check --db batchgen.db", "the job table is an argument here: `batchgen db check PATH-OR-URL`)"),
        ("db --db batchgen.db check", "the job table is an argument here: `batchgen db check PATH-OR-URL`)"),
        ("run m.yaml --resume", "the same command goes on where it stopped"),
        ("--db x.db status", "an option stands behind its command"),
    ],
)
def test_an_option_that_a_command_lacks_is_named_with_what_is_there_in_its_place(
    words: str, hint: str, batchgen: Command
) -> None:
    refused = batchgen(*words.split(), "--json")
    assert refused.returncode == 2
    option = next(word for word in words.split() if word.startswith("-")).partition("=")[0]
    message = json.loads(refused.stdout)["message"]
    assert message.startswith(f"No such option '{option}'. ({hint}")
    assert f"Error: {message}\n" in refused.stderr


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--dryrun", " Did you mean '--dry-run'?"),
        ("--log", " Did you mean '--log-file'?"),
        ("--seed", ""),
        ("--retry", ""),
    ],
)
def test_only_an_option_that_is_alike_is_suggested(option: str, meant: str, batchgen: Command) -> None:
    assert f"Error: No such option '{option}'.{meant}\n" in batchgen("run", "m.yaml", option).stderr


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("stream", ["/dev/stdin", "/dev/fd/0", "/dev/../dev/stdin"])
def test_a_manifest_from_a_stream_has_no_folder_for_its_videos(command: str, stream: str, batchgen: Command) -> None:
    result = batchgen(command, stream)
    assert (result.returncode, "this is a stream, which has no folder" in result.stderr) == (2, True)


def test_a_manifest_without_its_ending_is_found(tmp_path: Path, batchgen: Command) -> None:
    (tmp_path / "n").mkdir()  # where its videos are
    for name in ("m.csv", "m.mp4", "m-report.html"):
        (tmp_path / name).touch()
    write_manifest(tmp_path / "m.yaml")
    write_manifest(tmp_path / "n.yaml")
    assert "did you mean m.yaml?" in batchgen("check", "m").stderr
    assert "this is a folder, not a manifest\ndid you mean n.yaml?" in batchgen("check", "n").stderr


def test_the_readme_lists_the_exit_codes_as_the_enum_has_them() -> None:
    readme = " ".join(README.read_text("utf-8").split())
    legend = " · ".join(f"{codes} {meaning}" for codes, meaning in ExitCode.legend().items())
    if f"Exit codes: {legend}." not in readme:  # an assertion would show the whole README
        pytest.fail(f"README.md says: Exit codes: {legend}.", pytrace=False)


def test_a_test_causes_each_exit_code() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    caused = {int(code) for code in re.findall(r"\breturncode(?:, [^()]*)?\)? == \(?(\d+)\b", tests)}
    missing = [code for code in ExitCode if code not in caused]
    assert not missing, "a test runs a command that ends so, and compares its `returncode`"


def test_a_service_that_never_answers_ends_with_6_and_nothing_has_failed(
    tmp_path: Path, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "FIRST_CONTACT", timedelta(seconds=0.5))
    write_manifest(tmp_path / "m.yaml", 2)
    ended = batchgen("run", "m.yaml", AIMLAPI_BASE_URL="http://127.0.0.1:9", AIMLAPI_API_KEY="k")
    assert (ended.returncode, ended.stdout) == (6, ""), ended.stderr
    assert "http://127.0.0.1:9 does not answer" in ended.stderr
    assert "the same command goes on" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert states(tmp_path / "batchgen.db") == {"pending": 2}

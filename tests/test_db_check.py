"""`batchgen db check`: what should hold between rows, and between rows and files, is planted wrong and named."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from batchgen.jobtable.database import Database
from batchgen.jobtable.invariants import RULES, violations
from tests.conftest import Command
from tests.copied_tables import fill
from tests.table import Table

CLIP = b"123456789"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, empty_table: Path) -> Path:
    """A job table with a job in every state."""
    folder = tmp_path_factory.mktemp("sound")
    path = shutil.copyfile(empty_table, folder / "batchgen.db")
    with Database(path) as database:
        table = Table(database, folder)
        table.sync()
        table.bring_one_of_each()
    execute(path, f"UPDATE outputs SET sha256 = '{hashlib.sha256(CLIP).hexdigest()}' WHERE path IS NOT NULL")
    return path


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A folder with this table, and the file of the delivered job."""
    shutil.copyfile(sound, tmp_path / "batchgen.db")
    execute(tmp_path / "batchgen.db", f"UPDATE batches SET manifest_path = '{tmp_path / 'spring.yaml'}'")
    (tmp_path / "spring.yaml").touch()
    (tmp_path / "is-done.mp4").write_bytes(CLIP)
    return tmp_path


def execute(table: Path, statement: str) -> None:
    """Change the table as no function of batchgen does."""
    with closing(sqlite3.connect(table, isolation_level=None)) as connection:
        connection.execute(statement)


def check(batchgen: Command, *words: str | Path) -> SimpleNamespace:
    """The findings that are problems, by what was checked, and the exit code."""
    ended = batchgen("db", "check", *words, "--json")
    findings = [json.loads(line) for line in ended.stdout.splitlines()]
    problems = [f"{finding['check']}: {finding['message']}" for finding in findings if not finding["ok"]]
    return SimpleNamespace(code=ended.returncode, problems=problems, findings=findings, stderr=ended.stderr)


@pytest.mark.parametrize("words", [(), ("--verify",), ("spring.yaml",), ("batchgen.db", "--verify")])
def test_a_sound_table_holds(folder: Path, batchgen: Command, words: tuple[str, ...]) -> None:
    result = check(batchgen, *words)
    assert (result.code, result.problems) == (0, [])
    assert result.findings[-1]["message"].startswith("spring: its rows agree, and each of 1 file is there with")


def test_the_table_of_a_manifest_that_was_run_and_is_gone_is_compared(folder: Path, batchgen: Command) -> None:
    (folder / "spring.yaml").unlink()
    assert [batchgen("db", "check", name).returncode for name in ("spring.yaml", "sprung.yaml")] == [0, 2]


def test_rows_of_every_kind_hold(table: Table) -> None:
    fill(table)
    found = table.database.read_now(violations, table.batch_id)
    assert [str(violation) for violation in found] == ["delivered bytes: the batch says 5000000000, its rows 27"]


PLANTED = {
    "another job's request": (
        "UPDATE jobs SET attempt_id = (SELECT max(id) FROM attempts) WHERE key = 'is-failed'",
        "rows: spring: the current request of these jobs belongs to another job: is-failed",
    ),
    "an outcome": (
        "UPDATE attempts SET outcome = 'rejected', generation_id = NULL WHERE generation_id = 'g-is-generating'",
        "rows: spring: the states of these jobs and the outcomes of their requests disagree: is-generating",
    ),
    "a second request": (
        "UPDATE jobs SET attempt_id = NULL, state = 'pending' WHERE key = 'is-generating'",
        "rows: spring: these jobs have another request that may be paid for, besides their current one: is-generating",
    ),
    "a file": (
        "UPDATE outputs SET delivered_at = NULL WHERE path = 'is-done.mp4'",
        "rows: spring: these jobs are delivered, but not with all their files: is-done",
    ),
    "no file to fetch": (
        "DELETE FROM outputs WHERE delivered_at IS NULL",
        "rows: spring: these jobs wait for a download, but no file is to be fetched: is-downloading",
    ),
    "a state": (
        "UPDATE jobs SET state = 'failed', failed_at = created_at, cancelled_at = NULL WHERE key = 'is-cancelled'",
        "rows: spring: the last events of these jobs disagree with their states: is-cancelled",
    ),
    "money": (
        "UPDATE batches SET spent_nanousd = 500",
        "rows: spring: USD spent: the batch says 0.0000005, its rows 0",
    ),
    "bytes": ("UPDATE batches SET delivered_bytes = 8", "rows: spring: delivered bytes: the batch says 8, its rows 9"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_rows_that_contradict_one_another_are_named(folder: Path, batchgen: Command, name: str) -> None:
    statement, problem = PLANTED[name]
    execute(folder / "batchgen.db", statement)
    result = check(batchgen)
    assert result.code == 3
    assert problem in result.problems


def test_every_rule_is_broken_once() -> None:
    assert [rule for rule in RULES if not any(rule in problem for _, problem in PLANTED.values())] == []


def test_files_and_rows_are_compared_in_both_directions(folder: Path, batchgen: Command) -> None:
    clip = folder / "is-done.mp4"
    clip.write_bytes(b"987654321")
    assert check(batchgen).code == 0
    (lost,) = check(batchgen, "--verify").problems
    assert "is-done.mp4 (job is-done) has other content" in lost
    clip.rename(folder / "stray.mp4")
    (folder / "is-downloading.mp4").write_bytes(CLIP)
    result = check(batchgen)
    assert result.code == 3
    assert result.problems == [
        "files: spring: 1 delivered file not there as delivered: is-done.mp4 (job is-done) is missing",
        f"files: spring: 1 file has no row in the table: {folder / 'stray.mp4'}",
    ]
    assert result.findings[1]["next"].startswith("batchgen retry ")
    execute(folder / "batchgen.db", "UPDATE batches SET manifest_path = '/nowhere/m.yaml'")
    assert check(batchgen).problems == ["files: spring: its folder /nowhere is not there: 1 file not compared"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere.db"], 2, "nowhere.db: there is no job table"),
        (["nowhere.yaml"], 2, "there is no such manifest"),
        (["nowhere.json"], 2, "there is no such manifest"),
        (["m.txt"], 2, "this is no job table (file is not a database)"),
        (["mysql://me:geheim@host/x"], 2, "use SQLite or PostgreSQL"),
        (["postgresql://me:geheim@127.0.0.1:1/x?password=geheim"], 8, "it cannot be used"),
    ],
)
def test_what_is_no_job_table_is_said_in_a_sentence(
    tmp_path: Path, batchgen: Command, words: list[str], code: int, message: str
) -> None:
    (tmp_path / "m.txt").write_text("no table" * 100)
    ended = batchgen("db", "check", *words)
    assert ended.returncode == code
    assert message in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert "geheim" not in ended.stdout + ended.stderr

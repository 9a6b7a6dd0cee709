"""Opening: a database that cannot be used is refused with a reason, and left unchanged byte for byte."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, select
from sqlalchemy.exc import OperationalError

from batchgen.errors import BatchgenError, DatabaseNewer, StorageError, UsageError
from batchgen.jobtable.batches import stored_batches
from batchgen.jobtable.database import Database, errors_for_people
from batchgen.jobtable.migrations import HEAD
from batchgen.jobtable.schema import batches
from tests.forks import ROOT
from tests.table import Table


def sql(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def tables_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def our_table(path: Path) -> Path:
    with Database(path):
        pass
    return path


def newer(path: Path) -> Path:
    return sql(our_table(path), "UPDATE alembic_version SET version_num = 'v999'")


def of_unknown_version(path: Path) -> Path:
    return sql(our_table(path), "UPDATE alembic_version SET version_num = 'v000'")


def of_the_unreleased_schema(path: Path) -> Path:
    """A job table of a checkout before the first release, whose migrations had other names."""
    return sql(
        path,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('0001')",
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, generation_id TEXT, selection TEXT)",
        "CREATE TABLE attempts (id INTEGER PRIMARY KEY, job_id INTEGER, sent_at TEXT)",
        "INSERT INTO jobs VALUES (1, 'g-1', NULL)",
    )


def of_no_version(path: Path) -> Path:
    our_table(path)
    return sql(path, "DELETE FROM alembic_version")


def text(path: Path) -> Path:
    path.write_text("batch: spring\njobs: []\n" * 100)
    return path


def cut_short(path: Path) -> Path:
    our_table(path)
    path.write_bytes(path.read_bytes()[:5000])
    return path


def scribbled_over(path: Path) -> Path:
    our_table(path)
    content = bytearray(path.read_bytes())
    content[100:4000] = b"\xff" * 3900  # the page that says what tables there are
    path.write_bytes(content)
    return path


def an_app_s(path: Path) -> Path:
    return sql(path, "CREATE TABLE photos (id INTEGER)", "INSERT INTO photos VALUES (1)")


def an_app_s_with_alembic(version: str) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        an_app_s(path)
        return sql(
            path,
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
            f"INSERT INTO alembic_version VALUES ('{version}')",
        )

    return made


REFUSED = [
    pytest.param(newer, DatabaseNewer, "version v999, this batchgen knows", id="of a newer version"),
    pytest.param(
        of_unknown_version, UsageError, "version v000, from which .* no migration", id="of an unknown version"
    ),
    pytest.param(
        of_the_unreleased_schema,
        UsageError,
        "version 0001, from which .* no migration; choose another --db.*has not been touched",
        id="of the unreleased schema",
    ),
    pytest.param(of_no_version, UsageError, "does not say its version any more", id="of no version"),
    pytest.param(text, StorageError, "file is not a database", id="a manifest"),
    pytest.param(cut_short, StorageError, "malformed|disk image|disk I/O", id="cut short"),
    pytest.param(scribbled_over, StorageError, "malformed|not a database", id="scribbled over"),
    pytest.param(an_app_s, UsageError, "something else", id="somebody else's"),
    pytest.param(an_app_s_with_alembic(HEAD), UsageError, "something else", id="somebody else's at our version"),
    pytest.param(an_app_s_with_alembic("v000"), UsageError, "something else", id="somebody else's, older"),
    pytest.param(an_app_s_with_alembic("v999"), UsageError, "something else", id="somebody else's, newer"),
    pytest.param(
        an_app_s_with_alembic("fe3a"), UsageError, "something else", id="somebody else's, of another numbering"
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_a_file_that_is_not_our_job_table_is_refused_and_unchanged(
    tmp_path: Path, make: Callable[[Path], Path], error: type[BatchgenError], message: str
) -> None:
    path = make(tmp_path / "batchgen.db")
    before = path.read_bytes()
    with pytest.raises(error, match=message) as refusal, Database(path):
        pass
    assert str(path) in str(refusal.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        pytest.param("a-folder", "this is a folder", id="a folder"),
        pytest.param("missing/batchgen.db", "its folder does not exist", id="a missing folder"),
        pytest.param("a-file/batchgen.db", "its folder does not exist", id="a file in place of its folder"),
    ],
)
def test_a_path_where_no_file_can_be_is_refused_with_the_reason(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-file").write_text("here")
    with pytest.raises(StorageError, match=message), Database(tmp_path / place):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a-file", "a-folder"]


OPEN_AS_NOBODY = """
import os, sys, tempfile
from pathlib import Path
from batchgen.jobtable.batches import stored_batches
from batchgen.jobtable.database import Database
from batchgen.errors import StorageError
with tempfile.TemporaryDirectory() as folder, Database(Path(folder) / "warm.db") as database:
    database.read_now(stored_batches)  # everything is imported while this process may still read its own code
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    with Database(sys.argv[1]) as database:
        print("opened, with", *[batch.name for batch in database.read_now(stored_batches)], flush=True)
        database.write_now(lambda connection: connection.exec_driver_sql("DELETE FROM batches") and None)
except StorageError as error:
    print(error)
"""


@contextmanager
def read_only_folder(folder: Path) -> Iterator[None]:
    """A folder that anybody may read and nobody may write, with the files in it."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
    for path in modes:
        path.chmod(0o555 if path == folder else 0o444)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; those of pytest are its user's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def open_as_nobody(path: Path) -> str:
    """What the script above prints for a table, run by a user who owns nothing."""
    ran = subprocess.run(
        [sys.executable, "-c", OPEN_AS_NOBODY, path], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_a_table_is_not_made_in_a_folder_that_may_only_be_read(open_folder: Path) -> None:
    path = open_folder / "batchgen.db"
    with read_only_folder(path.parent):
        printed = open_as_nobody(path)
    assert str(path) in printed
    assert "Let this user write into its folder" in printed
    assert list(path.parent.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("is_in_use", [False, True], ids=["nobody has open", "a run is at work on"])
def test_a_table_that_may_only_be_read_is_read_and_not_written(is_in_use: bool, open_folder: Path) -> None:
    path = open_folder / "batchgen.db"
    with ExitStack() as stack:
        with Database(path) as database:
            Table(database, path.parent).sync()
        if is_in_use:  # what it has written last is in its journal alone
            database = stack.enter_context(Database(path))
            database.write_now(lambda c: c.exec_driver_sql("UPDATE batches SET name = 'autumn'") and None)
        before = {file: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
        with read_only_folder(path.parent):
            opened, refused = open_as_nobody(path).splitlines()
        assert opened == f"opened, with {'autumn' if is_in_use else 'spring'}"
        assert refused.startswith(f"{path}: the job table cannot be used: it may only be read here. Ask for")
        assert {file: file.read_bytes() for file in before} == before


@pytest.mark.slow
def test_an_older_table_that_may_only_be_read_says_how_it_is_brought_up_to_date(open_folder: Path) -> None:
    path = open_folder / "batchgen.db"
    with Database(path) as database:
        database.write_now(lambda c: c.exec_driver_sql("UPDATE alembic_version SET version_num = 'v001'") and None)
    with read_only_folder(path.parent):
        printed = open_as_nobody(path)
    assert printed.startswith(
        f"{path}: the job table is of version v001, and may only be read; this batchgen reads {HEAD}"
    )


EDITED = {
    "no time": ("synced_at", "'yesterday'", "'yesterday' stands in it in place of a time in UTC"),
    "a time without a zone": ("synced_at", "'2026-11-28 10:00:00'", "'2026-11-28 10:00:00' stands in it"),
    "bytes": ("synced_at", "x'ff00'", r"b'\xff\x00' stands in it in place of a time"),
    "no amount": ("spent_nanousd", "'12,50'", "'12,50' stands in it in place of an amount"),
    "an amount without an end": ("spent_nanousd", "9e999", "inf stands in it in place of an amount"),
    "bytes in place of an amount": ("spent_nanousd", "x'00'", r"b'\x00' stands in it in place of an amount"),
}


@pytest.mark.parametrize(("column", "value", "message"), EDITED.values(), ids=EDITED)
def test_a_value_that_somebody_edited_by_hand_is_named(tmp_path: Path, column: str, value: str, message: str) -> None:
    row = "1, 'spring', 'aimlapi', 'm.yaml', '', '2026-11-28T10:00:00Z', '2026-11-28T10:00:00Z', NULL, 0, 0, 0, 0"
    path = sql(our_table(tmp_path / "batchgen.db"), f"INSERT INTO batches VALUES ({row})")
    with Database(path) as database:
        assert database.read_now(stored_batches)[0].name == "spring"
        sql(path, f"UPDATE batches SET {column} = {value}")
        with pytest.raises(StorageError) as caught:
            database.read_now(lambda connection: connection.execute(select(batches)).all())
    assert message in str(caught.value) and "edited by hand" in str(caught.value)


def test_a_word_that_somebody_edited_by_hand_is_named(table: Table) -> None:
    table.sync("mona")
    assert table.database.path
    sql(table.database.path, "PRAGMA ignore_check_constraints = ON", "UPDATE jobs SET state = 'lost'")
    with pytest.raises(StorageError, match=r"'lost' stands in it in place of pending, .* or cancelled: it was edited"):
        table.row("mona")


def test_an_empty_file_becomes_a_job_table(tmp_path: Path) -> None:
    """An SQLite database without tables is an empty file, and holds nothing that could be lost."""
    path = tmp_path / "batchgen.db"
    path.touch()
    assert "jobs" in tables_in(our_table(path))


@pytest.mark.parametrize(
    "name", ["with space.db", "100%.db", "a#b.db", "what?.db", "a%20b.db", "é&=+.db", "~.db", "-.db"]
)
def test_a_file_name_may_hold_any_characters(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    our_table(folder / name)
    our_table(folder / name)
    assert [path.name for path in folder.iterdir()] == [name]
    assert "jobs" in tables_in(folder / name)


def test_a_name_without_a_folder_means_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Database("batchgen.db") as database:
        assert database.path == tmp_path / "batchgen.db"


def test_a_url_names_the_same_file_as_a_path(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/batchgen.db") as database:
        assert database.path == tmp_path / "batchgen.db"
    assert "jobs" in tables_in(our_table(tmp_path / "batchgen.db"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("mysql://me:hunter2@host/db", "mysql"),
        ("sqlite+aiosqlite:///x.db", "the driver aiosqlite is not supported; begin with sqlite://"),
        ("postgresql+asyncpg://me:hunter2@host/db", "the driver asyncpg is not supported; begin with postgresql://"),
        ("nonsense://me:hunter2@host/db", "not a database URL"),
        ("postgresql://me:hunter2@host:port/db", "not a database URL"),
        ("://me:hunter2@", "not a database URL"),
        ("postgresql://me:not@hunter2@host/db", "not a database URL"),
        ("postgresql://me:not@here/hunter2@host/db", "not a database URL"),
    ],
)
def test_an_unusable_url_is_refused_without_showing_its_password(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal, Database(url):
        pass
    assert "hunter2" not in str(refusal.value)


def test_a_missing_server_is_reported_without_the_password() -> None:
    with pytest.raises((StorageError, UsageError)) as refusal, Database("postgresql://me:hunter2@127.0.0.1:9/db"):
        pass
    assert "hunter2" not in str(refusal.value)
    assert "127.0.0.1" in str(refusal.value) or "batchgen[postgres]" in str(refusal.value)


def test_a_driver_error_is_reported_without_the_password() -> None:
    url = make_url("postgresql://me:hunter2@127.0.0.1:9/db")
    with pytest.raises(StorageError, match=r"me:\*\*\*@127") as refusal, errors_for_people(url):
        raise OperationalError("SELECT 1", {}, Exception("connection refused"))
    assert "hunter2" not in str(refusal.value)


KILLED = """
import os, signal, sys
from sqlalchemy import insert
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import prices
with Database(sys.argv[1]) as database:
    database.write_now(lambda connection: connection.execute(insert(prices).values(service="s", model="kept")) and None)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_commit_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    ran = subprocess.run([sys.executable, "-c", KILLED, path], cwd=ROOT, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert (tmp_path / "batchgen.db-wal").stat().st_size
    with Database(path) as database:
        assert (
            database.read_now(lambda connection: connection.exec_driver_sql("SELECT model FROM prices").scalar())
            == "kept"
        )

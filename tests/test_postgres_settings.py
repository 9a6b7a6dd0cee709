"""The job table in PostgreSQL, on a server, a database or a role with settings of its own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from batchgen.errors import UsageError
from batchgen.jobtable import engine, table_lock
from batchgen.jobtable.database import Database, reason_for_person
from batchgen.jobtable.statistics import batch_summary
from tests.batches import write_manifest
from tests.conftest import NOON, Command, Simulate
from tests.postgres import Server
from tests.table import Table
from tests.view_cases import ask
from tests.waiting import until

pytest.importorskip("psycopg", reason="batchgen[postgres] is not installed", exc_type=ImportError)

WRITE_LOCK = text("SELECT pg_advisory_xact_lock(7274331)")


def configure(postgres: Server, place: str, setting: str) -> None:
    """Give a database a setting, which holds for the sessions that begin from now on."""
    postgres.ask(place, f"ALTER DATABASE {place.rpartition('/')[2]} SET {setting}")


@pytest.mark.parametrize(
    "setting",
    [
        "datestyle = 'German, DMY'",
        "datestyle = 'SQL, DMY'",
        "client_encoding = 'LATIN1'",
        "standard_conforming_strings = off",
        "bytea_output = 'escape'",
        "timezone = 'Pacific/Apia'",
        "default_transaction_isolation = 'serializable'",
    ],
)
def test_a_table_is_made_written_and_read_whatever_the_database_prefers(
    setting: str, postgres: Server, tmp_path: Path
) -> None:
    place = postgres.create()
    configure(postgres, place, setting)
    with Database(place) as database:
        table = Table(database, tmp_path)
        table.sync("größe 大")
        (job,) = table.intend()
        assert (job.key, job.attempt.intent_at) == ("größe 大", table.now)
        assert database.read_now(batch_summary, table.batch_id, NOON).total == 1
        assert ask(table, "SELECT id FROM job_overview") == [{"id": "größe 大"}]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_store_every_prompt_is_refused(encoding: str, postgres: Server) -> None:
    postgres.ask(postgres.url("postgres"), f"CREATE DATABASE {encoding} ENCODING '{encoding}' TEMPLATE template0")
    with (
        pytest.raises(UsageError, match=f"its encoding is {encoding}, in which not every prompt can be stored"),
        Database(postgres.url(encoding.lower())),
    ):
        pass


def test_a_lock_is_waited_for_although_the_server_bounds_statements_more_closely(
    postgres: Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(postgres, place, "statement_timeout = '30ms'")
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(table_lock, "NOTICED_TRIES", 2)
    with (
        Database(place, patience=None) as database,
        ThreadPoolExecutor(1) as thread,
        create_engine(postgres.url(place.rpartition("/")[2]), poolclass=NullPool).connect() as other,
    ):
        other.execute(WRITE_LOCK)
        waiting = thread.submit(database.write_now, lambda c: c.execute(text("SELECT pg_sleep(0.1)")) and None)
        until(lambda: "locked by another session" in database.lock.notice, "it waits")
        other.rollback()
        assert waiting.result(10) is None, "the statement took longer than the server's own bound"
    assert engine.STATEMENT_TIMEOUT_MS > engine.LOCK_TIMEOUT_MS


def test_a_read_may_pause_although_the_server_bounds_idle_transactions_more_closely(
    postgres: Server, place: str
) -> None:
    configure(postgres, place, "idle_in_transaction_session_timeout = '50ms'")

    def read_slowly(connection: Connection) -> int:
        time.sleep(0.2)  # as Python does with many rows
        return int(connection.execute(text("SELECT 1")).scalar_one())

    with Database(place) as database:
        assert database.read_now(read_slowly) == 1


@pytest.mark.parametrize("pause_seconds", [0.0, 0.2], ids=["noticed at once", "noticed later"])
def test_a_server_that_ends_an_idle_transaction_is_a_sentence(place: str, pause_seconds: float) -> None:
    reading = engine.make_engine(engine.database_url(place), writing=False)
    with pytest.raises(DBAPIError) as caught, reading.connect() as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 1"))
        time.sleep(pause_seconds or 0.01)
        while True:
            connection.execute(text("SELECT 1"))
    reading.dispose()
    assert reason_for_person(caught.value).startswith(
        "the server ended the connection, and its log says why. Where it bounds"
    )


def test_a_table_that_may_only_be_read_is_a_sentence_and_ends_a_worker(
    postgres: Server, place: str, tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2)
    assert batchgen("run", "m.yaml", "--enroll", "--db", place).returncode == 0
    configure(postgres, place, "default_transaction_read_only = on")

    for words in (("worker",), ("run", "m.yaml"), ("plan", "m.yaml"), ("db", "copy", place, "copy.db")):
        location = () if place in words else ("--db", place)
        ended = batchgen(*words, *location, **simulator.environment)
        assert ended.returncode == 8, words
        assert ended.stderr.count("the job table cannot be used: it may only be read here. Ask for") == 1, ended.stderr
    assert batchgen("status", "m.yaml", "--db", place).returncode == 0


def as_role(postgres: Server, place: str, *grants: str) -> str:
    """The URL of a database for a new role that has these rights alone, and a name that has to be quoted."""
    role = f"Read er {place.rpartition('_')[2]}"
    postgres.ask(place, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    postgres.ask(place, f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'geheim'")
    for grant in grants:
        postgres.ask(place, f'GRANT {grant} TO "{role}"')
    return place.replace("//batchgen:", f"//{role.replace(' ', '%20')}:")


READS = ("USAGE ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public")
RIGHTS = {
    "only reads": (READS, "status", None),
    "may not write": (READS, "run", "this role may not UPDATE (permission denied for table batches). Ask"),
    "may not insert": (
        (*READS, "UPDATE ON ALL TABLES IN SCHEMA public"),
        "run",
        "this role may not INSERT (permission",
    ),
    "may not read": (
        READS[:1],
        "status",
        "this role may not SELECT (permission denied for table alembic_version). Ask",
    ),
    "may not enter": ((), "status", "no schema of its search_path exists, or none that this role may use. Set another"),
}


@pytest.mark.parametrize("name", RIGHTS)
def test_the_right_that_a_role_lacks_is_named_without_the_sql(
    name: str, postgres: Server, place: str, tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    grants, command, sentence = RIGHTS[name]
    environment = simulate().environment
    write_manifest(tmp_path / "m.yaml", 2)
    assert batchgen("run", "m.yaml", "--enroll", "--db", place).returncode == 0
    ended = batchgen(command, "m.yaml", "--db", as_role(postgres, place, *grants), **environment)
    assert ended.returncode == (8 if sentence else 0), ended.stderr
    assert (f"the job table cannot be used: {sentence or ''}" in ended.stderr) == bool(sentence), ended.stderr
    assert "LINE" not in ended.stderr and "geheim" not in ended.stderr


@pytest.mark.parametrize("refused", ["a role that may not make tables", "no schema to make them in"])
def test_a_new_table_that_cannot_be_made_says_why(refused: str, postgres: Server, batchgen: Command) -> None:
    place = postgres.create()
    role = as_role(postgres, place, *READS)
    if refused == "no schema to make them in":
        configure(postgres, place, "search_path = nowhere")
    ended = batchgen("worker", "--db", role)
    sentence = (
        "no schema of its search_path" if "schema" in refused else "this role may not CREATE (permission denied for"
    )
    assert (ended.returncode, f"cannot be used: {sentence}" in ended.stderr) == (8, True), ended.stderr
    assert "LINE" not in ended.stderr


def test_doctor_and_db_check_name_what_somebody_has_dropped(
    postgres: Server, place: str, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in simulate().environment.items():
        monkeypatch.setenv(name, value)
    assert "PROBLEM  table" not in batchgen("db", "check", place).stdout
    for part in ("index ux_attempts_one_open", "view spend", "table settings"):
        postgres.ask(place, f"DROP {part} CASCADE")
        for words in (("doctor", "--db"), ("db", "check")):
            examined = batchgen(*words, place)
            assert (examined.returncode, f"the {part} is missing" in examined.stdout) == (8, True), examined.stdout


def test_the_doctor_names_a_role_that_may_not_write_and_the_sql_that_mends_it(
    postgres: Server, place: str, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in simulate().environment.items():
        monkeypatch.setenv(name, value)
    role = as_role(postgres, place, *READS)
    refused = batchgen("doctor", "--db", role)
    assert refused.returncode == 8
    assert "PROBLEM  table: " in refused.stdout
    assert "this role may not write what a run writes (INSERT ON attempts, UPDATE ON attempts, " in refused.stdout
    _, found, sql = refused.stdout.partition("The owner of the tables types: ")
    assert found
    postgres.ask(place, sql.splitlines()[0])
    assert "PROBLEM  table" not in batchgen("doctor", "--db", role).stdout
    configure(postgres, place, "default_transaction_read_only = on")
    assert "it may only be read here: name the server that is no standby" in batchgen("doctor", "--db", role).stdout

"""The job table in PostgreSQL: the same rows and guarantees; leases replace file locks."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from subprocess import TimeoutExpired

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine, make_url, select, text, update

from batchgen.billing.settlements import Settlement
from batchgen.errors import BatchgenError, DatabaseNewer, ExitCode, StorageError, TableLocked, UsageError
from batchgen.jobs import Parent, State, Verdict
from batchgen.jobtable import clips, commands, engine, ledger, repeats, settings, table_lock, takeover, verdicts
from batchgen.jobtable.database import Database
from batchgen.jobtable.fingerprint import new_request_id
from batchgen.jobtable.query import QueryLimit, run_query
from batchgen.jobtable.repeats import RepeatSearch
from batchgen.jobtable.schema import batches, metadata, outputs
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.takeover import Adopter
from batchgen.jobtable.verdicts import Judgement
from batchgen.jobtable.views import EXAMPLES, VIEWS
from batchgen.services.base import PastGeneration
from tests.batches import write_manifest
from tests.conftest import NOON, Command, Launch, Simulate
from tests.hot_queries import HOT_QUERIES, SORTED, statements
from tests.listening import Handler, hang, listening_on_a_thread
from tests.postgres import Server
from tests.processes import gather
from tests.table import HOUR, RUN, Table, spec
from tests.tcp_proxy import TcpProxy
from tests.test_billing import USD, Pages, charge, compare
from tests.test_database import OPENING_PROGRAM, names, note
from tests.test_schema import INDEXES
from tests.view_cases import ask, everything
from tests.waiting import until

pytest.importorskip("psycopg", reason="batchgen[postgres] is not installed", exc_type=ImportError)


@pytest.fixture
def database(place: str) -> Iterator[Database]:
    with Database(place) as opened:
        yield opened


def test_the_migrated_database_has_the_described_schema(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "include_object": lambda _object, _name, kind, *_: kind != "index"}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    def indexes(connection: Connection) -> set[str]:
        """Those that no key has made, with the tables and columns that PostgreSQL says they have."""
        made = connection.execute(text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema"))
        ours = [(name, definition) for name, definition in made if name.startswith(("ix_", "ux_"))]
        return {f"{name}: {definition.partition(' ON ')[2].partition(' WHERE ')[0]}" for name, definition in ours}

    assert database.read_now(differences) == []
    described = {f"{name}: {on.partition(' WHERE ')[0]}" for name, on in INDEXES.items()}
    assert {re.sub(r"\w+\.| USING btree", "", index) for index in database.read_now(indexes)} == described


def test_what_was_paid_for_is_known_under_another_name(table: Table) -> None:
    table.bring(State.DONE, "mona")
    synced = table.sync(replace(spec("mona"), key="renamed"), spec("lost", prompt="Lost."))
    search = RepeatSearch(table.batch_id, "aimlapi", table.folder, synced.orphans, ())
    past = PastGeneration(new_request_id(table.row("lost").fingerprint), "g-lost", table.now, Decimal("0.5"))
    matches = table.change(repeats.compare, replace(search, past=[past])).repeats
    assert [(repeat.job.key, bool(repeat.owner)) for repeat in matches] == [("renamed", True), ("lost", False)]
    adopter = Adopter(Sender(RUN, "aimlapi", "a"), lambda id_, _endpoint: {"id": id_}, table.now, table.now + HOUR)
    table.change(takeover.settle, matches, table.folder, adopter, "keep")
    assert table.states() == {"mona": "cancelled", "renamed": "done", "lost": "generating"}
    assert table.change(ledger.totals, table.batch_id) == table.recomputed_totals()


def test_verdicts_are_imported_and_the_judged_jobs_become_the_next_manifest(
    table: Table, place: str, batchgen: Command
) -> None:
    (table.folder / "spring.yaml").touch()
    for key in ("mona", "lisa"):
        table.bring(State.DONE, key)
    table.change(lambda connection: connection.execute(update(outputs).values(sha256="01" * 32)))
    entry = {"id": "mona", "clip": "01" * 8, "verdict": "picked", "stars": 4, "at": "2026-03-01T11:00:00Z"}
    document = {"format": "batchgen verdicts", "version": 1, "batch": "spring", "verdicts": [entry]}
    (table.folder / "v.json").write_text(json.dumps(document))
    imported = [batchgen("verdicts", "import", "spring.yaml", "v.json", "--db", place).stdout for _ in range(2)]
    assert [text.splitlines()[0] for text in imported] == [
        "spring: 1 verdict imported",
        "spring: 0 verdicts imported, 1 not newer than the table's",
    ]
    ended = batchgen("next", "spring.yaml", "--picked", "--reseed", "-o", "june.yaml", "--db", place)
    assert (ended.stdout, ended.returncode) == ("june.yaml: 1 job of spring\n", 0)
    assert ended.stderr == "left out: 1 without a verdict\nNext: `batchgen plan june.yaml --db URL`\n"
    child = spec("child", parent=Parent("spring", "mona"))
    table.sync(child, "mona")
    table.sync(child, spec("mona", prompt="Another."), changed="redo")
    assert table.row("child").parent_key == "mona~1"


def test_a_job_in_every_state_is_read_as_it_was_written(table: Table) -> None:
    table.bring_one_of_each()
    assert table.states() == {f"is-{state}": str(state) for state in State}
    assert table.story("is-done") == ["pending", "submitting", "generating", "downloading", "done"]
    attempt, output = table.attempt("is-done"), table.output("is-done")
    times = (attempt.intent_at, attempt.answered_at, attempt.finished_at, output.delivered_at)
    assert [(time, time.utcoffset()) for time in times] == [(table.now, timedelta(0))] * 4
    assert (output.path, output.bytes, output.sha256) == ("is-done.mp4", 9, "ab")
    assert table.retry("is-failed", "is-cancelled") == ["is-cancelled", "is-failed"], "in the manifest's order"
    assert table.cancel("is-pending") == ["is-pending"]


def test_money_is_exact_and_reads_as_it_was_written(table: Table) -> None:
    table.sync("mona")
    table.accept(table.intend()[0], "g-1", "0.2800005")
    assert str(table.attempt().cost_usd) == "0.2800005"
    table.sync("mona", "lisa")
    table.accept(table.intend()[0], "g-2", "12345678.5")
    assert [str(attempt.cost_usd) for attempt in table.attempts()] == ["0.2800005", "12345678.5"]
    total = Decimal("12345678.7800005")

    def ask(sql: str) -> object:
        return table.database.read_now(lambda connection: connection.exec_driver_sql(sql).scalar())

    assert ask("SELECT sum(cost_usd) FROM attempts") == total
    assert ask("SELECT spent_nanousd FROM batches") == total * 10**9


def test_a_generation_of_another_attempt_is_not_taken_and_the_job_is_unconfirmed(table: Table) -> None:
    table.bring(State.GENERATING, "lisa")
    table.accept(table.bring(State.SUBMITTING), "g-lisa")
    assert table.states() == {"lisa": "generating", "mona": "unconfirmed"}
    take = text("UPDATE attempts SET outcome = 'accepted', generation_id = 'g-lisa' WHERE generation_id IS NULL")
    with pytest.raises(StorageError, match="ux_attempts_generation"):
        table.change(lambda connection: connection.execute(take) and None)


def test_a_delivered_file_without_a_size_is_refused(table: Table) -> None:
    table.bring(State.DONE)
    with pytest.raises(StorageError, match="delivered_has_file"):
        table.change(lambda connection: connection.execute(text("UPDATE outputs SET bytes = NULL")) and None)


async def test_a_batch_is_compared_with_its_account(table: Table) -> None:
    table.bring_one_of_each()
    service = Pages(listed=[charge(0, generation="g-is-done"), charge(1, generation="g-of-nobody")])
    comparison = await compare(table, service)
    assert {settlement: tally.number for settlement, tally in comparison.tallies.items()} == {
        Settlement.DELIVERED: 1,
        Settlement.NOTHING_CHARGED: 1,
        Settlement.UNDERWAY: 2,
        Settlement.UNCONFIRMED: 2,
        Settlement.UNIDENTIFIED: 1,
    }
    assert table.attempt("is-done").cost_usd == USD


def test_a_read_sees_a_snapshot_and_cannot_write(database: Database) -> None:
    def read_twice(connection: Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        database.write_now(note, "late")
        return before, names(connection)

    assert database.read_now(read_twice) == ([], [])
    assert database.read_now(names) == ["late"]
    with pytest.raises(StorageError, match="read-only"):
        database.read_now(note, "n")


def test_two_first_runs_at_once_both_open_a_complete_table(postgres: Server) -> None:
    assert gather(OPENING_PROGRAM, [postgres.create()] * 2) == ["0"] * 2


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ("CREATE TABLE guests (name text)", UsageError, "something else"),
        ("CREATE TABLE alembic_version (version_num text)", UsageError, "something else"),
        ("UPDATE alembic_version SET version_num = 'v999'", DatabaseNewer, "upgrade batchgen"),
        (None, StorageError, "does not exist"),
    ],
)
def test_an_unusable_database_is_refused_without_showing_its_password(
    postgres: Server, migrated: str, made: str | None, error: type[BatchgenError], message: str
) -> None:
    url = postgres.create(like=migrated if error is DatabaseNewer else "template1") if made else postgres.url("nowhere")
    if made:
        postgres.ask(url, made)
    with pytest.raises(error, match=message) as refused, Database(url):
        pass
    assert "geheim" not in str(refused.value)


READ_WHOLE = re.compile(r"Seq Scan on (jobs|attempts|outputs|events)")
SORTING = re.compile(r"^ *(-> *)?Sort", re.MULTILINE)
SCAN_AND_FOLLOWING = re.compile(r"Scan (?:Backward )?using (\w+) on (?:jobs|attempts|outputs|events)\b.*\n(.*)")


def is_scanned(plan: str) -> bool:
    """Whether a whole index is read. A partial one has few rows; what is joined to them may be read in any way."""
    is_joined_to_few = re.search("ix_outputs_(remarked|unmeasured|suspect)", plan)
    return not is_joined_to_few and any(
        "Index Cond" not in following and index != "ix_attempts_uncharged"
        for index, following in SCAN_AND_FOLLOWING.findall(plan)
    )


def test_a_repeated_statement_uses_an_index(table: Table) -> None:
    """Each query is tried on the same rows: its changes are rolled back."""
    table.bring_one_of_each()

    def plans(connection: Connection) -> Iterator[tuple[str, str, str]]:
        ask = connection.exec_driver_sql
        executed = [
            (name, sql, params)
            for name, query in HOT_QUERIES.items()
            for sql, params in statements(connection, table.batch_id, query)
        ]
        # Nine rows are read and sorted fastest as they lie: a plan with an index shows that there is one.
        for method in ("seqscan", "bitmapscan", "sort"):
            ask(f"SET LOCAL enable_{method} = off")
        for name, sql, params in executed:
            yield name, sql, "\n".join(ask(f"EXPLAIN {sql}", params).scalars())

    before = table.everything()
    offences = [
        f"{name}\n{sql}\n{plan}"
        for name, sql, plan in table.change(lambda connection: list(plans(connection)))
        if READ_WHOLE.search(plan) or (name not in SORTED and SORTING.search(plan)) or is_scanned(plan)
    ]
    assert not offences
    assert table.everything() == before


@pytest.mark.parametrize("reads", [False, True], ids=["a write", "a read"])
def test_a_table_that_another_session_has_locked_is_waited_for(
    reads: bool, database: Database, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 20)
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(table_lock, "NOTICED_TRIES", 2)
    database.lock.patience = None

    def number(connection: Connection) -> object:
        return connection.execute(text("SELECT count(*) FROM jobs")).scalar()

    with ThreadPoolExecutor(1) as thread, create_engine(place, poolclass=NullPool).connect() as other:
        other.execute(text("LOCK TABLE jobs"))
        waiting = thread.submit(database.read_now if reads else database.write_now, number)
        until(lambda: "the job table is locked by another session" in database.lock.notice, "it waits")
        assert "geheim" not in database.lock.notice
        other.rollback()
        assert waiting.result(10) == 0


def test_a_server_that_restarts_is_waited_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    sessions: list[object] = []

    def lose_session(connection: Connection) -> None:
        sessions.append(connection.execute(text("SELECT pg_backend_pid()")).scalar())
        if len(sessions) == 1:
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    database.write_now(lose_session)
    database.read_now(lambda connection: lose_session(connection) if len(sessions) < 3 else None)
    assert len(set(sessions)) == 3


def test_no_intent_is_written_to_a_server_that_has_lost_what_a_run_had_committed(
    place: str, postgres: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    name, root = make_url(place).database, postgres.url("postgres")
    with Database(place) as database:
        batch_id = Table(database, tmp_path).sync("mona", "lighthouse").batch_id
        database.write_now(settings.record_comparison, batch_id, NOON)
    backup = make_url(postgres.create(like=str(name))).database
    with Database(place, patience=None) as database:
        table = Table(database, tmp_path, batch_id=batch_id)
        (job, _) = table.intend()
        table.accept(job)
        postgres.ask(root, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres.ask(root, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        postgres.ask(root, f"ALTER DATABASE {name} RENAME TO {name}_lost")
        postgres.ask(root, f"ALTER DATABASE {backup} RENAME TO {name}")
        for _ in range(2):
            with pytest.raises(StorageError, match="the server has lost what this run had stored"):
                table.intend()
        assert table.attempts() == []
        compared_at = database.read_now(lambda connection: connection.execute(select(batches.c.compared_at)).scalars())
        assert list(compared_at) == [None], "other runs compare all jobs as well"


def test_an_event_of_a_trial_that_was_rolled_back_is_no_loss_of_the_server(
    table: Table, place: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    table.sync("mona", "lighthouse")
    table.cancel("lighthouse")
    mona = table.row().id

    def try_out(connection: Connection) -> None:
        with connection.begin_nested() as savepoint:
            commands.cancel_pending(connection, [mona], "tried out", NOON)
            savepoint.rollback()

    table.change(try_out)
    sessions = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{make_url(place).database}'"
    postgres.ask(postgres.url("postgres"), sessions)
    assert [job.key for job in table.intend()] == ["mona"]


def test_a_read_that_takes_long_holds_up_the_next_one_and_does_not_fail_it(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_MS", 10)
    monkeypatch.setattr(table_lock, "RETRY_SECONDS", 0.01)
    begun, goes_on = threading.Event(), threading.Event()

    def read_long(_connection: Connection) -> None:
        begun.set()
        assert goes_on.wait(10)

    with Database(place, patience=None) as database, ThreadPoolExecutor(2) as threads:
        first = threads.submit(database.read_now, read_long)
        assert begun.wait(10)
        second = threads.submit(database.read_now, lambda connection: connection.execute(text("SELECT 0")).scalar())
        until(lambda: "the server of the job table does not answer" in database.lock.notice, "it waits")
        goes_on.set()
        assert (first.result(10), second.result(10)) == (None, 0)


def test_a_server_that_is_there_and_lets_nobody_in_is_told_in_its_own_words(place: str, postgres: Server) -> None:
    name = place.rpartition("/")[2]
    with Database(place, patience=2) as database:
        postgres.ask(postgres.url("postgres"), f"DROP DATABASE {name} WITH (FORCE)")
        with pytest.raises(TableLocked, match=rf'the job table lets nobody in \(database "{name}" does not exist\)'):
            database.read_now(lambda connection: connection.execute(text("SELECT 0")))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run m.yaml", "worker --stay"])
def test_a_second_signal_ends_a_process_whose_server_is_silent(
    command: str, place: str, postgres: Server, tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 2)
    batchgen("run", "m.yaml", "--enroll", "--db", place)
    with TcpProxy(postgres.port) as proxy:
        db = place.replace(f":{postgres.port}/", f":{proxy.port}/")
        running = launch(*command.split(), "--db", db, **simulator.environment)
        until(lambda: postgres.ask(place, "SELECT 1 FROM jobs WHERE state = 'generating'"), "a job is sent")
        proxy.hold()
        running.signal(signal.SIGINT)
        with pytest.raises(TimeoutExpired):  # The first one waits for what it has begun.
            running.process.wait(1)
        running.signal(signal.SIGINT)
        assert running.process.wait(10) == ExitCode.INTERRUPTED


def silent_after_login(asked: threading.Event) -> Handler:
    """A server of PostgreSQL that lets everybody in, and answers no query."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length, code = struct.unpack("!II", await reader.readexactly(8))
            if code == 3 << 16:  # the version of the protocol; all others ask for encryption, or cancel a query
                await reader.readexactly(length - 8)
                break
            writer.write(b"N")
        writer.write(b"R" + struct.pack("!II", 8, 0) + b"Z" + struct.pack("!I", 5) + b"I")  # authenticated, and idle
        await reader.readexactly(1)
        asked.set()
        await hang(reader, writer)

    return handle


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--enroll"])
def test_a_second_signal_ends_a_run_that_still_opens_a_silent_server(
    flags: str, tmp_path: Path, launch: Launch
) -> None:
    write_manifest(tmp_path / "m.yaml", 1)
    asked = threading.Event()
    with listening_on_a_thread(silent_after_login(asked)) as port:
        place = f"postgresql://batchgen:geheim@127.0.0.1:{port}/jobs"
        running = launch("run", "m.yaml", "--simulate", *flags.split(), "--db", place)
        assert asked.wait(20)
        for _ in range(2):  # The driver takes one for an order to cancel the query, at a server that is silent.
            with suppress(TimeoutExpired):
                running.process.wait(1)
            running.signal(signal.SIGINT)
        assert running.process.wait(5) == ExitCode.INTERRUPTED


VOLATILE = re.compile(r"batchgen-[0-9a-f]{16}-[0-9a-f]{32}")


def rows_of_views(table: Table) -> dict[str, list[str]]:
    """The rows of all views, without what differs from table to table."""

    def masked(row: object) -> str:
        return VOLATILE.sub("…", str(row)).replace(str(table.folder), "…")

    return {name: sorted(masked(row) for row in ask(table, f"SELECT * FROM {name}")) for name in VIEWS}


def test_the_views_say_the_same_as_in_sqlite(table: Table, tmp_path: Path, empty_table: Path) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    shutil.copyfile(empty_table, folder / "batchgen.db")
    with Database(folder / "batchgen.db") as sqlite:
        same = Table(sqlite, folder)
        everything(same)
        expected = rows_of_views(same)
    everything(table)
    assert rows_of_views(table) == expected
    for name, view in VIEWS.items():
        assert list(ask(table, f"SELECT * FROM {name}")[0]) == view.columns
    assert [len(ask(table, example.sql)) for example in EXAMPLES.values()] == [2, 4, 1, 0, 10]


REFUSED = {
    "DELETE FROM jobs": "syntax error",
    "WITH gone AS (DELETE FROM jobs RETURNING id) SELECT * FROM gone": "DECLARE CURSOR must not contain",
    "SELECT 1; DROP TABLE jobs": "more than one statement; give one SELECT",
    "SELECT setval('jobs_id_seq', 1)": "read-only transaction",
    "SELECT set_config('transaction_read_only', 'off', true)": "must be set before any query",
    "SELECT pg_sleep(60)": "took longer than 0.2 s",
    "SELECT ide FROM ledger": "did you mean id",
    "SELECT * FROM legder": "did you mean ledger",
    "SELECT 1 / 0": "division by zero",
    "": "syntax error at end of input",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_a_query_that_does_more_than_read_or_is_wrong_is_refused(table: Table, sql: str) -> None:
    table.sync("mona")
    with pytest.raises(UsageError, match=REFUSED[sql]):
        run_query(table.database, sql, QueryLimit(0.2), lambda _columns, rows: list(rows))
    assert table.states() == {"mona": "pending"}
    assert ask(table, "SELECT '100%' AS a, ':b' AS b WHERE 'x%' LIKE '%\\%'") == [{"a": "100%", "b": ":b"}]


def test_rows_that_come_before_a_query_is_stopped_may_be_used(table: Table) -> None:
    def first(_names: object, found: Iterator[object]) -> int:
        number = 0
        with suppress(UsageError):
            for _ in found:
                number += 1
        return number

    slow = "SELECT x, CASE WHEN x > 600 THEN pg_sleep(60) END FROM generate_series(1, 10000) AS x"
    assert run_query(table.database, slow, QueryLimit(0.2), first) > 0


def test_the_page_of_a_batch_reads_the_same_rows(table: Table) -> None:
    """What `batchgen review` shows, and what has changed since."""
    table.bring(State.DONE)
    table.bring(State.FAILED, "lisa")
    start = clips.Marks(0, 0, "")
    rows, marks = table.database.read_now(clips.changed_since, table.batch_id, start)
    assert table.database.read_now(clips.newest, table.batch_id) == marks
    shown = table.database.read_now(lambda connection: list(clips.clips(connection, table.batch_id, rows)))
    assert [(clip.id, clip.state) for clip in shown] == [("mona", State.DONE), ("lisa", State.FAILED)]
    table.change(verdicts.record_verdict, table.attempt().id, Judgement(Verdict.PICKED, 5), table.now)
    rows, _ = table.database.read_now(clips.changed_since, table.batch_id, marks)
    (mona,) = table.database.read_now(lambda connection: list(clips.clips(connection, table.batch_id, rows)))
    assert (mona.id, mona.judgement) == ("mona", Judgement(Verdict.PICKED, 5))
    assert table.database.read_now(clips.find_file, table.batch_id, mona.row_id, 1) is None  # it has no whole digest
    assert table.database.read_now(clips.attempt_of_clip, table.batch_id, "mona", "ab") == mona.attempt_id
    assert table.database.read_now(ledger.spend_by_model, table.batch_id) == {}

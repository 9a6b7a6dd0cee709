"""`batchgen sql`: what it reads, what the database refuses, and how the rows are written."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory

from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.query import QueryLimit, run_query
from batchgen.jobtable.views import EXAMPLES, VIEWS
from batchgen.report import rows
from tests.conftest import Command
from tests.table import Table

FOREVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"


@pytest.fixture(scope="module")
def two_jobs(tmp_path_factory: pytest.TempPathFactory, empty_table: Path) -> Path:
    """A table with a delivered job and a failed one, to copy."""
    folder = tmp_path_factory.mktemp("two")
    shutil.copyfile(empty_table, folder / "batchgen.db")
    with Database(folder / "batchgen.db") as database:
        table = Table(database, folder)
        table.sync()
        table.bring(State.DONE, "mona")
        table.bring(State.FAILED, "lisa")
    return folder / "batchgen.db"


@pytest.fixture
def sql(tmp_path: Path, two_jobs: Path, batchgen: Command) -> Command:
    """The command in a folder with that table."""
    shutil.copyfile(two_jobs, tmp_path / "batchgen.db")
    return lambda *words, **variables: batchgen("sql", *words, **variables)


def test_without_a_query_the_views_are_listed_with_their_columns(batchgen: Command, tmp_path: Path) -> None:
    shown = batchgen("sql")
    assert (shown.returncode, shown.stderr) == (0, "")
    text = " ".join(shown.stdout.split())
    for name, view in VIEWS.items():
        assert f"{name}: {view.rows} {', '.join(view.columns)}" in text
    assert all(example.question in text and example.sql.rstrip(";") in text for example in EXAMPLES.values())
    assert list(tmp_path.iterdir()) == [], "no job table was needed or made"
    assert 'batchgen sql a/m.yaml --db b.db "SELECT ' in batchgen("sql", "a/m.yaml", "--db", "b.db").stdout


def test_the_columns_of_a_view_are_explained(batchgen: Command) -> None:
    for name, view in VIEWS.items():
        title, *lines = batchgen("sql", name.upper()).stdout.splitlines()
        assert title == f"{name}: {view.rows}"
        assert [line.split()[0] for line in lines if line[2] != " "] == view.columns


def test_a_query_may_come_by_standard_input(sql: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT id\nFROM job_overview -- all\nORDER BY id;\n"))
    assert sql("-", "--csv").stdout == "id\nlisa\nmona\n"
    assert "standard input has no query" in sql("-").stderr


def test_a_query_is_answered_by_a_table(sql: Command) -> None:
    shown = sql("SELECT id, state, path, stars FROM job_overview ORDER BY id")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == (
        "id    state   path      stars\n----  ------  --------  -----\nlisa  failed\nmona  done    mona.mp4\n"
    )


def test_a_query_may_take_a_json_list_apart(sql: Command) -> None:
    asked = "SELECT t.value FROM job_overview j, json_each('[\"hero\", 2]') t WHERE j.id = 'mona' ORDER BY t.key"
    assert sql(asked, "--csv").stdout == "value\nhero\n2\n"


def test_the_table_is_found_beside_a_manifest_by_an_option_or_by_the_environment(sql: Command, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "spring.yaml").write_text("jobs: []")
    (tmp_path / "batchgen.db").rename(folder / "batchgen.db")
    query = "SELECT count(*) AS jobs FROM job_overview"
    answer = "jobs\n----\n   2\n"
    assert sql("elsewhere/spring.yaml", query).stdout == answer
    assert sql(query, "--db", "elsewhere/batchgen.db").stdout == answer
    assert sql(query, BATCHGEN_DB="elsewhere/batchgen.db").stdout == answer
    missing = sql(query)
    assert (missing.returncode, missing.stderr.count("there is no job table yet")) == (2, 1)
    assert "spling.yaml: there is no such manifest" in sql("elsewhere/spling.yaml", query).stderr


def test_csv_is_quoted_and_json_is_a_line_for_each_row(sql: Command) -> None:
    odd = "SELECT 'a,\"b\"\n' || char(27) || 'c' AS text, 0.1 + 0.2 AS sum, NULL AS n, x'00ff' AS bytes, 9e999 AS more"
    shown = sql(odd, "--csv")
    assert list(csv.reader(io.StringIO(shown.stdout))) == [
        ["text", "sum", "n", "bytes", "more"],
        ['a,"b"\n\x1bc', "0.3", "", "x'00ff'", "inf"],
    ]
    (line,) = sql(odd, "--json").stdout.splitlines()
    assert json.loads(line) == {"text": 'a,"b"\n\x1bc', "sum": 0.3, "n": None, "bytes": "x'00ff'", "more": "inf"}
    (line,) = sql("SELECT 1 AS id, 2 AS id, 'x' AS key", "--json").stdout.splitlines()
    assert json.loads(line) == {"id": 1, "id_2": 2, "key": "x"}


ODD = "a\xa0b\u3000c\u2028d\xade\ufefff\rg\nh\ti\x1bj"
"""A text that a cell holds exactly, though a terminal must not see all of it."""


def test_csv_is_exact_in_a_file_and_harmless_on_a_terminal(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows.print_csv(["text", "n"], iter([[ODD, 1]]))
    written = capsysbinary.readouterr().out
    assert written == f'text,n\n"{ODD}",1\n'.encode()  # for the next program of a pipe: no byte order mark
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    rows.print_csv(["text", "n"], iter([[ODD, 1]]))
    shown = capsysbinary.readouterr().out.decode()
    assert shown == 'text,n\n"a\xa0b\u3000c\\u2028d\\xade\\ufefff\\rg\nh\ti\\x1bj",1\n'


REFUSED = {
    "a deletion": ("DELETE FROM jobs", "may only read"),
    "an update of a view": ("UPDATE ledger SET cost_usd = 0", "cannot modify ledger because it is a view"),
    "a new table": ("CREATE TABLE t (x)", "may only read"),
    "a temporary table": ("CREATE TEMP TABLE t (x)", "may only read"),
    "a lost view": ("DROP VIEW ledger", "may only read"),
    "another database": ("ATTACH 'x.db' AS x", "may only read"),
    "a pragma that allows writing": ("PRAGMA query_only = OFF", "may only read"),
    "a pragma as a table": ("SELECT * FROM pragma_journal_mode('delete')", "may only read"),
    "a transaction": ("COMMIT", "may only read"),
    "an extension": ("SELECT load_extension('/tmp/x.so')", "may only read"),
    "a copy": ("VACUUM INTO 'x.db'", "VACUUM"),
    "two statements": ("SELECT 1; DELETE FROM jobs", "more than one statement; give one SELECT"),
    "a deletion behind a WITH": ("WITH w AS (SELECT 1) DELETE FROM jobs", "may only read"),
    "a deletion that returns": ("DELETE FROM jobs RETURNING id", "may only read"),
    "a text of a gigabyte": ("SELECT length(hex(zeroblob(500000000)))", "longer than 20,000,000 bytes"),
    "a comment": ("/* nothing */", "this query has no result"),
    "no end": (
        f"{FOREVER} SELECT max(x) FROM n",
        "took longer than 0.1 s and was stopped. Ask for less",
    ),
    "too many brackets": (f"SELECT {'(' * 4_000}1{')' * 4_000}", "too large|overflow|too many"),
    "bytes that are no text": ("SELECT CAST(x'ff' AS TEXT)", "Could not decode"),
    "a wrong view": ("SELECT * FROM legder", r"no such table: legder; did you mean ledger .*lists the views"),
    "a wrong column": (
        "SELECT l.costs_usd FROM ledger l",
        r"no such column: l.costs_usd; did you mean cost_usd.*batchgen sql ledger` explains",
    ),
    "a wrong word": ("SELCT 1", 'near "SELCT": syntax error. Give one SELECT'),
    "nothing": ("", "this query has no result"),
}


@pytest.fixture(scope="module")
def opened(two_jobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    path = tmp_path_factory.mktemp("opened") / "batchgen.db"
    shutil.copyfile(two_jobs, path)
    with Database(path) as database:
        yield database


def tuples(_names: object, found: Iterator[Sequence[object]]) -> list[tuple[object, ...]]:
    return [tuple(row) for row in found]


@pytest.mark.hostile("queries of `batchgen sql` that do more than read", "refused by the database, or stopped in time")
@pytest.mark.parametrize(("query", "message"), REFUSED.values(), ids=REFUSED)
def test_what_writes_or_is_wrong_is_refused_and_changes_nothing(
    opened: Database, two_jobs: Path, query: str, message: str
) -> None:
    with pytest.raises(UsageError) as refused:
        run_query(opened, query, QueryLimit(0.1), tuples)
    assert re.search(message, str(refused.value), re.DOTALL), refused.value
    assert opened.path
    assert opened.path.read_bytes() == two_jobs.read_bytes()
    assert {path.name for path in opened.path.parent.iterdir()} == {f"batchgen.db{end}" for end in ("", "-wal", "-shm")}
    assert run_query(opened, "SELECT count(*) FROM job_overview", QueryLimit(5), tuples) == [(2,)], (
        "the connection is usable"
    )


def test_the_command_says_why_a_query_is_refused(sql: Command, tmp_path: Path) -> None:
    shown = sql("DELETE FROM jobs")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "the query may only read, so the database refuses it (not authorized)\n"
    assert {path.name for path in tmp_path.iterdir()} == {"batchgen.db"}


MISTYPED = {
    ("SELECT", "id", "FROM", "jobs"): 'put the query in quotation marks: batchgen sql "SELECT id FROM jobs"',
    ("COMMIT",): "COMMIT: this is neither a query nor a view; `batchgen sql` lists the views",
    ("leger",): "leger: this is neither a query nor a view; did you mean the view ledger",
    ("query.sql",): "to run the query in a file: batchgen sql - < query.sql",
    ("",): "the query is empty",
    ("SELECT 1", "--csv", "--json"): "--csv and --json exclude one another",
}


@pytest.mark.parametrize(("words", "message"), MISTYPED.items())
def test_a_mistyped_command_is_told_what_to_type(sql: Command, words: tuple[str, ...], message: str) -> None:
    shown = sql(*words)
    assert shown.returncode == 2
    assert message in shown.stderr


def test_the_time_in_which_nobody_reads_the_rows_does_not_count(opened: Database, clock: FrozenDateTimeFactory) -> None:
    """A pager may keep a result open for an hour."""

    def read_slowly(_names: object, found: Iterator[object]) -> int:
        number = 0
        for _ in found:
            number += 1
            clock.tick(3_600)
        return number

    many = f"{FOREVER} SELECT x, hex(randomblob(1000)) FROM n LIMIT 2000"
    assert run_query(opened, many, QueryLimit(10), read_slowly) == 2_000


@pytest.mark.slow
def test_ctrl_c_ends_a_query(sql: Command, tmp_path: Path) -> None:
    query = f"{FOREVER} SELECT x FROM n"
    process = subprocess.Popen(
        [sys.executable, "-m", "batchgen", "sql", query, "--csv"],
        cwd=tmp_path,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout
    assert process.stdout.readline() == b"x\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors


WIDE = [["mona", "a sentence that is much longer than a narrow terminal could ever show in one line", 3]]


def screen(capsys: pytest.CaptureFixture[str], number: int, width: int, columns: int = 3) -> tuple[list[str], str]:
    names = ["id", "reason", "cost"][:columns] + [f"column_{place}" for place in range(3, columns)]
    row = WIDE[0] + ["2026-03-01T12:00:00.000000Z"] * (columns - 3)
    rows.print_screen(names, iter([row] * number), width, 24)
    shown = capsys.readouterr()
    return shown.out.splitlines(), shown.err


def test_a_terminal_is_shown_the_rows_that_fit_and_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    lines, note = screen(capsys, 1_000, 60)
    assert lines[2].startswith("mona  a sentence that is much longer")
    assert lines[2].endswith("…     3")
    assert len(lines[2]) == 60
    assert len(lines) == 22
    assert note == "the first 20 of 1,000 rows; --csv or --json writes all of them\n"
    assert screen(capsys, 1, 200)[1] == "1 row\n"


def test_a_row_that_is_too_wide_for_a_terminal_is_a_block_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines, note = screen(capsys, 9, 60, columns=9)
    assert lines[:3] == ["-- row 1 -------------------------------", "id        mona", lines[2]]
    assert lines[2].endswith("…")
    assert max(map(len, lines)) == 60
    assert lines[9] == "column_8  2026-03-01T12:00:00Z"
    assert note == "the first 2 of 9 rows; --csv or --json writes all of them\n"


def test_wide_characters_are_measured_as_a_terminal_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    rows.print_screen(["id", "n"], iter([["日本", 1], ["ab\x1b[31m\n", 2]]), 80, 24)
    assert capsys.readouterr().out.splitlines()[2:] == ["日本          1", "ab\\x1b[31m\\n  2"]


def test_counting_that_takes_too_long_says_that_there_are_more(
    opened: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    run_query(opened, f"{FOREVER} SELECT x FROM n", QueryLimit(0.1), partial(rows.print_screen, width=80, height=24))
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "20"
    assert shown.err == "the first 20 rows of more than 20; --csv or --json writes all of them\n"


def test_a_query_that_is_no_utf8_is_refused(sql: Command, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_bytes(b"SELECT '\xff'")
    answer = sql("SELECT '\udcff'")
    assert (answer.returncode, answer.stderr) == (2, "the query is not UTF-8\n")


def test_rows_are_read_one_by_one_so_that_long_ones_do_not_fill_the_memory(table: Table) -> None:
    fails_at_4 = f"{FOREVER} SELECT CASE x WHEN 4 THEN abs(-9223372036854775807 - 1) ELSE x END FROM n"

    def first_two(_names: Sequence[str], lines: Iterator[rows.Row]) -> list[int]:
        return [next(lines)[0], next(lines)[0]]

    assert run_query(table.database, fails_at_4, QueryLimit(10), first_two) == [1, 2]


def test_few_rows_are_written_at_once_where_they_are_long() -> None:
    long, short = ("x" * rows.CHARS_AT_ONCE,), ("x",)
    assert [len(chunk) for chunk in rows.chunks(iter([long, long, *[short] * 501]))] == [1, 1, 500, 1]


@pytest.mark.parametrize("words", [(), ("ledger",)], ids=["the views", "one view"])
@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_the_list_of_views_is_for_people_only(batchgen: Command, words: tuple[str, ...], form: str) -> None:
    done = batchgen("sql", *words, form)
    assert (done.returncode, "needs a query" in done.stderr) == (2, True)

"""The views: the same names and columns as described, and what they say of a table in which everything has happened."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect

from batchgen.catalogue.wording import listed
from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.views import EXAMPLES, FATES, PROBLEMS, VIEWS, WAITING_FOR
from batchgen.limits import steering
from tests import view_cases
from tests.forks import ROOT
from tests.table import HOUR, Table, spec
from tests.view_cases import ask, column, everything, execute

README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, empty_table: Path) -> Iterator[Table]:
    """A table in which everything has happened, for tests that only read it."""
    folder = tmp_path_factory.mktemp("full")
    shutil.copyfile(empty_table, folder / "batchgen.db")
    with Database(folder / "batchgen.db") as database:
        table = Table(database, folder)
        everything(table)
        yield table


@pytest.fixture
def copied(full: Table, tmp_path: Path) -> Iterator[Table]:
    """The same for a test that changes it."""
    with closing(sqlite3.connect(str(full.database.path))) as source, closing(sqlite3.connect(tmp_path / "b.db")) as to:
        source.backup(to)
    with Database(tmp_path / "b.db") as database:
        yield Table(database, tmp_path, full.now, full.batch_id)


def test_the_views_have_the_names_and_columns_that_are_described(database: Database) -> None:
    inspector = database.read_now(
        lambda connection: {
            name: [column["name"] for column in inspect(connection).get_columns(name)]
            for name in inspect(connection).get_view_names()
        }
    )
    columns = {name: view.columns for name, view in VIEWS.items()}
    assert inspector == columns, "`jobtable/views.py` describes each column that the migrations make, and no other"


def test_every_state_is_counted_in_the_summary_of_a_batch(raw: sqlite3.Connection) -> None:
    columns = {name for _, name, *_ in raw.execute("PRAGMA table_info(batch_summary)")}
    if missing := sorted(set(State) - columns):
        pytest.fail(f"The view batch_summary has no column for {listed(missing)}: a migration makes it.")


def test_no_view_reads_a_clock(raw: sqlite3.Connection) -> None:
    for name, sql in raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'"):
        assert not re.search(r"'now'|\bcurrent_|\bnow\(|random", sql, re.IGNORECASE), name


def test_the_readme_names_every_view_and_has_the_queries_that_explore_offers() -> None:
    section = README.partition("## The table")[2].partition("\n## ")[0]
    assert set(VIEWS) <= set(re.findall(r"`(\w+)`", section))
    (block,) = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    queries = re.findall(r"-- (.*)\n([^-]*;)", block)
    assert [(question, " ".join(sql.split())) for question, sql in queries] == [
        (example.question, example.sql) for example in EXAMPLES.values()
    ]


def test_every_request_has_its_fate_and_its_cost(full: Table) -> None:
    rows = {(row["batch"], row["id"], row["attempt"]): (row["fate"], row["cost_usd"]) for row in view(full, "ledger")}
    assert rows == view_cases.FATES
    assert {fate for fate, _ in rows.values()} == set(FATES)


def view(table: Table, name: str) -> view_cases.Rows:
    return ask(table, f"SELECT * FROM {name}")


def test_the_bill_agrees_whichever_view_is_asked(full: Table) -> None:
    sums = "SELECT batch, round(sum(cost_usd), 7) AS usd FROM {} GROUP BY 1 ORDER BY 1"
    bill = ask(full, sums.format("batch_summary"))
    assert bill == [{"batch": "autumn", "usd": 0.7}, {"batch": "spring", "usd": 2.08}]
    assert all(ask(full, sums.format(name)) == bill for name in ("job_overview", "ledger", "spend"))


def test_amounts_compare_as_numbers_and_sums_are_exact(table: Table) -> None:
    table.sync()
    for number, cost in enumerate(("9.5", "10.0000005", "12345678.7800005", "0.1", "0.2")):
        view_cases.send(table, f"job-{number}", cost)
    assert column(table, "SELECT count(*) FROM ledger WHERE cost_usd > 9.9") == [2]
    assert column(table, "SELECT max(cost_usd) FROM job_overview") == [12345678.7800005]
    assert column(table, "SELECT cost_usd FROM spend") == [12345698.580001]
    assert column(table, "SELECT cost_usd FROM batch_summary") == [12345698.580001]


def test_the_overview_tells_the_times_and_the_file_of_the_current_attempt(full: Table) -> None:
    (row,) = ask(full, "SELECT * FROM job_overview WHERE batch = 'spring' AND id = 'twice'")
    times = (row["wait_seconds"], row["generation_seconds"], row["download_seconds"])
    assert (row["attempts"], row["cost_usd"], row["path"], times) == (2, 0.4, "twice.mp4", (61, 120, 2))
    assert row["verdict"] is None, "its verdict was taken back"
    (row,) = ask(full, "SELECT * FROM job_overview WHERE id = 'plain'")
    assert (row["verdict"], row["stars"], row["tags"], row["reserved_usd"]) == ("picked", 4, '["a", "b"]', 0)


def test_a_job_that_was_taken_over_is_shown_under_its_new_name_with_its_history(full: Table) -> None:
    assert column(full, "SELECT batch FROM job_overview WHERE path = 'taken.mp4'") == ["autumn"]
    story = ask(full, "SELECT batch, to_state FROM timeline WHERE id = 'taken' ORDER BY number")
    assert {row["batch"] for row in story} == {"autumn"}
    states = ["pending", "submitting", "generating", "downloading", "done", "done"]
    assert [row["to_state"] for row in story] == states


def test_the_summary_of_a_batch_counts_states_and_verdicts(full: Table) -> None:
    (row,) = ask(full, "SELECT * FROM batch_summary WHERE batch = 'spring'")
    counts = ("jobs", "pending", "unconfirmed", "generating", "downloading", "done", "failed", "cancelled", "picked")
    assert [row[name] for name in counts] == [14, 2, 1, 1, 1, 2, 4, 2, 1]
    assert (row["unpriced"], row["bytes"]) == (4, 27)


def test_what_jobs_wait_for_is_told_with_an_example(full: Table) -> None:
    rows = {row["waiting_for"]: row for row in view(full, "blockers")}
    examples = {name: (row["jobs"], row["example_id"], row["reason"]) for name, row in rows.items()}
    assert examples == {
        "free_place": (2, "unsent", None),
        "pause": (2, "unsent", "slow down"),
        "generation": (1, "busy", None),
        "download": (1, "ready", None),
        "person": (1, "lost", "cut"),
    }
    assert rows["free_place"]["until"] is None, "one of the two may be sent at once"
    assert rows["pause"]["until"] == "2026-03-01T12:17:34.500000Z"
    assert {*rows, "confirmation", "resume"} == set(WAITING_FOR)


def test_a_lost_answer_is_waited_for_and_a_pause_that_is_over_is_not(copied: Table) -> None:
    waiting_for = "SELECT waiting_for FROM blockers ORDER BY 1"
    assert "pause" in column(copied, waiting_for)
    copied.now += HOUR
    copied.add(spec("again"))
    copied.lose(next(job for job in copied.intend(capacity=2) if job.key in ("again", "unsent")))
    copied.add(spec("later"))
    assert column(copied, waiting_for) == ["confirmation", "download", "free_place", "generation", "person"]
    copied.change(steering.pause, copied.batch_id, copied.now, "anna@studio")
    assert column(copied, waiting_for) == ["confirmation", "download", "generation", "person", "resume"]
    copied.change(steering.resume, copied.batch_id, copied.now, "anna@studio")
    assert "free_place" in column(copied, waiting_for)


def test_failures_have_their_class_a_number_and_an_example(full: Table) -> None:
    rows = ask(full, "SELECT error_class, jobs, cost_usd, example_id, reason FROM failures ORDER BY jobs")
    assert [tuple(row.values()) for row in rows] == [
        ("parameter", 1, 0, "refused", "no such duration"),
        ("unknown", 3, 0.5, "free", "error: free"),
    ]


def test_spend_counts_what_may_cost_money_by_day(full: Table) -> None:
    (row,) = ask(full, "SELECT * FROM spend WHERE batch = 'spring'")
    assert (row["day"], row["requests"], row["delivered"], row["cost_usd"]) == ("2026-03-01", 10, 2, 2.08)


def test_generation_times_are_those_of_clips_with_their_median(full: Table) -> None:
    (row,) = view(full, "generation_times")
    assert (row["clip_seconds"], row["generations"]) == (5, 4)
    assert [row[f"{name}_seconds"] for name in ("min", "median", "mean", "max")] == [120, 189.75, 184.875, 240]


def test_the_timeline_tells_how_long_a_job_was_in_the_state_before(full: Table) -> None:
    rows = ask(full, "SELECT to_state, seconds_before FROM timeline WHERE id = 'plain' ORDER BY number")
    assert [row["seconds_before"] for row in rows] == [None, 0, 1, 199.5, 2]


def test_problems_are_named_with_the_file_and_a_detail(full: Table) -> None:
    rows = {(row["id"], row["output"], row["problem"]): row["detail"] for row in view(full, "problems")}
    assert rows[("plain", 1, "black")] == "99 % of the time it is black"
    assert rows[("plain", 1, "length")] == "3 s instead of 5 s"
    assert rows[("taken", 1, "near_copy")] == "plain"
    assert rows[("taken", 1, "remark")] == "no sound"
    assert ("twice", 2, "unreadable") in rows
    assert {problem for _, _, problem in rows} == set(PROBLEMS)


def test_lineage_follows_parents_that_are_there_and_those_that_are_not(full: Table) -> None:
    rows = {row["id"]: row for row in view(full, "lineage")}
    assert {key: row["depth"] for key, row in rows.items()} == {"waiting": 1, "busy": 2, "ready": 1}
    assert (rows["waiting"]["parent_state"], rows["waiting"]["parent_verdict"]) == ("done", "picked")
    assert (rows["ready"]["parent_batch"], rows["ready"]["parent_state"]) == ("elsewhere", None)


def test_jobs_that_are_one_anothers_parents_do_not_hang_the_lineage(copied: Table) -> None:
    execute(copied, "UPDATE jobs SET parent_batch = 'spring', parent_key = 'busy' WHERE key = 'waiting'")
    assert len(view(copied, "lineage")) == 3


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_queries_to_begin_with_have_a_result(full: Table, name: str) -> None:
    assert ask(full, EXAMPLES[name].sql.replace("mona", "plain"))


@pytest.fixture
def raw(database: Database) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(str(database.path))
    yield connection
    connection.close()


@pytest.mark.parametrize("name", ["job_overview", "ledger", "timeline", "problems"])
def test_one_job_is_found_in_a_view_without_reading_all(raw: sqlite3.Connection, name: str) -> None:
    plan = raw.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {name} WHERE batch = 'b' AND id = 'i'").fetchall()
    scanned = {detail for *_, detail in plan if detail.startswith("SCAN")}
    assert scanned <= {f"SCAN {name}"}, plan  # the rows that the parts of the view have found

"""`--where`: what a condition may do, and for how long."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from batchgen.errors import UsageError
from batchgen.jobtable import query, selection
from batchgen.jobtable.selection import Selection
from tests.table import Table, spec

pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.hostile("conditions of `--where` that do more than read", "refused, or stopped after five seconds"),
]

FOREVER = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
BAD_CONDITIONS = {
    "recursion without an end": (f"id IN ({FOREVER} SELECT x FROM n)", "may only read"),
    "recursion inside a comparison": (f"(SELECT max(x) FROM ({FOREVER} SELECT x FROM n)) > 1", "may only read"),
    "a join of a billion rows": (
        f"(SELECT count(*) FROM {', '.join(f'sqlite_master AS m{n}' for n in range(10))}) > 1",
        "takes too long and was stopped",
    ),
    "an extension": ("load_extension('/tmp/x.so') IS NULL", "may only read"),
    "an extension in a subquery": ("EXISTS (SELECT load_extension('x', 'y'))", "may only read"),
    "a pragma": ("(SELECT count(*) FROM pragma_journal_mode('delete')) > 0", "may only read"),
    "a text of a gigabyte": ("length(hex(zeroblob(500000000))) > 1", "becomes too long"),
    "a replacement that multiplies": (
        "length(replace(hex(zeroblob(1000000)), '0', hex(zeroblob(1000)))) > 1",
        "becomes too long",
    ),
    "an attachment": ("1); ATTACH 'x.db' AS x; --", "the brackets or quotes do not match"),
    "a write": ("id IN (DELETE FROM jobs RETURNING id)", "syntax error"),
    "300,000 brackets": ("(" * 300_000 + "1" + ")" * 300_000, "has 600,001 characters"),
    "4,000 brackets": ("(" * 4_000 + "1" + ")" * 4_000, "--where"),
    "a column that does not exist": ("colour = 'red'", "no such column"),
    "bytes that are no text": ("key = '\udcff'", "the condition is not UTF-8"),
    "the manifest's id in the column of row numbers": ("id IN ('mona')", "`key` is the manifest's id"),
}


@pytest.mark.parametrize(("where", "message"), BAD_CONDITIONS.values(), ids=BAD_CONDITIONS)
def test_a_condition_that_does_more_than_read_or_does_not_end_is_refused(
    table: Table, where: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "CONDITION_SECONDS", 1)
    table.sync(spec("mona"))
    options = replace(Selection(), where=where)
    with pytest.raises(UsageError, match=message) as caught:
        table.database.read_now(selection.find, table.batch_id, options)
    assert str(caught.value).startswith("--where")
    assert len(str(caught.value)) < 1_000 + len(where)


@pytest.mark.parametrize(
    "where", ["id = 2", "id=2 AND state = 'pending'", 'priority = 0 and "id" IN (7, 2)', "id <> 2", "ID not in (2)"]
)
def test_the_number_of_a_row_is_refused_where_it_is_the_id_of_another_job(table: Table, where: str) -> None:
    table.sync("2", "mona", "3", "04")
    with pytest.raises(UsageError, match="the number of a row, and that of the job 2 is another: write key = '2'"):
        table.database.read_now(selection.find, table.batch_id, Selection(where=where))


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("jobs.id = 2", ["mona"]),
        ('jobs."id" = 2', ["mona"]),
        ("id = 3", ["3"]),  # whichever is meant
        ("id = 4", ["04"]),
        ("id <= 2 AND rank = 0", ["2", "mona"]),
        ("key = '2'", ["2"]),
        ("id IN (SELECT 2)", ["mona"]),
        ("attempt_id = 2 OR key = 'mona'", ["mona"]),
    ],
)
def test_the_number_of_a_row_is_taken_where_no_other_job_can_be_meant(
    table: Table, where: str, keys: list[str]
) -> None:
    table.sync("2", "mona", "3", "04")
    ids = table.database.read_now(selection.find, table.batch_id, Selection(where=where))
    assert [row.key for row in table.rows() if row.id in ids] == keys


def test_a_condition_may_read_other_tables_and_leaves_nothing_behind(table: Table, tmp_path: Path) -> None:
    table.sync(spec("mona"), spec("lisa"))
    where = (
        "id NOT IN (SELECT job_id FROM attempts) AND json_extract(request, '$.model') LIKE '%k%' AND lower(key) > 'm'"
    )
    found = table.database.read_now(selection.find, table.batch_id, replace(Selection(), where=where))
    assert len(found) == 1
    where = "key IN (SELECT id FROM job_overview WHERE verdict IS NULL) AND NOT EXISTS (SELECT 1 FROM ledger)"
    assert len(table.database.read_now(selection.find, table.batch_id, replace(Selection(), where=where))) == 2
    where = "key IN (SELECT id FROM job_overview WHERE id = 'mona' AND stars = 5)"  # the id of a view is a text
    assert table.database.read_now(selection.find, table.batch_id, replace(Selection(), where=where)) == []
    where = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = 'hero') OR key = 'lisa'"
    assert len(table.database.read_now(selection.find, table.batch_id, replace(Selection(), where=where))) == 1
    with pytest.raises(UsageError):
        table.database.read_now(
            selection.find, table.batch_id, replace(Selection(), where=f"id IN ({FOREVER} SELECT x FROM n)")
        )

    def pragma(connection: object) -> object:
        return connection.exec_driver_sql("PRAGMA user_version").scalar()  # type: ignore[attr-defined]

    assert table.database.read_now(pragma) is not None
    with closing(sqlite3.connect(table.database.path or "")) as other:
        assert other.execute("SELECT count(*) FROM jobs").fetchone() == (2,)

"""The migrations: where they are, that they form one chain, and that an upgrade happens wholly or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, inspect

from batchgen.errors import StorageError
from batchgen.jobtable import migrations
from batchgen.jobtable.database import Database
from batchgen.jobtable.engine import make_engine
from batchgen.jobtable.migrations import HEAD, migrate, migrations_folder, version_of
from tests.forks import ROOT


def chain() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def test_the_migrations_are_at_the_top_of_the_checkout() -> None:
    assert migrations_folder() == ROOT / "migrations"
    assert (migrations_folder() / "env.py").is_file()


def test_the_head_is_the_newest_migration() -> None:
    files = sorted(path.name.partition("_")[0] for path in (migrations_folder() / "versions").glob("*.py"))
    assert files[-1] == HEAD == chain().get_current_head()
    assert [script.revision for script in chain().walk_revisions()] == files[::-1]  # one line, in the files' order


def test_an_up_to_date_table_is_opened_without_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(tmp_path / "a.db"):
        pass
    monkeypatch.setattr(migrations, "migrate", lambda *_: pytest.fail("migrated"))
    with Database(tmp_path / "a.db") as database:
        assert database.read_now(version_of) == HEAD


TOMORROW = '''
"""A migration of tomorrow."""

import sqlalchemy as sa
from alembic import op

revision = "v999"
down_revision = "{head}"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("mood", sa.Text))
    {then}
'''


def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str = "pass") -> None:
    """A batchgen that is one migration ahead."""
    folder = tmp_path / "migrations of 100%"
    shutil.copytree(migrations_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "v999_tomorrow.py").write_text(TOMORROW.format(head=HEAD, then=then))
    monkeypatch.setattr(migrations, "migrations_folder", lambda: folder)
    monkeypatch.setattr(migrations, "HEAD", "v999")


def with_a_job(connection: Connection) -> None:
    """One row in each of the tables that refer to one another, in both directions."""
    insert = connection.exec_driver_sql
    insert("INSERT INTO batches VALUES (1, 'b', 'aimlapi', '/m', '00', '2026', '2026', NULL, 0, 0, 0, 0)")
    insert(
        "INSERT INTO jobs (batch_id, key, state, priority, rank, service, endpoint, model, request, input_pointers,"
        " take, fingerprint, tags, failures, output_path, created_at)"
        " VALUES (1, 'mona', 'pending', 0, 0, 'aimlapi', '/', 'm', '{}', '[]', 0, '00', '[]', 0, 'mona.mp4', '2026')"
    )
    insert(
        "INSERT INTO attempts (job_id, number, service, account, origin, model, client_request_id, fingerprint,"
        " intent_at, deadline_at, outcome, generation_id)"
        " VALUES (1, 1, 'aimlapi', '0badcafe', '', 'm', 'c', '00', '2026', '2026', 'accepted', 'g-1')"
    )
    insert("UPDATE jobs SET state = 'generating', attempt_id = 1")
    insert("INSERT INTO outputs (attempt_id, number, url) VALUES (1, 1, 'https://cdn.test/v.mp4')")
    insert("INSERT INTO events (batch_id, job_id, at, to_state) VALUES (1, 1, '2026', 'pending')")


def test_an_older_table_is_upgraded_with_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Database(tmp_path / "a.db") as database:
        database.write_now(with_a_job)
    tomorrow(tmp_path, monkeypatch)
    with Database(tmp_path / "a.db") as database:
        assert database.read_now(version_of) == "v999"
        rows = database.read_now(lambda connection: connection.exec_driver_sql("SELECT key, mood FROM jobs").all())
        assert [tuple(row) for row in rows] == [("mona", None)]
        assert {
            check["name"]
            for check in database.read_now(lambda connection: inspect(connection).get_check_constraints("jobs"))
        }


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        pytest.param("INSERT INTO nowhere VALUES (1)", "nowhere", id="that fails"),
        pytest.param("ALTER TABLE jobs RENAME COLUMN clip_seconds TO length", "clip_seconds", id="that robs a view"),
    ],
)
def test_a_migration_that_cannot_be_finished_leaves_the_table_as_it_was(
    statement: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database(tmp_path / "a.db") as database:
        database.write_now(with_a_job)
    tomorrow(tmp_path, monkeypatch, then=f'op.execute("{statement}")')
    with pytest.raises(StorageError, match=message), Database(tmp_path / "a.db"):
        pass
    monkeypatch.undo()
    with Database(tmp_path / "a.db") as database:
        assert database.read_now(version_of) == HEAD
        columns = database.read_now(lambda connection: inspect(connection).get_columns("jobs"))
        assert "mood" not in {column["name"] for column in columns}


def test_a_migration_may_change_a_table_under_its_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def views(connection: Connection) -> object:
        return connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY 1").all()

    with Database(tmp_path / "a.db") as database:
        database.write_now(with_a_job)
        before = database.read_now(views)
    replaced = "CREATE VIEW failures AS SELECT mood FROM jobs"
    tomorrow(tmp_path, monkeypatch, then=f'op.execute("DROP VIEW failures"); op.execute("{replaced}")')
    with Database(tmp_path / "a.db") as database:
        after = dict(database.read_now(views))  # type: ignore[call-overload]
        assert after.pop("failures") == replaced
        assert after == {name: sql for name, sql in before if name != "failures"}  # type: ignore[attr-defined]
        overview = "SELECT id, state FROM job_overview"
        assert database.read_now(lambda c: [tuple(row) for row in c.exec_driver_sql(overview)]) == [
            ("mona", "generating")
        ]


def test_every_migration_can_be_applied_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    engine = make_engine(URL.create("sqlite", database=str(tmp_path / "a.db")), writing=True)
    for script in reversed(list(chain().walk_revisions())):
        with engine.begin() as connection:
            migrate(connection, script.revision)
            assert version_of(connection) == script.revision
    engine.dispose()

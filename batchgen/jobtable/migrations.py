"""The version of a job table: looked at before anything else, and brought up to this batchgen's by the migrations."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from batchgen.errors import DatabaseNewer, StorageError, UsageError
from batchgen.jobtable.engine import looking_engine

HEAD = "0003"
"""The newest migration. A test holds it to `migrations/versions`; knowing it saves importing Alembic at every start."""

OURS = frozenset({"alembic_version", "jobs", "attempts"})
"""Tables by which a job table of any version is known; others use Alembic too, and number their versions alike."""


def migrations_folder() -> Path:
    """The migrations: inside the package when installed, at the top of the checkout otherwise."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def version_of(connection: Connection) -> str | None:
    """The migration a database stands at, or None for one that has none of our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(connection: Connection, target: str = "head") -> None:
    """Bring the database to `target` within the caller's transaction."""
    from alembic import command  # 600 ms, needed only by the first run on a database
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def bring_up(connection: Connection) -> None:
    """Make the tables, or what they lack, within the caller's transaction."""
    if version_of(connection) != HEAD:
        migrate(connection)


def refuse_unusable(url: URL) -> None:
    """Look first, without being able to write: a newer table, garbage, or another's database is left untouched.

    Raises `DatabaseNewer`, `StorageError`, `UsageError`.
    """
    path = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
    if path and (not path.exists() or path.stat().st_size == 0):
        if not path.parent.is_dir():
            raise StorageError(f"{path}: its folder does not exist; create it or choose another --db")
        return
    if path and path.is_dir():
        raise StorageError(f"{path}: this is a folder; --db names a file")
    looker = looking_engine(url)
    try:
        with looker.connect() as connection:
            found = version_of(connection)
            tables = set(inspect(connection).get_table_names())
    finally:
        looker.dispose()
    shown = path or url.render_as_string()
    if tables and not tables >= OURS:
        raise UsageError(f"{shown}: this is a database of something else, left untouched; choose another --db")
    if found is not None and found > HEAD:
        raise DatabaseNewer(
            f"{shown}: the job table is of version {found}, this batchgen knows"
            f" {HEAD}; upgrade batchgen. The database has not been touched."
        )

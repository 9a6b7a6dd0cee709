"""The version of a job table: checked before anything is written, and brought up to date by the migrations."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from batchgen.errors import DatabaseNewer, StorageError, UsageError
from batchgen.files.safe_open import create_database
from batchgen.jobtable.engine import inspection_engine, make_engine, may_write, path_of, shown
from batchgen.jobtable.place import is_missing

UNICODE = "UTF8"
ENCODING = text("SELECT current_setting('server_encoding')")

OUR_TABLES = frozenset({"alembic_version", "jobs", "attempts"})
"""The tables of a job table of any version. The version alone proves nothing: other programs use Alembic too."""


def migrations_folder() -> Path:
    """The migrations: inside the package when installed, at the top of the checkout otherwise."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


VERSIONS = sorted(file.stem.partition("_")[0] for file in (migrations_folder() / "versions").glob("v*.py"))
HEAD = VERSIONS[-1]
"""The newest migration, by its file's name: importing Alembic takes 600 ms, and every start asks for it."""


def version_of(connection: Connection) -> str | None:
    """The migration of a database; None where Alembic has never been used on it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(connection: Connection, target: str = "head") -> None:
    """Upgrade the database to `target` within the caller's transaction."""
    from alembic import command  # 600 ms, needed only by the first run on a database
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def bring_up(url: URL) -> bool:
    """Create or upgrade the tables, wholly or not at all. Returns whether there was none before.

    Foreign keys are checked at the end only, because SQLite changes a table by making another one in its place.
    """
    if path := path_of(url):
        create_database(path)
    engine = make_engine(url, writing=True, foreign_keys=False)
    try:
        with engine.begin() as connection:
            version = version_of(connection)
            if version != HEAD:  # another process may have done it meanwhile
                migrate(connection)
                if path and (orphans := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                    raise StorageError(f"{path}: {len(orphans)} rows refer to rows that do not exist")
        return version is None
    finally:
        engine.dispose()


def is_current(url: URL) -> bool:
    """Whether a database has the newest version; False for one that can be made or upgraded. Nothing is written.

    Raises `DatabaseNewer` for a newer version, `StorageError` for a place where no file can be, and `UsageError` for a
    database of something else or of an unknown version.
    """
    if (path := path_of(url)) and not is_there(path):
        return False
    engine = inspection_engine(url)
    try:
        with engine.connect() as connection:
            version = version_of(connection)
            tables = set(inspect(connection).get_table_names())
            encoding = UNICODE if path or version == HEAD else connection.execute(ENCODING).scalar_one()
    finally:
        engine.dispose()
    if tables and not tables >= OUR_TABLES:
        raise UsageError(f"{shown(url)}: this is a database of something else, left untouched; choose another --db")
    if version == HEAD:
        return True
    if encoding != UNICODE:
        raise UsageError(
            f"{shown(url)}: its encoding is {encoding}, in which not every prompt can be stored. Make another database:"
            " CREATE DATABASE batchgen ENCODING 'UTF8' TEMPLATE template0"
        )
    if tables:
        check_upgrade(url, version)
    return False


def is_there(path: Path) -> bool:
    """Whether a file has a database. Raises `StorageError` for a place where none can be, or where one was lost."""
    if path.is_dir():
        raise StorageError(f"{path}: this is a folder; --db names a file")
    if not path.parent.is_dir():
        raise StorageError(f"{path}: its folder does not exist; create it or choose another --db")
    return not is_missing(path)


def check_upgrade(url: URL, version: str | None) -> None:
    """Raise for a job table that cannot be upgraded from its version."""
    name, path = shown(url), path_of(url)
    if version is None:
        raise UsageError(
            f"{name}: the job table does not say its version any more (`alembic_version` is empty). Put a copy of it"
            " back. The database has not been touched."
        )
    if version > HEAD:
        raise DatabaseNewer(
            f"{name}: the job table is of version {version}, this batchgen knows"
            f" {HEAD}; upgrade batchgen. The database has not been touched."
        )
    if version not in VERSIONS:
        raise UsageError(
            f"{name}: the job table is of version {version}, from which this batchgen has no migration; choose another"
            " --db, or open it with the batchgen that made it. The database has not been touched."
        )
    if path and not may_write(path):
        raise StorageError(
            f"{path}: the job table is of version {version}, and may only be read; this batchgen reads {HEAD}. Copy it"
            " to a folder that can be written: the first command there brings it up to date."
        )

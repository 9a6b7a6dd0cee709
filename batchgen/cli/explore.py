"""The command `batchgen explore`."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from batchgen.cli import loopback, options
from batchgen.errors import ExitCode, UsageError
from batchgen.jobtable.views import EXAMPLES, VIEWS
from batchgen.report.terminal import print_lines

PORT = 8001  # Datasette's own
NAME = "batchgen"  # of the database in addresses, whatever its file is called
SETTINGS = {
    "sql_time_limit_ms": 5_000,  # a view of 100,000 jobs takes up to two seconds
    "allow_download": False,  # the file lacks what is still in its write-ahead log
    "default_cache_ttl": 0,  # a run may be at work
}
SHUTDOWN_SECONDS = 2  # for answers that are on their way when Ctrl-C comes


@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@options.db
@loopback.address(PORT)
def command(manifest: Path | None, db: str | None, port: int, no_browser: bool) -> None:
    """It has pages of the views and tables, to filter, sort, count and download as CSV, with queries to begin with.
    They are served to this machine only, until Ctrl-C. A run may be at work meanwhile.

    The job table must be an SQLite file. It needs Datasette: pip install 'batchgen[explore]'
    """
    try:
        import datasette.app  # noqa: F401 - only whether it is there
    except ImportError:
        raise UsageError("explore needs Datasette: pip install 'batchgen[explore]'") from None
    from batchgen.jobtable.batches import open_table, table_location
    from batchgen.jobtable.engine import database_url, path_of

    if path_of(database_url(table_location(db, manifest or Path("batchgen.db")))) is None:
        raise UsageError("explore reads SQLite files only; `batchgen sql` reads PostgreSQL as well")
    with ExitStack() as stack:
        # Whoever closes an SQLite file last deletes its write-ahead log. Readers cannot, so this connection stays.
        path = stack.enter_context(open_table(db, manifest)).path
        listening = stack.enter_context(loopback.listen(port))
        url = "http://{}:{}/{}".format(*listening.getsockname()[:2], NAME)
        print_lines(url)
        print_lines(f"{path} is shown at this address, read-only, until Ctrl-C", err=True)
        if not no_browser:
            loopback.open_browser(url)
        serve(stack, Path(str(path)), listening)


def serve(stack: ExitStack, path: Path, listening: socket.socket) -> None:
    """Serve the table's pages until Ctrl-C or SIGTERM."""
    import uvicorn
    from datasette.app import Datasette
    from datasette.database import Database
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    if set("?#%") & set(str(path)):  # Datasette puts the path into an address without quoting it
        link = Path(stack.enter_context(TemporaryDirectory())) / "batchgen.db"
        link.symlink_to(path)
        path = link
    pages = Datasette(files=[], metadata=metadata(), settings=SETTINGS)
    with suppress(KeyError):
        pages.remove_database("_memory")
    opened = pages.add_database(Database(pages, path=str(path)), name=NAME)
    stack.callback(opened.close)
    app = TrustedHostMiddleware(pages.app(), allowed_hosts=list(loopback.NAMES))
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS)
    # uvicorn shuts down, then raises the signal again: it must not end the process before the table is closed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.TERMINATED))
    # Datasette prints a traceback for each mistyped query, with words of whoever has sent it.
    with (
        Path(os.devnull).open("w") as nothing,
        redirect_stdout(nothing),
        redirect_stderr(nothing),
        suppress(KeyboardInterrupt),
    ):
        uvicorn.Server(config).run(sockets=[listening])


def metadata() -> dict[str, Any]:
    """What Datasette shows beside views and queries."""
    tables: dict[str, Any] = {
        name: {
            "description": view.rows,
            "columns": {column: "; ".join(view.note_lines(column)) for column in view.notes},
        }
        for name, view in VIEWS.items()
    }
    tables["alembic_version"] = {"hidden": True}
    queries = {name: {"title": example.question, "sql": example.sql} for name, example in EXAMPLES.items()}
    description = "The job table, read-only. The views stay as they are from version to version; tables may change."
    return {"databases": {NAME: {"description": description, "tables": tables, "queries": queries}}}

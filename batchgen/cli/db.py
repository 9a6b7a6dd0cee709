"""The command `batchgen db`, with its own commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.cli import options
from batchgen.errors import UsageError
from batchgen.files.spelling import MANIFESTS

if TYPE_CHECKING:
    from batchgen.jobtable.row_copy import Digest

DIGEST_CHARS = 16  # of a SHA-256 on the screen; --json has it whole


@click.group(help="A job table is a file (SQLite), or a database of a PostgreSQL server named by a URL.")
def command() -> None:
    pass


@command.command("copy", short_help="Move batches to another job table.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--batch", metavar="NAME", help="Move only this batch. Default: all batches of FROM.")
@click.option("--abort", is_flag=True, help="Give up a copy that was broken off: its batches run in FROM again.")
@options.json_lines
def copy(source: str, target: str, batch: str | None, abort: bool, as_json: bool) -> None:
    """Move batches from one job table to another, with their whole history: SQLite or PostgreSQL, both ways.

    \b
    batchgen db copy batchgen.db postgresql://user:password@host/name
    batchgen db copy postgresql://user:password@host/name copy.db --batch spring

    FROM and TO are given as for --db; TO is made if there is none. Every row is copied in one transaction, and read
    back: the number of rows and a SHA-256 of each table must agree. The account's limits, prices and times come along
    where TO has none. The videos stay where they are.

    From then on the batches run from TO only, because two tables with the same jobs would pay for them twice. FROM
    keeps its rows to be read, by `status` and `sql`. No run may be at work on the batches, and TO may not have batches
    of the same names.

    After a crash, or Ctrl-C, the same command goes on; with --abort, everything stays in FROM.
    """
    from batchgen import clock
    from batchgen.doctor.findings import shell
    from batchgen.jobtable import copying
    from batchgen.jobtable.batches import table_exists, table_location
    from batchgen.jobtable.database import Database
    from batchgen.report.hints import advice
    from batchgen.report.terminal import show

    if abort and batch is not None:
        raise UsageError("--abort gives up the whole copy that is underway; leave out --batch")
    if not source.strip() or not target.strip():
        raise UsageError("FROM and TO may not be empty: a path, or postgresql://user:password@host/name")
    source, target = (str(table_location(place, Path())) for place in (source, target))
    if not table_exists(source):
        raise UsageError(f"{source}: there is no job table")
    with Database(source) as database:
        if abort:
            names = copying.abort(database, target, clock.utcnow())
            event = {"event": "given_back", "batches": names, **advice("the batches run in FROM again")}
            show(event, f"{', '.join(names)}: the copy is given up; FROM runs as before", as_json=as_json)
            return
        copied = copying.copy(database, target, batch, clock.utcnow(), show_progress)
    password = " and its password" if "://" in copied.place else ""
    hint = f"run the batches with --db {shell(copied.place)}{password}, or BATCHGEN_DB; FROM is for reading now"
    tables = {
        name: {"rows": digest.rows, "sha256": digest.sha256.hexdigest()} for name, digest in copied.digests.items()
    }
    lines = [
        f"{name:12} {table['rows']:>12,} rows  SHA-256 {str(table['sha256'])[:DIGEST_CHARS]}…"
        for name, table in tables.items()
    ]
    lines.append(
        "every table was read back from TO and agrees"
        if tables
        else "an earlier command had copied and verified every row"
    )
    lines += [f"{', '.join(copied.batches)}: moved to {copied.place}", f"Next: {hint}"]
    document = {"event": "copied", "batches": copied.batches, "place": copied.place, "tables": tables, **advice(hint)}
    show(document, *lines, as_json=as_json)


def show_progress(table: str, digest: Digest) -> None:
    from batchgen.report.terminal import print_lines

    if digest.rows >= 10_000:
        print_lines(f"{table}: {digest.rows:,} rows copied", err=True)


@command.command("check", short_help="Compare a job table with its files.")
@click.argument("location", metavar="[DB | MANIFEST]", required=False)
@click.option("--verify", is_flag=True, help="Read every delivered file, and compare it with its SHA-256.")
@options.json_lines
def check(location: str | None, verify: bool, as_json: bool) -> None:
    """Compare a job table with its files, and with itself. Changes nothing, and asks no service.

    \b
    batchgen db check
    batchgen db check spring.yaml --verify
    batchgen db check postgresql://user:password@host/name

    Every delivered file must be there with its size; videos in the folders of a batch that no row names are listed;
    the states of the jobs must agree with their requests, files and events, and the totals of a batch with its
    requests.

    Without an argument: the job table of BATCHGEN_DB, else ./batchgen.db. Exit code 0: all holds; 3: something does
    not; 8: the table itself cannot be read, or is damaged.
    """
    from batchgen.cli.doctor import show_all
    from batchgen.doctor.consistency import examine
    from batchgen.jobtable.batches import table_location

    manifest = Path(location) if location and location.endswith(MANIFESTS) else None
    db = None if manifest else location
    place = table_location(db, manifest or Path("batchgen.db"))
    show_all(examine(place, manifest, db, verify=verify), as_json=as_json)

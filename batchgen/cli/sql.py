"""The command `batchgen sql`."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from itertools import zip_longest
from pathlib import Path

import click

from batchgen.advice.command_line import typed_again
from batchgen.cli import options
from batchgen.errors import UsageError
from batchgen.files.spelling import MANIFESTS
from batchgen.jobtable.views import EXAMPLES, VIEWS
from batchgen.report.terminal import print_lines
from batchgen.services.text import shell_word

STDIN = "-"
NAME = re.compile(r"[\w./-]+")
"""One word: no query is so short, but the name of a view or of a file may be meant."""
TIMEOUT_SECONDS = 30.0  # a SELECT on any view of 100,000 jobs takes less than two seconds
WIDTH = 100  # columns of the list of views where standard output is no terminal


@click.argument("words", nargs=-1, type=click.Path(), metavar="[MANIFEST] [QUERY | VIEW]")  # a path for completion
@options.db
@click.option("--csv", "as_csv", is_flag=True, help="Write CSV with a line of column names.")
@options.json_lines
def command(words: tuple[str, ...], db: str | None, as_csv: bool, as_json: bool) -> None:
    """QUERY is one SELECT in quotation marks, or - for one from standard input. The database refuses whatever writes,
    and stops what it works on for more than half a minute.

    Without a QUERY, the views that one can read are listed; the name of a VIEW explains its columns:

    \b
    batchgen sql
    batchgen sql ledger
    batchgen sql "SELECT id, reason FROM job_overview WHERE state = 'failed'"
    batchgen sql spring.yaml --csv "SELECT * FROM spend" > spend.csv

    The views have all batches of the job table, not only that of the MANIFEST.

    On a terminal, as many rows are shown as fit; through a pipe, with --csv and with --json, all are written.
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude one another")
    manifest, query = split(words)
    if (as_csv or as_json) and (not query or query.casefold() in VIEWS):
        option = "--csv" if as_csv else "--json"
        raise UsageError(f"{option} needs a query; without one, the views are listed for a person")
    if not query:
        show_views(typed_again(sys.argv[1:]))
    elif query.casefold() in VIEWS:
        show_view(query.casefold())
    else:
        run(manifest, read_query(query), db, as_csv=as_csv, as_json=as_json)


def split(words: tuple[str, ...]) -> tuple[Path | None, str]:
    """The manifest and the query among the words; empty where there is no query."""
    first, *others = words or ("",)
    has_manifest = first.endswith(MANIFESTS) and (bool(others) or len(first.split()) == 1)
    query = others if has_manifest else words
    if len(query) > 1:
        manifest = f"{shell_word(first)} " if has_manifest else ""
        raise UsageError(f'put the query in quotation marks: batchgen sql {manifest}"{" ".join(query)}"')
    if query and not query[0].strip():
        raise UsageError("the query is empty; `batchgen sql` lists the views")
    return Path(first) if has_manifest else None, "".join(query).strip()


def read_query(query: str) -> str:
    """The query itself, or that on standard input. Raises `UsageError` for none, and for bytes that are no text."""
    if query == STDIN and not (query := sys.stdin.read().strip()):
        raise UsageError("standard input has no query")
    try:
        query.encode()
    except UnicodeEncodeError:
        raise UsageError("the query is not UTF-8") from None
    return query


def run(manifest: Path | None, query: str, db: str | None, *, as_csv: bool, as_json: bool) -> None:
    from batchgen.jobtable.batches import open_table  # The list of views needs no database.
    from batchgen.jobtable.query import QueryLimit, run_query
    from batchgen.report import rows

    if NAME.fullmatch(query):
        raise UsageError(not_a_query(query))
    screen = shutil.get_terminal_size()
    consume: Callable[[Sequence[str], Iterator[rows.Row]], None] = rows.print_table
    if as_csv or as_json:
        consume = rows.print_csv if as_csv else rows.print_json_lines
    elif sys.stdout.isatty():
        consume = partial(rows.print_screen, width=screen.columns, height=screen.lines)
    with open_table(db, manifest) as database:
        run_query(database, query, QueryLimit(TIMEOUT_SECONDS), consume)


def not_a_query(name: str) -> str:
    """The message about a single word, which is no query, with what may have been meant by it."""
    if name.endswith(".sql"):
        return f"{name}: to run the query in a file: batchgen sql - < {name}"
    near = get_close_matches(name.casefold(), VIEWS, n=2)
    hint = f"did you mean the view {' or '.join(near)}?" if near else "`batchgen sql` lists the views"
    return f"{name}: this is neither a query nor a view; {hint}"


def show_views(command_line: str) -> None:
    """The views, and examples to type after `command_line`, which names the job table as it was typed."""
    print_lines("The views of the job table. `batchgen sql VIEW` explains the columns of one; times are UTC.")
    for name, view in VIEWS.items():
        print_lines("", f"{name}: {view.rows}", *wrapped(", ".join(view.columns), "    "))
    print_lines("", "To begin with:")
    for example in EXAMPLES.values():
        print_lines("", f"  {example.question}", *wrapped(f'{command_line} "{example.sql.rstrip(";")}"', "    "))


def show_view(name: str) -> None:
    view = VIEWS[name]
    print_lines(f"{name}: {view.rows}")
    width = max(map(len, view.columns))
    for column in view.columns:
        for heading, text in zip_longest([column], view.note_lines(column), fillvalue=""):
            print_lines(f"  {heading:{width}}  {text}".rstrip())


def wrapped(text: str, indent: str) -> list[str]:
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

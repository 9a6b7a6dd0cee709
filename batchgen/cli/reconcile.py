"""The command `batchgen reconcile`."""

from __future__ import annotations

import sys
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path

import click

from batchgen.api.event_loop import complete
from batchgen.api.opening import open_account
from batchgen.billing.books import Books
from batchgen.billing.reconcile import BillComparison, reconcile
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.errors import BatchgenError, ExitCode
from batchgen.files.staged_file import check_target
from batchgen.report import bill
from batchgen.report.formats import dollars, shortened
from batchgen.report.terminal import print_json, print_lines, show

SHOWN = 20  # items that do not agree: the CSV file has all


@options.batch
@click.option(
    "--csv",
    "csv_path",
    type=options.FilePath("bill.csv"),
    help="Write every transaction, and every request without one, to this file.",
)
@options.json_lines
def command(manifest: Path, db: str | None, simulate: bool, csv_path: Path | None, as_json: bool) -> None:
    """It reads the account's transactions and request log since the batch's first request. Nothing new is sent.

    A video that was paid for and is not here is fetched at once. Costs that the transactions show are stored, so that
    the job table and the bill agree. Exit code 0: everything agrees. 3: something does not, or not yet, or this table
    has sent nothing; the lines say what to do about it. 4 or 8: not all was fetched, because of the key (4), or of the
    disk or the store (8).
    """
    if csv_path:
        check_target(csv_path, bill.HEADER)  # before anything is read: a person need not wait for this error
    with Books() as books, open_batch(db, manifest, simulate) as (database, batch):
        folder, tell = manifest.absolute().parent, partial(print_lines, err=True)

        async def compare() -> BillComparison | None:
            async with open_account(database, batch.service, folder) as service:
                return await reconcile(database, service, batch, folder, books, tell)

        comparison = complete(compare())
        if comparison is None:
            event, line = bill.nothing_compared(batch.name, options.command_to_type("run"))
            show(event, line, as_json=as_json)
            sys.exit(ExitCode.INCOMPLETE)
        total = bill.write_csv(csv_path, batch.name, books) if csv_path else None
        if as_json:
            for item in books.open_items():
                print_json(bill.item_json(item, options.command_to_type))
            print_json(bill.comparison_json(batch.name, comparison))
        else:
            report(batch.name, comparison, books, csv_path, total)
    if comparison.stop:
        raise comparison.stop
    sys.exit(ExitCode.DELIVERED if comparison.closes else ExitCode.INCOMPLETE)


def report(batch: str, comparison: BillComparison, books: Books, csv_path: Path | None, total: Decimal | None) -> None:
    """Print the sum of each settlement, the items that do not agree, and what to do about each."""
    print_lines(*bill.head_lines(batch, comparison))
    if comparison.collected:
        print_lines(f"asked the service again for what was paid for: {shortened(comparison.collected)}", err=True)
    items = books.open_items()
    for item in islice(items, SHOWN):
        print_lines(bill.item_line(item), bill.advice_line(item, options.command_to_type))
    if more := sum(1 for _ in items):
        print_lines(f"  and {more:,} more; --csv FILE has all of them")
    if csv_path and total is not None:
        check_total(comparison, total)
        print_lines(f"{csv_path}: its charges add up to {dollars(total)}", err=True)
    print_lines(bill.last_line(comparison))


def check_total(comparison: BillComparison, total: Decimal) -> None:
    """Raise `BatchgenError` unless the rows of the CSV file add up to the service's transactions: that is a defect."""
    if comparison.is_listed and total != comparison.statement.charged_usd:
        raise BatchgenError(f"the rows add up to {total}, the transactions to {comparison.statement.charged_usd} USD")

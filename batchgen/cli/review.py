"""The command `batchgen review`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from batchgen.cli import loopback, options
from batchgen.cli.batches import open_batch
from batchgen.report.terminal import print_lines

PORT = 8766


@options.batch
@loopback.address(PORT)
def command(manifest: Path, db: str | None, simulate: bool, port: int, no_browser: bool) -> None:
    """The page is served to this machine only, at an address that nobody can guess, until Ctrl-C.

    It may run beside `batchgen run`: new clips appear as they arrive. On the page, ? shows the keys.
    """
    from batchgen.review.server import Review, ReviewServer

    with open_batch(db, manifest, simulate) as (database, batch), loopback.listen(port) as listener:

        def announce(address: str) -> None:
            print_lines(address)
            kept = "is in the job table at once" if database.may_write else "cannot be kept: the table may only be read"
            print_lines(f"{batch.name}: what you judge on the page {kept}.", err=True)
            print_lines("Ctrl-C ends it.", err=True)
            if not no_browser:
                loopback.open_browser(address)

        review = Review(database, batch, manifest.absolute().parent, loopback.NAMES)
        ReviewServer(review, listener, announce, partial(print_lines, err=True)).serve_until_stopped()

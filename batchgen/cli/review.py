"""The command `batchgen review`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from threading import Thread

import click

from batchgen.cli import options
from batchgen.cli.batches import open_batch, stored_batch
from batchgen.report.terminal import print_lines

PORT = 8766


@options.manifest
@options.db
@options.simulate
@click.option(
    "--port",
    default=PORT,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Where to listen, or on the next free port. 0 takes any.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def command(manifest: Path, db: str | None, simulate: bool, port: int, no_browser: bool) -> None:
    """The page is served to this machine only, at an address that nobody can guess, until Ctrl-C.

    It may run beside `batchgen run`: new clips appear as they arrive. On the page, ? shows the keys.
    """
    from batchgen.review.server import Review, ReviewServer, listen

    with open_batch(db, manifest, simulate) as (database, batch_id), listen(port) as listener:
        batch = stored_batch(database, batch_id)

        def announce(address: str) -> None:
            print_lines(address)
            print_lines(f"{batch.name}: what you judge on the page is in the job table at once.", err=True)
            print_lines("Ctrl-C ends it.", err=True)
            if not no_browser and has_display():
                # On a thread: some browsers run for as long as they are open.
                Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        ReviewServer(Review(database, batch, manifest.absolute().parent), listener, announce).serve_until_stopped()


def has_display() -> bool:
    """Whether a browser can open a window: without one, a browser of text might take the terminal."""
    return sys.platform in ("win32", "darwin") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())

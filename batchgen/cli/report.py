"""The command `batchgen report`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich import filesize

from batchgen.api.checking import stored_name
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.files.staged_file import check_target
from batchgen.jobtable import clips
from batchgen.jobtable.clips import ClipFile
from batchgen.report.terminal import print_lines
from batchgen.review.page import read_page
from batchgen.review.posters import PosterSource
from batchgen.review.report import MARK, write_report


@options.batch
@click.option(
    "-o",
    "--output",
    type=options.FilePath("page.html"),
    help="The page. Default: MANIFEST-report.html beside the manifest.",
)
def command(manifest: Path, db: str | None, simulate: bool, output: Path | None) -> None:
    """It opens in any browser, from a disk or from a web server, and asks nobody for anything. The posters are in it,
    or, where they take more than 20 MB, in a folder beside it.

    The videos stay where they are: whoever gets the page needs them beside it. Verdicts are kept in the browser; "Save
    verdicts" hands them back as a file for `batchgen verdicts import`.
    """
    folder = manifest.absolute().parent
    with open_batch(db, manifest, simulate) as (database, batch):
        path = output or folder / f"{stored_name(manifest.stem, batch.service)}-report.html"
        check_target(path, MARK)  # before anything is read
        posters = asyncio.run(read_posters(PosterSource(folder), database.read_now(clips.first_files, batch.id)))
        page = database.read_now(read_page, batch, posters)
    place = write_report(page, path, folder) or "the page"
    with_posters = f", {plural(len(page.posters), 'poster')} in {place}" if page.posters else ""
    jobs = plural(len(page.document["rows"]), "job")
    print_lines(f"{path}: {jobs}, {filesize.decimal(path.stat().st_size)}{with_posters}")
    print_lines(
        "Open it in a browser. The videos are not in it: hand them on with it, in their folders."
        f" {options.quoted_command('verdicts import FILE')} reads the verdicts that it saves.",
        err=True,
    )


async def read_posters(source: PosterSource, files: list[ClipFile]) -> dict[str, bytes]:
    """The posters of files by their SHA-256. Those that are missing are made."""
    try:
        return {file.sha256: poster for file in files if (poster := await source.poster(file))}
    finally:
        await source.close()

"""The command `batchgen export`."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.errors import BatchgenError, ExitCode, StorageError, UsageError, os_reason
from batchgen.export import records, sidecar
from batchgen.export.clip_files import ClipFiles
from batchgen.export.records import Record, record_of
from batchgen.export.webdataset import Shards, safe
from batchgen.files.output_paths import is_url
from batchgen.files.outputs import OutputFolder
from batchgen.files.safe_open import open_directory
from batchgen.files.staged_file import NameTaken, stage
from batchgen.jobs import Verdict
from batchgen.jobtable import verdicts
from batchgen.jobtable.batches import made_by
from batchgen.jobtable.clips import clip_ids, read_clips
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import LostFiles
from batchgen.jobtable.verdicts import STARS_MAX, VerdictFilter
from batchgen.report.formats import shortened
from batchgen.report.terminal import print_lines, print_text
from batchgen.report.words import lost_lines

FORMATS = ("csv", "jsonl", "parquet", "webdataset")
SHARD_MB = 1_000  # a size that object stores and readers of WebDataset like
SHOWN_FAULTS = 5


@dataclass(slots=True)
class Export:
    """What is exported: the clips of a batch, as they are chosen, and what came of them so far."""

    database: Database
    batch: str
    ids: list[int]
    clips: ClipFiles
    verify: bool

    def all_records(self) -> Iterator[Record]:
        return map(record_of, read_clips(self.database, self.ids))

    def records(self) -> Iterator[Record]:
        """The records of the clips that are there as they were delivered; the others are noted."""
        return self.clips.present(self.all_records(), verify=self.verify)


@options.manifest
@click.option("--format", "form", type=click.Choice(FORMATS), help="One record a clip; webdataset: with the clips.")
@click.option("-o", "--output", type=click.Path(), metavar="PATH", help="The file; the folder of webdataset.")
@click.option("--sidecar", "sidecars", is_flag=True, help="Write the record of clip.mp4 to clip.mp4.json beside it.")
@click.option("--picked", is_flag=True, help="Only picked clips.")
@click.option("--rejected", is_flag=True, help="Only rejected clips.")
@click.option("--stars", type=click.IntRange(1, STARS_MAX), metavar="N", help="Only clips with at least N stars.")
@click.option(
    "--verify", is_flag=True, help="Read every clip, and compare it with its SHA-256. (webdataset always does.)"
)
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    default=SHARD_MB,
    show_default=True,
    metavar="MB",
    help="Begin another tar file of webdataset at this size.",
)
@options.db
@options.simulate
def command(
    manifest: Path,
    form: str | None,
    output: str | None,
    sidecars: bool,
    picked: bool,
    rejected: bool,
    stars: int | None,
    verify: bool,
    shard_size: int,
    db: str | None,
    simulate: bool,
) -> None:
    """One record for each delivered clip: prompt, parameters, input files with their hashes, model, cost, times, size,
    codec, checksum, measures, verdict, stars, tags, lineage and path.

    \b
    batchgen export spring.yaml --format csv -o clips.csv
    batchgen export spring.yaml --format jsonl --picked | jq .prompt
    batchgen export spring.yaml --format webdataset --picked -o dataset/
    batchgen export spring.yaml --sidecar

    csv and jsonl go to standard output where -o names no file. A webdataset is a folder of tar files with KEY.mp4,
    KEY.json and KEY.txt (the prompt) for each clip. In csv, an apostrophe stands before a text that a spreadsheet would
    calculate (=, +, -, @); the other forms have every text as it is.

    No file is ever replaced, but for sidecars that nobody has edited. The same command goes on where an export was
    broken off, and adds clips that came since to a webdataset. Clips that are lost or have changed are named and left
    out: exit code 3.
    """
    if form is None and not sidecars:
        raise UsageError(f"export what? Say --format {'|'.join(FORMATS)}, or --sidecar")
    if picked and rejected:
        raise UsageError("--picked and --rejected exclude one another")
    choice = VerdictFilter(Verdict.PICKED if picked else Verdict.REJECTED if rejected else None, stars)
    path = None if output is None or output == "-" else Path(output)
    judge_output(form, path)
    if output is not None:
        options.refuse_elsewhere(output)
        if form != "webdataset":
            options.refuse_folder(output, f"clips.{form}")
    with open_batch(db, manifest, simulate) as (database, batch):
        is_choice = choice != VerdictFilter()
        chosen = set(database.read_now(verdicts.chosen_ids, batch.id, choice)) if is_choice else None
        ids = database.read_now(clip_ids, batch.id, chosen)
        if not ids:
            raise UsageError(nothing_to_export(manifest, is_choice))
        folder, is_whole = manifest.absolute().parent, True
        export = Export(database, batch.name, ids, ClipFiles(folder), verify)
        retry = options.command_to_type("retry") if made_by([batch], manifest) else ""  # it is refused for a copy
        if form:
            is_whole = write_format(export, form, path, choice, shard_size)
            is_whole = report(export, retry) and is_whole
        if sidecars:
            export = replace(export, clips=ClipFiles(folder))
            is_whole = write_sidecars(export) and not export.clips.lost and is_whole
            if not form:  # the same clips would be named twice
                report(export, retry)
    if not is_whole:
        sys.exit(ExitCode.INCOMPLETE)


def judge_output(form: str | None, path: Path | None) -> None:
    """Raise `UsageError` for an output that does not fit the format."""
    if form is None and path:
        raise UsageError("-o names the output of a --format; sidecars lie beside their clips")
    if form == "parquet":
        records.import_pyarrow()
    if path is None:
        if form in ("parquet", "webdataset"):
            example = "clips.parquet" if form == "parquet" else "dataset/"
            raise UsageError(f"--format {form} needs -o, such as -o {example}")
    elif form == "webdataset" and path.exists() and not path.is_dir():
        raise UsageError(f"{path}: this is a file; a webdataset is a folder of tar files")


def nothing_to_export(manifest: Path, is_choice: bool) -> str:
    if is_choice:
        return f"{manifest}: no delivered clip has such a verdict; {options.quoted_command('review')} shows them"
    return f"{manifest}: no clip is delivered yet; {options.quoted_command('status')} says what the jobs wait for"


def write_format(export: Export, form: str, path: Path | None, choice: VerdictFilter, shard_mb: int) -> bool:
    """Write the clips. Returns whether everything that is there now is what was asked for."""
    if form == "webdataset":
        assert path
        return write_shards(export, path, choice, shard_mb)
    write = records.write_csv if form == "csv" else records.write_jsonl
    if path is None:
        write(export.records(), lambda content: print_text(content.decode()))
        return True
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_directory(path.parent) as folder, stage(folder, path.name) as staged:
            if form == "csv":  # which Excel would read in the code page of Windows without a byte order mark
                staged.file.write(codecs.BOM_UTF8)
            if form == "parquet":
                records.write_parquet(export.records(), staged.file)
            else:
                write(export.records(), staged.file.write)
            is_new = staged.place()
    except NameTaken:
        raise UsageError(
            f"{path}: already exists with other content, and was not changed. Name another file with -o"
        ) from None
    except OSError as error:
        raise unwritable_file(path, error) from error
    count = plural(export.clips.exported, "clip")
    print_lines(f"{path}: {count} of {export.batch}{'' if is_new else ', as it was already'}", err=True)
    return True


def write_shards(export: Export, path: Path, choice: VerdictFilter, shard_mb: int) -> bool:
    """Write the clips that no shard has. False where the folder has clips that do not belong to the data set."""
    words = [safe(export.batch), *filter(None, [choice.verdict]), *([f"{choice.stars}-stars"] if choice.stars else [])]
    name = "-".join(words)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with open_directory(path) as folder:
            shards = Shards(folder, name, shard_mb * 1_000_000, export.clips)
            shards.read()
            foreign = shards.sample_names - shards.write(export.all_records())
    except OSError as error:
        raise unwritable_file(path, error) from error
    of_them = f", {plural(len(shards.written), 'new tar file')}" if shards.written else ", as they were already"
    print_lines(f"{path / name}-*.tar: {plural(export.clips.exported, 'clip')} of {export.batch}{of_them}", err=True)
    if foreign:
        print_lines(
            f"{plural(len(foreign), 'clip')} in these tar files no longer belong to this export (judged or made anew?):"
            f" {shortened(sorted(foreign), SHOWN_FAULTS)}. They stay; for a set without them, name another folder",
            err=True,
        )
    return not foreign


def write_sidecars(export: Export) -> bool:
    """Write the record of each clip beside it. False where something of somebody else is in the way."""
    outputs, written, faults = OutputFolder(export.clips.folder), 0, []
    for record in export.records():
        path = record["path"] + sidecar.SUFFIX
        if is_url(record["path"]):
            faults.append(
                f"{record['path']}: no sidecar is written into an object store; --format jsonl has the records"
            )
            continue
        try:
            written += sidecar.write_sidecar(outputs, record)
        except NameTaken:
            faults.append(f"{path}: this file is yours, or you have edited it; it was not replaced")
        except BatchgenError as error:
            faults.append(str(error))
        except OSError as error:
            raise unwritable_file(export.clips.folder / path, error) from error
    rest = export.clips.exported - written - len(faults)
    unchanged = f", {rest} as they were already" if rest else ""
    print_lines(f"{plural(written, 'sidecar')} written beside the clips of {export.batch}{unchanged}", err=True)
    print_lines(*faults[:SHOWN_FAULTS], err=True)
    if more := faults[SHOWN_FAULTS:]:
        print_lines(f"… and {len(more)} more", err=True)
    return not faults


def report(export: Export, retry: str) -> bool:
    """Name the clips that were left out, and the command that brings them back. Returns whether there was none."""
    lost, gone = export.clips.lost, len(export.ids) - export.clips.exported
    if lost:
        print_lines(*lost_lines(LostFiles(lost, len(export.ids)), retry), err=True)
    elif gone:
        print_lines(f"{plural(gone, 'clip')} changed in the job table meanwhile. Run the same command again", err=True)
    return not gone


def unwritable_file(path: Path, error: OSError) -> StorageError:
    place = f" ({error.filename})" if error.filename and str(error.filename) != str(path) else ""
    return StorageError(f"{path}: cannot be written{place}: {os_reason(error)}. The same command goes on from there")

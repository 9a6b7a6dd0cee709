"""The command `batchgen next`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchgen import clock
from batchgen.advice.command_line import MANIFEST_SUFFIXES, command_line, typed_again, without
from batchgen.api.next_manifest import NextManifest, NextOptions, left_out_words, next_manifest
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.cli.batches import open_batch
from batchgen.errors import StorageError, UsageError, os_reason
from batchgen.files.staged_file import write_new
from batchgen.jobs import Verdict
from batchgen.jobtable.batches import table_location
from batchgen.jobtable.database import Database
from batchgen.jobtable.verdicts import STARS_MAX, VerdictFilter
from batchgen.report.formats import shortened
from batchgen.report.terminal import print_lines
from batchgen.services.registry import SIMULATOR

SHOWN_IDS = 5
STDOUT = Path("-")


@options.manifest
@click.option("--picked", is_flag=True, help="The jobs with picked clips.")
@click.option("--rejected", is_flag=True, help="The jobs with rejected clips.")
@click.option(
    "--stars",
    type=click.IntRange(1, STARS_MAX),
    metavar="N",
    help="The jobs with at least N stars; with --picked or --rejected, of those.",
)
@click.option("--model", metavar="MODEL", help="Write them for this model. What it does not take is left out.")
@click.option("--reseed", is_flag=True, help="Ask for another video: with another seed, or as another take.")
@click.option(
    "-o",
    "--output",
    type=options.FilePath("promoted.yaml"),
    metavar="FILE",
    help="The file to write, after which the new batch is called. Default: standard output.",
)
@options.db
@options.simulate
@options.validate
def command(
    manifest: Path,
    picked: bool,
    rejected: bool,
    stars: int | None,
    model: str | None,
    reseed: bool,
    output: Path | None,
    db: str | None,
    simulate: bool,
    validate: bool,
) -> None:
    """The jobs are written as they were sent, with their ids and the names of the jobs that they come from (`from:`).

    \b
    batchgen next pilot.yaml --picked --model MODEL -o promoted.yaml
    batchgen next pilot.yaml --rejected --reseed -o again.yaml

    Nothing is sent, and no file is replaced. MANIFEST names the batch; what was paid for is taken from the job table.
    """
    path = None if output == STDOUT else output
    choice = choice_of(picked=picked, rejected=rejected, stars=stars)
    if path:
        judge_output(path)
    typed = typed_again(without(sys.argv[1:], "--db"))  # the address of a job table may hold a password
    next_options = NextOptions(choice, model, reseed, validate, path, typed, options.command_to_type)
    with open_batch(db, manifest, simulate) as (database, batch):
        made = next_manifest(database, batch, manifest, next_options, clock.utcnow())
    if path is None:
        print_lines(*made.lines)
    else:
        write(path, made.text)
        print_lines(f"{path}: {plural(made.jobs, 'job')} of {made.batch}")
    print_lines(*notes(made, model, is_simulated=batch.service == SIMULATOR), err=True)
    if path:
        plan = "plan --no-validate" if made.unchecked else "plan"
        place = other_table(database, path)
        to_type = command_line(plan, path, simulate=batch.service == SIMULATOR, db=place)
        print_lines(f"Next: `{to_type}`", err=True)


def choice_of(*, picked: bool, rejected: bool, stars: int | None) -> VerdictFilter:
    """What was chosen. Raises `UsageError` for nothing, and for everything."""
    if picked and rejected:
        raise UsageError("--picked and --rejected exclude one another: write a manifest for each")
    if not (picked or rejected or stars):
        raise UsageError("which jobs? Say --picked, --rejected or --stars N")
    return VerdictFilter(Verdict.PICKED if picked else Verdict.REJECTED if rejected else None, stars)


def judge_output(path: Path) -> None:
    """Raise `UsageError` for a path that no manifest should have."""
    if path.suffix not in MANIFEST_SUFFIXES:
        raise UsageError(f"{path}: the name of a manifest must end in .yaml")


def other_table(database: Database, path: Path) -> str | Path | None:
    """The job table that has the old batch, where a command on the new manifest would not find it by itself."""
    if database.path is None:
        return options.db_option_as_typed()
    usual = Path(table_location(None, path)).absolute()
    return None if usual == database.path.absolute() else database.path


def write(path: Path, text: str) -> None:
    """Write the manifest. Raises `UsageError` where there is a file of this name."""
    try:
        write_new(path, text.encode())
    except FileExistsError:
        raise UsageError(f"{path}: already exists, and was not changed. Name another file with -o") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {os_reason(error)}") from error


def notes(made: NextManifest, model: str | None, *, is_simulated: bool) -> list[str]:
    """What a person should know before a run of the new manifest."""
    lines = [f"left out: {left_out_words(made.left_out)}"] if made.left_out else []
    for param, ids in made.left_out_params.items():
        lines.append(f"left out of {plural(len(ids), 'job')}: `{param}`, which {model} does not take ({ids_of(ids)})")
    lines += [f"warning: {fault} ({ids_of(ids)})" for fault, ids in made.changed_files.items()]
    if made.unchecked:
        needs = "not as the catalogue documents it; the new manifest needs --no-validate"
        lines.append(f"warning: {ids_of(made.unchecked)}: {needs}")
    if made.repeats:
        asks = "a run on this job table asks before it makes them again, and on another one does not know of them"
        lines.append(
            f"warning: {plural(len(made.repeats), 'job')} just as paid for already ({ids_of(made.repeats)}):"
            f" {asks if is_simulated else 'a run asks before it pays again'}."
            " For other videos, edit the file, or use --model or --reseed."
        )
    return lines


def ids_of(ids: list[str]) -> str:
    return shortened(ids, SHOWN_IDS)

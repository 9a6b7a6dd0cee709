"""The command `batchgen check`."""

from __future__ import annotations

from pathlib import Path

import click

from batchgen.api.checking import check
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.report import hints
from batchgen.report.command_events import Checked
from batchgen.report.terminal import print_json, print_lines


@options.manifest
@options.validate
@click.option("--online", is_flag=True, help="Also fetch every remote image, and try the object stores of the outputs.")
@options.json_lines
def command(manifest: Path, validate: bool, online: bool, as_json: bool) -> None:
    """All problems are shown at once, with exit code 2."""
    valid = check(manifest, validate=validate, online=online)
    if as_json:
        models, warnings = dict(valid.models), list(valid.warnings)
        advice = hints.advice("`plan` says what a run would cost", options.command_to_type("plan"))
        event = Checked(event="checked", batch=valid.batch, jobs=valid.jobs, models=models, warnings=warnings, **advice)
        print_json(event)
        return
    for warning in valid.warnings:
        print_lines(f"warning: {warning}", err=True)
    print_lines(f"{valid.batch}: {plural(valid.jobs, 'job')}, all valid")
    for model, number in sorted(valid.models.items(), key=lambda entry: -entry[1]):
        print_lines(f"  {number:6}  {model}")

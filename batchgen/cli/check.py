"""The command `batchgen check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchgen.api.checking import check
from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.report import hints
from batchgen.report.terminal import print_lines, show
from batchgen.services.registry import SIMULATOR

if TYPE_CHECKING:
    from batchgen.report.command_events import Checked


@options.manifest
@options.validate
@click.option("--online", is_flag=True, help="Also fetch every remote image, and try the object stores of the outputs.")
@options.json_lines
def command(manifest: Path, validate: bool, online: bool, as_json: bool) -> None:
    """All problems are shown at once, with exit code 2."""
    valid = check(manifest, validate=validate, online=online)
    if valid.service == SIMULATOR:
        options.name_simulation()
    advice = hints.advice("`plan` says what a run would cost", options.command_to_type("plan"))
    event: Checked = {
        "event": "checked",
        "batch": valid.batch,
        "jobs": valid.jobs,
        "models": dict(valid.models),
        "warnings": list(valid.warnings),
        **advice,
    }
    if not as_json:
        print_lines(*(f"warning: {warning}" for warning in valid.warnings), err=True)
    models = sorted(valid.models.items(), key=lambda entry: -entry[1])
    counts = [f"  {number:6}  {model}" for model, number in models]
    show(event, f"{valid.batch}: {plural(valid.jobs, 'job')}, all valid", *counts, as_json=as_json)

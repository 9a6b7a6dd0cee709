"""`batchgen check`: validate a manifest."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from batchgen.cli.options import json_option, manifest_argument, validate_option
from batchgen.manifest import read
from batchgen.report.words import plural


@click.command(name="check")
@manifest_argument
@validate_option
@json_option
def command(manifest: Path, validate: bool, as_json: bool) -> None:
    """Validate a manifest; write and send nothing. Every problem in it is shown at once, with exit code 2."""
    asked = read(manifest, validate=validate)
    models = Counter(job.model for job in asked.jobs)
    if as_json:
        click.echo(json.dumps({"batch": asked.batch, "jobs": len(asked.jobs), "models": models}, ensure_ascii=False))
        return
    click.echo(f"{asked.batch}: {plural(len(asked.jobs), 'job')}, all valid")
    for model, number in models.most_common():
        click.echo(f"  {number:6}  {model}")

"""`batchgen check`: validate a manifest."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import click

from batchgen.cli.options import json_option, manifest_argument, validate_option
from batchgen.errors import ManifestInvalid
from batchgen.manifest import read
from batchgen.report.words import plural


@click.command(name="check")
@manifest_argument
@validate_option
@click.option("--online", is_flag=True, help="Ask the server of every remote image whether it has it, too.")
@json_option
def command(manifest: Path, validate: bool, online: bool, as_json: bool) -> None:
    """Validate a manifest; write nothing, pay nothing. Every problem in it is shown at once, with exit code 2."""
    asked = read(manifest, validate=validate)
    if online:
        from batchgen.services.remote_images import problems

        if found := asyncio.run(problems(asked)):
            raise ManifestInvalid(found)
    models = Counter(job.model for job in asked.jobs)
    if as_json:
        click.echo(json.dumps({"batch": asked.batch, "jobs": len(asked.jobs), "models": models}, ensure_ascii=False))
        return
    click.echo(f"{asked.batch}: {plural(len(asked.jobs), 'job')}, all valid")
    for model, number in models.most_common():
        click.echo(f"  {number:6}  {model}")

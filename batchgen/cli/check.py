"""The command `batchgen check`."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import click

from batchgen.cli import options
from batchgen.errors import ManifestInvalid
from batchgen.manifest import read
from batchgen.report.terminal import print_json
from batchgen.report.words import plural


@options.manifest
@options.validate
@click.option("--online", is_flag=True, help="Also check that every remote image can be fetched.")
@options.json_lines
def command(manifest: Path, validate: bool, online: bool, as_json: bool) -> None:
    """All problems are shown at once, with exit code 2."""
    valid = read(manifest, validate=validate)
    if online:
        from batchgen.services.remote_images import problems

        if unreachable := asyncio.run(problems(valid)):
            raise ManifestInvalid(unreachable)
    models = Counter(job.model for job in valid.jobs)
    if as_json:
        print_json({"batch": valid.batch, "jobs": len(valid.jobs), "models": models})
        return
    click.echo(f"{valid.batch}: {plural(len(valid.jobs), 'job')}, all valid")
    for model, number in models.most_common():
        click.echo(f"  {number:6}  {model}")

"""`batchgen schema`: what an editor needs to know of manifests."""

from __future__ import annotations

import click

from batchgen.manifest import schema


@click.command(name="schema")
def command() -> None:
    """Print the JSON Schema of manifests, with the parameters of every model, for an editor.

    \b
    batchgen schema > manifest.schema.json
    and as the first line of a manifest beside it:
    # yaml-language-server: $schema=manifest.schema.json
    """
    click.echo(schema.text(), nl=False)

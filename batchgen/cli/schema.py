"""The command `batchgen schema`."""

from __future__ import annotations

import click

from batchgen.manifest import schema


def command() -> None:
    """It has the parameters of every model.

    \b
    batchgen schema > manifest.schema.json
    and as the first line of a manifest beside it:
    # yaml-language-server: $schema=manifest.schema.json
    """
    click.echo(schema.text(), nl=False)

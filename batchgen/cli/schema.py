"""The command `batchgen schema`."""

from __future__ import annotations

import json

import click

from batchgen.report.terminal import print_lines


@click.option("--events", is_flag=True, help="Print the schema of the lines that commands write with --json instead.")
def command(events: bool) -> None:
    """It has the parameters of every model.

    \b
    batchgen schema > manifest.schema.json
    and as the first line of a manifest beside it:
    # yaml-language-server: $schema=manifest.schema.json
    """
    if events:
        from batchgen.report.event_schema import schema as schema_of_events

        print_lines(*json.dumps(schema_of_events(), indent=2).splitlines())
        return
    from batchgen.manifest import schema  # Imported here: it needs the catalogue.

    print_lines(*schema.text().splitlines())

"""The command `batchgen schema`."""

from __future__ import annotations

from batchgen.manifest import schema
from batchgen.report.terminal import print_lines


def command() -> None:
    """It has the parameters of every model.

    \b
    batchgen schema > manifest.schema.json
    and as the first line of a manifest beside it:
    # yaml-language-server: $schema=manifest.schema.json
    """
    print_lines(*schema.text().splitlines())

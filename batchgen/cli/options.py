"""Options that several commands share."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

C = TypeVar("C", bound=Callable[..., Any])

manifest_argument = click.argument("manifest", type=click.Path(path_type=Path))

db_option = click.option(
    "--db",
    envvar="BATCHGEN_DB",
    metavar="PATH-OR-URL",
    help="The job table: a file or an SQLAlchemy URL. Default: batchgen.db beside the manifest.  [env: BATCHGEN_DB]",
)

simulate_option = click.option(
    "--simulate",
    is_flag=True,
    help="Use the built-in simulator: offline, free, time-compressed. The batch gets a name and a folder of its own.",
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Write JSON lines to standard output, and nothing else."
)


def place_of(db: str | None, manifest: Path) -> str | Path:
    """Where the job table lies: as told, else beside the manifest, whatever the working directory."""
    return db or manifest.absolute().parent / "batchgen.db"


def again(command: str) -> str:
    """Another command on the same manifest and job table, to be typed by a person: ``batchgen retry m.yaml``."""
    context = click.get_current_context()
    words = ["batchgen", command, shlex.quote(str(context.params.get("manifest") or "MANIFEST"))]
    if context.params.get("simulate"):
        words.append("--simulate")
    if context.get_parameter_source("db") is ParameterSource.COMMANDLINE:
        db = str(context.params["db"])
        words += ["--db", "URL" if "://" in db else shlex.quote(db)]  # a URL may hold a password
    return f"`{' '.join(words)}`"

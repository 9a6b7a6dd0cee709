"""The command `batchgen init`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from batchgen.advice.command_line import MANIFEST_SUFFIXES, command_line
from batchgen.errors import StorageError, UsageError, os_reason
from batchgen.files.staged_file import write_new
from batchgen.manifest import schema
from batchgen.report.terminal import print_lines
from batchgen.services.text import shell_word


@click.argument("path", type=click.Path(path_type=Path), default=Path("manifest.yaml"))
def command(path: Path) -> None:
    """The manifest is written to PATH (default: manifest.yaml), with the JSON Schema for your editor beside it.

    It runs as it stands, on the built-in simulator. No existing file is overwritten.
    """
    path = path / "manifest.yaml" if path.is_dir() else path
    if path.suffix not in MANIFEST_SUFFIXES:
        folder = "" if path.suffix else f"; for a folder of this name, first `mkdir {shell_word(str(path))}`"
        raise UsageError(f"{path}: the name of a manifest must end in .yaml{folder}")
    try:
        write_new(path, example_manifest(path.name).encode("utf-8", "replace"))
        with suppress(FileExistsError):
            write_new(path.with_name("manifest.schema.json"), schema.text().encode())
    except FileExistsError:
        raise UsageError(f"{path}: already exists, and was not changed") from None
    except OSError as error:
        raise StorageError(f"{path}: {os_reason(error)}") from error
    print_lines(
        f"{path}: an example, with manifest.schema.json for your editor beside it",
        f"Next: `{command_line('check', path)}`, and then `{command_line('run', path)}`",
    )


def example_manifest(name: str) -> str:
    return Path(__file__).with_name("example.yaml").read_text("utf-8").replace("MANIFEST", name)

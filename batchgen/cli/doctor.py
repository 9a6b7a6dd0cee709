"""The command `batchgen doctor`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from batchgen.catalogue.wording import plural
from batchgen.cli import options
from batchgen.doctor import Finding, examine
from batchgen.jobtable.batches import table_location
from batchgen.report import hints
from batchgen.report.command_events import Examined
from batchgen.report.terminal import print_lines, show


@click.argument("manifest", type=click.Path(path_type=Path), required=False)
@options.db
@options.json_lines
def command(manifest: Path | None, db: str | None, as_json: bool) -> None:
    """It looks at versions, the decoder of videos, free disk, the manifest, key and address, the service and its clock,
    the balance, the job table, and what dead runs have left. Below each problem stands the command that mends it.

    It changes nothing, but makes and deletes a small object in an object store of outputs. It asks the service only
    what is free. Without a MANIFEST: all batches of the job table.

    It ends with 0 where nothing is wrong, else as a run would: with the exit code of the first problem.
    """
    location = table_location(db, manifest or Path("batchgen.db"))
    show_all(examine(location, manifest, options.db_option_as_typed()), as_json=as_json)


def show_all(findings: Iterable[Finding], *, as_json: bool) -> None:
    """Write findings as they come, and end with the exit code of the first problem."""
    problems = []
    for finding in findings:
        show_finding(finding, as_json=as_json)
        problems += [] if finding.is_ok else [finding]
    if not as_json:
        print_lines("", f"{plural(len(problems), 'problem')} found" if problems else "all is well")
    if problems:
        sys.exit(problems[0].exit_code)


def show_finding(finding: Finding, *, as_json: bool) -> None:
    hint = "" if finding.is_ok else "mend it with this command" if finding.mend else "mend it as the message says"
    name, message, code = finding.check, finding.message, finding.exit_code
    advice = hints.advice(hint, finding.mend)
    event = Examined(event="finding", check=name, ok=finding.is_ok, message=message, exit_code=code, **advice)
    mend = [f"{'':8} {finding.mend}"] if finding.mend else []
    show(event, f"{'ok' if finding.is_ok else 'PROBLEM':8} {name}: {message}", *mend, as_json=as_json)

"""What is wrong, and the command that mends it: the machine, key and service, the job table, what dead runs have left.

Nothing is changed, and nothing is sent that costs or concerns a job.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batchgen.doctor.findings import Finding, ok, problem, shell
from batchgen.doctor.folder import examine_stores
from batchgen.doctor.machine import examine_machine
from batchgen.doctor.service import examine_service
from batchgen.doctor.table import Command, TableExam
from batchgen.errors import ExitCode, ManifestInvalid
from batchgen.manifest.reader import read
from batchgen.services.registry import DEFAULT, SIMULATOR

__all__ = ["Finding", "examine"]


def examine(location: str | Path, manifest: Path | None, command: Command) -> Iterator[Finding]:
    """Every finding, in the order in which a run would meet what is wrong.

    `location` is the job table's. `command` makes commands of batchgen.
    """
    folder = manifest.absolute().parent if manifest else Path.cwd()
    exam = TableExam(location, manifest, command)
    yield from examine_machine(folder)
    service = min(exam.services - {SIMULATOR} or exam.services or {DEFAULT})
    if manifest:
        try:
            parsed = read(manifest)
        except ManifestInvalid as error:
            first, more = str(error.problems[0]).partition("\n")[0], len(error.problems) - 1
            others = f" (and {more} more)" if more else ""
            yield problem("manifest", f"{first}{others}", shell("batchgen", "check", manifest), ExitCode.USAGE)
        else:
            yield ok("manifest", f"{manifest}: valid")
            yield from examine_stores([job.output for job in parsed.jobs])
            service = exam.manifest_service = parsed.service
    condition = examine_service(service, folder)
    yield from condition.findings
    yield from exam.examine(condition)

"""What is wrong, and the command that mends it: the machine, key and service, the job table, what dead runs have left.

Nothing is changed, and nothing is sent that costs or concerns a job.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batchgen.api.opening import read_manifest
from batchgen.doctor.findings import Finding, ok, problem, shell
from batchgen.doctor.machine import examine_machine, examine_output_folders, examine_rights, examine_stores
from batchgen.doctor.service import examine_service
from batchgen.doctor.table import TableExam
from batchgen.errors import ExitCode, ManifestInvalid
from batchgen.jobs import JobSpec
from batchgen.services.registry import DEFAULT, SIMULATOR

__all__ = ["Finding", "examine"]


def examine(location: str | Path, manifest: Path | None, db: str | None) -> Iterator[Finding]:
    """Every finding, in the order in which a run would meet what is wrong.

    `location` is the job table's, and `db` the table as it was typed. Raises `UsageError` for a manifest that is not
    there, and of which the table knows nothing.
    """
    folder = manifest.absolute().parent if manifest else Path.cwd()
    exam = TableExam(location, manifest, db)
    exam.refuse_unknown_manifest()
    is_gone = bool(manifest and not manifest.exists())
    yield from examine_machine(folder)
    service = min(exam.services - {SIMULATOR} or exam.services or {DEFAULT})
    specs: list[JobSpec] = []
    if is_gone:
        message = (
            f"{manifest}: it is gone. Its batch is in the job table, to be read, judged and exported; to run it, put"
        )
        yield problem("manifest", f"{message} a copy of the manifest back", "", ExitCode.USAGE)
    elif manifest:
        try:
            parsed = read_manifest(manifest, None, simulate=False, validate=True)
        except ManifestInvalid as error:
            first, more = str(error.problems[0]).partition("\n")[0], len(error.problems) - 1
            others = f" (and {more} more)" if more else ""
            yield problem("manifest", f"{first}{others}", shell("batchgen", "check", manifest), ExitCode.USAGE)
            service = error.service or service
        else:
            yield ok("manifest", f"{manifest}: valid")
            specs, outputs = parsed.jobs, [job.output for job in parsed.jobs]
            yield from examine_stores(outputs)
            if not (exam.services and exam.own_batches()):  # else its rows say where videos go
                yield from examine_output_folders(folder, outputs)
                yield from examine_rights(folder, outputs)
            service = parsed.service
    findings, account = examine_service(service, folder, *exam.next_jobs(service, specs))
    yield from findings
    yield from exam.examine(account)

"""One file of a job on its way to its place, and the ways in which a try ends before that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from batchgen import clock
from batchgen.context import RunContext
from batchgen.files.output_paths import FILE_NUMBER_MARK
from batchgen.files.outputs import numbered
from batchgen.files.part import Part
from batchgen.files.placing import Placing
from batchgen.jobs import ErrorClass, Job, Output
from batchgen.jobtable import delivery
from batchgen.services.outcomes import Failed

T = TypeVar("T")

SAME_BYTES = 3  # so many times the same odd file is taken for what the service has
TRIES_TO_BELIEVE = 3  # so many tries show that a file is gone, or has become another one
ODD_FILES_MAX = 20  # of one video, if no two are the same: then the last one is taken for what the service has
GONE_AFTER = timedelta(hours=24)  # of an address that does not work, counted from the end of its generation


class TryFailed(Exception):
    """This try brought no whole file, and another follows; `str(error)` says why."""


class Obstructed(Exception):
    """This file is too large, or the disk does not take it; others may come. A later run tries again."""


class GenerationEnded(Exception):
    """The service does not have the file any more, or has none that plays."""

    def __init__(self, outcome: Failed) -> None:
        self.outcome = outcome


class Abandoned(Exception):
    """The run is stopping, or another run has taken the job over. The `.part` stays for whoever continues."""


@dataclass(frozen=True, slots=True)
class DownloadTask:
    """What all steps of a download share."""

    context: RunContext
    job: Job
    output: Output
    target: str
    """The path or URL that the file is to get."""
    placing: Placing
    part: Part
    on_disk: Callable[..., Awaitable[Any]]
    """Calls a function that may wait for the disk, in a thread."""

    async def write(self, function: Callable[..., T | None], *values: Any) -> T:
        """Write to the row of the file. Raises `Abandoned` if this run does not hold the job any more."""
        outcome = await self.context.database.write(function, self.job, self.context.run_id, self.output, *values)
        if not outcome:
            raise Abandoned
        return outcome

    async def count_bytes(self) -> bool:
        """Count that exactly these bytes came. True once they came so often that no others are to be expected."""
        digest = self.part.sha256
        try:
            counts = Counter[str](json.loads(self.output.refused or "{}"))
            counts[digest] += 1
            are_often = counts[digest] >= SAME_BYTES or counts.total() >= ODD_FILES_MAX
        except (ValueError, TypeError, RecursionError):  # a row that somebody else has written
            counts, are_often = Counter([digest]), False
        await self.write(delivery.refused, json.dumps(counts))
        return are_often

    def gone_or_late(self, reason: str) -> Exception:
        """What to raise for a file that the service and its file server do not have now.

        For a day, it may still come. One that was delivered once was there already, so a few tries show that it is
        gone.
        """
        now, was_there = clock.utcnow(), self.output.path is not None and self.job.failures + 1 >= TRIES_TO_BELIEVE
        if now - (self.job.attempt.finished_at or now) < GONE_AFTER and not was_there:
            return TryFailed(reason)
        return self.ended(f"the service does not have the file any more: {reason}", ErrorClass.EXPIRED)

    def ended(self, message: str, kind: ErrorClass) -> GenerationEnded:
        """The end of a job whose file is not to be had. What it cost stays as it is known."""
        if (files := len(self.job.outputs)) > 1:
            message = f"file {self.output.number} of {files}: {message}"
        return GenerationEnded(Failed(message, self.job.attempt.remote_status or "", kind, cost_usd=None))


def path_of(output_path: str, number: int) -> str:
    """Where a file of a generation goes: the first one to the job's own path, the others beside it."""
    return output_path if number == 1 else numbered(output_path, number, FILE_NUMBER_MARK)

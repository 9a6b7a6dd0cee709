"""Hands the clips of the corpus to the real stage with a real job table, and compares the view `problems` with it."""

from __future__ import annotations

import asyncio
import base64
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path

from sqlalchemy import text

from batchgen import clock
from batchgen.files import video
from batchgen.files.checker import Checker
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import PlacedFile
from batchgen.measurer import Measurer
from tests.clips.corpus import Case
from tests.scripted import ScriptedService, context_of
from tests.table import RUN, Table, spec

REMARK = "remark"  # of the view: what the downloader noticed


@dataclass(frozen=True)
class Judgement:
    """What the view says of one clip, beside what was planted."""

    case: Case
    problems: frozenset[str]

    @property
    def is_missed(self) -> bool:
        return not self.case.problems <= self.problems

    @property
    def is_false_alarm(self) -> bool:
        return not self.case.problems and bool(self.problems)


def judge(folder: Path, cases: Sequence[Case]) -> tuple[list[Judgement], float]:
    """Measure the clips in `folder`. Returns the judgements, and the CPU seconds of this process and its child."""
    for path in folder.glob("batchgen.db*"):  # of an earlier command with the same folder
        path.unlink()
    with Database(folder / "batchgen.db") as database:
        table = Table(database, folder)
        table.sync()
        for case in cases:
            deliver(table, case)
        before = cpu_seconds()
        asyncio.run(measure(table))
        seconds = cpu_seconds() - before
        problems = found(database)
    return [Judgement(case, problems.get(case.id, frozenset())) for case in cases], seconds


def deliver(table: Table, case: Case) -> None:
    """A job whose file is the clip."""
    image = f"data:image/jpeg;base64,{base64.b64encode(case.image).decode()}" if case.image else None
    table.add(spec(case.id, image=image or "https://example.com/mona.jpg", clip_seconds=case.ordered_seconds))
    table.bring(State.DOWNLOADING, case.id)
    (job,) = table.claim(State.DOWNLOADING)
    path = table.folder / job.output_path
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    (output,) = job.outputs
    media = video.check(path)
    table.change(delivery.verified, job, RUN, output, path.stat().st_size, digest, media)
    table.change(
        delivery.placed, job, RUN, output, PlacedFile(path.stat().st_size, digest, job.output_path), clock.utcnow()
    )


async def measure(table: Table) -> None:
    checker = Checker()
    measurer = Measurer(context_of(table, ScriptedService()), checker)
    while await measurer.unmeasured():
        await measurer.measure_remaining()
        measurer.stopping = False
    await checker.close()


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    own, children = os.times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.user + own.system + children.ru_utime + children.ru_stime


def found(database: Database) -> dict[str, frozenset[str]]:
    """The problems of each job."""
    problems: dict[str, set[str]] = {}
    for job, problem in database.read_now(lambda connection: list(connection.execute(PROBLEMS))):
        problems.setdefault(job, set()).add(problem)
    return {job: frozenset(names - {REMARK}) for job, names in problems.items()}


PROBLEMS = text("SELECT id, problem FROM problems")

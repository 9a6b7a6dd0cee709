"""A job table for tests: jobs to sync, rows to read, and a way into every state."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Row, select

from batchgen.files.local_files import FileDigests
from batchgen.jobs import Job, JobSpec, Outcome, State
from batchgen.jobtable import commands, delivery, leases, polling, reconciliation, submission, sync
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.ledger import LedgerEntry, Totals
from batchgen.jobtable.schema import attempts, events, jobs, outputs
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.sync import OnChanged, SyncResult
from batchgen.jobtable.transition import Claim, claim_due
from batchgen.services.outcomes import Accepted, Adopted, Failed, Finished, Rejected, Throttled, Unknown
from tests.conftest import NOON

P = ParamSpec("P")
T = TypeVar("T")

MODEL = "kling-video/v2.1/standard/image-to-video"
ENDPOINT = "/v2/video/generations"
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
LEASE = 5 * MINUTE
RUN = "run-a"
ACCOUNT = "0badcafe"


def spec(key: str = "mona", *, image: str = "https://example.com/mona.jpg", **changes: Any) -> JobSpec:
    """A job of a manifest; `prompt` and other parameters go into its request."""
    fields = {name: changes.pop(name) for name in list(changes) if name in JobSpec.__dataclass_fields__}
    if duration := changes.get("duration"):
        fields.setdefault("clip_seconds", float(duration))
    request = json.dumps({"model": MODEL, "prompt": "She puts on glasses.", "image_url": image, **changes})
    return replace(JobSpec(key, MODEL, ENDPOINT, request, f"{key}.mp4"), **fields)


def place_of(database: Database) -> str:
    """The path or URL by which another process opens it."""
    return str(database.path or database.url.render_as_string(hide_password=False))


@dataclass
class Table:
    """A database with one batch and a clock of its own; each method calls a function of the job table."""

    database: Database
    folder: Path
    now: datetime = NOON
    batch_id: int = 0
    origin: str = ""
    """Where requests are sent; "" is a service whose address does not last."""

    def change(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self.database.write_now(function, *args, **kwargs)

    @property
    def batch(self) -> Batch:
        return Batch("spring", "aimlapi", self.folder / "spring.yaml", "00")

    def sync(self, *specs: JobSpec | str, changed: OnChanged = "refuse", batch: Batch | None = None) -> SyncResult:
        jobs_ = [spec(key) if isinstance(key, str) else key for key in specs]
        result = self.change(sync.sync_manifest, batch or self.batch, jobs_, self.now, changed)
        self.batch_id = result.batch_id
        return result

    # --- reading ---

    def rows(self) -> list[Row[Any]]:
        return self.database.read_now(lambda connection: list(connection.execute(select(jobs).order_by(jobs.c.id))))

    def row(self, key: str = "mona") -> Row[Any]:
        return next(row for row in self.rows() if row.key == key)

    def states(self) -> dict[str, str]:
        return {row.key: row.state for row in self.rows()}

    def attempts(self) -> list[Row[Any]]:
        return self.database.read_now(
            lambda connection: list(connection.execute(select(attempts).order_by(attempts.c.id)))
        )

    def attempt(self, key: str = "mona") -> Row[Any]:
        """The newest attempt of a job."""
        job_id = self.row(key).id
        return [attempt for attempt in self.attempts() if attempt.job_id == job_id][-1]

    def outputs(self) -> list[Row[Any]]:
        return self.database.read_now(
            lambda connection: list(connection.execute(select(outputs).order_by(outputs.c.id)))
        )

    def output(self, key: str = "mona") -> Row[Any]:
        """The only file of a job."""
        (output,) = [output for output in self.outputs() if output.attempt_id == self.row(key).attempt_id]
        return output

    def events(self) -> list[Row[Any]]:
        return self.database.read_now(lambda connection: list(connection.execute(select(events).order_by(events.c.id))))

    def story(self, key: str = "mona") -> list[str]:
        """The states a job has passed through, from its events."""
        job_id = self.row(key).id
        return [event.to_state for event in self.events() if event.job_id == job_id]

    def recomputed_totals(self) -> Totals:
        """The batch's totals, summed over its attempts."""
        return sum(
            (
                LedgerEntry(1, "", "", Outcome(row.outcome), row.estimated_usd, row.cost_usd).totals
                for row in self.attempts()
            ),
            Totals(),
        )

    def everything(self) -> list[list[Row[Any]]]:
        return [self.rows(), self.attempts(), self.outputs(), self.events()]

    # --- moving ---

    def intend(self, run_id: str = RUN, capacity: int = 100) -> list[Job]:
        ready = self.change(submission.ready, self.batch_id, capacity)
        sender = Sender(run_id, "aimlapi", ACCOUNT, self.origin)
        return self.change(submission.intend, self.batch_id, sender, self.now, self.now + LEASE, ready)

    def claim(self, state: State, run_id: str = RUN, capacity: int = 100) -> list[Job]:
        claim = Claim(self.batch_id, run_id, self.now, self.now + LEASE, capacity)
        if state is State.DOWNLOADING:
            return self.change(delivery.claim_downloads, claim)
        return self.change(claim_due, claim, state, self.origin)

    def unconfirmed(self, run_id: str = RUN, capacity: int = 100) -> list[Job]:
        return self.claim(State.UNCONFIRMED, run_id, capacity)

    def accept(self, job: Job, generation_id: str = "g-1", cost: str | None = None) -> bool:
        answer = Accepted(generation_id, Decimal(cost) if cost else None, 200, {"id": generation_id})
        return self.change(submission.accepted, job, answer, self.now, self.now + HOUR, self.now)

    def lose(self, job: Job) -> bool:
        return self.change(submission.unconfirmed, job, Unknown("cut"), self.now, self.now)

    def throttle(self, job: Job) -> bool:
        return self.change(submission.returned, job, Throttled("slow down"), self.now)

    def reject(self, job: Job) -> bool:
        return self.change(submission.rejected, job, Rejected("no such duration", 400), self.now)

    def finish(self, job: Job, run_id: str = RUN) -> bool:
        return self.change(polling.finished, job, run_id, Finished(("https://cdn.test/v.mp4",)), self.now)

    def fail(self, job: Job, run_id: str = RUN) -> bool:
        return self.change(polling.failed, job, run_id, Failed("error: no faces"), self.now)

    def deliver(self, job: Job, run_id: str = RUN) -> bool:
        (output,) = job.outputs
        return self.change(delivery.placed, job, run_id, output, PlacedFile(9, "ab", job.output_path), self.now)

    def adopt(self, job: Job, generation_id: str = "g-1") -> bool:
        finding = Adopted(generation_id, self.now)
        return self.change(reconciliation.adopted, job, finding, self.now, self.now + HOUR)

    def refute(self, job: Job) -> bool:
        return self.change(reconciliation.refuted, job, "not in the log", self.now)

    def sent_with(self, account: str, key: str = "mona", number: int = 1) -> None:
        """An attempt of a job was sent with the key of this account; "" is one that is not known."""
        is_it = (attempts.c.job_id == self.row(key).id, attempts.c.number == number)
        self.change(lambda connection: connection.execute(attempts.update().where(*is_it).values(account=account)))

    def retry(self, *keys: str) -> list[str]:
        return self.change(commands.retry, self.batch_id, keys, self.now)

    def cancel(self, *keys: str) -> list[str]:
        return list(self.change(commands.cancel, self.batch_id, keys, self.now))

    def ask_again(self, *keys: str) -> list[str]:
        return self.change(commands.ask_again, self.batch_id, keys, self.now, self.now + HOUR)

    def fetch_again(self, *keys: str) -> list[str]:
        return self.change(commands.fetch_again, self.batch_id, {key: [1] for key in keys}, self.now)

    def bury(self, run_id: str = RUN) -> int:
        """The run `run_id` is dead: release its leases."""
        return self.change(leases.recover_dead, [run_id], self.now)

    def add(self, *specs: JobSpec) -> None:
        """Add jobs to the batch, without a manifest."""
        batch_id, digests = self.batch_id or self.sync().batch_id, FileDigests(self.folder)
        self.change(sync.add_jobs, batch_id, "aimlapi", specs, digests, self.now)

    def bring_one_of_each(self) -> None:
        """A job in each state, such as "is-done". The last states come first, so that no step claims another job."""
        for state in reversed(State):
            self.bring(state, f"is-{state}")

    def bring(self, state: State, key: str = "mona", run_id: str = RUN) -> Any:
        """Add a job and bring it into `state`, without a lease where possible; returns what its last stage held."""
        if key not in self.states():
            self.add(spec(key))
        if state in (State.PENDING, State.CANCELLED):
            return self.cancel(key) if state == State.CANCELLED else None
        intent = next(intent for intent in self.intend(run_id) if intent.key == key)
        if state == State.SUBMITTING:
            return intent
        if state == State.UNCONFIRMED:
            self.lose(intent)
            return intent
        if state == State.FAILED:
            self.reject(intent)
            return intent
        self.accept(intent, f"g-{key}")
        if state == State.GENERATING:
            return intent
        (job,) = self.claim(State.GENERATING, run_id)
        self.finish(job, run_id)
        if state == State.DOWNLOADING:
            return job
        assert state == State.DONE, f"Table.bring brings no job into {state}"
        (job,) = self.claim(State.DOWNLOADING, run_id)
        self.deliver(job, run_id)
        return job

"""A job table in which every kind of thing has happened, and what its views say of it: the same in both databases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from sqlalchemy import text

from batchgen.jobs import Job, State, Verdict
from batchgen.jobtable import delivery, polling, submission, takeover, verdicts
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.query import QueryLimit, run_query
from batchgen.jobtable.schema import limits
from batchgen.jobtable.verdicts import Judgement
from batchgen.report.rows import cell_text, json_value
from batchgen.services.outcomes import Failed, Finished, NotSent
from tests.table import HOUR, MINUTE, RUN, SECOND, Table, spec

Rows = list[dict[str, Any]]


def ask(table: Table, sql: str) -> Rows:
    """The rows of a query, with values as `batchgen sql --json` writes them."""

    def read(columns: Sequence[str], rows: Iterator[Sequence[Any]]) -> Rows:
        return [{name: plain(value) for name, value in zip(columns, row, strict=True)} for row in rows]

    return run_query(table.database, sql, QueryLimit(60), read)


def plain(value: object) -> object:
    value = json_value(value)
    return value if isinstance(value, str | int | float | None) else cell_text(value)


def column(table: Table, sql: str) -> list[Any]:
    return [next(iter(row.values())) for row in ask(table, sql)]


def send(table: Table, key: str, cost: str | None = None, **changes: Any) -> Job:
    """A new job whose request has been accepted."""
    table.add(spec(key, duration=5, **changes))
    return accept(table, key, cost)


def accept(table: Table, key: str, cost: str | None = None) -> Job:
    (intent,) = [intent for intent in table.intend() if intent.key == key]
    table.now += SECOND
    table.accept(intent, f"g-{key}-{intent.attempt.id}", cost)
    return intent


def end(table: Table, key: str, outcome: Finished | Failed, **lasting: float) -> None:
    """The generation of a job ends after some time."""
    table.now += timedelta(**lasting)
    for job in table.claim(State.GENERATING):
        if job.key == key:
            record: Any = polling.finished if isinstance(outcome, Finished) else polling.failed
            assert table.change(record, job, RUN, outcome, table.now)
        else:
            table.change(polling.working, job, RUN, "busy", table.now, table.now)


def deliver(table: Table, key: str) -> None:
    """All files of a job arrive, two seconds after its generation ended."""
    table.now += 2 * SECOND
    (job,) = [job for job in table.claim(State.DOWNLOADING) if job.key == key]
    for output in job.outputs:
        path = job.output_path.replace(".mp4", f"-{output.number}.mp4") if output.number > 1 else job.output_path
        media = {"seconds": 5.04, "width": 1280, "height": 720}
        table.change(delivery.verified, job, RUN, output, 9, "ab", media)
        assert table.change(delivery.placed, job, RUN, output, PlacedFile(9, "ab", path), table.now)


CLIP = Finished(("https://cdn.test/v.mp4",))
TWO_CLIPS = Finished(("https://cdn.test/1.mp4", "https://cdn.test/2.mp4"))


def everything(table: Table) -> None:
    """One job for each fate of a request, and some with several requests, files or names."""
    table.sync()
    send(table, "plain", "0.28", prompt="100% a\0b: :id", tags=("a", "b"))
    end(table, "plain", CLIP, seconds=199.5)
    deliver(table, "plain")
    send(table, "twice", "0.2800005")
    end(table, "twice", Failed("error: no faces", cost_usd=Decimal("0.1")), minutes=1)
    table.retry("twice")
    accept(table, "twice", "0.3")
    end(table, "twice", TWO_CLIPS, minutes=2)
    deliver(table, "twice")
    for key, cost in (("free", Decimal(0)), ("charged", Decimal("0.5")), ("unsettled", None)):
        send(table, key)
        end(table, key, Failed(f"error: {key}", cost_usd=cost), minutes=1)
    send(table, "remade", "0.7")
    end(table, "remade", CLIP, minutes=4)
    deliver(table, "remade")
    rename(table)
    table.add(spec("refused"))
    table.reject(table.intend()[0])
    table.add(spec("lost"))
    table.lose(table.intend()[0])
    table.add(spec("absent"))
    (intent,) = table.intend()
    table.lose(intent)
    absent = next(job for job in table.unconfirmed() if job.key == "absent")
    table.refute(absent)
    table.cancel("absent")
    send(table, "busy")
    send(table, "ready", "0.9")
    end(table, "ready", CLIP, minutes=3)
    table.add(spec("sending"))
    table.intend()
    table.add(spec("unsent"))
    table.change(submission.returned, table.intend()[0], NotSent("no route"), table.now)
    table.add(spec("waiting"))
    judge(table)


def rename(table: Table) -> None:
    """The manifest of another batch names the request of `remade` differently, and takes its video over."""
    mine, other = table.batch_id, replace(table.batch, name="autumn", manifest=table.folder / "autumn.yaml")
    table.sync(batch=other)
    table.add(spec("taken", duration=5))
    pending = table.row("taken")
    paid = {**table.row("remade")._mapping, "batch": "spring", "manifest_path": str(table.folder / "spring.yaml")}
    owner = SimpleNamespace(**paid)
    (table.folder / "remade.mp4").write_bytes(b"123456789")
    table.change(takeover.take_over, pending, owner, table.folder, table.now, table.now + HOUR)
    table.batch_id = mine


def judge(table: Table) -> None:
    """Verdicts, one of them changed and one of an earlier attempt; a parent; a pause; what a clip shows."""
    for key, judgement in (
        ("plain", Judgement(Verdict.REJECTED, 1)),
        ("plain", Judgement(Verdict.PICKED, 4)),
        ("twice", Judgement(Verdict.REJECTED)),
        ("twice", Judgement()),
    ):
        table.change(verdicts.record_verdict, table.row(key).attempt_id, judgement, table.now)
    output, copy = table.output("plain").id, table.output("taken").id
    for statement in (
        "UPDATE jobs SET parent_batch = 'spring', parent_key = 'plain' WHERE key = 'waiting'",
        "UPDATE jobs SET parent_batch = 'spring', parent_key = 'waiting' WHERE key = 'busy'",
        "UPDATE jobs SET parent_batch = 'elsewhere', parent_key = 'old' WHERE key = 'ready'",
        "UPDATE outputs SET measured_at = delivered_at, black = 0.1, frozen = 0.1, unlike_input = 0.1",
        f"UPDATE outputs SET black = 0.987, frozen = 1, unlike_input = 1 WHERE id = {output}",
        f"UPDATE outputs SET seconds = 3, seconds_off = -2 WHERE id = {output}",
        f"UPDATE outputs SET copy_of = {output}, remark = 'no sound' WHERE id = {copy}",
        "UPDATE outputs SET black = NULL, frozen = NULL, unlike_input = NULL WHERE number = 2",
        "UPDATE jobs SET next_at = NULL WHERE key = 'lost'",
    ):
        execute(table, statement)
    pause = {"service": "aimlapi", "kind": "submits", "paused_until": table.now + MINUTE, "reason": "slow down"}
    table.change(lambda connection: connection.execute(limits.insert().values(**pause, failures=1)) and None)


def execute(table: Table, statement: str) -> None:
    """Change the table as no function of batchgen does."""
    table.change(lambda connection: connection.execute(text(statement)) and None)


FATES = {
    ("spring", "plain", 1): ("delivered", 0.28),
    ("spring", "twice", 1): ("charged_without_file", 0.1),
    ("spring", "twice", 2): ("delivered", 0.3),
    ("spring", "free", 1): ("free_failure", 0),
    ("spring", "charged", 1): ("charged_without_file", 0.5),
    ("spring", "unsettled", 1): ("unsettled", None),
    ("autumn", "taken", 1): ("delivered", 0.7),
    ("spring", "refused", 1): ("refused", 0),
    ("spring", "lost", 1): ("unconfirmed", None),
    ("spring", "absent", 1): ("absent", 0),
    ("spring", "unsent", 1): ("not_sent", 0),
    ("spring", "busy", 1): ("generating", None),
    ("spring", "ready", 1): ("downloading", 0.9),
    ("spring", "sending", 1): ("sending", None),
}

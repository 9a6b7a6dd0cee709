"""Before a run sends anything: what the service's log shows, when it is late, and when it does not answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import update

from batchgen.context import RunContext
from batchgen.errors import ManifestChanged, UsageError
from batchgen.files.local_files import FileDigests
from batchgen.jobs import ErrorClass, State
from batchgen.jobtable import commands, fingerprint, polling, repeats, settings, takeover
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.fingerprint import fingerprint_of, new_request_id
from batchgen.jobtable.repeats import Repeat, RepeatSearch
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.selection import Selected
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.sync import OnChanged, SyncResult
from batchgen.jobtable.takeover import Adopter
from batchgen.limits.steering import EnrolledManifest, read_steering
from batchgen.manifest.limits import Limits
from batchgen.reconciler import Reconciler
from batchgen.runs.repeat_check import HISTORY_TRIES, RepeatCheck
from batchgen.runs.upkeep import Upkeep
from batchgen.scheduler import Scheduler
from batchgen.services.base import History, PastGeneration
from batchgen.services.outcomes import Absent, Failed, Unavailable, Working
from tests.conftest import NOON
from tests.scripted import ScriptedService, change_spec, context_of, settle, turn
from tests.table import HOUR, MINUTE, RUN, SECOND, Table, spec

NOT_FOUND = Unavailable("404: no such generation", http_status=404)
DOWN = Unavailable("500: out of order", http_status=500)


def past(table: Table, key: str, at: datetime = NOON - HOUR, **fields: Any) -> PastGeneration:
    """What the log shows of the request of a pending job."""
    request_id = new_request_id(table.row(key).fingerprint)
    return replace(PastGeneration(request_id, f"g-{key}", at), **fields)


def repeat_check(
    context: RunContext, synced: SyncResult, on_changed: OnChanged, wait: Callable[[float], Awaitable[bool]]
) -> RepeatCheck:
    change_spec(context, synced=synced, on_changed=on_changed)
    return RepeatCheck(context, wait)


async def never_over(_seconds: float) -> bool:
    """The wait of a run that goes on."""
    return False


async def run_repeat_check(
    table: Table,
    service: ScriptedService,
    clock: Clock,
    synced: SyncResult,
    on_changed: OnChanged = "keep",
    *,
    waits_until: int = 1_000_000,
) -> list[float]:
    """Run the check; returns for how many seconds it waited, each time. The run is over in the wait `waits_until`."""
    waits: list[float] = []
    context = context_of(table, service, Limits(unconfirmed_minutes=10))

    async def wait(seconds: float) -> bool:
        waits.append(seconds)
        clock.tick(seconds if len(waits) < waits_until else 0)
        return len(waits) >= waits_until

    await repeat_check(context, synced, on_changed, wait).run()
    assert not context.awaits_history
    return waits[:-1]  # the last one lets the stages go on


async def test_a_new_job_is_compared_with_the_log_of_thirty_days_and_an_old_one_with_what_came_since(
    table: Table, clock: Clock
) -> None:
    service = ScriptedService(histories=[History((), NOON)])
    await run_repeat_check(table, service, clock, table.sync("mona", "lisa"))
    (sent,) = table.intend(capacity=1)
    clock.tick(5 * 3600)
    await run_repeat_check(table, service, clock, table.sync("mona", "lisa"))
    assert service.read_since == [NOON - timedelta(days=30), sent.attempt.intent_at - HOUR]


@pytest.mark.parametrize("how", ["refused", "ended", "without an answer"])
async def test_a_new_job_that_no_run_has_compared_yet_is_compared_with_the_whole_log_by_the_next_one(
    how: str, table: Table, clock: Clock
) -> None:
    table.sync("mona")
    table.accept(table.intend()[0], "g-mona")
    synced = table.sync("mona", "lisa")
    bought = past(table, "lisa", NOON - 5 * HOUR)
    if how == "refused":
        with pytest.raises(ManifestChanged, match="generation g-lisa"):
            await run_repeat_check(table, ScriptedService(histories=[History([bought], NOON)]), clock, synced, "refuse")
    elif how == "without an answer":
        await run_repeat_check(table, ScriptedService(histories=[DOWN]), clock, synced)
    # "ended": that run came to its end before it had read the log, so nothing is noted.
    service = ScriptedService(histories=[History((), NOON)])
    await run_repeat_check(table, service, clock, table.sync("mona", "lisa"), "refuse")
    (since,) = service.read_since
    assert since <= NOON - 5 * HOUR, "the same command again must not buy it"


@pytest.mark.parametrize("said", ["keep", "redo"])
async def test_what_a_person_said_is_about_the_first_comparison_of_a_run_alone(
    said: OnChanged, table: Table, clock: Clock
) -> None:
    synced = table.sync("mona", "lisa")
    service = ScriptedService(histories=[History([past(table, "mona")], NOON)])
    context = context_of(table, service, Limits(unconfirmed_minutes=0.1))

    async def wait(_seconds: float) -> bool:
        clock.tick(60)
        return False

    comparison = repeat_check(context, synced, said, wait)
    await comparison.run()
    service.histories = [History([past(table, "lisa")], NOON)]
    with pytest.raises(ManifestChanged, match="generation g-lisa"):
        await comparison.run()


async def test_an_order_to_pay_again_covers_what_was_bought_before_it(table: Table, clock: Clock) -> None:
    """What the log has from after it shows that the table is an older copy: the order was carried out."""
    synced = table.sync("mona")
    before, after = past(table, "mona"), replace(past(table, "mona"), generation_id="g-2", accepted_at=NOON + HOUR)
    log = [before]
    await run_repeat_check(table, ScriptedService(histories=[History(log, NOON)]), clock, synced, "redo")
    await run_repeat_check(table, ScriptedService(histories=[History(log, NOON)]), clock, table.sync("mona"), "refuse")
    assert table.states() == {"mona": "pending"}, "to be sent: a person has ordered it"
    clock.tick(2 * 3600)
    with pytest.raises(ManifestChanged, match="generation g-2"):
        await run_repeat_check(
            table, ScriptedService(histories=[History([*log, after], NOON)]), clock, table.sync("mona"), "refuse"
        )
    await run_repeat_check(
        table, ScriptedService(histories=[History([*log, after], NOON)]), clock, table.sync("mona"), "keep"
    )
    assert table.states() == {"mona": "generating"}


async def test_an_order_to_pay_again_covers_what_was_shown_although_the_clock_is_behind_that_of_the_service(
    table: Table, clock: Clock
) -> None:
    """A service that sends no `Date` does not show it."""
    synced = table.sync("mona")
    shown = replace(past(table, "mona"), accepted_at=NOON + HOUR)
    service = ScriptedService(histories=[History([shown], NOON)])
    await run_repeat_check(table, service, clock, synced, "redo")
    await run_repeat_check(table, service, clock, table.sync("mona"), "refuse")
    assert table.states() == {"mona": "pending"}


async def test_keep_takes_an_order_to_pay_again_back(table: Table, clock: Clock) -> None:
    synced = table.sync("mona")
    log = [past(table, "mona")]
    await run_repeat_check(table, ScriptedService(histories=[History(log, NOON)]), clock, synced, "redo")
    synced = table.sync("mona", changed="keep")
    assert synced.recalled == 1
    await run_repeat_check(table, ScriptedService(histories=[History(log, NOON)]), clock, synced, "keep")
    assert table.states() == {"mona": "generating"}


async def test_the_log_is_not_read_where_nothing_is_to_be_sent(table: Table, clock: Clock) -> None:
    service = ScriptedService(histories=[History((), NOON)])
    synced = table.sync("mona")
    table.intend()
    await run_repeat_check(table, service, clock, synced)
    assert service.read_since == []


async def test_a_late_log_is_read_again_before_anything_is_sent(table: Table, clock: Clock) -> None:
    synced = table.sync("mona", "lisa", "anna")
    mona, lisa = past(table, "mona", NOON - 4 * MINUTE), past(table, "lisa", NOON - 3 * MINUTE)
    service = ScriptedService(histories=[History([mona], NOON), History([mona, lisa], NOON)])
    waits = await run_repeat_check(table, service, clock, synced)
    assert table.states() == {"mona": "generating", "lisa": "generating", "anna": "pending"}
    assert waits == [6 * 60, 60], "ten minutes after the newest request that the log shows"


async def test_a_run_after_one_that_was_stopped_in_the_wait_for_a_late_log_waits_as_well(
    table: Table, clock: Clock
) -> None:
    synced = table.sync("mona", "lisa")
    mona, lisa = past(table, "mona", NOON - 4 * MINUTE), past(table, "lisa", NOON - 3 * MINUTE)
    service = ScriptedService(histories=[History([mona], NOON)])
    await run_repeat_check(table, service, clock, synced, waits_until=1)
    assert table.states() == {"mona": "generating", "lisa": "pending"}
    service = ScriptedService(histories=[History([mona], NOON), History([mona, lisa], NOON)])
    await run_repeat_check(table, service, clock, table.sync("mona", "lisa"))
    assert table.states() == {"mona": "generating", "lisa": "generating"}


async def test_a_job_that_was_cancelled_before_the_comparison_is_compared_when_it_is_retried(
    table: Table, clock: Clock
) -> None:
    lisa = spec("lisa", image="https://example.com/lisa.jpg")
    synced = table.sync("mona", lisa)
    enrolled = str(EnrolledManifest())
    table.change(settings.record_manifest, table.batch_id, enrolled, table.now, "anna@studio")
    bought = past(table, "lisa", NOON - 5 * HOUR)
    assert table.cancel("lisa") == ["lisa"]
    await run_repeat_check(table, ScriptedService(histories=[History((), NOON)]), clock, synced)
    before = table.database.read_now(read_steering, table.batch_id).manifest
    assert table.retry("lisa") == ["lisa"]
    assert table.database.read_now(read_steering, table.batch_id).manifest > before, "runs at work compare again"
    await run_repeat_check(table, ScriptedService(histories=[History([bought], NOON)]), clock, table.sync("mona", lisa))
    assert table.states() == {"mona": "pending", "lisa": "generating"}


@pytest.mark.parametrize("how", ["retried", "refuted at the service"])
async def test_a_job_that_is_pending_again_may_have_been_bought_where_the_table_is_an_older_copy(
    how: str, table: Table, clock: Clock
) -> None:
    enrolled = str(EnrolledManifest())
    table.bring(State.FAILED if how == "retried" else State.UNCONFIRMED, "mona")
    table.change(settings.record_manifest, table.batch_id, enrolled, table.now, "anna@studio")
    bought = past(table, "mona", NOON + MINUTE)
    clock.tick(5 * 3600)
    service = ScriptedService(histories=[History([bought], NOON)], findings=[Absent(NOON, "it failed there")])
    context = context_of(table, service)
    comparison = repeat_check(context, SyncResult(table.batch_id), "refuse", never_over)
    await comparison.run()
    assert context.compared == table.database.read_now(read_steering, table.batch_id).manifest, "nothing was pending"
    if how == "retried":
        assert table.retry("mona") == ["mona"]
    else:
        await turn(Reconciler(context, 1))
    assert table.states() == {"mona": "pending"}
    await turn(Scheduler(context, 8))
    assert service.submitted == [], "not before it is compared"
    with pytest.raises(ManifestChanged, match="generation g-mona"):
        await comparison.run()


async def test_a_request_of_this_run_that_was_refuted_is_sent_again_at_once(table: Table, clock: Clock) -> None:
    service = ScriptedService(findings=[Absent(NOON, "it failed there")])
    context = context_of(table, service)
    clock.tick(1)
    table.bring(State.UNCONFIRMED)
    table.change(settings.record_manifest, table.batch_id, str(EnrolledManifest()), table.now, "anna@studio")
    context.compared = table.database.read_now(read_steering, table.batch_id).manifest
    await turn(Reconciler(context, 1))
    await turn(Scheduler(context, 8))
    assert len(service.submitted) == 1


async def test_what_a_redo_did_not_show_is_asked_about_once_the_log_has_had_its_time(
    table: Table, clock: Clock
) -> None:
    synced = table.sync("mona", "lisa")
    mona, lisa = past(table, "mona", NOON - 4 * MINUTE), past(table, "lisa", NOON - 3 * MINUTE)
    service = ScriptedService(histories=[History([mona], NOON), History([mona, lisa], NOON)])
    with pytest.raises(ManifestChanged, match="generation g-lisa"):
        await run_repeat_check(table, service, clock, synced, "redo")
    assert [bool(row.repeat_ordered) for row in table.rows()] == [True, False]


async def test_a_redo_is_of_what_is_selected_and_the_rest_is_asked_about_later(table: Table, clock: Clock) -> None:
    specs = spec("mona"), spec("lisa", prompt="Another one.")
    synced = table.sync(*specs)
    long_ago = NOON - timedelta(days=3)
    log = History([past(table, "mona", long_ago), past(table, "lisa", long_ago)], NOON)
    context = context_of(table, ScriptedService(histories=[log]))
    change_spec(context, selected=Selected([table.row("mona").id]))
    await repeat_check(context, synced, "redo", never_over).run()
    assert [bool(row.repeat_ordered) for row in table.rows()] == [True, False]
    scheduler = Scheduler(context, 8)
    await turn(scheduler)
    assert table.states() == {"mona": "generating", "lisa": "pending"}
    service = ScriptedService(histories=[log])
    with pytest.raises(ManifestChanged, match="generation g-lisa"):
        await run_repeat_check(table, service, clock, table.sync(*specs), "refuse")
    assert service.read_since == [NOON - timedelta(days=30)], "not only what came after the newest attempt"


async def test_a_request_that_the_log_calls_failed_counts_only_if_its_id_leads_to_a_generation(
    table: Table, clock: Clock
) -> None:
    synced = table.sync("mona", "lisa")
    failed = [past(table, key, is_certain=False) for key in ("mona", "lisa")]
    service = ScriptedService(fetches=[Working("queued"), NOT_FOUND], histories=[History(failed, NOON)])
    await run_repeat_check(table, service, clock, synced)
    assert table.states() == {"mona": "generating", "lisa": "pending"}


async def test_a_request_that_failed_at_the_service_a_moment_ago_is_no_reason_to_wait(
    table: Table, clock: Clock
) -> None:
    synced = table.sync("mona")
    failed = past(table, "mona", NOON - SECOND, is_certain=False)
    service = ScriptedService(fetches=[NOT_FOUND], histories=[History([failed], NOON)])
    assert await run_repeat_check(table, service, clock, synced, "refuse") == []


async def test_of_a_request_that_was_bought_twice_the_newer_generation_is_kept(table: Table, clock: Clock) -> None:
    synced = table.sync("mona")
    bought = [past(table, "mona", NOON - hours * HOUR, generation_id=f"g-{hours}") for hours in (3, 1, 2)]
    await run_repeat_check(table, ScriptedService(histories=[History(bought, NOON)]), clock, synced)
    assert table.attempt().generation_id == "g-1"


def test_a_run_says_for_which_answer_it_waits_and_how_long_at_most(table: Table, clock: Clock) -> None:
    context = context_of(table, ScriptedService(), Limits(max_cost=Decimal(5)))
    upkeep = Upkeep(context, lambda: None, lambda _downloads: None)
    context.awaits_history = True
    upkeep.note_awaited_answer()
    assert (context.wait_reason, context.wait_until, context.wait_then) == (
        "the service's log is read, to see what was paid for before",
        NOON + HOUR,
        "the run goes on without it",
    )
    context.has_prices.clear()
    upkeep.note_awaited_answer()
    assert (context.wait_reason, context.wait_until, context.wait_then) == (
        "the price list has not come yet, which max_cost needs",
        NOON + timedelta(minutes=1),
        "the last stored prices count",
    )


async def test_a_log_that_does_not_answer_is_asked_again_and_then_the_run_warns(table: Table, clock: Clock) -> None:
    synced = table.sync("mona")
    service = ScriptedService(histories=[DOWN])
    waits = await run_repeat_check(table, service, clock, synced)
    assert len(waits) == HISTORY_TRIES
    assert 60 < sum(waits) < 10 * 60
    service.before = partial(clock.tick, 3_600.0)
    assert await run_repeat_check(table, service, clock, synced) == [], "one that hangs for an hour is asked once"
    recovered = ScriptedService(histories=[DOWN, DOWN, History([past(table, "mona")], NOON)])
    with pytest.raises(ManifestChanged, match="generation g-mona"):
        await run_repeat_check(table, recovered, clock, synced, "refuse")


@pytest.mark.parametrize(
    "fields",
    [
        {"generation_id": "g-lisa"},
        {"client_request_id": "somebody-elses"},
        {"client_request_id": "batchgen-" + "0" * 32},
    ],
    ids=["a generation that the table has", "another program's request", "a request without the digits"],
)
async def test_what_is_no_lost_request_is_left_alone(fields: dict[str, Any], table: Table, clock: Clock) -> None:
    synced = table.sync("lisa", "mona")
    table.accept(table.intend(capacity=1)[0], "g-lisa")
    service = ScriptedService(histories=[History([replace(past(table, "mona"), **fields)], NOON)])
    await run_repeat_check(table, service, clock, synced, "refuse")
    assert table.states() == {"lisa": "generating", "mona": "pending"}


async def test_a_run_stops_before_it_buys_what_another_batch_has_bought_meanwhile(table: Table) -> None:
    copy = Batch("copy", "aimlapi", table.folder / "copy.yaml", "00")
    original = table.sync("mona").batch_id
    copied = table.sync("mona", batch=copy).batch_id
    assert copied != original
    table.batch_id = original
    table.accept(table.intend()[0], "g-original")
    table.batch_id = copied
    context = context_of(table, ScriptedService())
    await turn(Scheduler(context, 8))
    assert "paid for as job mona of batch spring" in str(context.refused)
    assert table.states() == {"mona": "pending"}
    table.change(lambda connection: connection.execute(update(jobs).values(repeat_ordered=jobs.c.fingerprint)))
    context.refused, scheduler = None, Scheduler(context, 8)
    await turn(scheduler)
    await settle(scheduler)
    assert [row.state for row in table.rows()] == ["generating", "generating"]


async def test_a_run_stops_before_it_buys_what_a_renamed_job_has_paid_for_meanwhile(table: Table) -> None:
    """Another process has enrolled the edited manifest, while this run is at work."""
    table.sync("mona")
    table.accept(table.intend()[0])
    scheduler = Scheduler(context_of(table, ScriptedService()), 8)
    await turn(scheduler)
    table.sync("lisa")
    enrolled = EnrolledManifest(orphans=frozenset({"mona"}))
    table.change(settings.record_manifest, table.batch_id, str(enrolled), table.now, "anna@studio")
    await turn(scheduler)
    assert table.states() == {"mona": "generating", "lisa": "pending"}, "not before it is compared with the log"
    scheduler.context.compared = table.database.read_now(read_steering, table.batch_id).manifest
    scheduler.context.orphans = [table.row("mona").id]
    await turn(scheduler)
    assert "lisa: paid for as job mona of batch spring" in str(scheduler.context.refused)
    assert State.PENDING not in scheduler.context.advanceable_states(), "it collects what was sent, and ends"
    assert table.states() == {"mona": "generating", "lisa": "pending"}


@pytest.mark.parametrize(
    ("kind", "cost", "is_asked"),
    [
        (ErrorClass.INTERNAL, "0", False),
        (ErrorClass.INTERNAL, None, True),
        (ErrorClass.INTERNAL, "0.29", True),
        (ErrorClass.EXPIRED, "0", True),
    ],
)
def test_a_failure_that_may_be_charged_is_asked_about_whether_its_job_is_edited_or_renamed(
    table: Table, kind: ErrorClass, cost: str | None, is_asked: bool
) -> None:
    table.bring(State.GENERATING)
    (job,) = table.claim(State.GENERATING)
    failure = Failed("no video", kind=kind, cost_usd=None if cost is None else Decimal(cost))
    assert table.change(polling.failed, job, RUN, failure, table.now)
    with pytest.raises(ManifestChanged) if is_asked else nullcontext():
        table.sync(spec("mona", prompt="She smiles."))
    table.sync("mona")
    synced = table.sync(replace(spec("mona"), key="lisa", output="lisa.mp4"))
    search = RepeatSearch(table.batch_id, "aimlapi", table.folder, synced.orphans)
    matches = table.change(repeats.compare, search).repeats
    assert [str(repeat) for repeat in matches] == ["lisa: paid for as job mona of batch spring (failed)"] * is_asked
    if is_asked:  # What is kept is asked for again under its new name, for nothing.
        adopter = Adopter(Sender(RUN, "aimlapi", "a"), lambda id_, _endpoint: {"id": id_}, table.now, table.now + HOUR)
        table.change(takeover.settle, matches, table.folder, adopter, "keep")
        asked = table.change(commands.ask_again, table.batch_id, ["lisa"], table.now, table.now + HOUR)
        assert asked == ["lisa"]


# --- the fingerprint -------------------------------------------------------------------------------------------------


def digest_of(table: Table, image: str = "a.png", **changes: Any) -> str:
    job = spec(image=image, input_pointers=("/image_url",), **changes)
    return fingerprint_of(job, FileDigests(table.folder))


def test_a_fingerprint_covers_what_is_sent_and_not_how_it_is_called(table: Table) -> None:
    (table.folder / "a.png").write_bytes(b"one")
    (table.folder / "b.png").write_bytes(b"one")
    (table.folder / "c.png").write_bytes(b"two")
    first = digest_of(table)
    assert digest_of(table, "b.png") == first, "the name of a file"
    assert digest_of(table, key="other", output="other.mp4", tags=("x",), priority=3) == first
    assert digest_of(table, take=1) == first, "a job may get a `count` later"
    others = [digest_of(table, "c.png"), digest_of(table, prompt="Another."), digest_of(table, take=2)]
    assert len({first, *others}) == 4


def test_the_order_of_the_parameters_is_no_difference(table: Table) -> None:
    job = spec("mona", prompt="She smiles.", duration=5)
    turned = json.dumps(dict(reversed(json.loads(job.request).items())))
    table.sync(job)
    table.intend()
    assert table.sync(replace(job, request=turned)).unchanged == 1


async def test_a_file_that_changes_after_the_claim_is_sent_under_its_own_fingerprint(
    table: Table, clock: Clock
) -> None:
    (table.folder / "a.png").write_bytes(b"one")
    job = spec("mona", image="a.png", input_pointers=("/image_url",))
    table.sync(job)
    before = table.row("mona").fingerprint
    (table.folder / "a.png").write_bytes(b"another")
    service = ScriptedService()
    scheduler = Scheduler(context_of(table, service), 8)
    await turn(scheduler)
    assert (service.submitted, table.states()) == ([], {"mona": "pending"})
    clock.tick(60)  # the rate allows no second request before
    await turn(scheduler)
    now = table.row("mona").fingerprint
    assert now != before
    assert fingerprint.digits_of(service.submitted[0].client_request_id) == now[: fingerprint.DIGITS]
    assert table.sync(job).unchanged == 1


def test_a_file_that_is_as_it_was_sent_is_not_read_again(table: Table, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"one")
    status = image.stat()
    recorded = json.dumps({"a.png": {"size": 3, "mtime_ns": status.st_mtime_ns, "sha256": "as it was"}})
    assert FileDigests(tmp_path, [recorded]).of("a.png") == "as it was"
    image.write_bytes(b"others")
    assert FileDigests(tmp_path, [recorded]).of("a.png") != "as it was"
    assert FileDigests(tmp_path, [None]).of("missing.png") is None


# --- two runs at once -------------------------------------------------------------------------------------------------


def renamed(table: Table) -> tuple[list[Repeat], Adopter]:
    """A delivered job under a new name, as a run has seen it, which is about to keep it."""
    table.bring(State.DONE, "mona")
    synced = table.sync(replace(spec("mona"), key="lisa", output="lisa.mp4"))
    search = RepeatSearch(table.batch_id, "aimlapi", table.folder, synced.orphans)
    matches = table.change(repeats.compare, search).repeats
    assert [str(repeat) for repeat in matches] == ["lisa: paid for as job mona of batch spring (done)"]
    return matches, Adopter(
        Sender(RUN, "aimlapi", "a"), lambda id_, _endpoint: {"id": id_}, table.now, table.now + HOUR
    )


def test_a_job_that_another_run_has_sent_meanwhile_stays_as_it_is(table: Table) -> None:
    matches, adopter = renamed(table)
    table.intend("run-b")
    table.change(takeover.settle, matches, table.folder, adopter, "keep")
    assert table.states() == {"mona": "done", "lisa": "submitting"}


def test_a_paid_job_on_which_another_run_works_meanwhile_is_not_taken_over(table: Table) -> None:
    matches, adopter = renamed(table)
    table.change(commands.fetch_again, table.batch_id, {"mona": [1]}, table.now)
    with pytest.raises(UsageError, match="a run works on it now"):
        table.change(takeover.settle, matches, table.folder, adopter, "keep")
    assert table.states() == {"mona": "downloading", "lisa": "pending"}

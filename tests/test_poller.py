"""The poller: what each answer of the fetch endpoint does to a job, and that a poll that fails does nothing to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.catalogue.durations import typical_seconds
from batchgen.jobs import ChargeSource, ErrorClass, Outcome, State
from batchgen.jobtable import statistics, submission, timings
from batchgen.jobtable.kinds import LimitKind
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.transition import guarded_update
from batchgen.limits import blockers, generation_times, rate
from batchgen.limits.generation_times import GenerationTimes
from batchgen.limits.rate import TOLERANCE, LimitKey
from batchgen.manifest.limits import Limits
from batchgen.poller import POLLS_WITHOUT_FILE, RETRY_SHARE, Poller
from batchgen.services.base import Adoption, Features
from batchgen.services.outcomes import Failed, FetchOutcome, Finished, Throttled, Trouble, Unavailable, Working
from tests.benchmarks.polling import draw
from tests.conftest import NOON
from tests.scripted import ScriptedService, context_of, settle, turn, turn_when_due
from tests.table import ACCOUNT, HOUR, LEASE, MODEL, RUN, Table

SECOND = timedelta(seconds=1)
MEDIAN = timedelta(seconds=typical_seconds(MODEL))
SOON = MEDIAN * RETRY_SHARE
URL = "https://cdn.test/v.mp4"
VIDEOLESS = "completed, but without a file"

OUTCOMES: list[tuple[str, FetchOutcome, State, dict[str, Any]]] = [
    ("working", Working("queued"), State.GENERATING, {"remote_status": "queued", "polled_at": NOON, "failures": 0}),
    ("an unknown word", Working("marinating"), State.GENERATING, {"remote_status": "marinating"}),
    ("finished", Finished((URL,)), State.DOWNLOADING, {"url": URL, "finished_at": NOON, "next_at": NOON}),
    (
        "finished, with its cost",
        Finished((URL,), cost_usd=Decimal("0.3")),
        State.DOWNLOADING,
        {"cost_usd": Decimal("0.3"), "charge_source": ChargeSource.POLL},
    ),
    ("finished without a video", Finished(()), State.GENERATING, {"failures": 1, "error": VIDEOLESS}),
    (
        "failed",
        Failed("Moderation: faces", kind=ErrorClass.MODERATION, input="image_url"),
        State.FAILED,
        {
            "error": "image_url: refused by moderation: Moderation: faces",
            "error_class": ErrorClass.MODERATION,
            "cost_usd": Decimal(0),
            "remote_status": "error",
        },
    ),
    ("failed without a word", Failed("error"), State.FAILED, {"error": "error"}),
    ("no answer", Unavailable("cut"), State.GENERATING, {"failures": 1, "error": "cut", "next_at": NOON + SOON}),
    ("unknown there", Unavailable("404: lag", http_status=404), State.GENERATING, {"failures": 1, "error": "404: lag"}),
    ("no credits", Unavailable("403", Trouble.CREDITS, 403), State.GENERATING, {"failures": 1}),
    (
        "slow down",
        Throttled("429", timedelta(seconds=70)),
        State.GENERATING,
        {"failures": 1, "next_at": NOON + 70 * SECOND},
    ),
    (
        "unavailable for a while",
        Unavailable("503", None, 503, timedelta(seconds=50)),
        State.GENERATING,
        {"next_at": NOON + 50 * SECOND},
    ),
]


def value_of(column: str, table: Table) -> Any:
    """The value of a column of the job, of its attempt, or of its file."""
    rows = [table.row(), table.attempt(), *table.outputs()]
    return next(getattr(row, column) for row in rows if column in row._fields)


@pytest.mark.parametrize(("name", "outcome", "state", "more"), OUTCOMES, ids=[name for name, *_ in OUTCOMES])
async def test_an_answer_is_stored(
    table: Table, clock: Clock, name: str, outcome: FetchOutcome, state: State, more: dict[str, Any]
) -> None:
    table.bring(State.GENERATING)
    service = ScriptedService(fetches=[outcome])
    context = context_of(table, service)
    await turn(Poller(context, 8))
    row, (attempt,) = table.row(), table.attempts()
    assert row.state == state
    assert {key: value_of(key, table) for key in more} == more
    assert row.leased_by is None
    assert service.fetched == [{"id": "g-mona"}]
    assert (attempt.outcome, attempt.generation_id) == (Outcome.ACCEPTED, "g-mona")
    assert context.blocked is None


async def test_a_service_that_keeps_files_for_a_while_gives_the_time_to_collect_them_by(
    table: Table, clock: Clock
) -> None:
    for key in ("kept", "kept for ever"):
        table.bring(State.GENERATING, key)
        features = Features(Adoption.EXACT_ID, keeps_results_for=HOUR if key == "kept" else None)
        service = ScriptedService(fetches=[Finished((URL,))], features=features)
        await turn(Poller(context_of(table, service), 8))
    assert table.attempt("kept").collect_by == NOON + HOUR
    assert table.attempt("kept for ever").collect_by is None


async def test_every_file_of_a_generation_has_its_row_in_the_service_s_order(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    urls = tuple(f"https://cdn.test/{number}.mp4" for number in (3, 1, 2))
    await turn(Poller(context_of(table, ScriptedService(fetches=[Finished(urls)])), 8))
    assert [(file.number, file.url, file.path) for file in table.outputs()] == [
        (number, url, None) for number, url in enumerate(urls, 1)
    ]
    assert {file.attempt_id for file in table.outputs()} == {table.attempt().id}


@pytest.mark.parametrize(
    ("answer", "cost", "source"),
    [(None, Decimal("0.5"), ChargeSource.ESTIMATE), (Decimal("0.3"), Decimal("0.3"), ChargeSource.POLL)],
    ids=["an answer without a charge", "an answer with one"],
)
async def test_where_no_charge_is_told_the_estimate_counts(
    table: Table, clock: Clock, answer: Decimal | None, cost: Decimal, source: ChargeSource
) -> None:
    table.sync("mona")
    (candidate,) = table.change(submission.ready, table.batch_id, 1)
    estimated = [replace(candidate, estimated_usd=Decimal("0.5"))]
    sender = Sender(RUN, "aimlapi", ACCOUNT)
    (job,) = table.change(submission.intend, table.batch_id, sender, NOON, NOON + LEASE, estimated)
    table.accept(job)
    features = Features(Adoption.EXACT_ID, charges=ChargeSource.ESTIMATE)
    service = ScriptedService(fetches=[Finished((URL,), cost_usd=answer)], features=features)
    await turn(Poller(context_of(table, service), 8))
    assert (table.attempt().cost_usd, table.attempt().charge_source) == (cost, source)


async def test_finished_without_a_video_fails_the_job_after_a_few_polls_in_a_row(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    poller = Poller(context_of(table, ScriptedService(fetches=[Finished(())])), 8)
    await turn_when_due(poller, table, clock, POLLS_WITHOUT_FILE - 1)
    assert table.row().state == "generating"
    await turn_when_due(poller, table, clock, 1)
    row = table.row()
    assert (row.state, row.error_class) == ("failed", ErrorClass.NO_FILE)
    assert row.error == "the service says 'completed' and names no file"


@pytest.mark.parametrize(
    "between",
    [
        pytest.param([Unavailable("cut")] * 9, id="a dead network"),
        pytest.param([Throttled("429")] * 9, id="a busy service"),
        pytest.param([Working("queued")], id="a change of mind"),
    ],
)
async def test_polls_without_a_video_count_in_a_row(table: Table, clock: Clock, between: list[FetchOutcome]) -> None:
    table.bring(State.GENERATING)
    script = [*between, Finished(()), *between, *[Finished(())] * (POLLS_WITHOUT_FILE - 1), *between, Finished((URL,))]
    poller = Poller(context_of(table, ScriptedService(fetches=script)), 8)
    await turn_when_due(poller, table, clock, len(script))
    assert table.row().state == "downloading"


async def test_a_failed_poll_never_fails_the_job(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    script: list[FetchOutcome] = [Unavailable("cut"), Unavailable("502", None, 502), Throttled("429")] * 20
    poller = Poller(context_of(table, ScriptedService(fetches=[*script, Finished((URL,))])), 8)
    await turn_when_due(poller, table, clock, len(script))
    assert table.row().state == "generating"
    assert table.row().next_at - datetime.now(NOON.tzinfo) == timedelta(minutes=2), "the longest pause"
    await turn_when_due(poller, table, clock, 1)
    assert (table.row().state, table.row().failures, table.row().error) == ("downloading", 0, None)


@pytest.mark.parametrize("end", [Finished((URL,), about="g-other"), Failed("error: no faces", about="g-other")])
async def test_the_end_of_another_generation_that_a_proxy_repeats_is_not_believed(
    table: Table, clock: Clock, end: Finished | Failed
) -> None:
    table.sync("mona", "other")
    for job in table.intend():
        table.accept(job, f"g-{job.key}")
    service = ScriptedService(fetches=[end])
    await turn(Poller(context_of(table, service), 8))
    assert table.states() == {"mona": "generating", "other": "downloading" if isinstance(end, Finished) else "failed"}
    assert table.row().error == "a proxy gave the answer about another generation (g-other)"
    service.fetches = [replace(end, about="a second id of its own")]
    await turn_when_due(Poller(context_of(table, service), 8), table, clock, 1)
    assert table.row().state != "generating"


class UnreliableService(ScriptedService):
    """Answers a share of the polls. A generation is finished from its moment in `ends` on."""

    def __init__(self, answered: float, ends: dict[str, datetime]) -> None:
        super().__init__()
        self.answered, self.ends, self.chance = answered, ends, Random(1)
        self.noticed: dict[str, timedelta] = {}

    async def fetch(self, handle: Mapping[str, Any]) -> FetchOutcome:
        await super().fetch(handle)
        generation_id = handle["id"]
        now, end = datetime.now(NOON.tzinfo), self.ends[generation_id]
        if self.chance.random() >= self.answered:
            return Unavailable("cut")
        if now < end:
            return Working("queued")
        self.noticed[generation_id] = now - end
        return Finished((URL,))


async def poll_due(poller: Poller, clock: Clock, table: Table) -> None:
    """Move the clock past the next due poll, and poll what is due and within the rate."""
    due = min(row.next_at for row in table.rows() if row.state == State.GENERATING)
    clock.move_to(max(due, datetime.now(NOON.tzinfo)) + SECOND / 10)
    await turn(poller)


async def test_a_poll_without_an_answer_is_repeated_soon_so_bad_luck_delays_no_job(table: Table, clock: Clock) -> None:
    ends = {f"g-j{number:02}": NOON + timedelta(seconds=seconds) for number, seconds in enumerate(draw(30))}
    for generation in ends:
        table.bring(State.GENERATING, generation.removeprefix("g-"))
    service = UnreliableService(0.5, ends)
    poller = Poller(context_of(table, service), 30)
    while len(service.noticed) < len(ends):
        await poll_due(poller, clock, table)
    late = sorted(service.noticed.values())
    assert late[-1] < 0.25 * MEDIAN
    assert sum(late, timedelta(0)) / len(late) < 0.06 * MEDIAN


async def test_polls_of_a_service_that_answers_nobody_become_rare_and_then_frequent_again(
    table: Table, clock: Clock
) -> None:
    for number in range(8):
        table.bring(State.GENERATING, f"j{number}")
    service = UnreliableService(0.0, {f"g-j{number}": NOON + HOUR for number in range(8)})
    poller = Poller(context_of(table, service), 8)
    while datetime.now(NOON.tzinfo) < NOON + HOUR / 2:
        await poll_due(poller, clock, table)
    assert len(service.fetched) < 8 * 30
    assert min(row.next_at for row in table.rows()) <= datetime.now(NOON.tzinfo) + timedelta(minutes=2)
    service.answered = 1.0
    while not all(row.failures == 0 for row in table.rows()):
        await poll_due(poller, clock, table)
    service.answered = 0.0
    await poll_due(poller, clock, table)
    failed = [row for row in table.rows() if row.failures]
    assert failed
    assert all(row.next_at - datetime.now(NOON.tzinfo) < timedelta(minutes=1) for row in failed)


async def test_what_one_poll_learns_brings_forward_the_polls_of_the_same_kind(table: Table, clock: Clock) -> None:
    for key in ("scout", "waiting", "retrying"):
        table.bring(State.GENERATING, key)
    for key, failures in (("waiting", 0), ("retrying", 1)):
        later = {"next_at": NOON + HOUR, "failures": failures}
        table.change(guarded_update, jobs, {"id": table.row(key).id}, later)
    clock.move_to(NOON + MEDIAN / 10)
    await turn(Poller(context_of(table, ScriptedService(fetches=[Finished((URL,))])), 8))
    assert table.row("scout").state == "downloading"
    assert table.row("waiting").next_at == NOON + MEDIAN / 10, "it is probably finished as well"
    assert table.row("retrying").next_at == NOON + HOUR, "the service may have asked for the pause"


@pytest.mark.parametrize(
    ("began", "failures", "is_learned"),
    [
        pytest.param(NOON, 0, True, id="polled as planned"),
        pytest.param(NOON, 3, True, id="after bad luck"),
        pytest.param(NOON + HOUR, 0, False, id="by a run that began later, or stood still"),
        pytest.param(NOON, 40, False, id="after an outage of the service"),
    ],
)
async def test_an_end_that_was_missed_teaches_nothing(
    began: datetime, failures: int, is_learned: bool, table: Table, clock: Clock
) -> None:
    """Else the hours of a pause would be taken for the time of a generation, and all later polls wait for it."""
    table.bring(State.GENERATING)
    table.change(guarded_update, jobs, {"id": table.row().id}, {"failures": failures})
    context = context_of(table, ScriptedService(fetches=[Finished((URL,))]))
    context.awake_since = began
    clock.move_to(NOON + 2 * HOUR)
    await turn(Poller(context, 8))
    assert table.row().state == "downloading"
    assert bool(table.database.read_now(timings.load, "aimlapi")) == is_learned


async def test_what_another_run_has_learned_counts_while_this_one_knows_little(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the poll waits for twice the first guess, if this run sees nothing end before."""
    monkeypatch.setattr(generation_times, "SCOUTS", 0)
    table.bring(State.GENERATING)
    poller = Poller(context_of(table, ScriptedService(fetches=[Working("generating")])), 8)
    clock.move_to(NOON + MEDIAN / 70)
    table.change(timings.learn, "aimlapi", (MODEL, 0.0), MEDIAN.total_seconds() / 60)
    await turn(poller)
    assert table.attempt().polled_at == NOON + MEDIAN / 70
    assert table.row().next_at < NOON + MEDIAN / 10


async def test_a_new_run_brings_forward_what_an_earlier_one_planned_too_late(table: Table, clock: Clock) -> None:
    """It was killed between what it learned and the polls that follow from it."""
    for key in ("ended", "waiting"):
        table.bring(State.GENERATING, key)
    table.change(guarded_update, jobs, {"id": table.row("waiting").id}, {"next_at": NOON + HOUR})
    context = context_of(table, ScriptedService())
    timing = table.change(timings.learn, "aimlapi", (MODEL, 0.0), 10.0)
    context.times = GenerationTimes({}, {(MODEL, 0.0): timing})
    clock.move_to(NOON + MEDIAN)
    await Poller(context, 8).bring_forward(MODEL, NOON + MEDIAN)
    assert table.row("waiting").next_at < NOON + 1.5 * MEDIAN


async def test_a_generation_with_an_unknown_status_is_polled_beyond_its_deadline(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    service = ScriptedService(fetches=[Working("marinating")])
    poller = Poller(context_of(table, service), 8)
    await turn(poller)
    clock.move_to(table.attempt().deadline_at)
    await turn(poller)
    now = table.attempt().deadline_at
    summary = table.database.read_now(statistics.batch_summary, table.batch_id, now)
    assert (summary.late, summary.counts[State.GENERATING], summary.counts[State.FAILED]) == (1, 1, 0)
    assert not table.database.read_now(statistics.any_open, table.batch_id, list(State), now), "a later run collects it"
    service.fetches = [Finished((URL,))]
    clock.tick(HOUR)
    await turn(poller)
    assert table.row().state == "downloading"


UNKNOWN_ID = Unavailable("404: Generation not found", None, 404)


async def poll_after(table: Table, clock: Clock, length: timedelta, *script: FetchOutcome) -> None:
    """Poll a generation, of which nothing was heard for `length`, with these answers."""
    table.bring(State.GENERATING)
    clock.tick(length)
    poller = Poller(context_of(table, ScriptedService(fetches=script)), 8)
    await turn_when_due(poller, table, clock, len(script))


FORGOTTEN = [
    # how long nothing else was heard, what the service says, the state in the end
    ("a replica that lags behind", timedelta(minutes=5), [UNKNOWN_ID] * 9, "generating"),
    ("nothing else for most of a day", timedelta(hours=21), [UNKNOWN_ID] * 3, "generating"),
    ("nothing else for a day", timedelta(days=1), [UNKNOWN_ID] * 3, "failed"),
    ("one answer of that kind after a holiday", timedelta(days=30), [UNKNOWN_ID], "generating"),
    ("an id that is called invalid", timedelta(days=2), [Unavailable("400: invalid id", None, 400)] * 3, "failed"),
    ("gone for good", timedelta(days=2), [Unavailable("410: gone", None, 410)] * 3, "failed"),
    ("a service in trouble for days", timedelta(days=9), [Unavailable("502", None, 502)] * 9, "generating"),
    ("a network that was away", timedelta(days=9), [Unavailable("no route")] * 9, "generating"),
    ("heard of again between", timedelta(days=2), [UNKNOWN_ID, Working("queued"), *[UNKNOWN_ID] * 3], "generating"),
]


@pytest.mark.parametrize(("name", "length", "script", "state"), FORGOTTEN, ids=[row[0] for row in FORGOTTEN])
async def test_a_generation_that_the_service_has_forgotten_has_an_end(
    table: Table, clock: Clock, name: str, length: timedelta, script: list[FetchOutcome], state: str
) -> None:
    await poll_after(table, clock, length, *script)
    row, attempt = table.row(), table.attempt()
    assert row.state == state, row.error
    if state == "failed":
        assert row.error_class == ErrorClass.EXPIRED
        assert "does not know the generation any more, since 2026-03-01" in row.error
        assert attempt.polled_at == NOON, "when it was heard of last: asked for again, it ends as soon"
        assert table.recomputed_totals().unpriced == 1, "it counts as charged"


@pytest.mark.parametrize("sent_with", [ACCOUNT, ""], ids=["another key", "a key that is not known"])
async def test_a_generation_of_another_key_is_not_called_forgotten(table: Table, clock: Clock, sent_with: str) -> None:
    table.bring(State.GENERATING)
    table.sent_with(sent_with)
    clock.tick(timedelta(days=9))
    service = ScriptedService(fetches=[UNKNOWN_ID], account="another")
    await turn_when_due(Poller(context_of(table, service), 8), table, clock, 5)
    assert table.row().state == "generating"


UNENDING = [
    ("an unknown word within a day", Working("paused", is_known=False), timedelta(hours=20), "generating"),
    ("an unknown word for a day", Working("paused", is_known=False), timedelta(hours=26), "failed"),
    ("at work for a day", Working("queued"), timedelta(hours=26), "generating"),
    ("at work for a week", Working("queued"), timedelta(days=8), "failed"),
]


@pytest.mark.parametrize(("name", "outcome", "length", "state"), UNENDING, ids=[row[0] for row in UNENDING])
async def test_a_word_that_never_changes_has_an_end(
    table: Table, clock: Clock, name: str, outcome: Working, length: timedelta, state: str
) -> None:
    await poll_after(table, clock, length, outcome)
    row = table.row()
    assert row.state == state
    assert state == "generating" or f"the service still says {outcome.word!r}" in row.error
    if not outcome.is_known and state == "generating":
        (blocker,) = table.database.read_now(blockers.blockers, table.batch_id, table.now)
        assert "the service says 'paused', which batchgen does not know (job mona)" in str(blocker)


async def test_a_refused_key_stops_submits_and_fails_no_job(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    context = context_of(table, ScriptedService(fetches=[Unavailable("401: key", Trouble.AUTH, 401)]))
    await turn(Poller(context, 8))
    assert context.blocked
    assert context.blocked.trouble is Trouble.AUTH
    assert table.row().state == "generating"


async def test_an_error_is_an_answer_and_a_dead_network_is_not(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    context = context_of(table, ScriptedService(fetches=[Unavailable("no route"), Unavailable("502", None, 502)]))
    poller = Poller(context, 8)
    await turn_when_due(poller, table, clock, 1)
    assert (context.contact.silent_since, context.contact.has_answered) == (NOON, False)
    await turn_when_due(poller, table, clock, 1)
    assert (context.contact.silent_since, context.contact.has_answered) == (None, True)


async def test_only_due_generations_are_polled(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING, "now")
    table.now += HOUR
    table.bring(State.GENERATING, "later")
    service = ScriptedService()
    poller = Poller(context_of(table, service), 8)
    await turn(poller)
    assert service.fetched == [{"id": "g-now"}]
    assert await turn(poller) == table.row("now").next_at


async def test_the_row_of_a_job_that_another_run_has_leased_is_not_written(table: Table, clock: Clock) -> None:
    table.bring(State.GENERATING)
    service = ScriptedService(fetches=[Finished((URL,))])

    def lease_elsewhere() -> None:
        table.bury()
        table.claim(State.GENERATING, "run-b")

    service.before = lease_elsewhere
    await turn(Poller(context_of(table, service), 8))
    assert (table.row().state, table.row().leased_by) == ("generating", "run-b")


# --- the rate of polls ---------------------------------------------------------------------------------------------


async def test_polls_keep_to_a_rate_of_their_own(table: Table, clock: Clock) -> None:
    for key in ("a", "b", "c"):
        table.bring(State.GENERATING, key)
    service = ScriptedService()
    poller = Poller(context_of(table, service, Limits(polls_per_minute=12)), 8)
    due = await turn(poller)
    assert len(service.fetched) == 1
    assert due == NOON + 5 * SECOND - TOLERANCE
    assert await turn(poller) == due
    clock.move_to(due)
    await turn(poller)
    assert len(service.fetched) == 2


async def test_a_refused_poll_pauses_polls_and_no_submit(table: Table, clock: Clock) -> None:
    for key in ("a", "b", "c"):
        table.bring(State.GENERATING, key)
    service = ScriptedService(fetches=[Throttled("429", 9 * SECOND), Working("queued")])
    poller = Poller(context_of(table, service), 1)
    await turn(poller)
    assert await turn(poller) == NOON + 9 * SECOND
    assert len(service.fetched) == 1
    row = LimitKey("aimlapi", LimitKind.SUBMITS)
    assert table.change(rate.allowance, row, 60.0, 1, NOON).number == 1
    clock.tick(9)
    poller.at_once = 8
    await poller.tick(datetime.now(NOON.tzinfo))
    assert len(poller.tasks) == 1, "no thundering herd"
    await settle(poller)
    await turn(poller)
    assert len(service.fetched) > 2


async def test_refused_polls_set_the_rate_of_polls(table: Table, clock: Clock) -> None:
    for number in range(40):
        table.bring(State.GENERATING, f"j{number:02}")
    service = ScriptedService(fetches=[*[Working("queued")] * 20, Throttled("429", 10 * SECOND), Working("queued")])
    poller = Poller(context_of(table, service), 1)
    for _ in range(21):
        await turn(poller)
        clock.tick(0.5)
    assert table.change(rate.learned, poller.key).window == pytest.approx(60 * 0.98, rel=0.1), (
        "twenty in twenty seconds"
    )
    clock.tick(10)
    table.now += HOUR
    assert table.change(rate.allowance, poller.key, 6_000.0, 8, datetime.now(NOON.tzinfo)).number == 1

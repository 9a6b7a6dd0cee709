"""The cap on spending: the running totals always equal those of the ledger, and no claim goes beyond the cap."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from random import Random

import pytest
from sqlalchemy import insert

from batchgen.advice.next_step import stop_of
from batchgen.context import RunContext
from batchgen.jobs import ChargeSource, Job, State
from batchgen.jobtable import ledger, pricelist, reconciliation, schema, submission
from batchgen.jobtable.kinds import Hold
from batchgen.jobtable.ledger import BilledCharge, Totals
from batchgen.jobtable.pricelist import PriceList
from batchgen.jobtable.submission import Sender
from batchgen.limits.budget import HOLD_REASONS, Choice, explanation
from batchgen.manifest.limits import Limits
from batchgen.scheduler import Scheduler
from batchgen.services.base import Listing
from batchgen.services.outcomes import Accepted
from tests.processes import gather
from tests.scripted import ScriptedService, change_spec, context_of
from tests.table import ACCOUNT, HOUR, LEASE, MINUTE, MODEL, RUN, Table, spec

PRICES = {"kind": "variants", "variants": [
    {"when": {"duration": "5"}, "price": "0.3", "unit": "video", "per": 1},
    {"when": {"duration": "10"}, "price": "0.7", "unit": "video", "per": 1},
]}  # fmt: skip
KNOWN = PriceList(listed={MODEL: json.dumps(PRICES)})
UNKNOWN = PriceList()


def usd(amount: str) -> Decimal:
    return Decimal(amount)


def context_with(table: Table, cap: str | None, prices: PriceList) -> RunContext:
    context = context_of(table, ScriptedService(), Limits(max_cost=usd(cap) if cap else None))
    context.prices = prices
    return context


def pick(
    table: Table, cap: str | None = None, prices: PriceList = KNOWN, capacity: int = 100, until: datetime | None = None
) -> Choice:
    context = context_with(table, cap, prices)
    change_spec(context, until=until)
    return table.change(context.choose, table.now, capacity)


def claim(table: Table, cap: str | None = None, prices: PriceList = KNOWN, capacity: int = 100) -> list[Job]:
    chosen = pick(table, cap, prices, capacity).chosen
    until, sender = table.now + LEASE, Sender(RUN, "aimlapi", ACCOUNT)
    return table.change(submission.intend, table.batch_id, sender, table.now, until, chosen)


def sums(table: Table) -> Totals:
    totals = table.database.read_now(ledger.totals, table.batch_id)
    assert totals == table.recomputed_totals()
    return totals


def sync(table: Table, number: int, duration: int = 5) -> None:
    table.sync(*(spec(f"j{index:03}", duration=duration) for index in range(number)))


@pytest.mark.parametrize("seed", range(8))
def test_the_running_totals_equal_those_of_the_ledger_after_any_sequence_of_events(table: Table, seed: int) -> None:
    chance = Random(seed)
    sync(table, 8)
    sent: list[Job] = []
    for _ in range(60):
        table.now += MINUTE
        prices = chance.choice([KNOWN, UNKNOWN])
        job = sent.pop(chance.randrange(len(sent))) if sent and chance.random() < 0.7 else None
        match chance.randrange(9):
            case 0 | 1:
                sent += claim(table, None, prices, chance.randrange(1, 4))
            case 2 if job:
                table.accept(job, f"g-{job.attempt.id}", chance.choice([None, "0.3", "0.31"]))
            case 3 if job:
                chance.choice([table.lose, table.throttle, table.reject])(job)
            case 4:
                for generating in table.claim(State.GENERATING, capacity=2):
                    chance.choice([table.finish, table.fail])(generating)
            case 5:
                for unconfirmed in table.unconfirmed(capacity=2):
                    if chance.random() < 0.5:
                        table.adopt(unconfirmed, f"g-{unconfirmed.attempt.id}")
                    else:
                        table.refute(unconfirmed)
            case 6:
                table.retry(*(row.key for row in table.rows() if row.state == State.FAILED))
            case 7:
                table.bury()
            case 8:
                for unconfirmed in table.unconfirmed(capacity=1):
                    table.change(reconciliation.abandoned, unconfirmed, "given up", table.now)
                uncharged = table.database.read_now(ledger.uncharged, table.batch_id)
                bill = [BilledCharge(row.id, row.generation_id, usd("0.29"), is_price=True) for row in uncharged]
                table.change(ledger.record_bill, bill, table.now)
        assert sums(table).unpriced >= 0


async def test_what_a_person_does_goes_by_what_holds_the_next_job_back_and_not_by_the_words_for_it(
    table: Table,
) -> None:
    sync(table, 1)
    context = context_with(table, "0.10", KNOWN)
    context.has_prices.set()
    await Scheduler(context, 8).tick(table.now)
    stop = stop_of(context, table.now)
    assert stop and (stop.kind, stop.message) == ("budget", HOLD_REASONS[Hold.BUDGET])
    context.wait_to_submit(HOLD_REASONS[Hold.BUDGET])
    assert stop_of(context, table.now) is None


def test_a_job_is_claimed_only_while_it_fits_under_the_cap(table: Table) -> None:
    sync(table, 10)
    first = claim(table, "1.00")
    assert len(first) == 3
    assert sums(table) == Totals(reserved=usd("0.9"))
    assert pick(table, "1.00").hold is Hold.BUDGET
    assert {row.estimated_usd for row in table.attempts()} == {usd("0.3")}
    table.accept(first[0], "g-1", "0.3")
    table.throttle(first[1])
    assert sums(table) == Totals(spent=usd("0.3"), reserved=usd("0.3"))
    assert len(claim(table, "1.00")) == 1
    assert len(claim(table, "1.20")) == 1
    assert sums(table).committed == usd("1.2")


def test_a_cap_that_fits_exactly_is_used_to_the_cent(table: Table) -> None:
    sync(table, 10)
    assert len(claim(table, "0.8999999")) == 2
    assert len(claim(table, "0.9")) == 1
    assert claim(table, "0.9") == []


def test_a_failed_generation_releases_its_reservation(table: Table) -> None:
    sync(table, 2)
    (job,) = claim(table, "0.3")
    table.accept(job, "g-1", "0.3")
    assert claim(table, "0.3") == []
    (job,) = table.claim(State.GENERATING)
    table.fail(job)
    assert sums(table) == Totals()
    assert len(claim(table, "0.3")) == 1


def test_a_job_of_an_unknown_price_is_sent_alone_until_its_charge_is_known(table: Table) -> None:
    sync(table, 9)
    (alone,) = claim(table, "2.00", UNKNOWN)
    assert pick(table, "2.00", UNKNOWN).hold is Hold.PRICE
    assert pick(table, "2.00", KNOWN).hold is Hold.PRICE  # how much of the cap is left is unknown
    table.accept(alone, "g-1", "0.4")
    assert [candidate.estimated_usd for candidate in pick(table, "2.00", UNKNOWN).chosen] == [usd("0.4")] * 4
    table.accept(claim(table, "2.00", UNKNOWN, 1)[0], "g-2", "0.6")
    assert [candidate.estimated_usd for candidate in pick(table, "2.00", UNKNOWN).chosen] == [usd("0.6")]


def test_a_lost_request_that_is_sent_again_by_order_reserves_what_is_known_of_its_price_by_then(table: Table) -> None:
    sync(table, 2)
    (lost,) = claim(table, "2.00", UNKNOWN)
    table.lose(lost)
    table.change(pricelist.keep_charge, "aimlapi", MODEL, lost.attempt.id, usd("0.4"), None)
    table.change(reconciliation.resubmitted, lost, "by order", table.now)
    assert sums(table) == Totals(reserved=usd("0.4"))


def estimates(table: Table, prices: PriceList) -> dict[str, Decimal | None]:
    """What the next jobs are expected to cost, by the length of their clips."""
    return {job.request.partition('"duration": ')[2]: job.estimated_usd for job in pick(table, "99", prices).chosen}


def test_a_length_without_a_price_costs_as_much_for_a_second_as_the_dearest_that_was_charged(table: Table) -> None:
    table.sync(*(spec(f"j{length}", duration=length) for length in (5, 10, 3)))
    (five,) = claim(table, "99", UNKNOWN)
    table.accept(five, "g-5", "1.47")
    assert estimates(table, UNKNOWN) == {"10}": usd("2.94"), "3}": usd("0.882")}
    table.accept(claim(table, "99", UNKNOWN, 1)[0], "g-10", "2.5")
    table.sync(*(spec(f"k{length}", duration=length) for length in (5, 10)))
    assert estimates(table, UNKNOWN) == {"5}": usd("1.47"), "10}": usd("2.5")}, "what each length was charged"


def list_prices(table: Table, *variants: dict[str, object]) -> PriceList:
    """The service lists these variants of the model, else those of `PRICES`."""
    pricing = json.dumps(PRICES | ({"variants": variants} if variants else {}))
    table.change(pricelist.store, "aimlapi", Listing(None, {MODEL: pricing}), table.now)
    return table.database.read_now(pricelist.load, "aimlapi")


def test_a_listed_price_that_was_too_low_is_not_believed_again(table: Table) -> None:
    list_prices(table)
    table.sync(*(spec(f"j{number}", duration=length) for number, length in enumerate((5, 5, 10))))
    first, *_ = claim(table, "99", KNOWN, 1)
    table.accept(first, "g-1", "1.5")
    assert estimates(table, KNOWN) == {"5}": usd("1.5"), "10}": usd("0.7")}, "only requests of this price"
    assert pick(table, "2.9", KNOWN).hold is Hold.BUDGET
    second, *_ = claim(table, "99", KNOWN, 1)
    table.accept(second, "g-2", "1.6")
    table.sync(spec("new", duration=5))
    assert estimates(table, KNOWN) == {"5}": usd("1.6")}


def test_what_a_long_clip_was_charged_is_not_expected_of_a_short_one_that_was_charged_its_listed_price(
    table: Table,
) -> None:
    list_prices(table)
    table.sync(*(spec(f"j{number}", duration=length) for number, length in enumerate((5, 10, 5, 10))))
    five, ten = claim(table, "99", KNOWN, 2)
    table.accept(five, "g-5", "0.7")  # the listed price of ten seconds
    table.accept(ten, "g-10", "1.4")
    assert estimates(table, KNOWN) == {"5}": usd("0.7"), "10}": usd("1.4")}
    table.accept(claim(table, "99", KNOWN, 1)[0], "g-6", "0.9")
    table.sync(spec("new", duration=5))
    assert estimates(table, KNOWN)["5}"] == usd("0.9"), "what it was charged since, and no less"


def test_what_was_charged_for_a_listed_price_is_expected_of_all_that_have_it_whatever_their_length_was_charged(
    table: Table,
) -> None:
    of_sizes = [
        {"when": {"duration": str(length), "size": size}, "price": price, "unit": "video", "per": 1}
        for length, size, price in ((5, "small", "0.3"), (10, "small", "0.7"), (5, "large", "0.7"))
    ]
    prices = list_prices(table, *of_sizes)
    table.sync(spec("a", size="small", duration=5), spec("b", size="small", duration=10))
    small, long = claim(table, "99", prices)
    table.accept(small, "g-1", "0.4")
    table.accept(long, "g-2", "1.4")
    table.sync(spec("c", size="large", duration=5), spec("d", size="small", duration=10))
    assert [job.estimated_usd for job in pick(table, "99", prices).chosen] == [usd("1.4")] * 2
    table.accept(claim(table, "99", prices, 1)[0], "g-3", "1.5")
    assert [job.estimated_usd for job in pick(table, "99", prices).chosen] == [usd("1.5")], "however often it rises"


def test_what_an_older_version_has_learned_of_a_listed_price_is_expected_to_its_highest_charge(table: Table) -> None:
    charged = json.dumps({"estimates": {"0.3": "0.4", "0.4": "0.5"}, "quotes": {"0.2": "0.3"}})
    row = {"service": "aimlapi", "model": MODEL, "highest_usd": usd("0.5"), "charged": charged}
    table.change(lambda connection: connection.execute(insert(schema.prices).values(row)))
    prices = list_prices(table)
    table.sync(spec("mona", duration=5))
    assert [job.estimated_usd for job in pick(table, "99", prices).chosen] == [usd("0.5")]
    table.accept(claim(table, "99", prices)[0], "g-1", "0.6")
    kept = table.database.read_now(pricelist.load_charges, "aimlapi")[MODEL].by_quote
    assert kept == {usd("0.2"): usd("0.3"), usd("0.3"): usd("0.6"), usd("0.4"): usd("0.5")}


@pytest.mark.parametrize(
    "charged",
    ["[]", "{", '{"seconds": {"5": "NaN"}}', '{"quotes": {"a": 1}}', '{"estimates": {"1": "NaN"}}', '{"seconds": 5}'],
)
def test_charges_that_cannot_be_read_are_left_out(table: Table, charged: str) -> None:
    row = {"service": "aimlapi", "model": MODEL, "highest_usd": usd("0.5"), "charged": charged}
    table.change(lambda connection: connection.execute(insert(schema.prices).values(row)))
    assert table.database.read_now(pricelist.load_charges, "aimlapi") == {MODEL: pricelist.SeenCharges(usd("0.5"))}


def test_a_charge_counts_although_its_model_has_more_lengths_and_estimates_than_are_kept(table: Table) -> None:
    sync(table, 1)
    (job,) = claim(table, "99", UNKNOWN)
    charged = {
        "seconds": {str(length): "0.1" for length in range(100, 100 + pricelist.KINDS_MAX)},
        "quotes": {f"0.{number:03}": "1" for number in range(1, 1 + pricelist.KINDS_MAX)},
    }
    row = {"service": "aimlapi", "model": MODEL, "highest_usd": usd("1"), "charged": json.dumps(charged)}
    table.change(lambda connection: connection.execute(insert(schema.prices).values(row)))
    table.change(pricelist.keep_charge, "aimlapi", MODEL, job.attempt.id, usd("2"), usd("0.5"))
    kept = table.database.read_now(pricelist.load_charges, "aimlapi")[MODEL]
    assert kept.highest == usd("2")
    assert (len(kept.by_seconds), len(kept.by_quote)) == (pricelist.KINDS_MAX, pricelist.KINDS_MAX)
    assert 5 not in kept.by_seconds


def test_without_a_cap_an_unknown_price_delays_no_job(table: Table) -> None:
    sync(table, 5)
    assert len(claim(table, None, UNKNOWN)) == 5
    assert sums(table) == Totals(unpriced=5)


def test_a_job_that_would_not_be_done_in_time_is_skipped_for_a_shorter_one(table: Table) -> None:
    table.sync(spec("long", duration=10), spec("short", duration=5))
    table.now += HOUR
    choice = pick(table, until=table.now + 6 * MINUTE)
    assert ([candidate.estimated_usd for candidate in choice.chosen], choice.hold) == ([usd("0.3")], Hold.TIME)
    choice = pick(table, until=table.now + MINUTE)
    assert (choice.chosen, choice.hold) == ([], Hold.TIME)
    text = explanation(choice, None, table.now)
    assert "would not be done by" in text


def test_the_explanation_says_the_cap_and_what_the_next_job_costs(table: Table) -> None:
    sync(table, 5)
    claim(table, "1")
    text = explanation(pick(table, "1"), usd("1"), None)
    assert "the budget of 1 USD does not pay the next job, which costs 0.3. Raise `max_cost`" in text


def test_the_forecast_counts_pending_jobs_within_the_cap(table: Table) -> None:
    sync(table, 5)
    for cap, prices, most, cost in (
        (None, KNOWN, 100, "1.5"),
        (None, KNOWN, 2, "0.6"),
        ("1", KNOWN, 100, "1"),
        (None, UNKNOWN, 100, "0"),
    ):
        assert table.database.read_now(context_with(table, cap, prices).expected_cost, most) == usd(cost)


def test_missing_charges_are_taken_from_the_transactions(table: Table) -> None:
    sync(table, 2)
    first, second = claim(table)
    table.accept(first, "g-1")
    table.accept(second, "g-2")
    assert table.database.read_now(ledger.uncharged, table.batch_id) == []  # their polls will name the charge
    for job in table.claim(State.GENERATING):
        table.finish(job)
    uncharged = table.database.read_now(ledger.uncharged, table.batch_id)
    assert [attempt.generation_id for attempt in uncharged] == ["g-1", "g-2"]
    charge = BilledCharge(uncharged[0].id, "g-1", usd("0.25"), is_price=True)
    assert table.change(ledger.record_bill, [charge], table.now) == 1
    assert sums(table) == Totals(spent=usd("0.25"), reserved=usd("0.3"))
    assert (table.attempt("j000").cost_usd, table.attempt("j000").charge_source) == (usd("0.25"), ChargeSource.LEDGER)


def test_a_price_list_is_kept_until_the_next_one(table: Table) -> None:
    listing = Listing('"1"', {MODEL: json.dumps(PRICES), "other": "{}"})
    table.change(pricelist.store, "aimlapi", listing, table.now)
    table.change(pricelist.store, "aimlapi", Listing('"1"', None), table.now + HOUR)
    listed = table.database.read_now(pricelist.load, "aimlapi")
    assert (listed.etag, listed.listed_at, set(listed.listed)) == ('"1"', table.now + HOUR, {MODEL, "other"})
    table.change(pricelist.store, "aimlapi", Listing('"2"', {MODEL: "{}"}), table.now + 2 * HOUR)
    listed = table.database.read_now(pricelist.load, "aimlapi")
    assert (listed.etag, set(listed.listed)) == ('"2"', {MODEL})
    assert table.database.read_now(pricelist.load, "simulator") == PriceList()


SPEND = """
import sys
from datetime import datetime, UTC, timedelta
from decimal import Decimal
from batchgen.limits.budget import choose, with_estimates
from batchgen.jobtable.database import Database
from batchgen.jobtable import ledger, submission
from batchgen.jobtable.pricelist import PriceList
from batchgen.services.outcomes import Accepted
path, worker = sys.argv[1].split("|")
now = datetime(2026, 3, 1, 12, tzinfo=UTC)
until = now + timedelta(minutes=5)
prices = PriceList(listed={MODEL: PRICES})
def claim(connection):
    pending = with_estimates(submission.ready(connection, 1, 3), prices)
    chosen = choose(pending, ledger.totals(connection, 1), Decimal("20.2")).chosen
    sender = submission.Sender(worker, "aimlapi", "0badcafe")
    return submission.intend(connection, 1, sender, now, until, chosen)
with Database(path) as database:
    print("ready", flush=True); sys.stdin.readline()
    spent = 0
    while jobs := database.write_now(claim):
        for job in jobs:
            answer = Accepted(f"g-{job.attempt.id}", Decimal("0.3"), 200)
            spent += database.write_now(submission.accepted, job, answer, now, until, until)
    print(spent)
""".replace("MODEL: PRICES", f"{MODEL!r}: {json.dumps(PRICES)!r}")


def test_several_processes_share_one_cap_to_the_cent(table: Table) -> None:
    sync(table, 100)
    accepted = gather(SPEND, [f"{table.database.path}|run-{worker}" for worker in range(3)])
    assert sum(map(int, accepted)) == 67
    assert sums(table) == Totals(spent=usd("20.1"))


def test_an_accepted_answer_may_name_no_charge(table: Table) -> None:
    sync(table, 1)
    (job,) = claim(table)
    table.change(submission.accepted, job, Accepted("g-1"), table.now, table.now + HOUR, table.now)
    assert sums(table) == Totals(reserved=usd("0.3"))

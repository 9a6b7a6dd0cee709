"""The parts of a reconciliation: pages that move, the settlements, what is recorded, and the file that is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.billing.books import Books
from batchgen.billing.reading import RESTARTS, read_log, read_statement
from batchgen.billing.reconcile import ClosingBill, closing_bill, reconcile
from batchgen.billing.settlements import BilledAttempt, Settlement, UnmatchedTransaction, judge_attempt, judge_unmatched
from batchgen.errors import AccountError, ServiceUnreachable, StorageError, UsageError
from batchgen.files.staged_file import report_file
from batchgen.jobs import ChargeSource, Outcome, State
from batchgen.jobtable import batches, ledger, reconciliation, submission
from batchgen.jobtable.ledger import BilledCharge, Totals
from batchgen.jobtable.submission import Sender
from batchgen.report import bill
from batchgen.report.rows import FORMULA_SIGNS
from batchgen.services.base import History, PastGeneration, Transaction, TransactionKind, TransactionPage
from batchgen.services.outcomes import Throttled, Unavailable
from batchgen.services.statement import StatementBroken, read_pages
from tests.conftest import NOON
from tests.scripted import ScriptedService
from tests.table import ACCOUNT, HOUR, MINUTE, MODEL, RUN, SECOND, Table, spec

USD = Decimal("0.2941")
CURSOR_REFUSED = Unavailable("400: cursor: Invalid cursor", http_status=400)


def charge(number: int, at: datetime = NOON, usd: Decimal = USD, generation: str | None = "") -> Transaction:
    generation = f"g-{number}" if generation == "" else generation
    return Transaction(TransactionKind.CHARGE, at - number * SECOND, usd, generation, "m", "MODEL_USAGE")


async def no_wait(_seconds: float, _reason: str) -> None:
    """The pause of a service that answers again at once."""


@dataclass
class Pages(ScriptedService):
    """Lists transactions three to a page, by offset: a cursor is a place in the list as it is then."""

    listed: list[Transaction] = field(default_factory=list)
    meanwhile: Callable[[int], Any] = lambda _request: None
    """Called with the number of each request, before it is answered. What it returns is the answer instead."""
    requests: int = 0

    async def transactions(self, start: datetime, end: datetime, cursor: str | None = None) -> Any:
        self.requests += 1
        if answer := self.meanwhile(self.requests):
            return answer
        first = int(cursor or 0)
        following = str(first + 3) if first + 3 < len(self.listed) else None
        return TransactionPage(self.listed[first : first + 3], following)


async def total(service: Pages) -> tuple[int, Decimal]:
    with Books() as books:
        statement = await read_statement(service, books, NOON - HOUR, NOON, no_wait)
        assert sum(1 for _ in books.rows()) == statement.transactions
    return statement.transactions, statement.charged_usd


def arriving(service: Pages, number: int, request: int) -> None:
    """So many new transactions arrive before a request."""

    def arrive(of_request: int) -> None:
        if of_request == request:
            service.listed[:0] = [charge(-1 - i) for i in range(number)]

    service.meanwhile = arrive


@pytest.mark.parametrize("number", [1, 2, 3, 4, 7])
async def test_transactions_that_move_to_a_later_page_count_once(number: int) -> None:
    service = Pages(listed=[charge(i) for i in range(9)])
    arriving(service, number, request=2)
    seen = 9 + max(0, number - 3)  # of the new ones, those that have moved to a page that is still to be read
    assert await total(service) == (seen, seen * USD)


async def test_equal_transactions_count_as_often_as_they_are_listed_also_on_two_pages() -> None:
    twice = charge(2)
    service = Pages(listed=[charge(0), charge(1), twice, twice, charge(4), charge(4)])
    assert await total(service) == (6, 6 * USD)


async def test_a_transaction_with_an_id_counts_once_also_where_it_is_listed_at_both_ends_of_two_pages() -> None:
    rows = [replace(charge(0), id=f"t-{number}") for number in range(5)]  # all of one moment
    service = Pages(listed=[*rows[:3], *rows[2:], rows[4]])
    assert await total(service) == (5, 5 * USD)


@pytest.mark.parametrize(
    "answer", [Throttled("slow down", 9 * SECOND), Unavailable("no answer"), Unavailable("500", http_status=500)]
)
async def test_a_page_that_does_not_come_is_asked_for_again(answer: Any) -> None:
    service = Pages(
        listed=[charge(i) for i in range(9)], meanwhile=lambda request: answer if request in (2, 3) else None
    )
    assert await total(service) == (9, 9 * USD)


async def test_a_refused_cursor_begins_the_pages_anew_a_few_times() -> None:
    service = Pages(listed=[charge(i) for i in range(9)])
    service.meanwhile = lambda request: CURSOR_REFUSED if request == 3 else None
    assert await total(service) == (9, 9 * USD)
    service.meanwhile = lambda request: CURSOR_REFUSED if request % 2 == 0 else None
    service.requests = 0
    with pytest.raises(StatementBroken, match="refuses the cursors"):
        await total(service)
    assert service.requests == 2 * RESTARTS


@pytest.mark.hostile("a list of transactions that has no end", "it is read to a bound, and nothing is judged")
async def test_cursors_that_lead_nowhere_end_somewhere() -> None:
    service = Pages(meanwhile=lambda request: TransactionPage([charge(request)], str(request)))
    with pytest.raises(StatementBroken, match="more than 7 pages"):
        _ = [page async for page in read_pages(service, NOON - HOUR, NOON, no_wait, pages_max=7)]


@pytest.mark.hostile("pages of transactions that lead in a circle", "the second time ends it, and nothing is judged")
async def test_cursors_that_lead_back_end_at_once() -> None:
    service = Pages(meanwhile=lambda request: TransactionPage([charge(request)], str(request % 3)))
    with pytest.raises(StatementBroken, match="lead back to one that was read"):
        _ = [page async for page in read_pages(service, NOON - HOUR, NOON, no_wait)]
    assert service.requests == 4


async def test_a_log_that_is_longer_than_one_answer_is_read_to_its_end() -> None:
    generations = [PastGeneration(f"r-{i}", f"g-{i}", NOON - i * MINUTE) for i in range(3)]
    newest, rest = History(generations[:2], NOON - MINUTE), History(generations[1:], NOON - HOUR)
    with Books() as books:
        service = ScriptedService(histories=[newest, Unavailable("no answer"), rest])
        assert await read_log(service, books, NOON - HOUR, NOON, no_wait) == ""
        refused = ScriptedService(histories=[Unavailable("403: no scope", http_status=403)])
        fault = await read_log(refused, books, NOON - HOUR, NOON, no_wait)
        assert fault == "the log could not be read: 403: no scope"
        assert (
            await read_log(ScriptedService(), books, NOON - HOUR, NOON, no_wait)
            == "this service keeps no log of requests"
        )


ATTEMPT = BilledAttempt(
    id=1,
    key="mona",
    state=State.DONE,
    outcome=Outcome.ACCEPTED,
    is_of_account=True,
    is_current=True,
    is_delivered=True,
    finished_at=NOON,
    deadline_at=NOON,
    named_usd=USD,
    estimated_usd=USD,
    charges=1,
    refunds=0,
    charged_usd=USD,
    refunded_usd=Decimal(0),
    same_amount=1,
)
UNCHARGED: dict[str, Any] = {"charges": 0, "charged_usd": Decimal(0), "same_amount": 0}
TWICE: dict[str, Any] = {"charges": 2, "same_amount": 2, "charged_usd": 2 * USD}
LOST, LONG_AGO = Outcome.UNCONFIRMED, {"deadline_at": NOON - HOUR}
FAILED: dict[str, Any] = {"state": State.FAILED, "is_delivered": False}
SETTLEMENTS: list[tuple[str, dict[str, Any], Settlement]] = [
    ("as it should be", {}, Settlement.DELIVERED),
    ("free", {**UNCHARGED, "named_usd": Decimal(0)}, Settlement.DELIVERED),
    ("another amount than estimated", {"named_usd": None, "charged_usd": 2 * USD}, Settlement.DELIVERED),
    ("in unequal parts of a wrong sum", {"charges": 2, "charged_usd": 2 * USD}, Settlement.AMOUNT_DIFFERS),
    (
        "twice, and refunded once",
        {"charges": 2, "same_amount": 2, "charged_usd": 2 * USD, "refunds": 1, "refunded_usd": USD},
        Settlement.DELIVERED,
    ),
    ("refunded more than charged", {"refunds": 1, "refunded_usd": 2 * USD}, Settlement.PARTLY_REFUNDED),
    ("made again on a person's order", {**FAILED, "is_current": False}, Settlement.REPLACED),
    ("charged for nothing", {**FAILED}, Settlement.NOT_DELIVERED),
    ("being made", {**UNCHARGED, "state": State.GENERATING, "is_delivered": False}, Settlement.UNDERWAY),
    ("lost, and waited for", {**UNCHARGED, "outcome": LOST, "state": State.UNCONFIRMED}, Settlement.UNCONFIRMED),
    ("lost and given up a moment ago", {**UNCHARGED, **FAILED, "outcome": LOST}, Settlement.UNCONFIRMED),
    ("lost and given up", {**UNCHARGED, **FAILED, **LONG_AGO, "outcome": LOST}, Settlement.NOTHING_CHARGED),
    (
        "lost, beside a charge that nobody knows",
        {**UNCHARGED, **FAILED, **LONG_AGO, "outcome": LOST, "may_be_charged": True},
        Settlement.UNCONFIRMED,
    ),
    ("cancelled a moment ago", {**UNCHARGED, **FAILED, "state": State.CANCELLED}, Settlement.LATE),
]


@pytest.mark.parametrize(
    ("changes", "settlement"), [case[1:] for case in SETTLEMENTS], ids=[case[0] for case in SETTLEMENTS]
)
def test_an_attempt_has_one_fate(changes: dict[str, Any], settlement: Settlement) -> None:
    assert judge_attempt(replace(ATTEMPT, **changes), NOON + MINUTE, "")[0] is settlement


UNMATCHED = UnmatchedTransaction(NOON, False, "g-9", None, None, None, False, None)
OWNERS: list[tuple[str, dict[str, Any], str, Settlement]] = [
    ("the log may be late", {}, "", Settlement.UNIDENTIFIED),
    ("the log cannot be read", {"at": NOON - HOUR}, "403", Settlement.UNIDENTIFIED),
    ("another key's", {"at": NOON - HOUR}, "", Settlement.FOREIGN),
    ("that of a lost answer", {"at": NOON - HOUR, "likely_job": "mona"}, "", Settlement.UNKNOWN),
    ("another batch's", {"other_batch": "autumn"}, "403", Settlement.FOREIGN),
    ("the table's, with another key", {"job_of_other_account": "mona"}, "", Settlement.ELSEWHERE),
    ("another program's", {"client_request_id": "x-1"}, "", Settlement.FOREIGN),
    ("another table's", {"client_request_id": "batchgen-…", "is_batchgen": True}, "", Settlement.FOREIGN),
    ("this batch's", {"client_request_id": "batchgen-…", "is_batchgen": True, "key": "mona"}, "", Settlement.UNKNOWN),
    ("nobody's", {"generation_id": None}, "", Settlement.UNKNOWN),
    ("a payment", {"is_balance": True, "generation_id": None}, "403", Settlement.BALANCE),
]


@pytest.mark.parametrize(
    ("changes", "fault", "settlement"), [case[1:] for case in OWNERS], ids=[case[0] for case in OWNERS]
)
def test_a_charge_of_no_attempt_is_foreign_where_that_is_known(
    changes: dict[str, Any], fault: str, settlement: Settlement
) -> None:
    assert judge_unmatched(replace(UNMATCHED, **changes), NOON + MINUTE, fault)[0] is settlement


def test_a_bill_is_recorded_once_and_what_the_service_had_named_stays_beside_it(table: Table) -> None:
    job = table.bring(State.DONE)
    table.change(
        ledger.update_attempt,
        job.attempt.id,
        [Outcome.ACCEPTED],
        {"cost_usd": USD, "charge_source": ChargeSource.ANSWER},
    )
    for _ in range(2):
        table.change(ledger.record_bill, [BilledCharge(job.attempt.id, "g-mona", 2 * USD, is_price=False)], table.now)
    attempt = table.attempt()
    assert (attempt.cost_usd, attempt.quoted_usd, attempt.charge_source) == (2 * USD, USD, ChargeSource.LEDGER)
    assert table.database.read_now(ledger.totals, 1) == table.recomputed_totals() == Totals(spent=2 * USD)
    assert (
        table.change(ledger.record_bill, [BilledCharge(job.attempt.id, "g-mona", USD, is_price=True)], table.now) == 1
    ), "the second charge was refunded"
    assert (table.attempt().cost_usd, table.attempt().quoted_usd) == (USD, USD)


async def compare(table: Table, service: ScriptedService) -> Any:
    (batch,) = table.database.read_now(batches.stored_batches)
    with Books() as books:
        return await reconcile(table.database, service, batch, table.folder, books)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Unavailable("403: forbidden", http_status=403), AccountError, "Set a AIMLAPI_API_KEY that may read them"),
        (CURSOR_REFUSED, ServiceUnreachable, "run the same command again later"),
    ],
)
async def test_nothing_is_of_account_by_a_part_of_the_statement(
    table: Table, clock: Clock, answer: Any, error: type[Exception], message: str
) -> None:
    table.bring(State.DONE)
    before = table.everything()
    service = Pages(listed=[charge(i) for i in range(9)])
    service.meanwhile = lambda request: answer if request % 2 == 0 else None
    with pytest.raises(error, match=message):
        await compare(table, service)
    assert await closing_bill(table.database, service, table.batch_id, NOON, NOON) is None
    assert table.everything() == before


def lost_and_sent_again(table: Table) -> Any:
    """A job whose first answer was lost, and that was sent again by order and delivered."""
    table.add(spec("mona"))
    ready = [replace(job, estimated_usd=USD) for job in table.change(submission.ready, table.batch_id, 1)]
    sender = Sender(RUN, "aimlapi", ACCOUNT)
    (lost,) = table.change(submission.intend, table.batch_id, sender, table.now, table.now + MINUTE, ready)
    table.lose(lost)
    assert table.change(reconciliation.resubmitted, lost, "by order", table.now)
    assert table.states() == {"mona": "pending"}
    assert sums(table) == Totals(reserved=USD), "it may have been accepted"
    table.bring(State.DONE)
    return lost.attempt


def sums(table: Table) -> Totals:
    totals = table.database.read_now(ledger.totals, table.batch_id)
    assert totals == table.recomputed_totals()
    return totals


FIRST = replace(charge(1, generation="g-lost"), model=MODEL)
SECOND_CHARGE = replace(charge(1, generation="g-mona"), model=MODEL)
WHOLE = History([], NOON - 99 * HOUR)


async def test_a_lost_request_that_was_sent_again_costs_what_the_account_was_charged(
    table: Table, clock: Clock
) -> None:
    attempt = lost_and_sent_again(table)
    logged = PastGeneration(attempt.client_request_id, "g-lost", NOON)
    service = Pages(listed=[FIRST, SECOND_CHARGE], histories=[History([logged], NOON - 99 * HOUR)])
    for recorded in (2, 0):
        comparison = await compare(table, service)
        assert (comparison.recorded, comparison.closes) == (recorded, True)
        assert comparison.tallies[Settlement.REPLACED].charged_usd == USD
    first, second = table.attempts()
    assert (first.outcome, first.generation_id, first.cost_usd) == (Outcome.ACCEPTED, "g-lost", USD)
    assert (second.generation_id, sums(table)) == ("g-mona", Totals(spent=2 * USD))


async def test_a_charge_that_nobody_knows_may_be_that_of_a_lost_request(table: Table, clock: Clock) -> None:
    lost_and_sent_again(table)
    service = Pages(listed=[FIRST, SECOND_CHARGE], histories=[WHOLE])
    clock.tick(3 * HOUR)
    comparison = await compare(table, service)
    assert set(comparison.tallies) == {Settlement.DELIVERED, Settlement.UNCONFIRMED, Settlement.UNKNOWN}
    assert (comparison.open, sums(table)) == (2, Totals(spent=USD, reserved=USD))


async def test_a_lost_request_that_neither_log_nor_account_has_costs_nothing(table: Table, clock: Clock) -> None:
    lost_and_sent_again(table)
    service = Pages(listed=[SECOND_CHARGE], histories=[WHOLE])
    assert not (await compare(table, service)).closes, "its charge may come yet"
    assert sums(table) == Totals(spent=USD, reserved=USD)
    clock.tick(3 * HOUR)
    assert (await compare(table, service)).closes
    assert table.attempts()[0].outcome == Outcome.ABSENT
    assert sums(table) == Totals(spent=USD)


async def test_what_this_account_does_not_have_says_nothing_of_a_request_of_an_unknown_one(
    table: Table, clock: Clock
) -> None:
    lost_and_sent_again(table)
    table.sent_with("")
    clock.tick(3 * HOUR)
    comparison = await compare(table, Pages(listed=[SECOND_CHARGE], histories=[WHOLE]))
    assert set(comparison.tallies) == {Settlement.DELIVERED, Settlement.ELSEWHERE}
    assert sums(table) == Totals(spent=USD, reserved=USD), "it may be paid for elsewhere"


async def test_a_service_without_a_statement_is_compared_by_what_the_table_knows(table: Table, clock: Clock) -> None:
    job = table.bring(State.DONE)
    table.change(ledger.record_bill, [BilledCharge(job.attempt.id, "g-mona", USD, is_price=True)], table.now)
    comparison = await compare(table, ScriptedService())
    assert comparison.closes
    assert bill.head_lines("spring", comparison)[0].startswith("spring: this service lists no charges.")
    assert comparison.tallies[Settlement.DELIVERED].charged_usd == USD


async def test_a_run_ends_with_what_the_bill_says_of_its_attempts_alone(table: Table, clock: Clock) -> None:
    for key, state in (("mona", State.DONE), ("lisa", State.DONE), ("on its way", State.DOWNLOADING)):
        table.bring(state, key)
    listed = [
        charge(0, generation="g-mona"),
        charge(0, generation="g-on its way"),
        charge(1, generation="g-of-nobody"),
        charge(2, generation=None),
    ]
    closing = await closing_bill(table.database, Pages(listed=listed), table.batch_id, NOON, NOON)
    assert closing == ClosingBill(charged=1, charged_usd=USD, awaited=2, disputed=0)
    assert table.attempt("mona").cost_usd == USD
    later = NOON + SECOND
    assert await closing_bill(table.database, Pages(listed=listed), table.batch_id, later, later) is None


CLOSINGS = [
    (None, ""),
    (ClosingBill(0, Decimal(0), 2, 0), ""),
    (ClosingBill(12, Decimal("4.2"), 0, 0), "the bill of this run agrees: 12 charges, $4.20"),
    (
        ClosingBill(1, USD, 2, 0),
        "the bill of this run agrees so far: 1 charge, $0.2941; 2 not charged or not here yet: `x reconcile`"
        " compares them later",
    ),
    (ClosingBill(9, USD, 1, 2), "2 charges do not agree: `x reconcile` says why"),
]


@pytest.mark.parametrize(("closing", "line"), CLOSINGS)
def test_the_bill_at_the_end_of_a_run_is_one_sentence(closing: ClosingBill | None, line: str) -> None:
    assert bill.closing_line(closing, lambda name: f"x {name}") == line


@pytest.mark.hostile("a text that a spreadsheet calculates", "an apostrophe makes it text")
def test_no_cell_is_calculated_by_a_spreadsheet() -> None:
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1"):
        row = replace(charge(0), model=text, generation_id=text, type=text)
        with Books() as books:
            books.add_transactions([row, replace(row, kind=TransactionKind.REFUND)])
            books.settle(NOON, "")
            written = io.StringIO(newline="")
            assert bill.write_rows(written, text, books) == 0
        cells = [cell for line in csv.reader(io.StringIO(written.getvalue())) for cell in line]
        assert not [cell for cell in cells if cell.startswith(FORMULA_SIGNS) and cell != "-0.2941"], cells
        assert "\x1b" not in written.getvalue()


def write(path: Path, lines: Sequence[str], fail: bool = False) -> None:
    with report_file(path, "a,b\n") as file:
        file.writelines(["a,b\n", *lines])
        if fail:
            raise KeyError


def test_a_report_replaces_an_earlier_one_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bill.csv"
    write(path, ["1,2\n"])
    write(path, ["3,4\n"])
    with pytest.raises(KeyError):
        write(path, ["5"], fail=True)
    assert path.read_text() == "a,b\n3,4\n"
    assert list(tmp_path.iterdir()) == [path]


def link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere.csv"))


OBSTACLES: list[tuple[str, Callable[[Path], object], str]] = [
    ("another file", lambda path: path.write_text("a;b\n"), "was not made by this command"),
    ("an empty file", lambda path: path.touch(), "was not made by this command"),
    ("a link", link, "is a symbolic link"),
    ("a folder", lambda path: path.mkdir(), "this is a folder; name a file to write"),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in OBSTACLES], ids=[case[0] for case in OBSTACLES])
def test_a_report_never_takes_the_place_of_anything_else(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "bill.csv"
    make(path)
    with pytest.raises((StorageError, UsageError), match=message):
        write(path, ["1,2\n"])

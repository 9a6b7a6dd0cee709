"""How the money of an attempt is settled: a closed set of answers, and the rules by which one is given.

A generation ought to cost what the service named for it before its transactions list the charge. Where it named
nothing, the price list's estimate stands in; that may be wrong, so a single charge is never disputed.

A generation may be charged in parts. If its charges less its refunds are what it ought to cost, it is settled. If not,
and one amount occurs more than once, it was charged twice; otherwise its amount is disputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator

from batchgen.catalogue.wording import plural
from batchgen.jobs import Outcome, State

CHARGE_LAG = timedelta(hours=1)
"""How late a charge, or the log's row of a request, is without a fault: the service makes both after the fact."""
PLACES = 9  # decimal places of an amount: billionths, as `services/bounds.py` rounds to
ZERO = Decimal(0)


def usd(nanousd: int) -> Decimal:
    return Decimal(nanousd).scaleb(-PLACES)


Usd = Annotated[Decimal, BeforeValidator(usd)]
"""An amount in USD, which a row of the scratch database has in whole billionths."""


class Settlement(StrEnum):
    """How the money of one attempt, or of a charge without an attempt, stands; and what that means to a person."""

    meaning: str
    closes: bool
    """Whether nothing is left to be done or waited for."""

    DELIVERED = "delivered", "delivered, and charged as it should be", True
    NOTHING_CHARGED = "nothing_charged", "nothing came of it, and nothing was charged", True
    REFUNDED = "refunded", "charged, and refunded in full", True
    REPLACED = "replaced", "charged, without a file here: another request took its place, as ordered", True
    FOREIGN = "foreign", "charged to this account for something else: another batch, table, key or program", True
    ELSEWHERE = "elsewhere", "sent with another key or to another address: not in this bill", True
    BALANCE = "balance", "payments, bonuses and other changes of the balance", True
    UNDERWAY = "underway", "still being made, and not charged yet"
    UNCONFIRMED = "unconfirmed", "sent, and nobody knows yet whether the service took it"
    LATE = "late", "not charged yet, which is normal for a while"
    UNCHARGED = "uncharged", "delivered, and not charged although it is time"
    NOT_DELIVERED = "not_delivered", "charged, and its file is not here"
    FAILED_CHARGED = "failed_charged", "charged, although the service says that it failed"
    CHARGED_TWICE = "charged_twice", "charged twice"
    AMOUNT_DIFFERS = "amount_differs", "charged another amount than the service had named"
    PARTLY_REFUNDED = "partly_refunded", "refunded in part"
    UNIDENTIFIED = "unidentified", "charged, and the service's log does not say yet for what"
    UNKNOWN = "unknown", "charged, and no attempt of the job table is known to be the reason"

    def __new__(cls, word: str, meaning: str = "", closes: bool = False) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        member.meaning, member.closes = meaning, closes
        return member

    @property
    def shows_price(self) -> bool:
        """Whether what was charged is what such a generation costs, and not twice that, or a part of it."""
        return self in (Settlement.DELIVERED, Settlement.AMOUNT_DIFFERS)


Assessment = tuple[Settlement, str]
"""A settlement, and a note on it in words; "" where there is nothing to add."""


@dataclass(frozen=True, slots=True)
class BilledAttempt:
    """An attempt with its transactions summed. Amounts in USD."""

    id: int
    key: str
    state: State
    outcome: Outcome
    is_of_account: bool
    """Whether it was sent to this address with this key."""
    is_current: bool
    """Whether the job stands where this attempt does; otherwise another one took its place."""
    is_delivered: bool
    finished_at: datetime | None
    deadline_at: datetime
    named_usd: Usd | None
    """What the service named as its cost."""
    estimated_usd: Usd | None
    charges: int
    refunds: int
    charged_usd: Usd
    refunded_usd: Usd
    same_amount: int
    """How many of its charges have the same amount, at most."""
    may_be_charged: bool = False
    """Whether its answer was lost, and the account was charged for something that may be it."""

    @property
    def net_usd(self) -> Decimal:
        return self.charged_usd - self.refunded_usd

    @property
    def expected_usd(self) -> Decimal | None:
        return self.estimated_usd if self.named_usd is None else self.named_usd


@dataclass(frozen=True, slots=True)
class UnmatchedTransaction:
    """A transaction of no attempt, with what the job table and the service's log know of its generation."""

    at: datetime
    is_balance: bool
    generation_id: str | None
    job_of_other_account: str | None
    """The key of the batch's job that was sent with another API key or to another address, and has the generation."""
    other_batch: str | None
    """The other batch of the job table that has it."""
    client_request_id: str | None
    """Under which the log has it."""
    is_batchgen: bool
    """Whether batchgen makes such client request ids."""
    key: str | None
    """The batch's job whose request it is, by the fingerprint in the client request id."""
    likely_job: str | None = None
    """A job of the batch with an attempt of this model and time, whose answer was lost."""


def judge_attempt(attempt: BilledAttempt, now: datetime, log_fault: str) -> Assessment:
    """The settlement of an attempt. `log_fault` says why the log was not read whole; "" if it was."""
    if not attempt.is_of_account:
        return Settlement.ELSEWHERE, ""
    if not attempt.charges and not attempt.refunds:
        return judge_uncharged(attempt, now, log_fault)
    if attempt.charges and attempt.net_usd == ZERO:
        return Settlement.REFUNDED, ""
    if not attempt.is_delivered:
        if attempt.named_usd == ZERO:
            return Settlement.FAILED_CHARGED, parts_of(attempt)
        if not attempt.is_current:
            return Settlement.REPLACED, parts_of(attempt)
        state = f"the job is {attempt.state}"
        return Settlement.NOT_DELIVERED, "; ".join(filter(None, (state, parts_of(attempt))))
    return judge_amount(attempt)


def judge_uncharged(attempt: BilledAttempt, now: datetime, log_fault: str) -> Assessment:
    """The settlement of an attempt without a charge: it costs nothing, or its charge may still come."""
    if attempt.outcome.is_undecided:
        return judge_lost(attempt, now, log_fault)
    if attempt.outcome is not Outcome.ACCEPTED:
        return Settlement.NOTHING_CHARGED, ""
    if attempt.is_current and attempt.state.is_active and not attempt.is_delivered:
        return Settlement.UNDERWAY, f"the job is {attempt.state}"
    if attempt.named_usd == ZERO:
        return Settlement.DELIVERED if attempt.is_delivered else Settlement.NOTHING_CHARGED, "it costs nothing"
    until = (attempt.finished_at or attempt.deadline_at) + CHARGE_LAG
    if now < until:
        return Settlement.LATE, normal_until(until)
    return Settlement.UNCHARGED if attempt.is_delivered else Settlement.NOTHING_CHARGED, ""


def judge_lost(attempt: BilledAttempt, now: datetime, log_fault: str) -> Assessment:
    """The settlement of an attempt without a charge whose answer was lost.

    As long as its job waits, a run or a person decides.
    """
    if attempt.is_current and attempt.state.is_active:
        return Settlement.UNCONFIRMED, ""
    until = attempt.deadline_at + CHARGE_LAG
    if now < until:
        return Settlement.UNCONFIRMED, normal_until(until)
    if log_fault:
        return Settlement.UNCONFIRMED, log_fault
    if attempt.may_be_charged:
        return Settlement.UNCONFIRMED, "a charge that nobody knows may be its own"
    return Settlement.NOTHING_CHARGED, "neither the service's log nor the account has it"


def judge_amount(attempt: BilledAttempt) -> Assessment:
    """The settlement of a delivered attempt with charges, by the rules at the head of this module."""
    parts = parts_of(attempt)
    if attempt.net_usd == attempt.expected_usd:
        return Settlement.DELIVERED, parts
    if attempt.refunds:
        return Settlement.PARTLY_REFUNDED, parts
    if attempt.same_amount > 1:
        return Settlement.CHARGED_TWICE, parts
    if attempt.named_usd is not None:
        return Settlement.AMOUNT_DIFFERS, parts
    return Settlement.DELIVERED, parts or ("the price list said otherwise" if attempt.estimated_usd else "")


def judge_unmatched(transaction: UnmatchedTransaction, now: datetime, log_fault: str) -> Assessment:
    """How a transaction of no attempt is settled. `log_fault` says why the log was not read whole; "" if it was.

    A charge is foreign if the table or the log names another maker, or if the whole log of this key does not have it.
    """
    if transaction.is_balance:
        return Settlement.BALANCE, ""
    if transaction.job_of_other_account:
        return (
            Settlement.ELSEWHERE,
            f"job {transaction.job_of_other_account}, sent with another key or to another address",
        )
    if transaction.other_batch:
        return Settlement.FOREIGN, f"batch {transaction.other_batch} of this job table"
    if transaction.generation_id is None:
        return Settlement.UNKNOWN, "it names no generation"
    if transaction.client_request_id:
        if not transaction.is_batchgen:
            return Settlement.FOREIGN, "another program's request"
        if transaction.key is None:
            return Settlement.FOREIGN, "a request of another job table"
        return Settlement.UNKNOWN, f"the request of job {transaction.key}, of a job table that is not this one"
    if log_fault:
        return Settlement.UNIDENTIFIED, log_fault
    until = transaction.at + CHARGE_LAG
    if now < until:
        return Settlement.UNIDENTIFIED, normal_until(until)
    if transaction.likely_job:
        return Settlement.UNKNOWN, f"it may be that of job {transaction.likely_job}, whose answer was lost"
    return Settlement.FOREIGN, "not in the log of this key: another key's"


def normal_until(moment: datetime) -> str:
    return f"normal until {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def parts_of(attempt: BilledAttempt) -> str:
    """How many transactions it has, where that is more than one charge."""
    refunds = f", {plural(attempt.refunds, 'refund')}" if attempt.refunds else ""
    charges = plural(attempt.charges, "charge")
    return f"{charges}{refunds}" if refunds or attempt.charges > 1 else ""

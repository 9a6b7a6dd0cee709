"""A reconciliation as text, as JSON and as CSV: how the account's charges and the attempts agree, and what to do."""

from __future__ import annotations

import csv
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from batchgen.advice.command_line import with_ids
from batchgen.billing.books import Books, OpenItem
from batchgen.billing.reconcile import BillComparison, ClosingBill
from batchgen.billing.settlements import Settlement, usd
from batchgen.catalogue.amounts import amount_text
from batchgen.catalogue.wording import plural
from batchgen.files.staged_file import report_file
from batchgen.jobs import State
from batchgen.report import hints
from batchgen.report.formats import dollars
from batchgen.report.hints import ToType
from batchgen.report.rows import inert

COLUMNS = (
    *("at", "batch", "id", "attempt", "generation_id", "model", "settlement", "kind"),
    *("charged_usd", "expected_usd", "balance_usd", "transaction_type", "note"),
)
NAMES = ("key", "number", "generation", "model", "settlement", "kind")
"""The columns of `Books.rows` between the batch and the amounts."""
HEADER = ",".join(COLUMNS) + "\r\n"
BYTE_ORDER_MARK = "\ufeff"  # without it, Excel reads the file in the code page of Windows

COMPARES = "compares its jobs with the service's log, where that is kept, before it pays"
"""What a run does in a table that knows of no request."""


def write_csv(path: Path, batch: str, books: Books) -> Decimal:
    """Write a row for each transaction, and for each attempt without one. Returns the sum of `charged_usd`."""
    with report_file(path, HEADER) as file:
        file.write(BYTE_ORDER_MARK + HEADER)
        return write_rows(file, batch, books)


def write_rows(file: IO[str], batch: str, books: Books) -> Decimal:
    writer, total = csv.writer(file), Decimal(0)
    for row in books.rows():
        columns = [row[name] for name in ("charged", "expected", "balance")]
        charged, expected, balance = (None if amount is None else usd(amount) for amount in columns)
        total += charged or Decimal(0)
        names = [row["at"], batch, *(row[name] for name in NAMES)]
        texts = ["" if value is None else inert(str(value)) for value in (*names, row["type"], row["note"])]
        amounts = ["" if amount is None else amount_text(amount) for amount in (charged, expected, balance)]
        writer.writerow([*texts[:-2], *amounts, *texts[-2:]])
    return total


def head_lines(batch: str, comparison: BillComparison) -> list[str]:
    """The sum of all charges, and the sum of each settlement."""
    statement, since = comparison.statement, f"{comparison.since.astimezone():%Y-%m-%d %H:%M}"
    if comparison.is_listed:
        balance = f"; {dollars(statement.balance_usd)} paid in or credited" if statement.balance_usd else ""
        number = plural(statement.transactions, "transaction")
        lines = [f"{batch}: {dollars(statement.charged_usd)} charged by {number} since {since}{balance}"]
    else:
        lines = [f"{batch}: this service lists no charges. What the job table knows, since {since}:"]
    tallies = {
        settlement: tally for settlement, tally in comparison.tallies.items() if settlement is not Settlement.BALANCE
    }
    numbers = [f"{tally.number:,}" for tally in tallies.values()]
    amounts = [dollars(tally.charged_usd) if tally.charged_usd else "" for tally in tallies.values()]
    width, sum_width = (max(map(len, column), default=0) for column in (numbers, amounts))
    for settlement, number, amount in zip(tallies, numbers, amounts, strict=True):
        lines.append(f"  {number:>{width}}  {amount:>{sum_width}}  {settlement.meaning}")
    if statement.unreadable:
        lines.append(f"{plural(statement.unreadable, 'transaction')} cannot be read, and may be anything")
    return lines


def last_line(comparison: BillComparison) -> str:
    if comparison.open:
        return f"{plural(comparison.open, 'item')} {'does' if comparison.open == 1 else 'do'} not agree"
    return "the bill agrees" if comparison.closes else "the bill does not agree"


def item_line(item: OpenItem) -> str:
    name = item.id or f"a charge of {item.at:%Y-%m-%d %H:%M} UTC"
    attempt = f" (attempt {item.attempt})" if item.attempt and item.attempt > 1 else ""
    facts = [item.settlement.meaning, amounts_of(item), item.note]
    if item.generation_id:
        facts.append(f"generation {item.generation_id}")
    elif item.model:
        facts.append(f"model {item.model}")
    return f"  {name}{attempt}: {'; '.join(filter(None, facts))}"


def amounts_of(item: OpenItem) -> str:
    charged, expected = item.charged_usd, item.expected_usd
    if charged is None:
        return f"{dollars(expected)} expected" if expected else ""
    return f"{dollars(charged)}{f' instead of {dollars(expected)}' if expected not in (None, charged) else ''}"


def item_advice(item: OpenItem, to_type: ToType) -> tuple[str, str | None]:
    """What a person does about an item that does not agree, and the command to type where there is one."""
    is_active = bool(item.state and State(item.state).is_active)
    match item.settlement:
        case Settlement.UNCONFIRMED if is_active:
            return "says whether it is held for a person; otherwise a run goes on with it", to_type("resolve")
        case Settlement.UNDERWAY:
            return "goes on with it", to_type("run")
        case Settlement.LATE | Settlement.UNIDENTIFIED | Settlement.UNCONFIRMED:
            return "compares it again later", to_type("reconcile")
        case Settlement.UNCHARGED:
            return "nothing is to be paid now; the service may charge it later", None
        case Settlement.NOT_DELIVERED if is_active:
            return "fetches it", to_type("run")
        case Settlement.NOT_DELIVERED:
            retry = with_ids(to_type("retry"), [item.id or ""])
            return "asks for it again, for nothing; if the service has no file, ask it for a refund", retry
        case Settlement.UNKNOWN if item.state == State.PENDING:
            return "takes it over", f"{to_type('run')} --changed keep"
        case Settlement.UNKNOWN:
            return "look it up on the service's site", None
    return "ask the service to put it right, naming the generation", None


def advice_line(item: OpenItem, to_type: ToType) -> str:
    hint, command = item_advice(item, to_type)
    return f"    → `{command}` {hint}" if command else f"    → {hint}"


def item_json(item: OpenItem, to_type: ToType) -> dict[str, Any]:
    hint, command = item_advice(item, to_type)
    return {"event": "discrepancy", **asdict(item), "hint": hint, "next": command}


def comparison_json(batch: str, comparison: BillComparison) -> dict[str, Any]:
    return {
        "event": "reconciled",
        "batch": batch,
        "since": comparison.since,
        "lists_charges": comparison.is_listed,
        **asdict(comparison.statement),
        "settlements": {settlement: asdict(tally) for settlement, tally in comparison.tallies.items()},
        "collected": comparison.collected,
        "open": comparison.open,
        "closes": comparison.closes,
        "hint": "" if comparison.closes else "each of the lines before says what to do",
        "next": None,
    }


def nothing_compared(batch: str, run: str) -> tuple[dict[str, Any], str]:
    """That there was nothing to compare: the event, and a line. The table may be new, in the place of a lost one."""
    following = hints.advice(f"a run {COMPARES}", run)
    event = {"event": "reconciled", "batch": batch, "transactions": None, "open": 0, "closes": None, **following}
    reason = "this job table has sent nothing with this key to this address, so that nothing can be compared"
    return event, f"{batch}: {reason}; `{run}` {COMPARES}"


def closing_line(bill: ClosingBill | None, to_type: ToType) -> str:
    """The bill at the end of a run, in a sentence; "" where there is nothing to say."""
    if bill is None or not (bill.charged or bill.disputed):
        return ""
    command = f"`{to_type('reconcile')}`"
    if bill.disputed:
        do = "does" if bill.disputed == 1 else "do"
        return f"{plural(bill.disputed, 'charge')} {do} not agree: {command} says why"
    charges = f"{plural(bill.charged, 'charge')}, {dollars(bill.charged_usd)}"
    if bill.awaited:
        later = f"{bill.awaited} not charged or not here yet: {command} compares them later"
        return f"the bill of this run agrees so far: {charges}; {later}"
    return f"the bill of this run agrees: {charges}"

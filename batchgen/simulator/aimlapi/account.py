"""The account: the service's log of create calls, which is late; the balance; and the transactions.

A generation is charged when it completes, and not at all if it fails. Log and charges are those of the asking key.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from batchgen.clock import utcnow
from batchgen.simulator.calls import Call
from batchgen.simulator.ledger import CREDITS_PER_MICRO_USD, timestamp, usd
from batchgen.simulator.service import error_of

UNLIMITED_BALANCE_USD = Decimal(1_000_000)  # what an account without a limit shows
PAGE_ROWS, PAGE_ROWS_MAX = 20, 100
OFFSET_MAX = 10**9
LOG_WINDOW, LOG_WINDOW_MAX = timedelta(hours=24), timedelta(days=92)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

LOG = """
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.at) AS created, iif(r.generation_id IS NULL, 'failed', 'succeeded') AS status,
       r.model, r.request_id, r.reserved_id AS inference_id, r.client_request_id,
       iif(g.outcome IS NULL OR g.outcome = 'error', 0, 2 * g.micro_usd) AS cost
FROM requests AS r LEFT JOIN generations AS g ON g.id = r.generation_id
WHERE r.kind = 'create' AND r.key = ? AND r.logged_at <= ? AND r.at BETWEEN ? AND ? ORDER BY r.at DESC, r.n DESC"""

TRANSACTIONS = """
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', at) AS created_at, direction, type, model, reference_id, credits AS amount
FROM transactions
WHERE (key IS NULL OR key = ?) AND listed_at <= ? AND at BETWEEN ? AND ?
  AND direction = ifnull(?, direction) AND type = ifnull(?, type)
ORDER BY at DESC, n DESC"""
DIRECTIONS = ("CHARGE", "TOPUP")
TYPES = ("MODEL_USAGE", "PAYMENT", "BONUS", "REFUND", "ADJUSTMENT", "CREDITS_EXPIRED", "INIT")


async def log(call: Call) -> Response:
    """`GET /v2/logs`: create calls between two moments, newest first."""
    service = call.service
    service.check_rate("log", service.simulation.limits.log_requests_per_minute)
    if fault := service.faults.draw("log", "call", ("500", "429")):
        raise error_of(fault)
    call.refuse_unknown("start", "end", "limit", "offset")
    end = _moment(call, "end", utcnow())
    start = _moment(call, "start", end - LOG_WINDOW)
    if end < start:
        raise HTTPException(400, "end: Must not be before start")
    if end - start > LOG_WINDOW_MAX:
        raise HTTPException(400, f"start: The range must not be longer than {LOG_WINDOW_MAX.days} days")
    page = _page(call, LOG, start, end, "cost", _integer(call, "offset", 0, 0, OFFSET_MAX))
    values = (call.record.key, *map(timestamp, (utcnow(), start, end)))
    page["pagination"] |= service.ledger.query(f"SELECT count(*) AS total FROM ({LOG})", *values)[0]  # noqa: S608
    return JSONResponse(page)


async def balance(call: Call) -> Response:
    """`GET /v2/billing`."""
    initial = call.service.simulation.limits.balance_usd
    left = (UNLIMITED_BALANCE_USD if initial is None else initial) - call.service.ledger.charged_usd(utcnow())
    return JSONResponse({"current_balance": float(left), "currency": "USD"})


async def transactions(call: Call) -> Response:
    """`GET /v2/billing/transactions`: what moved the account's money between two moments, newest first."""
    if fault := call.service.faults.draw("billing", "call", ("500", "429")):
        raise error_of(fault)
    call.refuse_unknown("from", "to", "direction", "type", "limit", "cursor")
    kinds = [_choice(call, "direction", DIRECTIONS), _choice(call, "type", TYPES)]
    start, end = _moment(call, "from", LONG_AGO), _moment(call, "to", utcnow())
    if end <= start:
        raise HTTPException(400, "to: Must be after from")
    page = _page(call, TRANSACTIONS, start, end, "amount", _offset_of(call), *kinds)
    paging = page["pagination"]
    following = _cursor(call, paging["offset"] + paging["limit"]) if paging["has_more"] else None
    return JSONResponse({"data": page["data"], "pagination": {"limit": paging["limit"], "next_cursor": following}})


def _cursor(call: Call, offset: int) -> str:
    """A cursor that leads to the rows from `offset` on, in a query that is otherwise the same."""
    same = sorted((name, value) for name, value in call.request.query_params.items() if name != "cursor")
    return f"{offset}.{sha256(repr((call.record.key, same, offset)).encode()).hexdigest()[:16]}"


def _offset_of(call: Call) -> int:
    """Where the page of the query begins. Raises 400 for a cursor that no answer to this query had."""
    if (cursor := call.request.query_params.get("cursor")) is None:
        return 0
    offset = cursor.partition(".")[0]
    is_own = re.fullmatch("[0-9]{1,9}", offset) and cursor == _cursor(call, int(offset))
    if call.service.faults.draw("billing", "call", ("cursor_400",)) or not is_own:
        raise HTTPException(400, "cursor: Invalid cursor")
    return int(offset)


def _page(
    call: Call, sql: str, start: datetime, end: datetime, money: str, offset: int, *more: str | None
) -> dict[str, Any]:
    """A page of the asking key's rows, from the row `offset` on. The column `money` becomes an amount in two units."""
    limit = _integer(call, "limit", PAGE_ROWS, 1, PAGE_ROWS_MAX)
    ledger, values = call.service.ledger, [call.record.key, *map(timestamp, (utcnow(), start, end)), *more]
    following = ledger.query(f"{sql} LIMIT ? OFFSET ?", *values, limit + 1, offset)
    rows, has_more = following[:limit], len(following) > limit
    for row in rows:
        row[money] = {"usd": float(usd(row[money]) / CREDITS_PER_MICRO_USD), "credits": row[money]}
    return {"data": rows, "pagination": {"limit": limit, "offset": offset, "has_more": has_more}}


def _choice(call: Call, name: str, values: tuple[str, ...]) -> str | None:
    """A word of the query; `None` where it is not there."""
    word = call.request.query_params.get(name)
    if word is not None and word not in values:
        raise HTTPException(400, f"{name}: Expected one of {', '.join(values)}")
    return word


def _moment(call: Call, name: str, default: datetime) -> datetime:
    """A date of the query; one without a zone is UTC."""
    text = call.request.query_params.get(name)
    try:
        moment = datetime.fromisoformat(text) if text is not None else default
    except ValueError:
        raise HTTPException(400, f"{name}: Invalid datetime") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _integer(call: Call, name: str, default: int, minimum: int, maximum: int) -> int:
    """A whole number of the query."""
    text = call.request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 12 or not minimum <= int(text) <= maximum:
        raise HTTPException(400, f"{name}: Expected an integer from {minimum} to {maximum}")
    return int(text)

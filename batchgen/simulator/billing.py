"""The account's balance and its transactions: a generation is charged when it completes, and not if it fails."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from batchgen.simulator.answers import answer, refuse, stamp
from batchgen.simulator.ledger import text
from batchgen.simulator.logs import QueryError, moment, whole
from batchgen.simulator.prices import CREDITS_PER_USD, usd
from batchgen.simulator.studio import Studio

LIMIT = 20  # rows of a page, unless asked
MOST = 100

# Everything that moved money by the moment :now; the account is topped up once, when its ledger is opened.
TRANSACTIONS = """
WITH moves AS (
    SELECT finishes_at AS at, id, 'CHARGE' AS direction, 'MODEL_USAGE' AS type, credits, model
    FROM generations WHERE outcome = 'completed' AND finishes_at <= ?
    UNION ALL SELECT ?, '', 'TOPUP', 'PAYMENT', ?, NULL
)
SELECT * FROM moves
WHERE at BETWEEN ? AND ? AND (at, id) < (?, ?) AND (? IS NULL OR direction = ?) AND (? IS NULL OR type = ?)
ORDER BY at DESC, id DESC LIMIT ?
"""


async def balance(service: Studio, request: Request) -> Response:  # noqa: ARG001 - every handler is given both
    """`GET /v2/billing`."""
    left = service.account.limits.balance_usd - service.ledger.charged_usd(service.clock.now())
    return answer({"current_balance": float(left), "currency": "USD"})


async def transactions(service: Studio, request: Request) -> Response:
    """`GET /v2/billing/transactions`."""
    query = request.query_params
    now = service.clock.now()
    try:
        limit = whole(request, "limit", LIMIT, 1, MOST)
        begin = text(moment(request, "from")) if "from" in query else ""
        end = text(moment(request, "to")) if "to" in query else text(now)
        before = _open(query["cursor"]) if "cursor" in query else ("~", "")
    except QueryError as error:
        return refuse(request, 400, str(error))
    kinds = [query.get(name) for name in ("direction", "direction", "type", "type")]
    topup = int(service.account.limits.balance_usd * CREDITS_PER_USD)
    rows = service.ledger.query(
        TRANSACTIONS, text(now), service.opened_at, topup, begin, end, *before, *kinds, limit + 1
    )
    page, more = rows[:limit], len(rows) > limit
    paging = {"limit": limit, "next_cursor": _close(page[-1]) if more else None, "has_more": more}
    return answer({"data": [_row(row) for row in page], "pagination": paging})


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "created_at": stamp(datetime.fromisoformat(row["at"])),
        "direction": row["direction"],
        "type": row["type"],
        "amount": {"usd": float(usd(row["credits"])), "credits": row["credits"]},
        "model": row["model"],
        "reference_id": row["id"] or None,
    }


def _close(row: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(f"{row['at']} {row['id']}".encode()).decode()


def _open(cursor: str) -> tuple[str, str]:
    try:
        at, last = base64.b64decode(cursor, b"-_", validate=True).decode().split(" ", 1)
    except ValueError:
        raise QueryError("cursor: Invalid cursor") from None
    return at, last

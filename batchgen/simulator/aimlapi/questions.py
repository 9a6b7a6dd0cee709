"""The free questions: the models with their prices and times; the account's log of creates, which is late, its balance
and its transactions.

Prices are made up. A generation is charged when it completes, and not at all if it fails. Log and charges are those of
the asking key.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from batchgen.catalogue.register import endpoint, models, schema
from batchgen.catalogue.rules import ALIASES
from batchgen.clock import utcnow
from batchgen.simulator.aimlapi.generations import DEFAULT_CLIP_SECONDS, price
from batchgen.simulator.calls import Call
from batchgen.simulator.ledger import CREDITS_PER_MICRO_USD, timestamp, usd
from batchgen.simulator.service import SimulatedService, error_of, generation_seconds

QUANTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p99": 0.99}
UNLIMITED_BALANCE_USD = Decimal(1_000_000)  # what an account without a limit shows
LOG_WINDOW, LOG_WINDOW_MAX = timedelta(hours=24), timedelta(days=92)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class CatalogueQuery(BaseModel, extra="forbid"):
    include: str = ""


class MetricsQuery(BaseModel, extra="forbid"):
    aliases: list[str] = Field(max_length=100)  # the service's own limit for one request


async def catalogue(call: Call) -> Response:
    """`GET /v1/models`: every documented model, with an ETag; with prices where `include=pricing`."""
    rows: list[dict[str, Any]] = [
        {"id": model, "aliases": aliases_of(model), "type": "internal/video-generations/submit"} for model in models()
    ]
    if "pricing" in call.query(CatalogueQuery).include.split(","):
        rows = [row | {"pricing": _pricing(row["id"])} for row in rows]
    answer = JSONResponse({"object": "list", "data": rows})
    answer.headers["etag"] = f'"{sha256(bytes(answer.body)).hexdigest()[:32]}"'
    if answer.headers["etag"] == call.request.headers.get("if-none-match"):
        return Response(status_code=304, headers={"etag": answer.headers["etag"]})
    return answer


def aliases_of(model: str) -> list[str]:
    return [alias for alias, name in ALIASES.items() if name == model]


@cache
def _pricing(model: str) -> dict[str, Any]:
    """A price for each listed length, or for 10 seconds where any length is allowed; none for a model without one."""
    length = schema(model, endpoint(model))["properties"].get("duration")
    if length is None:
        return {"kind": "variable"}
    if "enum" in length:
        variants = [
            {"when": {"duration": str(seconds)}, "price": float(usd(price(model, seconds))), "unit": "video", "per": 1}
            for seconds in length["enum"]
        ]
        return {"kind": "variants", "currency": "USD", "dimensions": ["duration"], "variants": variants}
    unit = {"name": "second", "measure": "time", "price": float(usd(price(model, 10))), "per": 10}
    return {"kind": "fixed", "currency": "USD", "units": [unit]}


async def metrics(call: Call) -> Response:
    """`GET /models/metrics`: how long generations take, in compressed milliseconds.

    `aliases` is repeated for several names, as at the real service: a comma does not separate them.
    """
    names = call.query(MetricsQuery, "aliases").aliases
    rows = [
        {"alias": name, "endpoint": endpoint(model), "metrics": {"duration_ms": _milliseconds(call.service, model)}}
        for model in models()
        for name in (model, *aliases_of(model))
        if not names or name in names
    ]
    return JSONResponse({"window_seconds": 86_400, "models": rows})


def _milliseconds(service: SimulatedService, model: str) -> dict[str, float]:
    sigma = service.simulation.sigma
    seconds = {name: generation_seconds(model, DEFAULT_CLIP_SECONDS, level, sigma) for name, level in QUANTILES.items()}
    return {name: round(1000 * service.compressed(value).total_seconds(), 3) for name, value in seconds.items()}


class PageQuery(BaseModel, extra="forbid"):
    limit: int = Field(20, ge=1, le=100)


class LogQuery(PageQuery):
    start: AwareDatetime | None = None
    end: AwareDatetime = Field(default_factory=utcnow)
    offset: int = Field(0, ge=0, le=10**9)


class TransactionsQuery(PageQuery):
    start: AwareDatetime = Field(LONG_AGO, alias="from")
    end: AwareDatetime = Field(default_factory=utcnow, alias="to")
    cursor: str | None = None


LOG = """
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', r.at) AS created, iif(r.generation_id IS NULL, 'failed', 'succeeded') AS status,
       r.model, r.request_id, r.reserved_id AS inference_id, r.client_request_id,
       iif(g.outcome IS NULL OR g.outcome = 'error', 0, 2 * g.micro_usd) AS cost
FROM requests AS r LEFT JOIN generations AS g ON g.id = r.generation_id
WHERE r.kind = 'create' AND r.key = ? AND r.logged_at <= ? AND r.at BETWEEN ? AND ? ORDER BY r.at DESC, r.n DESC"""

TRANSACTIONS = """
SELECT strftime('%Y-%m-%dT%H:%M:%fZ', at) AS created_at, direction, type, model, reference_id, credits AS amount
FROM transactions
WHERE (key IS NULL OR key = ?) AND listed_at <= ? AND at BETWEEN ? AND ? ORDER BY at DESC, n DESC"""


async def log(call: Call) -> Response:
    """`GET /v2/logs`: create calls between two moments, newest first."""
    service = call.service
    service.check_rate("log", service.simulation.limits.log_requests_per_minute)
    if fault := service.faults.draw("log", "call", ("500", "429")):
        raise error_of(fault)
    query = call.query(LogQuery)
    start = query.start or query.end - LOG_WINDOW
    if query.end < start:
        raise HTTPException(400, "end: Must not be before start")
    if query.end - start > LOG_WINDOW_MAX:
        raise HTTPException(400, f"start: The range must not be longer than {LOG_WINDOW_MAX.days} days")
    values = [call.record.key, *map(timestamp, (utcnow(), start, query.end))]
    rows, has_more = _page(call, LOG, values, "cost", query.limit, query.offset)
    total = service.ledger.query(f"SELECT count(*) AS total FROM ({LOG})", *values)[0]  # noqa: S608
    paging = {"limit": query.limit, "offset": query.offset, "has_more": has_more, **total}
    return JSONResponse({"data": rows, "pagination": paging})


async def balance(call: Call) -> Response:
    """`GET /v2/billing`."""
    initial = call.service.simulation.limits.balance_usd
    left = (UNLIMITED_BALANCE_USD if initial is None else initial) - call.service.ledger.charged_usd(utcnow())
    return JSONResponse({"current_balance": float(left), "currency": "USD"})


async def transactions(call: Call) -> Response:
    """`GET /v2/billing/transactions`: what moved the account's money between two moments, newest first."""
    if fault := call.service.faults.draw("billing", "call", ("500", "429")):
        raise error_of(fault)
    query = call.query(TransactionsQuery)
    if query.end <= query.start:
        raise HTTPException(400, "to: Must be after from")
    offset = _offset_of(call, query.cursor)
    values = [call.record.key, *map(timestamp, (utcnow(), query.start, query.end))]
    rows, has_more = _page(call, TRANSACTIONS, values, "amount", query.limit, offset)
    following = _cursor(call, offset + query.limit) if has_more else None
    return JSONResponse({"data": rows, "pagination": {"limit": query.limit, "next_cursor": following}})


def _cursor(call: Call, offset: object) -> str:
    """A cursor that leads to the rows from `offset` on, in a query that is otherwise the same."""
    same = sorted((name, value) for name, value in call.request.query_params.items() if name != "cursor")
    return f"{offset}.{sha256(repr((call.record.key, same, str(offset))).encode()).hexdigest()[:16]}"


def _offset_of(call: Call, cursor: str | None) -> int:
    """Where the page of the query begins. Raises 400 for a cursor that no answer to this query had."""
    if cursor is None:
        return 0
    offset = cursor.partition(".")[0]
    if cursor != _cursor(call, offset):
        raise HTTPException(400, "cursor: Invalid cursor")
    return int(offset)


def _page(
    call: Call, sql: str, values: Sequence[str], money: str, limit: int, offset: int
) -> tuple[list[dict[str, Any]], bool]:
    """At most `limit` rows from `offset` on, and whether more follow. `money` becomes an amount in two units."""
    following = call.service.ledger.query(f"{sql} LIMIT ? OFFSET ?", *values, limit + 1, offset)
    rows = following[:limit]
    for row in rows:
        row[money] = {"usd": float(usd(row[money]) / CREDITS_PER_MICRO_USD), "credits": row[money]}
    return rows, len(following) > limit

"""The service's own log of create calls: late, paged, newest first."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from batchgen.simulator.answers import answer, refuse, stamp
from batchgen.simulator.calls import throttle
from batchgen.simulator.creating import ERROR_WORDS, throttle_by_fault
from batchgen.simulator.faults import LOG_ROW, NAMES
from batchgen.simulator.ledger import text
from batchgen.simulator.prices import usd
from batchgen.simulator.studio import Studio

LONGEST = timedelta(days=92)
LIMIT = 20  # rows of a page, unless asked
MOST = 100
AT_THE_CALL = tuple(name for name in NAMES["log"] if name not in LOG_ROW)
STATUSES = ("succeeded", "failed")
_PERIOD = re.compile(r"(\d{1,4})([hdm])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class QueryError(Exception):
    """A query the service refuses; the message names the parameter."""


async def log(service: Studio, request: Request) -> Response:
    """`GET /v2/logs`."""
    wait = service.account.log_requests.pass_or_wait()
    if wait is not None:
        return throttle(request, wait, service.clock.speed)
    drawn = service.faults.draw("log", "call", AT_THE_CALL)
    if drawn and drawn.name == "429":
        return throttle_by_fault(request, drawn)
    if drawn:
        return refuse(request, 500, ERROR_WORDS[500])
    now = service.clock.now()
    try:
        start, end = _window(request, now)
        limit, offset = whole(request, "limit", LIMIT, 1, MOST), whole(request, "offset", 0, 0, 10**9)
        where, values = _filters(request)
    except QueryError as error:
        return refuse(request, 400, str(error))
    seen = f"r.kind = 'create' AND r.logged_at <= ? AND r.at BETWEEN ? AND ?{where}"
    values = [text(now), text(start), text(end), *values]
    total = service.ledger.query(f"SELECT count(*) AS total FROM requests AS r WHERE {seen}", *values)[0]["total"]  # noqa: S608
    rows = service.ledger.query(
        "SELECT r.at, r.request_id, r.generation_id, r.client_request_id, r.model, g.credits, g.outcome"  # noqa: S608
        f" FROM requests AS r LEFT JOIN generations AS g ON g.id = r.generation_id WHERE {seen}"
        " ORDER BY r.at DESC, r.n DESC LIMIT ? OFFSET ?",
        *values,
        limit,
        offset,
    )
    paging = {"limit": limit, "offset": offset, "total": total, "has_more": offset + len(rows) < total}
    return answer({"data": [_row(row) for row in rows], "pagination": paging})


def _row(row: dict[str, Any]) -> dict[str, Any]:
    billed = row["credits"] if row["credits"] and row["outcome"] != "error" else 0
    return {
        "created": stamp(datetime.fromisoformat(row["at"])),
        "status": "succeeded" if row["generation_id"] else "failed",
        "model": row["model"],
        "cost": {"usd": float(usd(billed)), "credits": billed},
        "request_id": row["request_id"],
        "inference_id": row["generation_id"],
        "client_request_id": row["client_request_id"],
    }


def _filters(request: Request) -> tuple[str, list[object]]:
    where, values = "", list[object]()
    models = request.query_params.getlist("model")
    if models:
        where += f" AND r.model IN ({', '.join('?' * len(models))})"
        values += models
    statuses = request.query_params.getlist("status")
    strange = [each for each in statuses if each not in STATUSES]
    if strange:
        raise QueryError(f"status: Invalid enum value. Expected 'succeeded' | 'failed', received '{strange[0]}'")
    if len(set(statuses)) == 1:
        where += f" AND r.generation_id IS {'NOT ' if statuses[0] == 'succeeded' else ''}NULL"
    return where, values


def _window(request: Request, now: datetime) -> tuple[datetime, datetime]:
    query = request.query_params
    if "start" in query:
        start, end = moment(request, "start"), moment(request, "end") if "end" in query else now
    else:
        found = _PERIOD.fullmatch(query.get("period", "24h"))
        if not found:
            raise QueryError("period: Expected a number and m, h or d")
        start, end = now - timedelta(**{_UNITS[found[2]]: int(found[1])}), now
    if end < start:
        raise QueryError("end: Must not be before start")
    if end - start > LONGEST:
        raise QueryError(f"start: The range must not be longer than {LONGEST.days} days")
    return start, end


def moment(request: Request, name: str) -> datetime:
    """A date of the query, aware UTC; one without a zone is UTC."""
    try:
        found = datetime.fromisoformat(request.query_params[name])
    except ValueError:
        raise QueryError(f"{name}: Invalid datetime") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query."""
    given = request.query_params.get(name, str(default))
    if not re.fullmatch(r"\d{1,12}", given, re.ASCII) or not least <= int(given) <= most:
        raise QueryError(f"{name}: Expected an integer from {least} to {most}")
    return int(given)

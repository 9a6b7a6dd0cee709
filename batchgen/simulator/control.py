"""The back door for tests: set faults, read the ledger. No service has it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchgen.errors import UsageError
from batchgen.simulator.answers import answer, refuse
from batchgen.simulator.studio import studio

PREFIX = "/_simulator"


async def put_faults(request: Request) -> Response:
    """Put the faults of the body in force, in place of all others."""
    plan = await request.json()
    if not isinstance(plan, dict):
        return refuse(request, 400, "the faults must be an object of places")
    try:
        studio(request).faults.replace(plan)
    except UsageError as error:
        return refuse(request, 400, str(error))
    return await get_faults(request)


async def get_faults(request: Request) -> Response:
    """The faults in force, and how often each has fired."""
    faults = studio(request).faults
    plan = {place: {name: asdict(each) for name, each in named.items()} for place, named in faults.plan.items()}
    return answer({"plan": plan, "fired": {f"{place}.{name}": times for (place, name), times in faults.fired.items()}})


async def get_ledger(request: Request) -> Response:
    """What was accepted and charged, as JSON."""
    service = studio(request)
    ledger = service.ledger
    requests = ledger.query("SELECT kind, status, count(*) AS times FROM requests GROUP BY kind, status ORDER BY 1, 2")
    told: dict[str, Any] = {
        "accepted": ledger.count(),
        "duplicates": ledger.duplicates(),
        "in_flight": ledger.in_flight(service.clock.now()),
        "charged_usd": str(ledger.charged_usd(service.clock.now())),
        "promised_usd": str(ledger.charged_usd()),
        "key_leaks": ledger.key_leaks(),
        "requests": requests,
    }
    if "generations" in request.query_params:
        told["generations"] = ledger.query(
            "SELECT g.id, g.digest, g.client_request_id, g.model, g.endpoint, g.created_at, g.finishes_at, g.outcome,"
            " g.credits, count(*) FILTER (WHERE r.kind = 'fetch') AS fetches,"
            " count(*) FILTER (WHERE r.kind = 'cdn') AS downloads"
            " FROM generations AS g LEFT JOIN requests AS r ON r.generation_id = g.id"
            " GROUP BY g.id ORDER BY g.created_at, g.rowid"
        )
    return answer(told)


ROUTES = (
    Route(f"{PREFIX}/faults", put_faults, methods=["PUT"]),
    Route(f"{PREFIX}/faults", get_faults),
    Route(f"{PREFIX}/ledger", get_ledger),
)

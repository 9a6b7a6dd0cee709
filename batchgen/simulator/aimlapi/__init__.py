"""The API of AI/ML API, imitated: its routes, and the one body that all its errors have. Source: its published
reference, as of August 2026.
"""

import uuid

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchgen.catalogue import register
from batchgen.clock import utcnow
from batchgen.simulator.aimlapi import generations, questions
from batchgen.simulator.calls import Endpoint
from batchgen.simulator.ledger import RequestRecord

GENERATION_PATHS = sorted({path for model in register.models() for path in register.endpoints(model)})

ROUTES = (
    *(Route(path, Endpoint("create", generations.create), methods=["POST"]) for path in GENERATION_PATHS),
    *(Route(path, Endpoint("fetch", generations.fetch), methods=["GET"]) for path in GENERATION_PATHS),
    Route("/v2/logs", Endpoint("log", questions.log), methods=["GET"]),
    Route("/v2/billing", Endpoint("billing", questions.balance), methods=["GET"]),
    Route("/v2/billing/transactions", Endpoint("billing", questions.transactions), methods=["GET"]),
    Route("/v1/models", Endpoint("models", questions.catalogue, needs_key=False), methods=["GET"]),
    Route("/models/metrics", Endpoint("models", questions.metrics, needs_key=False), methods=["GET"]),
)


async def error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    record: RequestRecord | None = getattr(request.state, "record", None)  # of a request that has an endpoint
    content = {
        "message": f"Cannot {request.method} {path}" if error.detail == "Not Found" else error.detail,
        "path": path,
        "requestId": record.request_id if record else str(uuid.uuid4()),
        "statusCode": error.status_code,
        "timestamp": utcnow().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    headers = dict(error.headers or {})
    # A refused create has an id as well, in its answer and in the log: an id is no proof of a generation.
    if error.status_code != 401 and record and record.reserved_id:
        headers["x-inference-id"] = record.reserved_id
    return JSONResponse(content, error.status_code, headers)

"""The simulated service as a web application: its routes, and its errors for what is no route."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from batchgen.catalogue import endpoints, models
from batchgen.simulator import addresses, control
from batchgen.simulator.answers import path, refuse
from batchgen.simulator.billing import balance, transactions
from batchgen.simulator.calls import keyed, public
from batchgen.simulator.cdn import download
from batchgen.simulator.creating import create
from batchgen.simulator.fetching import fetch
from batchgen.simulator.logs import log
from batchgen.simulator.models import catalogue, metrics
from batchgen.simulator.studio import Studio

GENERATION_PATHS = sorted({path for model in models() for path in endpoints(model)})

defects = logging.getLogger(__name__)


def application(service: Studio) -> Starlette:
    """Everything that `service` answers to."""
    generations = [
        Route(path, keyed(kind, handler), methods=[method])
        for path in GENERATION_PATHS
        for method, kind, handler in (("POST", "create", create), ("GET", "fetch", fetch))
    ]
    app = Starlette(
        routes=[
            *generations,
            Route("/v2/logs", keyed("log", log)),
            Route("/v2/billing", keyed("billing", balance)),
            Route("/v2/billing/transactions", keyed("billing", transactions)),
            Route("/v1/models", public("models", catalogue)),
            Route("/models/metrics", public("models", metrics)),
            Route(f"{addresses.FOLDER}/{{file}}", public("cdn", download)),
            *control.ROUTES,
        ],
        exception_handlers={HTTPException: _no_route, Exception: _defect},
    )
    app.state.studio = service
    return app


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"Cannot {request.method} {path(request)}" if error.status_code == 404 else error.detail
    return refuse(request, error.status_code, message)


async def _defect(request: Request, error: Exception) -> Response:
    defects.error("defect in the simulator at %s %s", request.method, path(request), exc_info=error)
    return refuse(request, 500, f"The simulator has a defect: {type(error).__name__}: {error}")

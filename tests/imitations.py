"""The services that plug-ins are held against: imitations on sockets, each with a ledger of what it accepted."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from batchgen.services.base import Submission
from batchgen.services.registry import plugin
from batchgen.simulator.service import Simulation
from batchgen.testing import Imitation
from tests.batches import TEXT_MODEL, Bill
from tests.fileserver import CLIP
from tests.serving import served


class SimulatedAimlApi:
    """The AI/ML API, imitated by batchgen's simulator."""

    service = "aimlapi"
    jobs: Sequence[Mapping[str, Any]] = [
        {"id": name, "model": TEXT_MODEL, "prompt": f"A {name}."} for name in ("lighthouse", "balloon", "harbour")
    ]

    def __init__(self, base_url: str, ledger: Path) -> None:
        self.plugin = plugin(self.service)
        self.base_url, self.bill = base_url, Bill(ledger)

    def submission(self, prompt: str) -> Submission:
        request = json.dumps({"model": TEXT_MODEL, "prompt": prompt, "duration": 5})
        return Submission(TEXT_MODEL, "/v2/video/generations", request, "")

    def is_create(self, method: str, _path: str) -> bool:
        return method == "POST"

    def accepted(self) -> Sequence[str]:
        return [row["id"] for row in self.bill.accepted]


@contextmanager
def aimlapi(folder: Path) -> Iterator[Imitation]:
    ledger = folder / "aimlapi.ledger"
    simulation = Simulation(ledger=ledger, speed=2_000.0, instant=True, lag_seconds=0.0)
    with served(simulation) as environment:
        yield SimulatedAimlApi(environment["AIMLAPI_BASE_URL"], ledger)


@contextmanager
def queueworks(_folder: Path) -> Iterator[Imitation]:
    from tests.plugins.queueworks_server import Queueworks

    service = Queueworks(CLIP)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(service.application, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield service
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def instantworks(folder: Path) -> Iterator[Imitation]:
    """Queueworks' server, of which this plug-in uses the creates alone."""
    with queueworks(folder) as service:
        service.service, service.plugin = "instantworks", plugin("instantworks")
        yield service


IMITATIONS = {"aimlapi": aimlapi, "queueworks": queueworks}

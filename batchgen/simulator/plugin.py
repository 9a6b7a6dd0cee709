"""The simulator as a service: started when a run begins, stopped when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from batchgen.services.account import Account, Variables
from batchgen.services.aimlapi import FEATURES, AimlApi, handle_of
from batchgen.services.base import Service
from batchgen.services.registry import SIMULATOR, Plugin

SPEED = 120.0  # times real speed: a clip of 3 to 4 minutes takes 2 seconds


@asynccontextmanager
async def connect(_account: Account, ledger: Path | None) -> AsyncIterator[Service]:
    """A simulator of its own. Its ledger is a file, or in memory without one; its address does not last."""
    # Imported here: whoever asks for the account needs no server.
    from batchgen.simulator.server import serve
    from batchgen.simulator.service import Simulation

    features = replace(FEATURES, has_lasting_address=False, speed=SPEED)
    async with serve(Simulation(ledger=ledger, speed=SPEED)) as base_url:
        service = AimlApi(base_url, "simulated", name=SIMULATOR, features=features)
        try:
            yield service
        finally:
            await service.close()


PLUGIN = Plugin(Variables(), connect, handle_of)

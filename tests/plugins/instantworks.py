"""Instantworks, an invented service of a third shape: it answers a create with the file, and remembers nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import queueworks  # type: ignore[import-not-found]  # an installer puts both at the top

from batchgen.services.account import Account
from batchgen.services.base import Adoption, Features, Service, Submission
from batchgen.services.outcomes import Accepted, Finished, SubmitOutcome
from batchgen.services.registry import Plugin


class Instantworks(queueworks.Queueworks):  # type: ignore[misc]
    name = "instantworks"
    features = Features(adopt=Adoption.NONE)
    cancel = Service.cancel

    async def submit(self, submission: Submission) -> SubmitOutcome:
        outcome: SubmitOutcome = await super().submit(submission)
        file = {"file": f"{self.base_url}/files/clip.mp4"}
        return replace(outcome, handle=file) if isinstance(outcome, Accepted) else outcome

    async def fetch(self, handle: Mapping[str, Any]) -> Finished:
        return Finished((handle["file"],))


@asynccontextmanager
async def connect(account: Account, _state: Path | None) -> AsyncIterator[Service]:
    service = Instantworks(account)
    try:
        yield service
    finally:
        await service.close()


PLUGIN = Plugin(queueworks.VARIABLES, connect, lambda generation_id, _: {"file": f"/files/{generation_id}"})

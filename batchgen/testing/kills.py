"""Runs of `batchgen` with a plug-in that are killed around a paid request, and go on with the same command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from batchgen.errors import ExitCode
from batchgen.services.account import Account
from batchgen.services.base import Adoption
from batchgen.testing.bench import KEY, Imitation, expect
from batchgen.testing.proxy import Proxy, proxied

MOMENTS = ("sent", "accepted")
"""When a run is killed: before the service has its first request, or before the run has the answer to it."""
LIMITS = {"in_flight": 4, "submits_per_minute": 600, "unconfirmed_minutes": 0.1, "on_unconfirmed": "resubmit"}
RUN_SECONDS = 120


async def check_kill(moment: str, imitation: Imitation, folder: Path) -> None:
    """Kill a run at a moment of its first create request, run the same command again, and compare both sides.

    Where a service can prove nothing about a lost request, its job is held for a person. Raises `NotConformant` where a
    job is paid for twice, or otherwise not delivered.
    """
    manifest = folder / "conformance.yaml"
    header = {"service": imitation.service, "limits": LIMITS}
    manifest.write_text(json.dumps({**header, "jobs": list(imitation.jobs)}), encoding="utf-8")
    async with proxied(imitation.base_url, imitation.is_create) as proxy:
        process = await start(imitation, proxy, manifest)

        async def kill(now: str) -> None:
            if now == moment and process.returncode is None:
                process.kill()
                await process.wait()

        proxy.on_create = kill
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
        expect(process.returncode == -9, f"the run was not killed: {output.decode()}")
        proxy.on_create = None
        async with imitation.plugin.connect(Account(proxy.base_url, KEY), None) as service:
            adopts = service.features.adopt is not Adoption.NONE
        process = await start(imitation, proxy, manifest)
        output, _ = await asyncio.wait_for(process.communicate(), RUN_SECONDS)
    jobs, accepted = len(imitation.jobs), len(imitation.accepted())
    is_held = not adopts and process.returncode == ExitCode.INCOMPLETE and b"held for a person" in output
    expect(process.returncode == 0 or is_held, f"not every job was delivered: {output.decode()}")
    expect(accepted == jobs or (is_held and accepted < jobs), f"{accepted} generations were accepted for {jobs} jobs")
    expect(KEY not in output.decode(), "the key is in the output")


async def start(imitation: Imitation, proxy: Proxy, manifest: Path) -> asyncio.subprocess.Process:
    variables = imitation.plugin.variables
    account = {variables.key: KEY, variables.base_url: proxy.base_url}
    command = (sys.executable, "-m", "batchgen", "run", str(manifest))
    return await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **account}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )

"""The simulator as a process: killed, started again, and two on one ledger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE

import httpx2 as httpx
import pytest

from batchgen.simulator.ledger import Ledger
from batchgen.simulator.server import run_forever
from batchgen.simulator.service import Simulation
from tests.forks import Fork

from .client import (
    INSTANT_SPEED,
    UNIVERSAL,
    body,
    client_of,
    create,
    download,
    finish,
    ledger,
    simulated,
    video_url,
    wait_for_acceptance,
)


@contextmanager
def process(*arguments: str) -> Iterator[tuple[Fork, str, str]]:
    """A simulator in a process, its base URL and the address of its controls."""
    command = ["-m", "batchgen", "simulate", "--port", "0", "--instant", "--speed", str(INSTANT_SPEED)]
    with Fork([*command, *arguments], stdout=PIPE, stderr=PIPE) as running:
        try:
            assert running.stdout
            yield running, running.stdout.readline().strip(), running.stdout.readline().strip()
        finally:
            running.terminate()


@pytest.mark.slow
async def test_a_killed_service_still_has_its_generations(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with process("--ledger", str(path)) as (running, base_url, _):
        async with client_of(base_url) as client:
            generation_id = await create(client)
            running.kill()
            running.wait()
    with process("--ledger", str(path)) as (_, base_url, _):
        async with client_of(base_url) as client:
            video = (await finish(client, generation_id))["video"]
            first = await download(video["url"])
    with process("--ledger", str(path)) as (_, base_url, _):
        async with client_of(base_url) as client:
            again = await download((await finish(client, generation_id))["video"]["url"])
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])


async def test_a_create_without_an_answer_is_in_the_ledger_of_a_killed_service(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    faults = json.dumps({"create": {"accept_then_stall": 1}})
    with process("--ledger", str(path), "--faults", faults) as (running, base_url, control):
        async with client_of(base_url, control) as client:
            stalled = asyncio.create_task(client.post(UNIVERSAL, json=body()))
            await wait_for_acceptance(client)
            running.kill()
            with pytest.raises(httpx.TransportError):
                await stalled
    reopened = Ledger(path)
    assert len(reopened.accepted()) == 1
    assert reopened.charged_usd() == Decimal("0.2941")
    reopened.close()


@pytest.mark.slow
async def test_two_processes_share_one_ledger(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    with process("--ledger", path) as (_, one, control), process("--ledger", path) as (_, two, _):
        async with client_of(one, control) as first, client_of(two) as second:

            async def create_many(client: httpx.AsyncClient, name: str) -> list[str]:
                return [await create(client, prompt=f"{name} {number}") for number in range(40)]

            ids = await asyncio.gather(create_many(first, "one"), create_many(second, "two"))
            for other, its_ids in ((second, ids[0][:3]), (first, ids[1][:3])):
                for generation_id in its_ids:
                    video = (await finish(other, generation_id))["video"]
                    assert len((await download(video["url"])).content) == video["file_size"]
            content = await ledger(first)
    assert (len(content["accepted"]), content["duplicates"]) == (80, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly(number: signal.Signals) -> None:
    with process() as (running, base_url, control):
        assert base_url.startswith("http://127.0.0.1:")
        assert control.startswith(f"{base_url}/_simulator/")
        running.send_signal(number)
        output, errors = running.communicate()
        assert (running.returncode, output) == (0, "")
        assert errors.count("\n") == 1, "more than the line that says how to use the simulator"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--faults", '{"create": {"explode": 1}}'], 2, "explode"),
        (["--faults", "5"], 2, "the faults must be an object"),
        (["--ledger", "/nowhere/ledger.db"], 8, "/nowhere/ledger.db"),
        (["--speed", "0"], 2, "speed"),
        (["--host", "203.0.113.1"], 2, "203.0.113.1"),
    ],
)
def test_a_simulator_that_cannot_start_says_why_in_one_line(arguments: list[str], code: int, word: str) -> None:
    with process(*arguments) as (running, *_):
        _, errors = running.communicate()
        assert running.returncode == code
        assert word in errors
        assert errors.count("\n") == 1


async def test_the_limits_of_the_account_are_options() -> None:
    with process("--limits", '{"balance_usd": 0.30}') as (_, base_url, _):
        async with client_of(base_url) as client:
            statuses = [(await client.post(UNIVERSAL, json=body(f"{number}"))).status_code for number in range(2)]
            assert statuses == [201, 403]


def test_running_forever_hands_over_its_url_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    ready: list[str] = []

    def on_ready(base_url: str) -> None:
        ready.append(base_url)
        os.kill(os.getpid(), signal.SIGTERM)

    run_forever(Simulation(), "127.0.0.1", 0, on_ready)
    assert ready[0].startswith("http://127.0.0.1:")
    assert capfd.readouterr() == ("", "")


def test_a_simulator_that_ends_leaves_no_clips_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def download_one() -> bytes:
        async with simulated() as client:
            return (await download(await video_url(client))).content

    assert asyncio.run(download_one())
    assert list(tmp_path.iterdir()) == []

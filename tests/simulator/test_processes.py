"""The simulator as a process: killed, run again, and two on one ledger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from batchgen.simulator import Ledger, Simulation, run_forever

from .conversation import AT_ONCE, KEY, UNIVERSAL, VERIFY, body, create, download, finish, one_is_accepted


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator of its own process, and its base URL."""
    command = [sys.executable, "-m", "batchgen.simulator", "--instant", "--speed", str(AT_ONCE), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


def speak(base_url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=base_url, headers=KEY, trust_env=False, verify=VERIFY, timeout=10)


async def test_a_killed_service_finds_its_generations_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with process("--ledger", str(path)) as (running, base_url):
        async with speak(base_url) as client:
            generation_id = await create(client)
            running.kill()  # no word, no time to write
            running.wait()
    with process("--ledger", str(path)) as (_, base_url):
        async with speak(base_url) as client:
            video = (await finish(client, generation_id))["video"]
            first = await download(video["url"])
    with process("--ledger", str(path)) as (_, base_url):
        async with speak(base_url) as client:
            again = await download((await finish(client, generation_id))["video"]["url"])
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])


async def test_a_create_that_was_never_answered_is_on_the_ledger_of_a_killed_service(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    faults = json.dumps({"create": {"accept_then_stall": 1}})
    with process("--ledger", str(path), "--faults", faults) as (running, base_url):
        async with speak(base_url) as client:
            hanging = asyncio.create_task(client.post(UNIVERSAL, json=body()))
            await one_is_accepted(client)
            running.kill()
            with pytest.raises(httpx.TransportError):
                await hanging
    ledger = Ledger(path)
    assert len(ledger.accepted()) == 1
    assert ledger.charged_usd() == Decimal("0.2941")
    ledger.close()


async def test_two_processes_share_one_ledger(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    with process("--ledger", path) as (_, one), process("--ledger", path) as (_, two):
        async with speak(one) as first, speak(two) as second:

            async def make(client: httpx.AsyncClient, name: str) -> list[str]:
                return [await create(client, prompt=f"{name} {at}") for at in range(40)]

            mine, yours = await asyncio.gather(make(first, "one"), make(second, "two"))
            for there, ids in ((second, mine[:3]), (first, yours[:3])):
                for each in ids:
                    video = (await finish(there, each))["video"]
                    assert len((await download(video["url"])).content) == video["file_size"]
            told: dict[str, Any] = (await first.get("/_simulator/ledger")).json()
    assert (told["accepted"], told["duplicates"]) == (80, {})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_cleanly_and_without_a_word(number: signal.Signals) -> None:
    with process() as (running, base_url):
        assert base_url.startswith("http://127.0.0.1:")
        running.send_signal(number)
        said, complained = running.communicate()
        assert (running.returncode, said, complained) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--faults", '{"create": {"explode": 1}}'], 2, "explode"),
        (["--ledger", "/nowhere/ledger.db"], 8, "/nowhere/ledger.db"),
        (["--speed", "0"], 2, "speed"),
        (["--host", "203.0.113.1"], 2, "203.0.113.1"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(arguments: list[str], code: int, word: str) -> None:
    with process(*arguments) as (running, _):
        _, complained = running.communicate()
        assert running.returncode == code
        assert word in complained
        assert complained.count("\n") == 1


async def test_the_limits_of_the_account_are_set_from_outside() -> None:
    with process("--limits", '{"balance_usd": 0.30}') as (_, base_url):
        async with speak(base_url) as client:
            answers = [(await client.post(UNIVERSAL, json=body(f"{at}"))).status_code for at in range(2)]
            assert answers == [201, 403]


def test_running_forever_tells_its_address_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    ready: list[str] = []

    def on_ready(base_url: str) -> None:
        ready.append(base_url)
        os.kill(os.getpid(), signal.SIGTERM)

    run_forever(Simulation(), "127.0.0.1", 0, on_ready)
    assert ready[0].startswith("http://127.0.0.1:")
    assert capfd.readouterr() == ("", "")

"""Faults: what each does to the wire, and what the ledger says of it."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest

from batchgen.errors import UsageError
from batchgen.simulator.faults import NAMES, Faults

from .conversation import UNIVERSAL, body, create, fetch, finish, ledger, one_is_accepted, simulated


def say(base_url: str, prompt: str) -> bytes:
    """Create over a bare socket, and read to the end of the stream."""
    content = json.dumps(body(prompt)).encode()
    head = (
        f"POST {UNIVERSAL} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Bearer k\r\nX-Client-Request-Id: r-1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    address = urlsplit(base_url)
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=10) as line:
        line.sendall(head.encode() + content)
        heard = b""
        while chunk := line.recv(65536):
            heard += chunk
    return heard


@pytest.mark.parametrize("length", [0, 1, 9, 17, 60, 200, 230])
async def test_an_answer_is_cut_after_exactly_so_many_bytes(length: int) -> None:
    plan = {"create": {"accept_then_truncate": {"bytes": length}}}
    async with simulated(faults=plan) as client:
        heard = await asyncio.to_thread(say, str(client.base_url), "a")
        assert len(heard) == length
        assert heard == b"HTTP/1.1 201 Created\r\n"[:length] or heard.startswith(b"HTTP/1.1 201 Created\r\n")
        assert (await ledger(client))["accepted"] == 1


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_cut_never_leaves_a_whole_answer(seed: int) -> None:
    async with simulated(seed=seed, faults={"create": {"accept_then_truncate": 1}}) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(UNIVERSAL, json=body())


@pytest.mark.parametrize("name", [each for each in NAMES["create"] if each.startswith("accept")])
async def test_what_is_accepted_is_charged_though_no_readable_id_comes_back(name: str) -> None:
    async with simulated(faults={"create": {name: {"count": 1}}}) as client:
        try:
            answer = await client.post(UNIVERSAL, json=body(), timeout=0.3)
        except httpx.TransportError as error:
            assert isinstance(error, httpx.ReadTimeout) == (name == "accept_then_stall")
        else:
            if name == "accept_then_garbage":
                assert answer.status_code == 200
                assert '"id":"' not in answer.text
            else:
                assert answer.status_code == int(name[-3:])
                assert "id" not in answer.json()
        assert (await ledger(client))["accepted"] == 1
        await client.post(UNIVERSAL, json=body())
        assert len((await ledger(client))["duplicates"]) == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [("refuse_500", 500), ("throttle_429", 429), ("auth_401", 401), ("credits_403", 403), ("reject_400", 400)],
)
async def test_what_is_refused_is_not_accepted(name: str, status: int) -> None:
    async with simulated(faults={"create": {name: {"count": 1}}}) as client:
        assert (await client.post(UNIVERSAL, json=body())).status_code == status
        assert (await ledger(client))["accepted"] == 0
        await create(client)


async def test_a_reset_comes_before_anything_is_accepted() -> None:
    async with simulated(faults={"create": {"reset_before_accept": 1}}) as client:
        with pytest.raises((httpx.ReadError, httpx.WriteError)):
            await client.post(UNIVERSAL, json=body())
        assert (await ledger(client))["accepted"] == 0


async def test_a_throttle_names_its_wait_or_none() -> None:
    async with simulated(faults={"create": {"throttle_429": {"retry_after": 7}}}) as client:
        assert (await client.post(UNIVERSAL, json=body())).headers["retry-after"] == "7"
        await client.put("/_simulator/faults", json={"create": {"throttle_429": 1}})
        answers = [await client.post(UNIVERSAL, json=body(f"{at}")) for at in range(20)]
        assert {each.headers.get("retry-after") for each in answers} == {None, "1"}


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("drop", httpx.TransportError),
        ("stall", httpx.ReadTimeout),
        ("500", 500),
        ("502", 502),
        ("503", 503),
        ("429", 429),
        ("not_found_lag", 404),
    ],
)
async def test_a_fetch_fails_and_the_next_one_is_well(name: str, seen: int | type[Exception]) -> None:
    async with simulated(faults={"fetch": {name: {"count": 1}}}) as client:
        generation_id = await create(client)
        if isinstance(seen, int):
            assert (await fetch(client, generation_id)).status_code == seen
        else:
            with pytest.raises(seen):
                await client.get(UNIVERSAL, params={"generation_id": generation_id}, timeout=0.3)
        assert (await finish(client, generation_id))["status"] == "completed"


async def test_only_the_first_fetches_of_a_generation_find_nothing() -> None:
    async with simulated(faults={"fetch": {"not_found_lag": 1}}) as client:
        generation_id = await create(client)
        assert [(await fetch(client, generation_id)).status_code for _ in range(4)] == [404, 404, 200, 200]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"unknown_status": 1}, {"status": "moderating"}),
        ({"completed_without_url": 1}, {"status": "completed"}),
        ({"generation_error": 1, "error_without_message": 1}, {"status": "error", "error": {"name": "Error"}}),
        ({"stuck": 1}, {"status": "generating"}),
    ],
)
async def test_a_fetch_says_odd_things(plan: dict[str, Any], expected: dict[str, Any]) -> None:
    async with simulated(faults={"fetch": plan}) as client:
        generation_id = await create(client)
        assert (await fetch(client, generation_id)).json() == {"id": generation_id, **expected}


async def test_the_end_is_spelt_in_other_ways() -> None:
    async with simulated(faults={"fetch": {"status_case": 1}}) as client:
        ids = [await create(client, prompt=f"{at}") for at in range(20)]
        told = [(await fetch(client, each)).json() for each in ids]
        assert {each["status"] for each in told} == {"Completed", "complete"}
        assert all(each["video"]["url"] for each in told)


async def test_a_failed_generation_tells_why_and_is_not_charged() -> None:
    async with simulated(faults={"fetch": {"generation_error": 1}}) as client:
        told = await finish(client, await create(client))
        assert set(told["error"]) == {"name", "message"}
        assert (await ledger(client))["promised_usd"] == "0"


async def test_the_server_closes_while_a_call_is_left_hanging() -> None:
    async with simulated(faults={"create": {"accept_then_stall": 1}}) as client:
        hanging = asyncio.create_task(client.post(UNIVERSAL, json=body()))
        await one_is_accepted(client)
    with pytest.raises(httpx.TransportError):
        await hanging


async def test_faults_are_changed_while_the_service_runs_and_counted() -> None:
    async with simulated() as client:
        await create(client)
        await client.put("/_simulator/faults", json={"create": {"refuse_500": {"count": 2}}})
        answers = [(await client.post(UNIVERSAL, json=body(f"{at}"))).status_code for at in range(3)]
        assert answers == [500, 500, 201]
        assert (await client.get("/_simulator/faults")).json()["fired"] == {"create.refuse_500": 2}


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        ({"nowhere": {}}, "nowhere"),
        ({"create": {"explode": 1}}, "explode"),
        ({"create": {"refuse_500": {"often": 1}}}, "often"),
        ({"create": {"refuse_500": 1.5}}, "1.5"),
        ({"create": {"refuse_500": "yes"}}, "number"),
        ({"create": 1}, "create"),
    ],
)
async def test_a_fault_that_does_not_exist_is_named(plan: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Faults(plan, 0)
    async with simulated() as client:
        answer = await client.put("/_simulator/faults", json=plan)
        assert answer.status_code == 400
        assert word in answer.json()["message"]


def test_what_befalls_a_request_does_not_depend_on_the_order_of_requests() -> None:
    plan = {"create": {"refuse_500": 0.3, "accept_then_drop": 0.3}}
    subjects = [f"job {at}" for at in range(200)]

    def drawn(order: list[str], seed: int) -> dict[str, str]:
        faults = Faults(plan, seed)
        found = {each: faults.draw("create", each, NAMES["create"]) for each in order}
        return {subject: fault.name for subject, fault in found.items() if fault}

    assert drawn(subjects, 1) == drawn(subjects[::-1], 1)
    assert drawn(subjects, 1) != drawn(subjects, 2)
    assert 60 < len(drawn(subjects, 1)) < 150

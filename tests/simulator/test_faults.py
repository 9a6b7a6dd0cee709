"""Faults: what a client sees of them, and what the ledger has."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from click.testing import CliRunner

from batchgen.cli import load
from batchgen.errors import UsageError
from batchgen.simulator.faults import NAMES, Faults

from .client import UNIVERSAL, accepted, body, create, fetch, finish, ledger, set_faults, simulated, wait_for_acceptance


def create_over_socket(base_url: str) -> bytes:
    """Send a create, and return every byte up to the end of the stream."""
    content = json.dumps(body()).encode()
    head = (
        f"POST {UNIVERSAL} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Bearer k\r\nX-Client-Request-Id: r-1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    address = urlsplit(base_url)
    assert address.port
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode() + content)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize("length", [0, 1, 9, 17, 60, 200, 230])
async def test_an_answer_is_cut_at_an_exact_byte(length: int) -> None:
    faults = {"create": {"accept_then_truncate": {"bytes": length}}}
    async with simulated(faults=faults) as client:
        received = await asyncio.to_thread(create_over_socket, str(client.base_url))
        assert len(received) == length
        assert received[:22] == b"HTTP/1.1 201 Created\r\n"[:length]
        assert len(await accepted(client)) == 1


@pytest.mark.parametrize("seed", range(6))
async def test_an_answer_that_is_cut_at_random_is_never_whole(seed: int) -> None:
    async with simulated(seed=seed, faults={"create": {"accept_then_truncate": 1}}) as client:
        with pytest.raises(httpx.TransportError):
            await client.post(UNIVERSAL, json=body())


@pytest.mark.parametrize("name", [fault for fault in NAMES["create"] if fault.startswith("accept")])
async def test_an_accepted_create_is_in_the_ledger_though_the_client_gets_no_id(name: str) -> None:
    async with simulated(faults={"create": {name: {"count": 1}}}) as client:
        try:
            response = await client.post(UNIVERSAL, json=body(), timeout=0.3)
        except httpx.TransportError as error:
            assert isinstance(error, httpx.ReadTimeout) == (name == "accept_then_stall")
        else:
            if name == "accept_then_garbage":
                assert response.status_code == 200
                assert '"id":"' not in response.text
            else:
                assert response.status_code == int(name[-3:])
                assert "id" not in response.json()
        assert len(await accepted(client)) == 1
        await client.post(UNIVERSAL, json=body())
        assert len((await ledger(client))["duplicates"]) == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [("refuse_500", 500), ("throttle_429", 429), ("auth_401", 401), ("credits_403", 403), ("reject_400", 400)],
)
async def test_a_refused_create_is_not_accepted(name: str, status: int) -> None:
    async with simulated(faults={"create": {name: {"count": 1}}}) as client:
        assert (await client.post(UNIVERSAL, json=body())).status_code == status
        assert await accepted(client) == []
        await create(client)


async def test_a_connection_is_reset_before_anything_is_accepted() -> None:
    async with simulated(faults={"create": {"reset_before_accept": 1}}) as client:
        with pytest.raises((httpx.ReadError, httpx.WriteError)):
            await client.post(UNIVERSAL, json=body())
        assert await accepted(client) == []


async def test_a_throttled_create_has_the_retry_after_of_the_fault_or_sometimes_none() -> None:
    async with simulated(faults={"create": {"throttle_429": {"retry_after": 7}}}) as client:
        assert (await client.post(UNIVERSAL, json=body())).headers["retry-after"] == "7"
        await set_faults(client, {"create": {"throttle_429": 1}})
        responses = [await client.post(UNIVERSAL, json=body(f"{number}")) for number in range(20)]
        assert {response.headers.get("retry-after") for response in responses} == {None, "1"}


@pytest.mark.parametrize(
    ("name", "failure"),
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
async def test_a_fetch_fails_and_the_next_one_succeeds(name: str, failure: int | type[Exception]) -> None:
    async with simulated(faults={"fetch": {name: {"count": 1}}}) as client:
        generation_id = await create(client)
        if isinstance(failure, int):
            assert (await fetch(client, generation_id)).status_code == failure
        else:
            with pytest.raises(failure):
                await client.get(UNIVERSAL, params={"generation_id": generation_id}, timeout=0.3)
        assert (await finish(client, generation_id))["status"] == "completed"


async def test_only_the_first_two_fetches_of_a_generation_are_not_found() -> None:
    async with simulated(faults={"fetch": {"not_found_lag": 1}}) as client:
        generation_id = await create(client)
        assert [(await fetch(client, generation_id)).status_code for _ in range(4)] == [404, 404, 200, 200]


@pytest.mark.parametrize(
    ("faults", "answer"),
    [
        ({"unknown_status": 1}, {"status": "moderating"}),
        ({"completed_without_url": 1}, {"status": "completed"}),
        ({"generation_error": 1, "error_without_message": 1}, {"status": "error", "error": {"name": "Error"}}),
        ({"stuck": 1}, {"status": "generating"}),
    ],
)
async def test_a_fetch_is_answered_with_something_unusual(faults: dict[str, Any], answer: dict[str, Any]) -> None:
    async with simulated(faults={"fetch": faults}) as client:
        generation_id = await create(client)
        assert (await fetch(client, generation_id)).json() == {"id": generation_id, **answer}


async def test_the_final_status_is_spelt_in_other_ways() -> None:
    async with simulated(faults={"fetch": {"status_case": 1}}) as client:
        ids = [await create(client, prompt=f"{number}") for number in range(20)]
        answers = [(await fetch(client, generation_id)).json() for generation_id in ids]
        assert {answer["status"] for answer in answers} == {"Completed", "complete"}
        assert all(answer["video"]["url"] for answer in answers)


async def test_a_failed_generation_has_a_reason_and_is_not_charged() -> None:
    async with simulated(faults={"fetch": {"generation_error": 1}}) as client:
        generation = await finish(client, await create(client))
        assert set(generation["error"]) == {"name", "message"}
        assert (await client.get("/v2/billing")).json()["current_balance"] == 1_000_000


async def test_the_server_ends_while_a_request_is_stalled() -> None:
    async with simulated(faults={"create": {"accept_then_stall": 1}}) as client:
        stalled = asyncio.create_task(client.post(UNIVERSAL, json=body()))
        await wait_for_acceptance(client)
    with pytest.raises(httpx.TransportError):
        await stalled


async def test_faults_are_replaced_and_counted_while_the_service_runs() -> None:
    async with simulated() as client:
        await create(client)
        await set_faults(client, {"create": {"refuse_500": {"count": 2}}})
        statuses = [(await client.post(UNIVERSAL, json=body(f"{number}"))).status_code for number in range(3)]
        assert statuses == [500, 500, 201]
        assert (await set_faults(client, {})).json() == {"fired": {"create.refuse_500": 2}}


@pytest.mark.parametrize(
    ("faults", "word"),
    [
        ({"nowhere": {}}, "nowhere"),
        ({"create": {"explode": 1}}, "explode"),
        ({"create": {"refuse_500": {"often": 1}}}, "often"),
        ({"create": {"refuse_500": 1.5}}, "refuse_500.probability"),
        ({"billing": {"late": {"seconds": 1e30}}}, "late.seconds"),
        ({"create": {"refuse_500": "yes"}}, "number"),
        ({"create": 1}, "create"),
    ],
)
async def test_an_unknown_fault_is_refused_by_its_name(faults: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        Faults(faults, 0)
    async with simulated() as client:
        response = await set_faults(client, faults)
        assert response.status_code == 400
        assert word in response.json()["message"]


def test_faults_do_not_depend_on_the_order_of_requests() -> None:
    plan = {"create": {"refuse_500": 0.3, "accept_then_drop": 0.3}}
    jobs = [f"job {number}" for number in range(200)]

    def faults_of(order: list[str], seed: int) -> dict[str, str]:
        faults = Faults(plan, seed)
        drawn = {job: faults.draw("create", job, NAMES["create"]) for job in order}
        return {job: fault.name for job, fault in drawn.items() if fault}

    assert faults_of(jobs, 1) == faults_of(jobs[::-1], 1)
    assert faults_of(jobs, 1) != faults_of(jobs, 2)
    assert 60 < len(faults_of(jobs, 1)) < 150


def test_faults_in_the_words_of_that_list_are_answered_with_an_example() -> None:
    refused = CliRunner().invoke(load("simulate"), ["--faults", "create.throttle_429=0.1"])
    assert (refused.exit_code, """such as '{"create": {"throttle_429": 0.1}}'""" in refused.output) == (2, True)


def test_the_command_lists_all_faults_where_it_is_asked_for_them() -> None:
    listed = CliRunner().invoke(load("simulate"), ["--faults", "help"])
    names = [f"{place}.{name}" for place, faults in NAMES.items() for name in faults]
    assert (listed.exit_code, [line.partition(":")[0] for line in listed.stdout.splitlines()]) == (0, names)

"""Creates and fetches, as the service documents them."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory

from batchgen.simulator.service import AccountLimits

from .client import (
    KLING,
    MASTER,
    STANDARD,
    UNIVERSAL,
    accepted,
    body,
    create,
    download,
    fetch,
    finish,
    ledger,
    simulated,
)

ID_SHAPES = (
    re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:" + re.escape(STANDARD)),
    re.compile(r"\d{18}"),
    re.compile(r"[A-Za-z0-9_-]{21}"),
)
TEXT_ONLY = "kling-video/v1.6/standard/text-to-video"
LEGACY_ONLY = "runway-gen3/turbo/image-to-video"
ALIAS = "kling-video/v2.1/master/image-to-video"
NESTED = json.dumps(body()).replace("5}", f'5, "dynamic_masks": {"[" * 500}{"]" * 500}}}').encode()
SURROGATE = json.dumps(body()).replace('"prompt"', '"\\ud800": 1, "prompt"').encode()


async def test_a_generation_is_in_progress_for_its_compressed_time_and_then_has_a_video() -> None:
    async with simulated(speed=600) as client:
        generation_id = await create(client)
        words = []
        while (generation := (await fetch(client, generation_id)).json())["status"] != "completed":
            words.append(generation["status"])
            await asyncio.sleep(0.01)
        order = ["waiting", "queued", "active", "generating"]
        assert words, "it takes its time"
        assert words == sorted(words, key=order.index)
        assert generation["id"] == generation_id
        assert generation["meta"]["usage"]["credits_used"] == 588_200
        video = generation["video"]
        assert (video["content_type"], video["file_name"]) == ("video/mp4", "output.mp4")
        assert len((await download(video["url"])).content) == video["file_size"]


async def test_ids_come_in_three_shapes_and_all_can_be_fetched() -> None:
    async with simulated() as client:
        ids = [await create(client, prompt=f"prompt {number}") for number in range(30)]
        for shape in ID_SHAPES:
            assert any(shape.fullmatch(generation_id) for generation_id in ids), shape
        for generation_id in ids:
            assert (await finish(client, generation_id))["id"] == generation_id


@pytest.mark.parametrize("path", [UNIVERSAL, KLING])
async def test_a_generation_is_found_only_on_the_path_of_its_create(path: str) -> None:
    async with simulated() as client:
        generation_id = await create(client, path)
        assert (await finish(client, generation_id, path))["status"] == "completed"
        other_path = KLING if path == UNIVERSAL else UNIVERSAL
        assert (await fetch(client, generation_id, other_path)).status_code == 404


async def test_the_answer_to_a_create_has_the_charge_and_the_client_request_id() -> None:
    async with simulated() as client:
        response = await client.post(UNIVERSAL, json=body(duration="10"), headers={"X-Client-Request-Id": "b:1.a_b-c"})
        assert response.headers["x-client-request-id"] == "b:1.a_b-c"
        assert response.headers["x-inference-id"] == response.json()["id"]
        assert response.headers["x-aimlapi-credits-used"] == "1176400"
        assert Decimal(response.headers["x-aimlapi-usd-spent"]) == Decimal("0.5882")


@pytest.mark.parametrize("client_request_id", ["a/b", "a b", "x" * 129, "ä".encode().decode("latin-1")])
async def test_a_client_request_id_outside_its_alphabet_is_dropped_silently(client_request_id: str) -> None:
    async with simulated() as client:
        headers = {b"X-Client-Request-Id": client_request_id.encode("latin-1")}
        response = await client.post(UNIVERSAL, json=body(), headers=headers)
        assert response.status_code == 201
        assert "x-client-request-id" not in response.headers


async def test_the_same_request_is_accepted_and_charged_twice() -> None:
    async with simulated() as client:
        headers = {"X-Client-Request-Id": "once"}
        ids = [(await client.post(UNIVERSAL, json=body(), headers=headers)).json()["id"] for _ in range(2)]
        await create(client, prompt="another")
        assert list((await ledger(client))["duplicates"].values()) == [ids]
        assert [generation["micro_usd"] for generation in await accepted(client)] == 3 * [294_100]


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": "veo2000"}, "model"),
        ({"model": LEGACY_ONLY}, "model"),
        ({"image_url": None}, "image_url"),
        ({"image_url": "mona.jpg"}, "image_url"),
        ({"image_url": 7}, "image_url"),
        ({"image_url": "data:image/png;base64,!!"}, "image_url"),
        ({"prompt": 1}, "prompt"),
        ({"dynamic_masks": [{"mask": 5, "trajectories": []}]}, "dynamic_masks[0].mask"),
        ({"static_mask": "mask.png"}, "static_mask"),
        ({"duration": "7"}, "duration"),
        ({"duration": 7}, "duration"),
        ({"duration": "long"}, "duration"),
        ({"cfg_scale": 2}, "cfg_scale"),
        ({"cfg_scale": "half"}, "cfg_scale"),
    ],
)
async def test_a_wrong_body_is_refused_by_the_name_of_its_parameter(change: dict[str, Any], parameter: str) -> None:
    params = {name: value for name, value in (body() | change).items() if value is not None}
    async with simulated() as client:
        response = await client.post(UNIVERSAL, json=params)
        assert response.status_code == 400
        assert f"`{parameter}`" in response.json()["message"]
        assert await accepted(client) == []


@pytest.mark.parametrize(
    "params",
    [body(duration="10", cfg_scale="0.5"), body(sede=7), body(model=TEXT_ONLY, tail_image_url="mona.jpg")],
    ids=["digits for a number", "a parameter that no model has", "a parameter that this model does not have"],
)
async def test_the_service_is_lenient(params: dict[str, Any]) -> None:
    async with simulated() as client:
        assert (await client.post(UNIVERSAL, json=params)).status_code == 201


async def test_a_model_is_served_only_on_its_documented_paths_and_under_its_alias_too() -> None:
    async with simulated() as client:
        assert (await client.post("/v2/generate/video/nobody/generation", json=body())).status_code == 404
        assert (await client.post(KLING, json=body(model=ALIAS))).status_code == 200
        (generation,) = await accepted(client)
        assert generation["model"] == MASTER


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000, NESTED, SURROGATE])
async def test_a_body_that_is_not_a_json_object_is_refused(content: bytes) -> None:
    async with simulated() as client:
        assert (await client.post(UNIVERSAL, content=content)).status_code == 400


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [("/v2/nothing", 404, "Cannot GET /v2/nothing"), (UNIVERSAL, 400, "generation_id: Required")],
)
async def test_all_errors_have_the_same_body(path: str, status: int, message: str) -> None:
    async with simulated() as client:
        response = await client.get(path)
        assert response.status_code == status
        error = response.json()
        assert datetime.fromisoformat(error.pop("timestamp")).tzinfo is not None
        assert error.pop("requestId")
        assert error == {"message": message, "path": path, "statusCode": status}


@pytest.mark.parametrize("header", [None, "Bearer", "Basic abc", "a-key"])
async def test_a_request_without_a_key_is_refused(header: str | None) -> None:
    async with simulated() as client:
        client.headers.pop("Authorization")
        headers = {"Authorization": header} if header else {}
        for method, path in (("POST", UNIVERSAL), ("GET", UNIVERSAL), ("GET", "/v2/logs"), ("GET", "/v2/billing")):
            assert (await client.request(method, path, headers=headers)).status_code == 401


async def test_a_simulation_may_accept_a_single_key() -> None:
    async with simulated(key="the-key") as client:
        assert (await client.get("/v2/billing")).status_code == 401
        assert (await client.get("/v2/billing", headers={"Authorization": "Bearer the-key"})).status_code == 200


async def test_an_unknown_generation_is_not_found() -> None:
    async with simulated() as client:
        assert (await fetch(client, "a:b/c")).status_code == 404


async def test_the_account_runs_out_of_credits_before_it_owes_any() -> None:
    async with simulated(limits=AccountLimits(balance_usd=Decimal("0.60"))) as client:
        statuses = [(await client.post(UNIVERSAL, json=body(f"{number}"))).status_code for number in range(3)]
        assert statuses == [201, 201, 403]


async def test_no_more_generations_are_in_flight_than_the_account_allows() -> None:
    async with simulated(speed=1, limits=AccountLimits(in_flight=2)) as client:
        responses = [await client.post(UNIVERSAL, json=body(f"{number}")) for number in range(3)]
        assert [response.status_code for response in responses] == [201, 201, 429]
        assert int(responses[-1].headers["retry-after"]) >= 1


async def test_no_more_requests_pass_in_a_minute_than_the_account_allows() -> None:
    async with simulated(speed=1, limits=AccountLimits(requests_per_minute=3)) as client:
        responses = [await client.get("/v2/billing") for _ in range(5)]
        assert [response.status_code for response in responses] == [200, 200, 200, 429, 429]
        assert 1 <= int(responses[-1].headers["retry-after"]) <= 60


async def test_creates_have_a_rate_limit_of_their_own_which_throttled_ones_do_not_prolong(
    clock: FrozenDateTimeFactory,
) -> None:
    async with simulated(speed=600, limits=AccountLimits(creates_per_minute=2)) as client:
        responses = [await client.post(UNIVERSAL, json=body(f"{number}")) for number in range(4)]
        assert [response.status_code for response in responses] == [201, 201, 429, 429]
        wait = float(responses[-1].headers["retry-after"])
        assert wait == 0.1, "a minute is 0.1 s at this speed"
        clock.tick(timedelta(seconds=wait - 0.001))
        late = [await client.post(UNIVERSAL, json=body("again")) for _ in range(2)]
        assert [response.status_code for response in late] == [429, 429], "as many as would fill the limit again"
        clock.tick(timedelta(seconds=0.001))
        assert (await client.post(UNIVERSAL, json=body("again"))).status_code == 201

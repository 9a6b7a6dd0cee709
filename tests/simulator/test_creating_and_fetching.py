"""Creating and fetching generations, as the documents tell it."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from batchgen.simulator import AccountLimits

from .conversation import KLING, STANDARD, UNIVERSAL, body, create, download, fetch, finish, ledger, simulated

SHAPES = (
    re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:" + re.escape(STANDARD)),
    re.compile(r"\d{18}"),
    re.compile(r"[A-Za-z0-9_-]{21}"),
)
TEXT_ONLY = "kling-video/v1.6/standard/text-to-video"
LEGACY_ONLY = "runway-gen3/turbo/image-to-video"
ALIAS = "kling-video/v2.1/master/image-to-video"
NESTED = json.dumps(body()).replace("5}", f'5, "dynamic_masks": {"[" * 500}{"]" * 500}}}').encode()
SURROGATE = json.dumps(body()).replace('"prompt"', '"\\ud800": 1, "prompt"').encode()


async def test_a_generation_works_for_its_compressed_time_and_then_names_a_video() -> None:
    async with simulated(speed=600) as client:
        generation_id = await create(client)
        words = []
        while (told := (await fetch(client, generation_id)).json())["status"] != "completed":
            words.append(told["status"])
            await asyncio.sleep(0.01)
        order = ["waiting", "queued", "active", "generating"]
        assert words == sorted(words, key=order.index)
        assert words, "it takes its time"
        assert told["id"] == generation_id
        assert told["meta"]["usage"]["credits_used"] == 588_200
        video = told["video"]
        assert (video["content_type"], video["file_name"]) == ("video/mp4", "output.mp4")
        assert len((await download(video["url"])).content) == video["file_size"]


async def test_ids_come_in_three_shapes_and_each_can_be_fetched() -> None:
    async with simulated() as client:
        ids = [await create(client, prompt=f"prompt {at}") for at in range(30)]
        for shape in SHAPES:
            assert any(shape.fullmatch(each) for each in ids), shape
        for each in ids:
            assert (await finish(client, each))["id"] == each


@pytest.mark.parametrize("path", [UNIVERSAL, KLING])
async def test_a_generation_is_fetched_where_it_was_created_and_nowhere_else(path: str) -> None:
    async with simulated() as client:
        generation_id = await create(client, path)
        assert (await finish(client, generation_id, path))["status"] == "completed"
        elsewhere = KLING if path == UNIVERSAL else UNIVERSAL
        assert (await fetch(client, generation_id, elsewhere)).status_code == 404


async def test_a_create_is_answered_with_the_charge_and_the_callers_own_id() -> None:
    async with simulated() as client:
        answer = await client.post(UNIVERSAL, json=body(duration="10"), headers={"X-Client-Request-Id": "b:1.a_b-c"})
        assert answer.headers["x-client-request-id"] == "b:1.a_b-c"
        assert answer.headers["x-inference-id"] == answer.json()["id"]
        assert answer.headers["x-aimlapi-credits-used"] == "1176400"
        assert Decimal(answer.headers["x-aimlapi-usd-spent"]) == Decimal("0.5882")


@pytest.mark.parametrize("given", ["a/b", "a b", "x" * 129, "ä".encode().decode("latin-1")])
async def test_a_client_request_id_outside_its_alphabet_is_dropped_without_a_word(given: str) -> None:
    async with simulated() as client:
        answer = await client.post(UNIVERSAL, json=body(), headers={b"X-Client-Request-Id": given.encode("latin-1")})
        assert answer.status_code == 201
        assert "x-client-request-id" not in answer.headers


async def test_the_same_request_sent_twice_is_charged_twice() -> None:
    async with simulated() as client:
        same = {"X-Client-Request-Id": "once"}
        ids = [(await client.post(UNIVERSAL, json=body(), headers=same)).json()["id"] for _ in range(2)]
        await create(client, prompt="another")
        told = await ledger(client)
        assert list(told["duplicates"].values()) == [ids]
        assert Decimal(told["promised_usd"]) == 3 * Decimal("0.2941")


@pytest.mark.parametrize(
    ("changed", "named"),
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
async def test_a_body_that_is_wrong_is_refused_by_the_name_of_its_parameter(
    changed: dict[str, Any], named: str
) -> None:
    asked = {name: value for name, value in (body() | changed).items() if value is not None}
    async with simulated() as client:
        answer = await client.post(UNIVERSAL, json=asked)
        assert answer.status_code == 400
        assert f"`{named}`" in answer.json()["message"]
        assert (await ledger(client))["accepted"] == 0


async def test_digits_pass_for_a_number_and_a_parameter_that_the_model_does_not_have_is_ignored() -> None:
    async with simulated() as client:
        for asked in (body(duration="10", cfg_scale="0.5", sede=7), body(model=TEXT_ONLY, tail_image_url="mona.jpg")):
            assert (await client.post(UNIVERSAL, json=asked)).status_code == 201


async def test_a_model_is_served_on_its_documented_paths_under_its_alias_too() -> None:
    async with simulated() as client:
        assert (await client.post("/v2/generate/video/nobody/generation", json=body())).status_code == 404
        assert (await client.post(KLING, json=body(model=ALIAS))).status_code == 200
        (made,) = (await ledger(client))["generations"]
        assert made["model"] == "klingai/v2.1-master-image-to-video"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000, NESTED, SURROGATE])
async def test_a_body_that_is_no_object_is_refused(content: bytes) -> None:
    async with simulated() as client:
        assert (await client.post(UNIVERSAL, content=content)).status_code == 400


async def test_every_error_has_the_one_body() -> None:
    async with simulated() as client:
        answer = await client.get("/v2/nothing")
        assert answer.status_code == 404
        told = answer.json()
        assert set(told) == {"message", "path", "requestId", "statusCode", "timestamp"}
        assert (told["path"], told["statusCode"]) == ("/v2/nothing", 404)
        assert datetime.fromisoformat(told["timestamp"]).tzinfo is not None


@pytest.mark.parametrize("header", [None, "Bearer", "Basic abc", "a-key"])
async def test_a_call_without_a_key_is_refused(header: str | None) -> None:
    async with simulated() as client:
        client.headers.pop("Authorization")
        headers = {"Authorization": header} if header else {}
        for method, path in (("POST", UNIVERSAL), ("GET", UNIVERSAL), ("GET", "/v2/logs"), ("GET", "/v2/billing")):
            assert (await client.request(method, path, headers=headers)).status_code == 401


async def test_any_key_is_right_unless_the_simulation_was_given_one() -> None:
    async with simulated(key="the-key") as client:
        assert (await client.get("/v2/billing")).status_code == 401
        assert (await client.get("/v2/billing", headers={"Authorization": "Bearer the-key"})).status_code == 200


async def test_an_unknown_generation_is_not_found_and_a_missing_id_is_refused() -> None:
    async with simulated() as client:
        assert (await fetch(client, "a:b/c")).status_code == 404
        assert (await client.get(UNIVERSAL)).status_code == 400


async def test_the_account_runs_out_of_credits_before_it_can_owe_any() -> None:
    async with simulated(limits=AccountLimits(balance_usd=Decimal("0.60"))) as client:
        answers = [(await client.post(UNIVERSAL, json=body(f"{at}"))).status_code for at in range(3)]
        assert answers == [201, 201, 403]


async def test_no_more_generations_are_at_work_than_the_account_allows() -> None:
    async with simulated(speed=1, limits=AccountLimits(in_flight=2)) as client:
        answers = [await client.post(UNIVERSAL, json=body(f"{at}")) for at in range(3)]
        assert [each.status_code for each in answers] == [201, 201, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1


async def test_no_more_requests_pass_in_a_minute_than_the_account_allows() -> None:
    async with simulated(speed=1, limits=AccountLimits(requests_per_minute=3)) as client:
        answers = [await client.get("/v2/billing") for _ in range(5)]
        assert [each.status_code for each in answers] == [200, 200, 200, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60

"""The catalogue, and the speed of the models."""

from __future__ import annotations

from batchgen.catalogue import models

from .conversation import STANDARD, simulated


async def test_the_catalogue_needs_no_key_and_has_prices_in_three_shapes() -> None:
    async with simulated() as client:
        client.headers.pop("Authorization")
        data = (await client.get("/v1/models", params={"include": "pricing,capabilities"})).json()["data"]
        assert {model["pricing"]["kind"] for model in data} == {"fixed", "variants", "variable"}
        assert all(model["capabilities"] for model in data)
        assert all(model["type"] == "internal/video-generations/submit" for model in data)
        bare = (await client.get("/v1/models")).json()["data"]
        assert not any("pricing" in model or "capabilities" in model for model in bare)


async def test_every_documented_model_is_listed_with_what_it_makes_videos_of() -> None:
    async with simulated() as client:
        data = (await client.get("/v1/models", params={"include": "capabilities"})).json()["data"]
        able = {model["id"]: model["capabilities"] for model in data}
        assert tuple(able) == models()
        assert able[STANDARD] == ["image_to_video"]
        assert able["kling-video/v1.6/standard/text-to-video"] == ["text_to_video"]
        assert able["minimax/hailuo-02"] == ["text_to_video", "image_to_video"]
        assert able["blackforestlabs/flux-3-video-v2v"] == ["video_to_video"]


async def test_a_model_is_found_by_id_and_by_alias_at_the_price_that_a_create_costs() -> None:
    async with simulated() as client:
        (model,) = (await client.get("/v1/models", params={"id": STANDARD, "include": "pricing"})).json()["data"]
        five = model["pricing"]["variants"][0]
        assert five["when"] == {"duration": "5"}
        assert five["price"] / five["per"] == 0.2941
        found = (await client.get("/v1/models", params={"id": "kling-video/v2.1/master/image-to-video"})).json()["data"]
        assert [model["id"] for model in found] == ["klingai/v2.1-master-image-to-video"]


async def test_the_catalogue_is_not_sent_again_to_who_has_it() -> None:
    async with simulated() as client:
        first = await client.get("/v1/models")
        again = await client.get("/v1/models", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = await client.get("/v1/models?include=pricing", headers={"If-None-Match": first.headers["etag"]})
        assert other.status_code == 200


async def test_the_speed_of_a_model_is_told_in_compressed_time() -> None:
    async with simulated(speed=100) as client:
        answer = await client.get("/models/metrics", params={"aliases": f"{STANDARD},unknown"})
        (model,) = answer.json()["models"]
        told = model["metrics"]["duration_ms"]
        assert 1_800 < told["p50"] < 2_400  # 3 to 4 minutes, a hundred times faster
        assert told["p50"] < told["p75"] < told["p90"] < told["p99"]

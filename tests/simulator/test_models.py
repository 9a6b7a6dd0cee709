"""The catalogue with prices, and the generation times of the models."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from batchgen.catalogue.register import endpoints, models
from batchgen.jobtable.pricelist import PriceList
from batchgen.simulator.aimlapi.generations import clip_seconds, parse, price
from batchgen.simulator.ledger import usd

from .client import MASTER, STANDARD, UNIVERSAL, simulated

ALIAS = "kling-video/v2.1/master/image-to-video"


async def test_the_catalogue_lists_every_documented_model_and_needs_no_key() -> None:
    async with simulated() as client:
        client.headers.pop("Authorization")
        rows = (await client.get("/v1/models")).json()["data"]
        assert tuple(row["id"] for row in rows) == models()
        assert {row["type"] for row in rows} == {"internal/video-generations/submit"}
        assert [row["aliases"] for row in rows if row["id"] == MASTER] == [[ALIAS]]
        assert not any("pricing" in row for row in rows)


async def test_prices_come_in_three_shapes_and_are_what_a_create_costs() -> None:
    async with simulated() as client:
        rows = (await client.get("/v1/models", params={"include": "pricing"})).json()["data"]
        assert {row["pricing"]["kind"] for row in rows} == {"fixed", "variants", "variable"}
        (variant, _) = next(row["pricing"]["variants"] for row in rows if row["id"] == STANDARD)
        assert variant == {"when": {"duration": "5"}, "price": 0.2941, "unit": "video", "per": 1}


async def test_a_create_without_a_length_costs_what_the_runner_expects_of_it() -> None:
    """A run with a cap on its cost would break it otherwise."""
    async with simulated() as client:
        rows = (await client.get("/v1/models", params={"include": "pricing"})).json()["data"]
    listed = PriceList(listed={row["id"]: json.dumps(row["pricing"]) for row in rows})
    expected, charged = {}, {}
    for model, path in [(name, path) for name in models() for path in endpoints(name)]:
        params = {"model": model, "prompt": "x"}
        if quoted := listed.quote(model, path, json.dumps(params)):
            expected[model, path] = quoted
            charged[model, path] = usd(price(model, clip_seconds(model, path, params)))
    assert charged == expected
    assert len(expected) > 100
    request, _ = parse(UNIVERSAL, b'{"model": "openai/sora-2-t2v", "prompt": "x"}')
    assert usd(request.micro_usd) == expected["openai/sora-2-t2v", UNIVERSAL] == Decimal("1.68")


async def test_the_catalogue_is_sent_again_only_when_it_differs() -> None:
    async with simulated() as client:
        etag = (await client.get("/v1/models")).headers["etag"]
        unchanged = await client.get("/v1/models", headers={"If-None-Match": etag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        with_prices = await client.get("/v1/models?include=pricing", headers={"If-None-Match": etag})
        assert with_prices.status_code == 200


async def test_generation_times_are_compressed_like_the_generations() -> None:
    async with simulated(speed=100) as client:
        response = await client.get("/models/metrics", params={"aliases": [STANDARD, "unknown"]})
        (row,) = response.json()["models"]
        milliseconds = row["metrics"]["duration_ms"]
        assert 1_800 < milliseconds["p50"] < 2_400, "3 to 4 minutes, a hundred times faster"
        assert milliseconds["p50"] < milliseconds["p75"] < milliseconds["p90"] < milliseconds["p99"]


@pytest.mark.parametrize(
    ("aliases", "listed"),
    [
        ([STANDARD, MASTER], {STANDARD, MASTER}),
        ([ALIAS], {ALIAS}),
        ([f"{STANDARD},{MASTER}"], set()),
        ([f"unknown-{number}" for number in range(99)] + [STANDARD], {STANDARD}),
    ],
    ids=["repeated", "an alias", "a comma does not separate names", "a hundred"],
)
async def test_generation_times_are_of_the_repeated_parameter(aliases: list[str], listed: set[str]) -> None:
    async with simulated() as client:
        rows = (await client.get("/models/metrics", params={"aliases": aliases})).json()["models"]
        assert {row["alias"] for row in rows} == listed

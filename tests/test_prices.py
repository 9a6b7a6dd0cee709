"""An entry of a price list gives the exact price of a job, or none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from batchgen.catalogue.prices import quote, with_defaults
from batchgen.catalogue.register import models


def unit(price: object, name: str = "video", per: object = 1) -> dict[str, Any]:
    return {"name": name, "measure": "m", "price": price, "per": per}


def variant(price: object, unit: str = "video", per: object = 1, **when: object) -> dict[str, Any]:
    return {"when": when, "price": price, "unit": unit, "per": per}


def fixed(*units: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": "fixed", "units": list(units), **more}


def variants(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "variants", "dimensions": ["duration"], "variants": list(entries)}


TWO = variants(variant("0.2941", duration="5"), variant("0.5882", duration="10"))


@pytest.mark.parametrize(
    ("pricing", "params", "cost"),
    [
        (fixed(unit("0.28")), {}, "0.28"),
        (fixed(unit(0.1), unit("0.05")), {}, "0.15"),
        (fixed(unit("1.05", "second", 10)), {"duration": 5}, "0.525"),
        (fixed(unit("1.05", "second", "10")), {"duration": "8"}, "0.84"),
        (fixed(unit("1", "video", 3)), {}, "0.3333334"),
        (fixed(unit("0.28"), currency="USD"), {}, "0.28"),
        (TWO, {"duration": 5}, "0.2941"),
        (TWO, {"duration": "10"}, "0.5882"),
        (TWO, {"duration": 10.0}, "0.5882"),
        (variants(variant("2", audio="true"), variant("1", audio=False)), {"audio": True}, "2"),
        (variants(variant("2", audio="true"), variant("1", audio=False)), {"audio": False}, "1"),
        (variants(variant("1"), variant("3", resolution="1080P")), {"resolution": "1080p"}, "3"),
        (variants(variant("1"), variant("3", resolution="1080p")), {"resolution": "720p"}, "1"),
        (variants(variant("0.2", "second", duration=5)), {"duration": 5}, "1.0"),
    ],
)
def test_a_documented_entry_gives_the_exact_price(pricing: dict[str, Any], params: dict[str, Any], cost: str) -> None:
    assert quote(pricing, params) == Decimal(cost)


@pytest.mark.parametrize(
    ("pricing", "params"),
    [
        ({"kind": "variable"}, {}),
        ({}, {}),
        ({"kind": "auction", "price": 1}, {}),
        (fixed(), {}),
        (fixed(unit("1", "token", 1000)), {}),
        (fixed(unit("0.1"), unit("1", "token")), {}),
        (fixed(unit("1", "second")), {}),
        (fixed(unit("1", "second")), {"duration": "auto"}),
        (fixed(unit("1", per=0)), {}),
        (fixed(unit("free")), {}),
        (fixed(unit("-1")), {}),
        (fixed(unit("NaN")), {}),
        (fixed(unit("9e999999", "second")), {"duration": 5}),
        (fixed(unit("1", per="1e-9999999")), {}),
        (fixed(unit("1"), currency="EUR"), {}),
        (fixed({"name": "video"}), {}),
        ({"kind": "fixed", "units": 5}, {}),
        (TWO, {"duration": 7}),
        (TWO, {}),
        (variants(variant("1"), variant("2")), {}),
        (variants({"price": 1, "unit": "video", "per": 1}), {}),
    ],
)
def test_an_entry_without_a_clear_price_gives_none(pricing: dict[str, Any], params: dict[str, Any]) -> None:
    assert quote(pricing, params) is None


def test_a_missing_parameter_is_priced_at_its_default() -> None:
    model = "kling-video/v2.1/standard/image-to-video"
    assert model in models()
    params = with_defaults(model, "/v2/video/generations", {"prompt": "x"})
    assert quote(TWO, params) == Decimal("0.2941")
    assert with_defaults("newer/model", "/v2/video/generations", {"duration": 3}) == {"duration": 3}

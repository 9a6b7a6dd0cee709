"""The catalogue: its data, and its checks of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from batchgen.catalogue import durations, links, pointers, register, validation
from batchgen.catalogue.openapi import convert
from batchgen.catalogue.register import DATA
from tests.catalogue import build, times

STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"
UNIVERSAL = "/v2/video/generations"
KLING = "/v2/generate/video/kling/generation"
EVERY = [(model, path) for model in register.models() for path in register.endpoints(model)]


def test_the_catalogue_has_all_documented_models() -> None:
    assert len(register.models()) == 156
    assert len(EVERY) == 211
    assert {STANDARD, MASTER} < set(register.models())


def test_every_schema_is_a_closed_json_schema_without_openapi_keywords() -> None:
    for model, path in EVERY:
        schema = register.schema(model, path)
        Draft202012Validator(schema)
        assert schema["properties"]["model"] == {"const": model}
        for part in walk(schema):
            assert "nullable" not in part
            assert not isinstance(part.get("exclusiveMinimum"), bool)
            assert "properties" not in part or part["additionalProperties"] is False
            assert part.get("format") != "uri"


def test_every_parameter_named_image_is_marked_as_an_image() -> None:
    for model, path in EVERY:
        for name, schema in register.schema(model, path)["properties"].items():
            if "image" in name and schema.get("type") == "string":
                assert schema["x-media"] == "image", name


def test_the_data_has_the_format_of_the_build_script() -> None:
    shipped = DATA.read_text("utf-8")
    assert build.text(json.loads(shipped)) == shipped
    assert len(shipped) < 1 << 20


def test_openapi_becomes_json_schema() -> None:
    source = {
        "type": "object",
        "required": ["model"],
        "properties": {
            "model": {"enum": ["one", "two"]},
            "seed": {"type": "integer", "nullable": True, "example": 3},
            "scale": {
                "type": "number",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 1,
                "exclusiveMaximum": False,
            },
            "duration": {"type": "integer", "default": "5"},
            "image_url": {"type": "string", "format": "uri"},
            "frame": {"anyOf": [{"type": "string"}, {"nullable": True}]},
        },
    }
    schema = convert(source)
    assert schema["properties"] == {
        "model": {"enum": ["one", "two"]},
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "scale": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "duration": {"type": "integer", "default": 5},
        "image_url": {"type": "string", "x-media": "image"},
        "frame": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }


@pytest.mark.parametrize(
    ("model", "style", "path"),
    [
        (STANDARD, "universal", UNIVERSAL),
        (STANDARD, "legacy", KLING),
        (MASTER, "universal", UNIVERSAL),
        (MASTER, "legacy", KLING),
        ("runway-gen3/turbo/image-to-video", "universal", KLING),
        ("wan/v2.1/1.3b/text-to-video", "universal", "/v2/generate/video/alibaba/generation"),
        ("alibaba/wan-2-6-t2v", "legacy", "/v2/generate/video/alibaba/generation"),
        ("luma/ray-2", "legacy", UNIVERSAL),
    ],
)
def test_a_model_is_called_on_the_path_of_the_style_else_on_its_only_one(model: str, style: Any, path: str) -> None:
    assert register.endpoint(model, style) == path


def test_the_kling_models_have_the_documented_parameters_on_each_path() -> None:
    both = {"image_url", "prompt", "duration", "negative_prompt", "cfg_scale", "static_mask", "dynamic_masks"}
    both |= {"camera_control"}
    assert set(validation.parameters(STANDARD, UNIVERSAL)) == both
    assert set(validation.parameters(STANDARD, KLING)) == both | {"tail_image_url", "external_task_id", "type"}
    assert set(validation.parameters(MASTER, UNIVERSAL)) == both | {"provider"}
    assert set(validation.parameters(MASTER, KLING)) == both | {"provider"}


def test_an_unknown_model_raises_key_error() -> None:
    with pytest.raises(KeyError):
        register.endpoint("no-such-model")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("kling-video/v2.1/standart/image-to-video", STANDARD),
        ("Kling-Video/V2.1/Standard/Image-To-Video", STANDARD),
        ("kling-2.1-standard", STANDARD),
        ("v2.1-master-image-to-video", MASTER),
        ("kling-video/v2.1/master/image-to-video", MASTER),
        ("sora-2-tv", "sora-2-t2v"),
    ],
)
def test_a_misspelt_model_name_finds_the_model(name: str, first: str) -> None:
    assert register.nearest(name)[0] == first


def test_a_name_unlike_any_model_finds_nothing() -> None:
    assert register.nearest("qqqq") == []
    assert register.nearest("") == []


BASE = {"image_url": "a.png"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [("", f"`{STANDARD}` needs `image_url`", "")]),
        ({**BASE, "duratoin": 5}, [("/duratoin", f"`{STANDARD}` does not take `duratoin`", "did you mean duration?")]),
        ({**BASE, "prioriti": 1}, [("/prioriti", f"`{STANDARD}` does not take `prioriti`", "did you mean priority?")]),
        (
            {**BASE, "xyzzy": 1},
            [
                (
                    "/xyzzy",
                    f"`{STANDARD}` does not take `xyzzy`",
                    "known: image_url, camera_control, cfg_scale, duration, dynamic_masks, negative_prompt, prompt"
                    " and static_mask",
                )
            ],
        ),
        (
            {**BASE, "tail_image_url": "b.png"},
            [("/tail_image_url", f"`{STANDARD}` does not take `tail_image_url`", "only the legacy endpoint takes it")],
        ),
        ({**BASE, "duration": 7}, [("/duration", "`duration` must be 5 or 10, not 7", "")]),
        ({**BASE, "duration": "7"}, [("/duration", "`duration` must be 5 or 10, not 7", "")]),
        ({**BASE, "duration": "long"}, [("/duration", '`duration` must be 5 or 10, not "long"', "")]),
        ({**BASE, "duration": True}, [("/duration", "`duration` must be 5 or 10, not true", "")]),
        ({**BASE, "cfg_scale": 1.5}, [("/cfg_scale", "`cfg_scale` must be 0 to 1, not 1.5", "")]),
        ({**BASE, "cfg_scale": [1]}, [("/cfg_scale", "`cfg_scale` must be a number, not a list", "")]),
        (
            {**BASE, "prompt": 2024},
            [("/prompt", "`prompt` must be text, not 2024", "put it in quotes to make it text")],
        ),
        ({**BASE, "prompt": {}}, [("/prompt", "`prompt` must be text, not a mapping", "")]),
        (
            {**BASE, "camera_control": {"type": "simpel", "config": {"zom": 1, "pan": -11}}},
            [
                (
                    "/camera_control/type",
                    "`camera_control.type` must be simple, down_back, forward_up, right_turn_forward or"
                    ' left_turn_forward, not "simpel"',
                    "did you mean simple?",
                ),
                ("/camera_control/config/pan", "`camera_control.config.pan` must be -10 to 10, not -11", ""),
                ("/camera_control/config/zom", "`camera_control.config` does not take `zom`", "did you mean zoom?"),
            ],
        ),
        (
            {**BASE, "dynamic_masks": [{"mask": "m.png", "trajectories": [{"x": 1, "y": 2}]}]},
            [("/dynamic_masks/0/trajectories", "`dynamic_masks[0].trajectories` must have 2 to 77 entries, not 1", "")],
        ),
    ],
)
def test_a_violation_has_pointer_message_and_hint(params: dict[str, Any], expected: list[tuple[str, str, str]]) -> None:
    _, violations = validation.check_params(STANDARD, UNIVERSAL, params, ("priority",))
    assert sorted((violation.pointer, violation.message, violation.hint) for violation in violations) == sorted(
        expected
    )


@pytest.mark.parametrize(
    ("model", "prompt", "expected"),
    [
        ("video-01-live2d", "x" * 2001, "`prompt` must have at most 2000 characters, not 2001"),
        ("blackforestlabs/flux-3-video-i2v", "", "`prompt` must not be empty"),
    ],
)
def test_the_length_of_a_text_is_checked(model: str, prompt: str, expected: str) -> None:
    _, violations = validation.check_params(model, UNIVERSAL, {"prompt": prompt, "image_url": "a.png"})
    assert [violation.message for violation in violations] == [expected]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ({"type": "image", "url": 3}, ["`keyframes.frame0.url` must be text, not 3"]),
        (
            {"type": "generation", "url": "x"},
            ["`keyframes.frame0` needs `id`", "`keyframes.frame0` does not take `url`"],
        ),
        (3, ["`keyframes.frame0` must be a mapping, not 3"]),
        (None, []),
        ({"type": "image", "url": "x"}, []),
    ],
)
def test_of_several_alternatives_the_closest_is_explained(frame: object, expected: list[str]) -> None:
    params = {"prompt": "a", "keyframes": {"frame0": frame}}
    _, violations = validation.check_params("luma/ray-2", UNIVERSAL, params)
    assert [violation.message for violation in violations] == expected


@pytest.mark.parametrize(
    ("model", "params", "coerced_params"),
    [
        (STANDARD, {"duration": "5", "image_url": "a"}, {"duration": 5, "image_url": "a"}),
        (STANDARD, {"cfg_scale": "0.5", "image_url": "a"}, {"cfg_scale": 0.5, "image_url": "a"}),
        (STANDARD, {"cfg_scale": "1", "image_url": "a"}, {"cfg_scale": 1, "image_url": "a"}),
        (STANDARD, {"prompt": "5", "image_url": "a"}, {"prompt": "5", "image_url": "a"}),
        (STANDARD, {"duration": "5s"}, {"duration": "5s"}),
        (STANDARD, {"duration": "\u0665"}, {"duration": "\u0665"}),
        (STANDARD, {"cfg_scale": "1_0"}, {"cfg_scale": "1_0"}),
        (STANDARD, {"camera_control": {"config": {"zoom": "-2"}}}, {"camera_control": {"config": {"zoom": -2}}}),
        ("runway-gen3/turbo/image-to-video", {"duration": 5}, {"duration": "5"}),
        (
            "klingai/video-v3-turbo-pro-image-to-video",
            {"multi_prompt": [{"prompt": "a", "duration": "3"}]},
            {"multi_prompt": [{"prompt": "a", "duration": 3}]},
        ),
    ],
)
def test_text_becomes_the_number_that_the_schema_has(
    model: str, params: dict[str, Any], coerced_params: dict[str, Any]
) -> None:
    fitted = validation.check_params(model, register.endpoint(model), params)[0]
    assert fitted == coerced_params
    assert list(map(type, fitted.values())) == list(map(type, coerced_params.values()))


def test_links_and_files_are_found_at_any_depth() -> None:
    masks = [{"mask": "m1.png", "trajectories": []}, {"mask": "m2.png"}]
    params = {"prompt": "images/a.png", "image_url": "a.png", "dynamic_masks": masks, "static_mask": 5}
    assert image_pointers(params) == ["/image_url", "/dynamic_masks/0/mask", "/dynamic_masks/1/mask"]

    character = {"character": {"type": "video", "url": "c.mp4"}, "reference": {"type": "video", "url": "r.mp4"}}
    assert list(links.media(character)) == [("/character/url", "video", "c.mp4"), ("/reference/url", "video", "r.mp4")]
    character["character"]["type"] = "image"
    assert image_pointers(character) == ["/character/url"]

    assert image_pointers({"image_url": ["a.png", "b.png"]}) == ["/image_url/0", "/image_url/1"]
    assert image_pointers({"image_url": "a.png"}) == ["/image_url"]
    assert image_pointers({"keyframes": {"frame1": {"type": "image", "url": "k.png"}}}) == ["/keyframes/frame1/url"]


@pytest.mark.parametrize(
    ("model", "duration", "seconds"),
    [
        (STANDARD, 5, 210),
        (STANDARD, 10, 420),
        (STANDARD, 0, 210),
        (MASTER, 5, 330),
        (MASTER, 10, 750),
        (STANDARD, 6, 210),
        (STANDARD, 7.5, 420),
        ("minimax/hailuo-02", 6, 270),
        ("minimax/hailuo-02", 10, 510),
        ("veo2", 8, 45),
        ("?", 5, 180),
    ],
)
def test_generation_times_are_the_documented_ones(model: str, duration: float, seconds: float) -> None:
    assert durations.typical_seconds(model, duration) == seconds


def test_the_shipped_generation_times_are_what_the_script_makes_and_belong_to_documented_models() -> None:
    assert durations.DATA.read_text("utf-8") == times.text()
    assert set(times.PAGES) <= set(register.models())
    assert all(1 <= durations.typical_seconds(model) <= 3_600 for model in register.models())


@pytest.mark.parametrize("name", ["plain", "a/b", "a~b", "~1", "/", "", "ü"])
def test_any_name_survives_in_a_json_pointer(name: str) -> None:
    document: dict[str, Any] = {"list": [{name: "old"}, {}]}
    pointer = pointers.join(pointers.join("/list", 0), name)
    assert pointers.split(pointer) == ["list", "0", name]
    container, key = pointers.parent_of(document, pointer)
    assert container[key] == "old"
    assert document == {"list": [{name: "old"}, {}]}


def image_pointers(params: dict[str, Any]) -> list[str]:
    return [link.pointer for link in links.media(params) if link.medium == "image"]


def walk(schema: Any) -> list[dict[str, Any]]:
    """Every schema within a schema."""
    if isinstance(schema, list):
        return [part for item in schema for part in walk(item)]
    if not isinstance(schema, dict):
        return []
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("anyOf"), schema.get("oneOf")]
    return [schema, *walk(inner)]

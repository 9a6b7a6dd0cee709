"""Requests as the vendor's pages show them, and the smallest one that each documented schema takes, pass `check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchgen.catalogue import register
from batchgen.errors import ManifestInvalid
from batchgen.manifest import reader
from tests.catalogue.pages import bodies, faults, parse

EXAMPLES = json.loads(Path(__file__).with_name("catalogue").joinpath("examples.json").read_bytes())
"""The examples that the project has."""
BESIDES: dict[str, dict[str, Any]] = {
    "klingai/video-v3-": {"prompt": "A wave."},
    "kling-video/v3/turbo/": {"prompt": "A wave."},
    "pixverse/lip-sync": {"audio_url": "https://example.com/a.mp3"},
}
"""What the prose requires of models whose names begin so, beside their schemas."""


def smallest(schema: dict[str, Any], name: str = "") -> Any:
    """The smallest value that a schema takes."""
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return smallest(branches[0], name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    match schema.get("type"):
        case "object":
            return {child: smallest(schema["properties"][child], child) for child in schema.get("required", ())}
        case "array":
            return [smallest(schema["items"], name)] * max(schema.get("minItems", 0), 1)
        case "integer" | "number":
            return max(schema.get("minimum", 1), 1)
        case "boolean":
            return True
    return f"https://example.com/{name}" if "x-media" in schema else "A wave."


def check(folder: Path, body: dict[str, Any], endpoint: str) -> reader.Manifest:
    path = folder / "m.yaml"
    path.write_text(json.dumps({"service": {"endpoint": endpoint}, "jobs": [{"id": "a", **body}]}))
    return reader.read(path)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["source"])
def test_an_example_of_the_vendor_is_valid(tmp_path: Path, example: dict[str, Any]) -> None:
    (job,) = check(tmp_path, example["body"], example["endpoint"]).jobs
    assert register.style_of(job.endpoint) == example["endpoint"]
    assert json.loads(job.request) == {**example["body"], "duration": 5}


def test_the_smallest_request_of_every_documented_path_is_valid_and_without_a_parameter_it_is_not(
    tmp_path: Path,
) -> None:
    for model in register.models():
        for path in register.endpoints(model):
            schema = register.schema(model, path)
            body = {"model": model, **smallest({**schema, "type": "object"})}
            for prefix, besides in BESIDES.items():
                body |= besides if model.startswith(prefix) else {}
            style = register.style_of(path)
            if style not in ("universal", "legacy") or register.endpoint(model, style) != path:
                continue  # a third path of a model, which no style leads to
            (job,) = check(tmp_path, body, style).jobs
            assert job.endpoint == path
            name = next(name for name in schema["required"] if name != "model") if len(schema["required"]) > 1 else ""
            if name not in ("", "prompt"):
                with pytest.raises(ManifestInvalid, match=f"needs `{name}`"):
                    check(tmp_path, {key: value for key, value in body.items() if key != name}, style)


PAGE = """
Don't forget the key.
```python
payload = {
    "model": "veo2",  # a comment, and it's one with a {
    "prompt": '''
A wave's crest.
''',
}
```
```javascript
const data = JSON.stringify({
    model: 'veo2',
    prompt: `A wave, says "now"`,
    sound: true,
});
```
"""


def test_examples_are_read_from_python_and_javascript_and_judged(tmp_path: Path) -> None:
    python, javascript = (parse(body) for body in bodies(PAGE))
    assert python == {"model": "veo2", "prompt": "A wave's crest."}
    assert javascript == {"model": "veo2", "prompt": 'A wave, says "now"', "sound": True}
    assert faults(python, tmp_path / "m.yaml") == []
    assert faults(javascript, tmp_path / "m.yaml") == ["`veo2` does not take `sound`"]

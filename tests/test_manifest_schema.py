"""The JSON Schema of manifests for editors, and the first manifest that `batchgen init` writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import Draft7Validator

from batchgen.catalogue import register, validation
from batchgen.catalogue.written import plain
from batchgen.cli.init import example_manifest
from batchgen.jobs import JobSpec
from batchgen.manifest import reader, schema
from batchgen.manifest.diagnostics import Diagnostics
from batchgen.manifest.header import INCLUDED_KEYS, KEYS
from batchgen.manifest.job_keys import JOB_KEYS
from batchgen.manifest.limits import NAMES
from batchgen.manifest.nodes import top_level, written
from batchgen.manifest.source import SourceText

MANIFESTS = Path(__file__).parents[1] / "manifests"
STANDARD = "kling-video/v2.1/standard/image-to-video"
TEXT = "klingai/v2.1-master-text-to-video"
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    return Draft7Validator(json.loads(schema.text()))


def tree(text: str) -> Any:
    """A manifest as plain values, as an editor validates it."""
    keys: dict[str, Any] = {}
    for key, node in top_level(Diagnostics(SourceText(Path("m.yaml"), text.encode())), streamed=""):
        assert key is not None
        keys[key.value] = plain(written(node))
    return keys


def test_the_schema_file_beside_the_examples_is_up_to_date(batchgen: Command) -> None:
    beside = (MANIFESTS / "manifest.schema.json").read_text("utf-8")
    assert beside == schema.text(), "batchgen schema > manifests/manifest.schema.json"
    assert batchgen("schema").stdout == beside
    assert len(beside.encode()) < 1 << 20


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_example_manifests_match_the_schema_and_refer_to_it(path: Path, validator: Draft7Validator) -> None:
    text = path.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=manifest.schema.json\n")
    assert [error.message for error in validator.iter_errors(tree(text))] == []


def test_the_schema_describes_every_key() -> None:
    whole = schema.schema()
    assert tuple(whole["properties"]) == KEYS
    assert set(INCLUDED_KEYS) < set(KEYS)
    assert whole["definitions"]["job"]["properties"].keys() == JOB_KEYS.keys()
    assert whole["definitions"]["Limits"]["properties"].keys() == set(NAMES)
    described = [*whole["properties"].values(), *whole["definitions"]["job"]["properties"].values()]
    described += whole["definitions"]["Limits"]["properties"].values()
    assert all("description" in key for key in described)


EXAMPLES: dict[str, dict[str, Any]] = {
    "id": {"id": "b"},
    "model": {"model": "alibaba/wan2.1-t2v-turbo"},
    "output": {"output": "other.mp4"},
    "priority": {"priority": 3},
    "tags": {"tags": ["noir"]},
    "take": {"take": 2},
    "from": {"from": {"batch": "pilot", "id": "b"}},
    "extra": {"extra": {"mood": "noir"}},
    "matrix": {"matrix": {"x": ["noir"]}, "id": "{{ x }}"},
    "rows": {"rows": "x.csv", "id": "{{ x }}"},
    "count": {"count": 2},
}
"""Each key with a value by which the job becomes another one."""


@pytest.mark.parametrize("key", JOB_KEYS)
def test_every_key_of_a_job_is_read(key: str, tmp_path: Path) -> None:
    assert key in EXAMPLES, f"give `{key}` a value in EXAMPLES"
    (tmp_path / "x.csv").write_text("x\nnoir\n")
    job = {"id": "a", "model": TEXT, "prompt": "A clip."}

    def specs(**changes: Any) -> list[JobSpec]:
        (tmp_path / "m.yaml").write_text(json.dumps({"jobs": [job | changes]}))
        return list(reader.read(tmp_path / "m.yaml").jobs)

    assert specs(**EXAMPLES[key]) != specs(), f"`manifest/job_builder.py` does not read `{key}`"


def test_the_help_of_the_command_does_not_load_pydantic() -> None:
    code = "import sys, batchgen.cli; assert 'pydantic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_schema_has_all_parameters_of_every_model() -> None:
    whole = schema.schema()["definitions"]
    for model in register.models():
        taken = {name for path in register.endpoints(model) for name in validation.parameters(model, path)}
        assert whole[model.replace("/", ".")]["properties"].keys() == taken
    assert whole["job"]["properties"]["model"]["anyOf"][0]["enum"] == list(register.models())


@pytest.mark.parametrize(
    "job",
    [
        f"{{id: 1, model: {STANDARD}, image_url: a.png, duration: '5', cfg_scale: 0.5}}",
        f"{{id: 1, model: {STANDARD}, image_url: a.png, duration: '{{{{ n }}}}', cfg_scale: ~, aspect_ratio: ~}}",
        f"{{id: x, model: {STANDARD}, camera_control: {{type: '{{{{ t }}}}', config: {{zoom: '3'}}}}}}",
        f"{{id: x, model: {STANDARD}, camera_control: '{{{{ c }}}}', tail_image_url: a.png, priority: '{{{{ p }}}}'}}",
        "{id: x, model: '{{ model }}', whatever: 3}",
        "{id: x, model: runway-gen3/turbo/image-to-video, duration: 5}",
        "{id: x, matrix: {a: [1, x, ~], b: {glob: '*.png'}}, count: 3, rows: a.csv}",
    ],
)
def test_a_valid_job_matches_the_schema(job: str, validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(tree(f"jobs: [{job}]"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_limit_is_read_by_the_code_that_keeps_it(name: str) -> None:
    package = Path(reader.__file__).parents[1]
    assert any(f".{name}" in path.read_text("utf-8") for path in package.rglob("*.py")), f"no code uses `limits.{name}`"


@pytest.mark.parametrize("limits", ["auto", "{in_flight: auto, max_cost: 5}", "{submits_per_minute: auto}", "~"])
def test_limits_can_be_auto(limits: str, validator: Draft7Validator) -> None:
    assert [error.message for error in validator.iter_errors(tree(f"limits: {limits}"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "job: []",
        "service: 5",
        "service: {nam: aimlapi}",
        "service: {name: 5}",
        "service: {endpoint: legasy}",
        "limits: {in_flight: 0}",
        "limits: {in_fligt: 3}",
        "limits: all",
        "limits: {in_flight: many}",
        "limits: {downloads: auto}",
        "defaults: {id: x}",
        "jobs: [{prompt: x}]",
        f"jobs: [{{id: x, model: {STANDARD}, duratoin: 5}}]",
        f"jobs: [{{id: x, model: {STANDARD}, duration: 7}}]",
        f"jobs: [{{id: x, model: {STANDARD}, camera_control: {{config: {{zoom: 11}}}}}}]",
        "jobs: [{id: x, model: kling}]",
        "jobs: [{id: x, rows: a.xlsx}]",
        "jobs: [{id: x, matrix: {a: 1}}]",
        "jobs: [{id: x, count: 0}]",
        f"{{defaults: {{model: {STANDARD}}}, jobs: [{{id: x, duration: 7}}]}}",
        f"{{defaults: {{model: {STANDARD}}}, jobs: [{{id: x, aspect_ratio: '16:9'}}]}}",
        f"{{defaults: {{model: {STANDARD}, duration: 7}}}}",
    ],
)
def test_an_invalid_manifest_does_not_match_the_schema(text: str, validator: Draft7Validator) -> None:
    assert not validator.is_valid(tree(text))


def test_the_manifest_of_init_is_valid(tmp_path: Path, batchgen: Command, validator: Draft7Validator) -> None:
    done = batchgen("init")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("manifest.yaml: an example, with manifest.schema.json")
    assert "batchgen run manifest.yaml" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.schema.json", "manifest.yaml"]
    assert batchgen("check", "manifest.yaml").returncode == 0
    text = (tmp_path / "manifest.yaml").read_text("utf-8")
    assert validator.is_valid(tree(text))
    assert reader.read(tmp_path / "manifest.yaml").service == "simulator"


def test_the_manifest_of_init_is_valid_with_its_comments_removed(tmp_path: Path) -> None:
    text = example_manifest("m.yaml").replace("\n  # ", "\n  ").replace("\n  Videos", "\n  # Videos")
    text = text.replace("\n  A job for each line", "\n  # A job for each line").replace("max_cost", "  max_cost")
    text = text.replace("\n    max_cost", "\n  max_cost")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes((MANIFESTS / "images" / "balloons.jpg").read_bytes())
    (tmp_path / "products.csv").write_text("sku,title,photo\nx-1,Mug,images/a.jpg\n")
    (tmp_path / "m.yaml").write_text(text)
    assert len(reader.read(tmp_path / "m.yaml").jobs) == 7


def test_init_overwrites_nothing(tmp_path: Path, batchgen: Command) -> None:
    (tmp_path / "own.yaml").write_text("mine")
    (tmp_path / "manifest.schema.json").write_text("mine")
    done = batchgen("init", "own.yaml")
    assert done.returncode == 2
    assert "own.yaml: already exists" in done.stderr
    assert batchgen("init", "new/first.yml").returncode == 0
    assert batchgen("init", ".").returncode == 0
    assert batchgen("init", "first.json").returncode == 2
    assert "batchgen check 'my film.yaml'`," in batchgen("init", "my film.yaml").stdout
    assert "batchgen check ./-d.yaml`," in batchgen("init", "--", "-d.yaml").stdout
    assert batchgen("init", "caf\udce9.yaml").returncode == 0
    assert {(tmp_path / name).read_text() for name in ("own.yaml", "manifest.schema.json")} == {"mine"}

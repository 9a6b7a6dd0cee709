"""Reading a valid manifest: the Manifest and the JobSpecs that it becomes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

from batchgen.api import opening
from batchgen.catalogue.durations import clip_seconds
from batchgen.manifest import reader
from batchgen.manifest.limits import AUTO, Limits
from batchgen.manifest.reader import Manifest

STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAC0lEQVR4nGNgQAYAAA4AAamRc7EAAAAASUVORK5CYII="
TEXT = "klingai/v2.1-master-text-to-video"
MANIFESTS = Path(__file__).parents[1] / "manifests"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.jpg"):
        Image.new("RGB", (32, 18), "teal").save(tmp_path / name)
    return tmp_path


def read(folder: Path, text: str) -> Manifest:
    path = folder / "spring.yaml"
    path.write_text(dedent(text), "utf-8")
    return reader.read(path)


def test_a_minimal_manifest_gets_every_default(folder: Path) -> None:
    parsed = read(folder, f"jobs: [{{id: one, model: {STANDARD}, image_url: a.png}}]")
    assert (parsed.batch, parsed.service, parsed.endpoint_style) == ("spring", "aimlapi", "universal")
    assert parsed.limits == Limits()
    assert parsed.path == folder / "spring.yaml"
    assert parsed.folder == folder
    assert parsed.sha256 == hashlib.sha256(parsed.path.read_bytes()).hexdigest()
    (job,) = parsed.jobs
    assert (job.key, job.model, job.endpoint) == ("one", STANDARD, "/v2/video/generations")
    assert (job.output, job.input_pointers, job.priority, job.tags, job.line) == (
        "spring/one.mp4",
        ("/image_url",),
        0,
        (),
        1,
    )
    assert job.request == f'{{"model":"{STANDARD}","image_url":"a.png"}}'


def test_every_key_of_a_manifest_is_read(folder: Path) -> None:
    parsed = read(
        folder,
        f"""
        batch: 007
        service: {{name: simulator, endpoint: legacy}}
        output: "{{{{ batch }}}}/{{{{ index }}}}-{{{{ id | lower }}}}-{{{{ duration }}}}.mp4"
        limits:
          submits_per_minute: 600
          in_flight: 7
          downloads: 2
          max_cost: 50.10
          deadline_minutes: 90
          unconfirmed_minutes: 2.5
          on_unconfirmed: resubmit
        defaults:
          model: {STANDARD}
          duration: 5
          prompt: a prompt
          tags: [x]
        jobs:
          - id: 0815
            image_url: a.png
            tail_image_url: b.jpg
            priority: -3
          - id: ÜBER
            model: {MASTER}
            image_url: https://example.com/x.jpg
            duration: "10"
            prompt: ünï “{{{{ id }}}}” {{% 🎬
            tags: [1.50, yes]
            output: own/{{{{ id }}}}.mp4
        """,
    )
    assert (parsed.batch, parsed.service, parsed.endpoint_style) == ("007", "simulator", "legacy")
    assert parsed.limits == Limits(600.0, 7, 2, Decimal("50.10"), 90.0, 2.5, "resubmit")
    first, second = parsed.jobs
    assert first.endpoint == second.endpoint == "/v2/generate/video/kling/generation"
    assert (first.key, first.output, first.input_pointers) == (
        "0815",
        "007/1-0815-5.mp4",
        ("/image_url", "/tail_image_url"),
    )
    assert (first.priority, first.tags, first.line) == (-3, ("x",), 19)
    assert list(json.loads(first.request)) == ["model", "duration", "prompt", "image_url", "tail_image_url"]
    assert (second.key, second.output, second.input_pointers, second.tags) == (
        "ÜBER",
        "own/ÜBER.mp4",
        (),
        ("1.50", "yes"),
    )
    assert second.request == (
        f'{{"model":"{MASTER}","duration":10,"prompt":"ünï “ÜBER” {{% 🎬","image_url":"https://example.com/x.jpg"}}'
    )


def test_the_header_may_stand_after_the_jobs(folder: Path) -> None:
    jobs = "jobs: [{id: one, image_url: a.png}, {id: two, image_url: a.png, cfg_scale: 0.1}]"
    header = f"batch: b\noutput: 'o/{{{{ id }}}}.mp4'\ndefaults: {{model: {STANDARD}, cfg_scale: 0.7}}"
    before, after = read(folder, f"{header}\n{jobs}\n"), read(folder, f"{jobs}\n{header}\n")
    assert [job.request for job in after.jobs] == [job.request for job in before.jobs]
    assert [job.output for job in after.jobs] == ["o/one.mp4", "o/two.mp4"]


def test_a_job_drops_a_default_with_null(folder: Path) -> None:
    text = f"defaults: {{model: {STANDARD}, image_url: a.png, cfg_scale: 0.7}}\njobs: [{{id: one, cfg_scale: null}}]"
    (job,) = read(folder, text).jobs
    assert "cfg_scale" not in json.loads(job.request)


def test_null_drops_a_default_that_the_model_does_not_accept(folder: Path) -> None:
    text = f"defaults: {{aspect_ratio: 16:9}}\njobs: [{{id: a, model: {MASTER}, image_url: a.png, aspect_ratio: ~}}]"
    (job,) = read(folder, text).jobs
    assert "aspect_ratio" not in json.loads(job.request)


def test_a_simulated_run_keeps_everything_but_the_service_the_batch_and_the_folder(folder: Path) -> None:
    text = f"service: {{name: aimlapi, endpoint: legacy}}\njobs: [{{id: one, model: {STANDARD}, image_url: a.png}}]"
    parsed = read(folder, text)
    simulated = opening.read_manifest(parsed.path, None, simulate=True, validate=True)
    assert (simulated.service, simulated.endpoint_style, simulated.batch) == ("simulator", "legacy", "spring-simulated")
    (job,), (copy,) = parsed.jobs, simulated.jobs
    assert copy == replace(job, output="simulated/spring/one.mp4")


@pytest.mark.parametrize(("duration", "seconds"), [("duration: 5", 5.0), ("duration: '10'", 10.0), ("prompt: x", None)])
def test_the_length_of_the_clip_is_kept_where_the_request_names_it(
    folder: Path, duration: str, seconds: float | None
) -> None:
    (job,) = read(folder, f"jobs: [{{id: one, model: {STANDARD}, image_url: a.png, {duration}}}]").jobs
    assert job.clip_seconds == seconds


@pytest.mark.parametrize("duration", [0, -1, 1e-30, 5e-324, 1e300, "inf", "nan", "1e-9"])
def test_a_length_that_no_clip_has_is_none_and_no_price_for_a_second_is_learned_from_it(duration: float | str) -> None:
    assert clip_seconds({"duration": duration}) is None


def test_anchors_and_merges_share_parameters_between_jobs(folder: Path) -> None:
    parsed = read(
        folder,
        f"""
        jobs:
          - &first
            id: one
            model: {STANDARD}
            image_url: a.png
            camera_control: &camera {{type: simple, config: {{zoom: 1}}}}
          - <<: *first
            id: two
            prompt: other
          - id: three
            <<: [{{duration: 5}}, {{duration: 10, model: {MASTER}}}]
            image_url: b.jpg
            camera_control: *camera
        """,
    )
    one, two, three = (json.loads(job.request) for job in parsed.jobs)
    assert two == {**one, "prompt": "other"}
    assert three["duration"] == 5
    assert (three["model"], three["camera_control"]) == (MASTER, one["camera_control"])


@pytest.mark.parametrize(
    ("value", "files"),
    [
        ("a.png", ("/image_url",)),
        ("./a.png", ("/image_url",)),
        ("sub/../a.png", ("/image_url",)),
        ("http://example.com/a.png", ()),
        ("HTTPS://example.com/a.png?x=1#y", ()),
        (f"data:image/png;base64,{PNG}", ()),
        (PNG, ()),
    ],
)
def test_an_image_is_a_link_or_a_local_file(folder: Path, value: str, files: tuple[str, ...]) -> None:
    (folder / "sub").mkdir()
    (job,) = read(folder, f"jobs: [{{id: one, model: {STANDARD}, image_url: '{value}'}}]").jobs
    assert job.input_pointers == files
    assert json.loads(job.request)["image_url"] == value


def test_a_local_image_may_be_in_any_folder(folder: Path) -> None:
    (folder / "deep").mkdir()
    jobs = f"jobs: [{{id: one, image_url: ../a.png}}, {{id: two, image_url: '{folder}/a.png'}}]"
    parsed = read(folder / "deep", f"defaults: {{model: {STANDARD}}}\n{jobs}")
    assert [job.input_pointers for job in parsed.jobs] == [("/image_url",)] * 2


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("x.mp4", "x.mp4"),
        ("./x.mp4", "x.mp4"),
        ("a/./b/x.mp4", "a/b/x.mp4"),
        ("{{ id }}.mp4", "One/two.mp4"),
        ("{{ model }}/x.mp4", f"{TEXT}/x.mp4"),
        ("{{ prompt | lower | replace(' ', '-') | truncate(length=12, end='') }}.mp4", "a-dolly-shot.mp4"),
        ("{{ '%03d' | format(index) }}.mp4", "001.mp4"),
        ("{{ aspect_ratio | replace(':', 'x') }}{{ '' if duration == 5 else '-long' }}.mp4", "16x9.mp4"),
    ],
)
def test_an_output_is_a_template(folder: Path, output: str, path: str) -> None:
    text = f"""
    output: "{output}"
    jobs: [{{id: One/two, model: {TEXT}, prompt: A dolly shot over hills, aspect_ratio: 16:9, duration: 5}}]
    """
    (job,) = read(folder, text).jobs
    assert job.output == path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16:9", "16:9"),
        ("12:30:45", "12:30:45"),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1e400", "1e400"),
        ("=", "="),
        ("'5'", "5"),
        ("true", True),
        ("False", False),
        ("5", 5),
        ("-7", -7),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    from batchgen.manifest.diagnostics import Diagnostics
    from batchgen.manifest.nodes import top_level
    from batchgen.manifest.source import SourceText

    ((_, node),) = top_level(Diagnostics(SourceText(Path("m.yaml"), f"x: {text}\n".encode())), streamed="jobs")
    assert node.value == value
    assert type(node.value) is type(value)


@pytest.mark.parametrize("text", ["", "~", "null"])
def test_an_empty_scalar_is_null(text: str) -> None:
    from batchgen.manifest.scalars import resolve

    assert resolve(text) is None


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(folder: Path) -> None:
    path = folder / "w.yaml"
    path.write_bytes(f"\ufeffjobs:\r\n  - id: one\r\n    model: {STANDARD}\r\n    image_url: a.png\r\n".encode())
    (job,) = reader.read(path).jobs
    assert (job.key, job.line) == ("one", 2)


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_example_manifests_are_valid(path: Path) -> None:
    parsed = reader.read(path)
    assert parsed.batch == path.stem
    assert {STANDARD, MASTER} <= {job.model for job in parsed.jobs}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("auto", Limits(submits_per_minute=AUTO, in_flight=AUTO)),
        ("{in_flight: auto, max_cost: 5}", Limits(in_flight=AUTO, max_cost=Decimal(5))),
        ("{max_cost: 0.12345678901234567890, downloads: ~}", Limits(max_cost=Decimal("0.12345678901234567890"))),
        ("{submits_per_minute: auto, in_flight: 7}", Limits(submits_per_minute=AUTO, in_flight=7)),
        ("{polls_per_minute: 90}", Limits(polls_per_minute=90)),
    ],
)
def test_limits_can_be_auto(tmp_path: Path, limits: str, expected: Limits) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        f"limits: {limits}\njobs: [{{id: a, model: {MASTER}, prompt: p, image_url: https://a.test/b.jpg}}]\n"
    )
    assert reader.read(path).limits == expected


def test_the_demo_is_offline_and_fast() -> None:
    demo = reader.read(MANIFESTS / "demo.yaml")
    assert demo.service == "simulator"
    assert float(demo.limits.submits_per_minute) >= 600
    assert {json.loads(job.request)["duration"] for job in demo.jobs} == {5, 10}
    assert all(path.stat().st_size < 60_000 for path in (MANIFESTS / "images").iterdir())

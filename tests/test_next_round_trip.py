"""What `batchgen next` writes is read back to exactly the requests that were sent, whatever is in them."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from batchgen.api.next_manifest import NextManifest, NextOptions
from batchgen.catalogue.written import trimmed
from batchgen.errors import ManifestInvalid
from batchgen.files.local_files import FileDigests
from batchgen.jobs import JobSpec, Verdict
from batchgen.jobtable.fingerprint import fingerprint_of
from batchgen.jobtable.lineage import UsedSeeds
from batchgen.jobtable.sync import manifest_columns
from batchgen.jobtable.verdicts import VerdictFilter
from batchgen.manifest import reader
from batchgen.manifest.header import ServiceKeys
from batchgen.manifest.job_keys import JOB_KEYS
from batchgen.manifest.reader import Manifest
from batchgen.manifest.request import DAMAGE
from batchgen.manifest.successor import Target
from tests.batches import MASTER, STANDARD, TEXT_MODEL
from tests.conftest import NOON

SEEDED = "alibaba/wan2.1-t2v-turbo"
ODD_TEXTS = (
    *(
        "{{ id }}",
        "{{",
        "}}",
        "{{{% if",
        "a {% b {{ c",
        "{# x #}",
        "{{ '{{' }}",
        "#tag",
        " # no comment",
        "a: b",
        "- x",
    ),
    *('"', "'", "\\", "\\n", "\\ud83d", 'it\'s "quoted"', "two\nlines\n", "\ttab", "\r\n", "\x85\u2028\u2029", "\x7f"),
    *("🎬 clip", "ünï", "\ufeff", "\u00a0", "\u200b", "\ue000", "007", "1.10", "1e5", "0x1f", "yes", "No", "null", "~"),
    *("true", "", " ", "2026-03-01", "16:9", "<<", "=", "*alias", "&anchor", "!tag", "%", "@", "`", ">", "|", ".inf"),
    *("a.png", "data:,", "https://example.com/a.png", "QUJD", "x" * 3000),
)
texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=30).filter(lambda text: not DAMAGE.search(text))
numbers = (
    st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([5, 10, 0.5])
)
scalars = st.none() | st.booleans() | numbers | texts
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
images = st.sampled_from(["a.png", "b/ünï c.png", "https://example.com/a.png"])
names = st.sampled_from(
    ["mona", "007", "yes", "1.10", "{{ x }}", "a: b", "#1", "null", 'q"', "Ünï/🎬", "con", ".x", "MONA"]
)
odd_jobs = st.fixed_dictionaries(
    {"id": names, "model": st.sampled_from([STANDARD, MASTER, TEXT_MODEL, SEEDED, "someone/new-model"])},
    optional={
        "prompt": texts,
        "image_url": images,
        "image_urls": st.lists(images, max_size=3),
        "duration": st.sampled_from([5, "5", 10, "ten"]),
        "cfg_scale": numbers,
        "seed": st.integers(0, 2**32) | st.none(),
        "camera_control": trees,
        "take": st.integers(1, 3),
        "extra": st.dictionaries(st.sampled_from(["mood", "image_url", "mask", *JOB_KEYS]) | texts, trees, max_size=3),
        "mood": trees,
    },
)
"""Most of them need `--no-validate`."""
prompts = texts.filter(trimmed)
valid_jobs = st.fixed_dictionaries(
    {"id": names, "model": st.sampled_from([STANDARD, MASTER]), "image_url": images},
    optional={
        "prompt": prompts,
        "negative_prompt": texts,
        "tail_image_url": images,
        "duration": st.sampled_from([5, "5", 10]),
        "cfg_scale": st.sampled_from([0, 1, 0.5, "0.70"]),
        "camera_control": st.just({"type": "simple", "config": {"zoom": 4}}),
        "extra": st.dictionaries(st.just("mood"), trees, max_size=1),
    },
) | st.fixed_dictionaries(
    {"id": names, "model": st.sampled_from([TEXT_MODEL, SEEDED]), "prompt": prompts},
    optional={"seed": st.integers(0, 2**32), "count": st.integers(1, 3)},
)
KEPT_KEYS = {"priority": st.integers(-9, 9), "tags": st.lists(names, max_size=2)}
kept_keys = st.fixed_dictionaries({}, optional=KEPT_KEYS)
jobs = st.builds(lambda job, more: job | more, odd_jobs | valid_jobs | valid_jobs, kept_keys)
headers = st.sampled_from(["aimlapi", "simulator", {"name": "aimlapi", "endpoint": "legacy"}])


def literal(tree: Any) -> Any:
    """A tree whose texts are no templates."""
    if isinstance(tree, dict):
        return {name: literal(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return list(map(literal, tree))
    return tree.replace("{{", "{{ '{{' }}").replace("{%", "{ %") if isinstance(tree, str) and "{{" in tree else tree


def compose(sent: Manifest, path: Path, *, model: str | None = None, reseed: bool = False) -> NextManifest:
    """The next manifest of all jobs, as of rows of the table."""
    options = NextOptions(VerdictFilter(Verdict.PICKED), model, reseed, path=path)
    target = Target(ServiceKeys(name=sent.service, endpoint=sent.endpoint_style), model)
    requests = [json.loads(job.request) for job in sent.jobs]
    last_takes = {(job.endpoint, job.request): job.take for job in sent.jobs}
    used = UsedSeeds({request["seed"] for request in requests if type(request.get("seed")) is int}, last_takes)
    made = NextManifest(sent.batch, target, options, FileDigests(sent.folder), used)
    for job in sent.jobs:
        columns = manifest_columns(job, FileDigests(sent.folder))
        said = {"verdict": Verdict.PICKED, "stars": 4, "cost_usd": None, "input_digests": None}
        made.add(SimpleNamespace(key=job.key, **columns, **said))
    assert made.problems == []
    made.lines = [*made.header(sent.path, NOON), *made.lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made.text, "utf-8")
    return made


NOT_KEPT = {"request", "output", "parent", "source", "line", "origin"}
"""The fields that are others in the next manifest. What a request asks for is compared by its fingerprint."""


def content_of(job: JobSpec, folder: Path) -> dict[str, Any]:
    """All that a job asks for, with the content of its files in place of their names."""
    kept = {field.name: getattr(job, field.name) for field in fields(JobSpec) if field.name not in NOT_KEPT}
    return kept | {"fingerprint": fingerprint_of(job, FileDigests(folder))}


def test_every_key_of_a_job_is_drawn() -> None:
    drawn_above = {"id", "model", "extra", "take", "count"}
    own_of_next = {"output", "from", "matrix", "rows"}
    missing = JOB_KEYS.keys() - KEPT_KEYS.keys() - drawn_above - own_of_next
    assert not missing, "KEPT_KEYS draws each key that `next` keeps"


@pytest.mark.parametrize("number", ["1e19", "-1e19", "1.5e21", "1e22", "2e300", "9999999999999999999"])
def test_a_number_of_many_digits_is_written_as_it_is_read(tmp_path: Path, number: str) -> None:
    source = tmp_path / "m.yaml"
    source.write_text(f"jobs: [{{id: a, model: {TEXT_MODEL}, prompt: x, camera_control: {number}}}]\n")
    sent = reader.read(source, validate=False)
    compose(sent, tmp_path / "next.yaml")
    read_back = reader.read(tmp_path / "next.yaml", validate=False)
    assert [job.request for job in read_back.jobs] == [job.request for job in sent.jobs]


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None, database=None)
@given(
    headers,
    st.lists(jobs, min_size=1, max_size=3, unique_by=lambda job: job["id"]),
    st.booleans(),
    st.sampled_from(["", "other", "other/deep"]),
)
def test_what_next_writes_of_any_manifest_asks_for_the_same_jobs(
    tmp_path: Path, service: Any, entries: list[dict[str, Any]], validate: bool, folder: str
) -> None:
    for image in ("a.png", "b/ünï c.png"):
        if not (tmp_path / image).exists():
            (tmp_path / image).parent.mkdir(exist_ok=True)
            Image.new("RGB", (300, 300), (image[0] == "a" and "red") or "blue").save(tmp_path / image)
    source = tmp_path / "m.yaml"
    tree = {"service": service, "output": "{{ index }}.mp4", "jobs": literal(entries)}
    source.write_text(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), "utf-8")
    try:
        sent = reader.read(source, validate=validate)
    except ManifestInvalid:
        return
    path = tmp_path / folder / "next.yaml"
    made = compose(sent, path)
    read_back = reader.read(path, validate=not made.unchecked)
    assert not made.unchecked or not validate
    assert read_back.remarks == ()
    assert [content_of(job, read_back.folder) for job in read_back.jobs] == [
        content_of(job, sent.folder) for job in sent.jobs
    ]
    assert [job.parent for job in read_back.jobs] == [(sent.batch, job.key) for job in sent.jobs]
    assert all(job.output.startswith("next/") for job in read_back.jobs)
    made = compose(sent, tmp_path / "again.yaml", reseed=True)
    again = reader.read(tmp_path / "again.yaml", validate=not made.unchecked)
    videos = [content_of(job, read.folder)["fingerprint"] for read in (sent, again) for job in read.jobs]
    assert len(set(videos)) == len(set(videos[: len(sent.jobs)])) + len(again.jobs), "each is another video"

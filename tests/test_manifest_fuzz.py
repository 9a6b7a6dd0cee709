"""Fuzzing: any bytes give a manifest or its problems, never another exception, and soon."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from batchgen.catalogue import validation
from batchgen.catalogue.written import trimmed
from batchgen.errors import ManifestInvalid
from batchgen.files.output_paths import path_fault
from batchgen.manifest import reader
from batchgen.manifest.header import KEYS
from batchgen.manifest.job_keys import JOB_KEYS, MULTIPLIERS
from batchgen.manifest.limits import Limits
from batchgen.manifest.reader import Manifest
from batchgen.manifest.request import DAMAGE
from batchgen.manifest.templates import NO_VALUE
from batchgen.services.text import visible

STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"
TEXT = "klingai/v2.1-master-text-to-video"

in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None, database=None
)


def read_or_refuse(folder: Path, raw: bytes) -> Manifest | None:
    """The manifest, or None where it is invalid; params problem is reported once, at a position in the file."""
    path = folder / "m.yaml"
    path.write_bytes(raw)
    try:
        parsed = reader.read(path)
    except ManifestInvalid as invalid:
        assert invalid.problems
        distinct = {(problem.path, problem.line, problem.column, problem.message) for problem in invalid.problems}
        assert len(distinct) == len(invalid.problems)
        for problem in invalid.problems:
            assert problem.line >= 1
            assert problem.column >= 1
            assert visible(problem.message) == problem.message
            assert problem.message
        return None
    assert len({job.key for job in parsed.jobs}) == len({job.output for job in parsed.jobs}) == len(parsed.jobs)
    assert reader.read(path) == parsed
    for job in parsed.jobs:
        assert path_fault(job.output) is None
        assert job.request.encode()
        assert json.loads(job.request)["model"] == job.model
    return parsed


@in_one_folder
@given(st.binary(max_size=200))
@example(b"\xff\xfej\x00")
@example(b"\xef\xbb\xbf")
@example(b"%YAML 9.9\n---\n")
@example(b"jobs: [\x85]")
def test_any_bytes_are_read_or_refused(tmp_path: Path, raw: bytes) -> None:
    read_or_refuse(tmp_path, raw)


@in_one_folder
@given(
    st.lists(
        st.sampled_from([*"[]{}:,-?!&*|>'\"%@`#\n \t~", "jobs:", "- id: ", "<<: ", "&a", "*a", "\n  ", "\x00"]),
        max_size=40,
    )
)
def test_any_punctuation_is_read_or_refused(tmp_path: Path, pieces: list[str]) -> None:
    read_or_refuse(tmp_path, "".join(pieces).encode())


@in_one_folder
@given(st.data())
def test_a_damaged_manifest_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    good = (Path(__file__).parents[1] / "manifests" / "kling.yaml").read_bytes()
    start = data.draw(st.integers(0, len(good)))
    damage = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"\n", b"  ", b"- ", b": ", b"{", b"{{ x }}", b"*a", b"!!"])
    )
    read_or_refuse(tmp_path, good[:start] + damage + good[start + data.draw(st.integers(0, 20)) :])


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(max_size=30) | st.sampled_from(
    ["a.png", "16:9", "{{ id }}", "{{ s.stem }}", "m.yaml", "{{", "..", "/x", "https://x/y", "data:,", "5"]
)
parameters = st.dictionaries(
    st.sampled_from([*validation.parameters(STANDARD, "/v2/video/generations"), "aspect_ratio", *JOB_KEYS, "<<"]),
    trees | texts | st.sampled_from([STANDARD, MASTER, TEXT, 5, 10, 0.5, {"s": [1, "x"]}, {"s": {"glob": "*.png"}}]),
    max_size=6,
)
likely = st.fixed_dictionaries(
    {"id": texts, "model": st.sampled_from([STANDARD, MASTER, TEXT]), "image_url": texts}, optional={"duration": texts}
)
manifests = st.dictionaries(
    st.sampled_from([*KEYS, *MULTIPLIERS, "x"]),
    trees | texts | st.lists(parameters | likely | trees, max_size=4),
    max_size=6,
) | st.fixed_dictionaries({"jobs": st.lists(likely | parameters, min_size=1, max_size=3), "defaults": parameters})


@in_one_folder
@given(manifests)
def test_any_tree_is_read_or_refused(tmp_path: Path, tree: Any) -> None:
    if not (tmp_path / "a.png").exists():
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    read_or_refuse(tmp_path, yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "replace"))


prompts = st.text(max_size=200).filter(lambda text: "\r" not in text and trimmed(text) and not DAMAGE.search(text))


@in_one_folder
@given(prompts)
@example("{% raw %} {# c #} }} {")
def test_any_text_reaches_the_request_unchanged(tmp_path: Path, prompt: str) -> None:
    tree = {"jobs": [{"id": "one", "model": TEXT, "prompt": prompt.replace("{{", "{{ '{{' }}")}]}
    parsed = read_or_refuse(tmp_path, yaml.safe_dump(tree, default_style='"').encode())
    assert parsed is not None
    assert json.loads(parsed.jobs[0].request) == {"model": TEXT, "prompt": prompt}
    assert parsed.limits == Limits()


class Quoting(yaml.SafeDumper):
    """Writes every text in quotes, and nothing else."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))

nonempty = st.lists(st.text(min_size=1, max_size=50).filter(trimmed), min_size=1, max_size=4)


@in_one_folder
@given(nonempty, st.sampled_from(["r.csv", "r.jsonl"]))
@example(["{{ id }}", "{% x", 'a "quote", a comma\r\nand a line', "\ufeffx "], "r.csv")
def test_any_text_of_a_row_reaches_the_request_unchanged(tmp_path: Path, texts: list[str], name: str) -> None:
    with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
        if name == "r.csv":
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["n", "text"], *enumerate(texts)])
        else:
            file.writelines(json.dumps({"n": n, "text": text}) + "\n" for n, text in enumerate(texts))
    job = {"id": "{{ n }}", "rows": name, "model": TEXT, "prompt": "{{ text }}", "negative_prompt": "<{{ text }}>"}
    parsed = read_or_refuse(tmp_path, yaml.safe_dump({"jobs": [job]}).encode())
    if any(NO_VALUE.fullmatch(text) or DAMAGE.search(text) for text in texts):
        assert parsed is None
        return
    assert parsed is not None
    sent = [json.loads(job.request) for job in parsed.jobs]
    assert [params["prompt"] for params in sent] == texts
    assert [params["negative_prompt"] for params in sent] == [f"<{text}>" for text in texts]


@in_one_folder
@given(nonempty)
def test_any_text_of_a_matrix_reaches_the_request_unchanged(tmp_path: Path, texts: list[str]) -> None:
    texts = [text for text in dict.fromkeys(texts) if "\r" not in text and not DAMAGE.search(text)]
    matrix = {"cell": [{"n": n, "text": text} for n, text in enumerate(texts)], "twice": ["a", "b"]}
    job = {"id": "{{ cell.n }}-{{ twice }}", "matrix": matrix, "model": TEXT, "prompt": "{{ cell.text }}."}
    parsed = read_or_refuse(tmp_path, yaml.dump({"jobs": [job]}, Dumper=Quoting).encode())
    assert (parsed is not None) == bool(texts)
    if parsed:
        assert [json.loads(job.request)["prompt"] for job in parsed.jobs] == [
            f"{text}." for text in texts for _ in "ab"
        ]


@in_one_folder
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode), st.sampled_from(["r.csv", "r.jsonl", "i.yaml"]))
@example(b'sku\n"a', "r.csv")
@example(b"sku\n" + b"x" * 200_000, "r.csv")
@example(b'{"sku": "\\ud800"}', "r.jsonl")
def test_any_bytes_of_a_file_that_the_manifest_names_are_read_or_refused(tmp_path: Path, raw: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(raw)
    job = f"{{id: '{{{{ sku }}}}', model: {TEXT}, prompt: p, rows: {name}}}"
    read_or_refuse(tmp_path, f"include: {name}\n".encode() if name == "i.yaml" else f"jobs: [{job}]\n".encode())


pieces = st.sampled_from(
    [*"{}%#|~.'\"()[] *-+,:", "{{ ", " }}", "id", "s", "s.stem", "n", "batch", "lower", "not ", "in"]
)


@in_one_folder
@given(st.lists(pieces, max_size=25).map("".join), st.lists(scalars | texts, max_size=3))
def test_any_template_is_filled_in_or_refused(tmp_path: Path, template: str, cells: list[Any]) -> None:
    job = {"id": "{{ n }}", "model": TEXT, "prompt": template, "output": template, "matrix": {"n": [1, 2], "s": cells}}
    read_or_refuse(
        tmp_path, yaml.safe_dump({"jobs": [job, {**job, "count": 2}]}, allow_unicode=True).encode("utf-8", "replace")
    )


@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
@pytest.mark.parametrize("shape", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(tmp_path: Path, shape: str, depth: int) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("defaults:\n  " + shape * depth)
    with pytest.raises(ManifestInvalid, match=r"nested more than 64 deep|a key must be text|this is not YAML"):
        reader.read(path)


TOO_LARGE = "aliases make this manifest too large"
LIST_OF_NINE, MAP_OF_FIVE = f"[{', '.join(['*a{0}'] * 9)}]", "{{x: *a{0}, y: *a{0}, z: *a{0}, u: *a{0}, v: *a{0}}}"


def levels(level: str, number: int) -> str:
    """Each level names the one before it."""
    return "a0: &a0 [lol, lol, lol]\n" + "".join(f"  a{n}: &a{n} {level.format(n - 1)}\n" for n in range(1, number))


BOMBS = {
    "nesting through aliases": (levels("[*a{0}]", 200), "nested more than 64 deep"),
    "lists of aliases": (levels(LIST_OF_NINE, 30), TOO_LARGE),
    "mappings of aliases": (levels(MAP_OF_FIVE, 30), TOO_LARGE),
    "merges of a wide mapping": (
        f"a: &a {{{', '.join(f'k{n}: 1' for n in range(5_000))}}}\n  b: [{', '.join(['{<<: *a}'] * 5_000)}]\n",
        TOO_LARGE,
    ),
}


@pytest.mark.parametrize(("defaults", "message"), BOMBS.values(), ids=BOMBS)
def test_what_aliases_make_deep_or_large_is_refused(tmp_path: Path, defaults: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"defaults:\n  {defaults}jobs: [{{id: one}}]\n")
    with pytest.raises(ManifestInvalid, match=message):
        reader.read(path)


def test_many_jobs_may_share_one_anchor(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    jobs = "".join(f"  - {{<<: *base, id: j{number}}}\n" for number in range(2_000))
    path.write_text(f"defaults: &base {{model: {TEXT}, prompt: x}}\njobs:\n{jobs}")
    assert len(reader.read(path).jobs) == 2_000

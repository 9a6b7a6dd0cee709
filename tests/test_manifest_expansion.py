"""One entry, many jobs: matrix, rows, takes and included manifests."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from PIL import Image

from batchgen.errors import ManifestInvalid
from batchgen.manifest import reader
from batchgen.manifest.expressions import PathText
from batchgen.manifest.reader import Manifest
from batchgen.manifest.templates import Templates
from batchgen.services.text import visible

STANDARD = "kling-video/v2.1/standard/image-to-video"
TEXT = "klingai/v2.1-master-text-to-video"
SEEDED = "alibaba/wan-2-6-t2v"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("frames/b.png", "frames/a.png", "frames/deep/c.png", "frames/.hidden.png", "sub/own.png", "top.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 18), "teal").save(tmp_path / name)
    (tmp_path / "frames" / "folder.png").mkdir()
    return tmp_path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_", ".")).write_text(dedent(text), "utf-8")


def read(folder: Path, text: str, *, validate: bool = True) -> Manifest:
    path = folder / "m.yaml"
    path.write_text(dedent(text), "utf-8")
    return reader.read(path, validate=validate)


def keys(parsed: Manifest) -> list[str]:
    return [job.key for job in parsed.jobs]


def params(parsed: Manifest, name: str) -> list[Any]:
    return [json.loads(job.request).get(name) for job in parsed.jobs]


NAMES = {
    "a screenshot of macOS": "Screenshot 2026-11-27 at 9.41.00\u202fAM",
    "Japanese": "写真\u30001",
    "Persian": "می\u200cخواهم",
    "a joined emoji": "c👩\u200d💻",
    "a blank that breaks no line": "a\xa0b",
    "a blank of typographers": "a\u2009b",
    "an emoji that Python does not know": "\U0001faea",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_may_hold_whatever_a_person_writes(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for other in {name, name.replace("\xa0", " "), name.replace("\u3000", " ")}:
        Image.new("RGB", (32, 18), "teal").save(folder / f"{other}.png")
    parsed = reader.read(written_manifest(tmp_path, name))
    stems = sorted(path.stem for path in folder.iterdir())
    assert keys(parsed) == stems
    assert [job.output for job in parsed.jobs] == [f"{name}/{stem}.mp4" for stem in stems]
    assert params(parsed, "image_url") == [f"{name}/{stem}.png" for stem in stems]
    assert {job.tags for job in parsed.jobs} == {(name,)}


REFUSED = {
    "a turn of direction": ("a\u202eb", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    "a mark of direction": ("a\u200fb", "U+200F RIGHT-TO-LEFT MARK"),
    "a line separator": ("a\u2028b", "U+2028 LINE SEPARATOR"),
    "a byte order mark": ("a\ufeffb", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
    "a soft hyphen": ("a\xadb", "U+00AD SOFT HYPHEN"),
    "a hidden letter": ("a\U000e0041b", "U+E0041 TAG LATIN CAPITAL LETTER A"),
    "an escape": ("a\x1bb", "U+001B CONTROL CHARACTER"),
    "Latin-1": ("a\udce9b", "the byte 0xE9, which is not UTF-8"),
}


@pytest.mark.parametrize(("name", "character"), REFUSED.values(), ids=REFUSED)
def test_a_name_may_hold_nothing_that_hides_or_turns_text(tmp_path: Path, name: str, character: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{name}.png").touch()
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(written_manifest(tmp_path, "in"))
    (problem,) = caught.value.problems
    assert problem.message == f"the name of a file holds a character that cannot be printed: {character}"
    assert problem.hint.endswith(f"rename the file: {visible(f'in/{name}.png')}")


def written_manifest(folder: Path, name: str) -> Path:
    """A manifest with a job for each image in the folder `name`, which is its batch and a tag as well."""
    path = folder / "m.yaml"
    job = f"id: '{{{{ f.stem }}}}', model: {STANDARD}, image_url: '{{{{ f }}}}', tags: ['{name}']"
    text = f"batch: '{name}'\njobs: [{{{job}, matrix: {{f: {{glob: '{name}/*.png'}}}}}}]\n"
    path.write_text(text, "utf-8")
    return path


def test_a_text_may_begin_with_the_blank_of_japanese(tmp_path: Path) -> None:
    text = f"jobs:\n  - id: one\n    model: {TEXT}\n    prompt: |\n      \u3000猫が\n      \u3000走る\n"
    assert params(read(tmp_path, text), "prompt") == ["\u3000猫が\n\u3000走る\n"]


# --- matrix ----------------------------------------------------------------------------------------------------------


def test_a_matrix_makes_every_combination_in_the_order_it_is_written(folder: Path) -> None:
    parsed = read(
        folder,
        f"""
        jobs:
          - id: "{{{{ style }}}}-{{{{ image.stem }}}}"
            model: {STANDARD}
            matrix:
              style: [noir, pop]
              image: {{glob: "frames/*.png"}}
            prompt: "A dolly shot, {{{{ style }}}} style ({{{{ index }}}})"
            image_url: "{{{{ image }}}}"
            tags: ["{{{{ style }}}}", all]
        """,
    )
    assert keys(parsed) == ["noir-a", "noir-b", "pop-a", "pop-b"]
    assert params(parsed, "image_url") == ["frames/a.png", "frames/b.png"] * 2
    assert params(parsed, "prompt")[3] == "A dolly shot, pop style (4)"
    assert {job.input_pointers for job in parsed.jobs} == {("/image_url",)}
    assert {job.line for job in parsed.jobs} == {3}
    assert parsed.jobs[2].tags == ("pop", "all")
    assert parsed.jobs[2].output == "m/pop-a.mp4"


def test_a_glob_takes_files_of_all_folders_with_two_stars(folder: Path) -> None:
    text = f"""
    jobs: [{{id: "{{{{ f.parent.name }}}}-{{{{ f.stem }}}}", model: {STANDARD}, image_url: "{{{{ f }}}}",
            matrix: {{f: {{glob: "**/*.png"}}}}}}]
    """
    assert params(read(folder, text), "image_url") == [
        "frames/a.png",
        "frames/b.png",
        "frames/deep/c.png",
        "sub/own.png",
        "top.png",
    ]


def test_a_template_that_is_a_single_name_keeps_the_type_of_its_value(folder: Path) -> None:
    parsed = read(
        folder,
        f"""
        jobs:
          - id: "{{{{ n }}}}-{{{{ camera.type }}}}"
            model: {STANDARD}
            image_url: top.png
            matrix:
              n: [5, 10]
              camera: [{{type: simple, config: {{zoom: 3}}}}, {{type: down_back}}, ]
              scale: [0.5]
            duration: "{{{{ n }}}}"
            cfg_scale: "{{{{scale}}}}"
            camera_control: "{{{{ camera }}}}"
            prompt: "{{{{ n }}}} s"
            priority: "{{{{ n }}}}"
        """,
    )
    assert params(parsed, "duration") == [5, 5, 10, 10]
    assert params(parsed, "cfg_scale") == [0.5] * 4
    assert params(parsed, "camera_control")[:2] == [{"type": "simple", "config": {"zoom": 3}}, {"type": "down_back"}]
    assert params(parsed, "prompt")[3] == "10 s"
    assert [job.priority for job in parsed.jobs] == [5, 5, 10, 10]


def test_a_null_in_a_matrix_leaves_the_parameter_out(folder: Path) -> None:
    text = f"""
    jobs: [{{id: "x{{{{ s }}}}", model: {STANDARD}, image_url: top.png, matrix: {{s: [0.5, ~]}},
            cfg_scale: "{{{{s}}}}"}}]
    """
    assert ["cfg_scale" in json.loads(job.request) for job in read(folder, text).jobs] == [True, False]


def test_a_matrix_can_vary_the_model(folder: Path) -> None:
    text = f"""
    jobs: [{{id: "{{{{ model.stem }}}}", matrix: {{model: [{TEXT}, {SEEDED}]}}, model: "{{{{ model }}}}", prompt: x}}]
    """
    parsed = read(folder, text)
    assert [job.model for job in parsed.jobs] == [TEXT, SEEDED]
    assert keys(parsed) == ["v2", "wan-2-6-t2v"]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_each_row_of_a_table_is_a_job(folder: Path) -> None:
    table = (
        'sku,title,photo,seconds,a note\r\na-1,"A mug, ""blue""\nand white",top.png,5,x\r\n\r\nb-2,{{ sku }},,10,\r\n'
    )
    (folder / "p.csv").write_bytes(b"\xef\xbb\xbf" + table.encode())
    parsed = read(
        folder,
        f"""
        defaults: {{model: {TEXT}}}
        jobs:
          - id: "{{{{ sku }}}}"
            rows: p.csv
            prompt: "{{{{ title }}}} turns"
            negative_prompt: "{{{{ photo }}}}"
            duration: "{{{{ seconds }}}}"
        """,
    )
    assert keys(parsed) == ["a-1", "b-2"]
    assert params(parsed, "prompt") == ['A mug, "blue"\nand white turns', "{{ sku }} turns"]
    assert params(parsed, "duration") == [5, 10]
    assert params(parsed, "negative_prompt") == ["top.png", None]


def test_rows_of_json_keep_their_types(folder: Path) -> None:
    rows = [
        {"n": 1, "on": True, "s": 0.25, "t": "5", "d": {"x": "y"}},
        {"n": 2, "on": None, "s": 1, "t": "é", "d": {"x": 3}},
    ]
    (folder / "r.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    text = f"""
    jobs: [{{id: "{{{{ n }}}}", rows: r.jsonl, model: {SEEDED}, prompt: "{{{{ t }}}} {{{{ d.x }}}}",
            seed: "{{{{ n }}}}", generate_audio: "{{{{ on }}}}"}}]
    """
    parsed = read(folder, text)
    assert [json.loads(job.request) for job in parsed.jobs] == [
        {"model": SEEDED, "prompt": "5 y", "seed": 1, "generate_audio": True},
        {"model": SEEDED, "prompt": "é 3", "seed": 2},
    ]


def test_rows_a_matrix_and_takes_multiply(folder: Path) -> None:
    write(folder, r_csv="sku\na\nb\n")
    text = f"""
    jobs: [{{id: "{{{{ sku }}}}-{{{{ style }}}}", count: 2, matrix: {{style: [x, y]}}, rows: r.csv,
            model: {TEXT}, prompt: p}}]
    """
    assert keys(read(folder, text)) == ["a-x", "a-x-2", "a-y", "a-y-2", "b-x", "b-x-2", "b-y", "b-y-2"]


# --- takes -----------------------------------------------------------------------------------------------------------


def test_the_first_take_keeps_the_id_of_the_job_without_count(folder: Path) -> None:
    job = f"id: one, model: {TEXT}, prompt: p"
    plain, one, three = (read(folder, f"jobs: [{{{job}{count}}}]") for count in ("", ", count: 1", ", count: 3"))
    assert plain.jobs == one.jobs == three.jobs[:1]
    assert keys(three) == ["one", "one-2", "one-3"]


@pytest.mark.parametrize(
    ("model", "more", "seeds"),
    [
        (SEEDED, "", [1, 2, 3]),
        (SEEDED, "seed: 40", [40, 41, 42]),
        (SEEDED, "seed: '40'", [40, 41, 42]),
        (SEEDED, "seed: ~", [None, None, None]),
        (SEEDED, "seed: '{{ take + 6 }}'", [7, 8, 9]),
        (TEXT, "", [None, None, None]),
    ],
)
def test_each_take_has_its_own_seed_where_the_model_has_one(
    folder: Path, model: str, more: str, seeds: list[int | None]
) -> None:
    parsed = read(folder, f"jobs: [{{id: 'x{{{{ take }}}}', count: 3, model: {model}, prompt: p, {more}}}]")
    assert keys(parsed) == ["x1", "x2", "x3"]
    assert params(parsed, "seed") == seeds


def test_a_job_may_name_its_take_and_the_job_that_it_was_made_from(folder: Path) -> None:
    more = "take: 3, from: {batch: '{{ batch }}-1', id: 007}"
    with_names, without = (
        read(folder, f"jobs: [{{id: one, model: {TEXT}, prompt: p{keys}}}]").jobs for keys in (f", {more}", "")
    )
    (job,), (plain,) = with_names, without
    assert (job.take, job.parent) == (3, ("m-1", "007"))
    assert (plain.take, plain.parent) == (1, None)
    assert job.request == plain.request


# --- templates in plain jobs -----------------------------------------------------------------------------------------


def test_templates_of_any_job_can_use_batch_id_index_and_model(folder: Path) -> None:
    text = f"""
    batch: spring
    defaults: {{negative_prompt: "not {{{{ id }}}}"}}
    jobs:
      - id: "{{{{ batch }}}}-1"
        model: {TEXT}
        prompt: "{{{{ id }}}} {{{{ index }}}} {{{{ model.name }}}} {{{{ '{{{{' }}}} {{#"
    """
    (job,) = read(folder, text).jobs
    assert job.key == "spring-1"
    assert json.loads(job.request)["prompt"] == "spring-1 1 v2.1-master-text-to-video {{ {#"
    assert json.loads(job.request)["negative_prompt"] == "not spring-1"


@pytest.mark.parametrize("text", ["{%", "{% if x %}", "{#", "}}", "{", "100 % {x}", "{ { x } }"])
def test_text_without_a_template_stays_as_it_is(folder: Path, text: str) -> None:
    assert params(read(folder, f"jobs: [{{id: one, model: {TEXT}, prompt: '{text}'}}]"), "prompt") == [text]


def test_the_last_line_end_of_a_block_stays(folder: Path) -> None:
    text = f"jobs:\n  - id: one\n    model: {TEXT}\n    prompt: |\n      {{{{ id }}}}\n      two\n"
    assert params(read(folder, text), "prompt") == ["one\ntwo\n"]


@pytest.mark.parametrize(
    ("text", "name", "stem", "suffix", "parent"),
    [
        ("frames/a.b.png", "a.b.png", "a.b", ".png", "frames"),
        ("a", "a", "a", "", "."),
        (".hidden", ".hidden", ".hidden", "", "."),
        ("a.", "a.", "a.", "", "."),
        ("/a.png", "a.png", "a", ".png", "/"),
        ("https://h.org/p/x.jpg?s=1/2.3#f", "x.jpg", "x", ".jpg", "https://h.org/p"),
        ("", "", "", "", "."),
    ],
)
def test_a_path_has_parts(text: str, name: str, stem: str, suffix: str, parent: str) -> None:
    path = PathText(text)
    assert [str(part) for part in (path, path.name, path.stem, path.suffix, path.parent)] == [
        text,
        name,
        stem,
        suffix,
        parent,
    ]
    assert Templates().fill("{{ p.stem }}|{{ p }}", {"p": text}) == f"{stem}|{text}"
    assert Templates().fill("{{ p.parent.name }}", {"p": "x/y/z"}) == "y"


def test_the_number_of_compiled_templates_is_bounded() -> None:
    templates = Templates()
    for number in range(3_000):
        assert templates.fill(f"{number} {{{{ x }}}}", {"x": 1}) == f"{number} 1"
    assert len(templates.compiled) <= 1_000


# --- include ---------------------------------------------------------------------------------------------------------


def test_an_included_manifest_has_its_own_defaults_and_relative_paths(folder: Path) -> None:
    write(
        folder,
        sub__inc_yaml=f"""
        include: deeper.yaml
        jobs:
          - {{id: own, image_url: own.png}}
          - id: "{{{{ f.stem }}}}"
            matrix: {{f: {{glob: "../frames/*.png"}}}}
            image_url: "{{{{ f }}}}"
          - {{id: "{{{{ sku }}}}", rows: r.csv, image_url: "https://example.com/{{{{ sku }}}}.png"}}
        defaults: {{model: {STANDARD}}}
        """,
        sub__deeper_yaml=f"jobs: [{{id: deep, model: {STANDARD}, image_url: '{folder}/top.png'}}]",
        sub__r_csv="sku\nq\n",
    )
    parsed = read(
        folder,
        f"""
        include: [sub/inc.yaml]
        output: "out/{{{{ id }}}}.mp4"
        defaults: {{duration: 10}}
        jobs: [{{id: first, model: {TEXT}, prompt: p}}]
        """,
    )
    assert keys(parsed) == ["first", "own", "a", "b", "q", "deep"]
    assert params(parsed, "image_url") == [
        None,
        "sub/own.png",
        "sub/../frames/a.png",
        "sub/../frames/b.png",
        "https://example.com/q.png",
        f"{folder}/top.png",
    ]
    assert params(parsed, "duration") == [10, None, None, None, None, None]
    assert parsed.jobs[1].output == "out/own.mp4"
    assert [job.line for job in parsed.jobs] == [5, 4, 5, 5, 8, 1]


def test_a_manifest_can_consist_of_an_include(folder: Path) -> None:
    write(folder, a_yaml=f"jobs: [{{id: one, model: {TEXT}, prompt: p}}]")
    assert keys(read(folder, "include: a.yaml")) == ["one"]


# --- ids -------------------------------------------------------------------------------------------------------------


def test_adding_removing_and_moving_entries_changes_no_other_job(folder: Path) -> None:
    write(folder, r_csv="sku\na\nb\nc\n")
    entries = [
        f"- {{id: one, model: {TEXT}, prompt: p}}",
        f"- {{id: '{{{{ sku }}}}', rows: r.csv, model: {TEXT}, prompt: '{{{{ sku }}}}'}}",
        f"- {{id: 'm-{{{{ s }}}}', matrix: {{s: [x, y]}}, count: 2, model: {TEXT}, prompt: '{{{{ s }}}}'}}",
    ]

    def identities(chosen: list[str]) -> dict[str, tuple[str, str]]:
        return {job.key: (job.request, job.output) for job in read(folder, "jobs:\n" + "\n".join(chosen)).jobs}

    whole = identities(entries)
    assert len(whole) == 8
    assert identities(entries[::-1]) == whole
    for entry in entries:
        assert identities([entry]).items() <= whole.items()
    write(folder, r_csv="sku\nc\nnew\na\n")
    assert identities(entries).items() >= {key: whole[key] for key in ("one", "a", "c", "m-x", "m-y-2")}.items()


# --- models that are newer than the catalogue ------------------------------------------------------------------------


def test_without_validation_a_new_model_and_new_parameters_pass(folder: Path) -> None:
    parsed = read(
        folder,
        f"""
        service: {{name: aimlapi, endpoint: legacy}}
        jobs:
          - id: new
            model: kling-video/v9/image-to-video
            image_url: top.png
            mood: dark
            frames: [{{type: image, url: top.png}}]
          - {{id: old, model: {STANDARD}, image_url: top.png, duration: "5", last_image_url: frames/a.png, strength: 3}}
        """,
        validate=False,
    )
    new, old = parsed.jobs
    assert new.endpoint == "/v2/video/generations"
    assert new.input_pointers == ("/image_url", "/frames/0/url")
    assert json.loads(new.request)["mood"] == "dark"
    assert old.endpoint == "/v2/generate/video/kling/generation"
    assert old.input_pointers == ("/image_url", "/last_image_url")
    assert json.loads(old.request)["duration"] == 5


def test_without_validation_ids_outputs_and_images_are_still_checked(folder: Path) -> None:
    text = """
    jobs:
      - {id: a, model: new/model, image_url: nosuch.png}
      - {id: a, model: new/model}
      - {id: b, model: new/model, output: ../x.mp4}
      - {id: c, model: "new\\tmodel"}
    """
    with pytest.raises(ManifestInvalid) as caught:
        read(folder, text, validate=False)
    assert [problem.line for problem in caught.value.problems] == [3, 4, 5, 6]


def test_a_job_that_was_sent_does_not_need_its_image(folder: Path) -> None:
    text = f"""
    batch: spring
    jobs: [{{id: "{{{{ s }}}}", matrix: {{s: [gone, a]}}, model: {STANDARD}, image_url: "frames/{{{{ s }}}}.png"}}]
    """
    path = folder / "m.yaml"
    path.write_text(dedent(text))
    batches: list[str] = []

    def already_sent(batch: str, service: str) -> set[str]:
        batches.append(batch)
        return {"gone"}

    assert keys(reader.read(path, already_sent=already_sent)) == ["gone", "a"]
    assert batches == ["spring"]


def test_the_names_of_a_template_are_known_after_others_were_dropped(folder: Path) -> None:
    other = "".join(f"  - {{id: '{{{{ batch }}}}-{n}', model: {TEXT}, prompt: p}}\n" for n in range(999))
    last = f"  - {{id: 'x{{{{ take }}}}', count: 2, model: {SEEDED}, seed: '{{{{ take }}}}', prompt: '{{{{ id }}}}'}}\n"
    parsed = read(folder, f"jobs:\n{other}{last}")
    assert (keys(parsed)[-2:], params(parsed, "seed")[-2:]) == (["x1", "x2"], [1, 2])


def test_what_a_manifest_was_read_with_leaves_the_memory_at_once(folder: Path) -> None:
    (folder / "r.csv").write_text("sku\na\nb\n")
    entry = f"{{id: '{{{{ sku }}}}', model: {STANDARD}, image_url: top.png, rows: r.csv}}"
    gc.collect()
    gc.disable()  # a circle of references would wait for it
    try:
        parsed = read(folder, f"jobs: [{entry}]\n")
        left = {type(living).__name__ for living in gc.get_objects()}
    finally:
        gc.enable()
    assert len(parsed.jobs) == 2
    assert not left & {"ManifestFile", "JobList", "RowsFile", "RowsText", "Diagnostics", "JobBuilder", "Location"}

"""Output paths: they stay in their folder, work on every system, and no two jobs share one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from batchgen.errors import ManifestInvalid
from batchgen.files.output_paths import BYTES_ADDED_LATER, folded, path_fault, tidy
from batchgen.manifest import reader
from batchgen.manifest.expressions import BadTemplate
from batchgen.manifest.templates import Templates

MODEL = "klingai/v2.1-master-text-to-video"


def messages(folder: Path, *jobs: str, top: str = "") -> list[str]:
    """The problems of a manifest of `jobs`, each the inside of a flow mapping, from line 3 on."""
    path = folder / "m.yaml"
    entries = "".join(f"  - {{{job}}}\n" for job in jobs)
    path.write_text(f"defaults: {{model: {MODEL}, prompt: x}}\njobs:\n{entries}{top}", "utf-8")
    try:
        reader.read(path)
    except ManifestInvalid as invalid:
        return [f"{problem.line}:{problem.column} {problem.message}" for problem in invalid.problems]
    return []


@pytest.mark.parametrize(
    "path",
    [
        "a.mp4",
        "a/b/c.mp4",
        "ünï/日本.mp4",
        "a b.mp4",
        "comma, semi; quote'.mp4",
        "Screenshot at 9.41.00\u202fAM.mp4",
        "写真\u30001/👩\u200d💻.mp4",
        "./a.mp4",
        "com10.mp4",
        "console.mp4",
        "a..b.mp4",
        "s3://clips/a.mp4",
        "s3://clips/spring 2026/ünï~1.mp4",
        "gs://my-clips.example.com/a/b.mp4",
        "az://container/a.mp4",
        "file:///mnt/clips/a.mp4",
    ],
)
def test_a_safe_path_is_accepted(path: str) -> None:
    assert path_fault(path, BYTES_ADDED_LATER) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("/etc/x.mp4", "relative"),
        ("//host/x.mp4", "relative"),
        ("C:/x.mp4", "relative"),
        ("c:x.mp4", "relative"),
        ("../x.mp4", "leaves"),
        ("a/../../x.mp4", "leaves"),
        ("a/..", "leaves"),
        ("a//b.mp4", "empty part"),
        ("a/", "empty part"),
        (".", "no name"),
        ("a/.", "no name"),
        (".hidden.mp4", "dot"),
        ("a/.b/c.mp4", "dot"),
        ("a./b.mp4", "dot"),
        ("a /b.mp4", "space"),
        (" a.mp4", "space"),
        ("a\\b.mp4", "\\"),
        ("..\\b.mp4", "dot"),
        ("a:b.mp4", "relative"),
        ("ab:c.mp4", ":"),
        ("what?.mp4", "?"),
        ("a*.mp4", "*"),
        ("a\0b.mp4", "printed"),
        ("a\nb.mp4", "printed"),
        ("a\u202eb.mp4", "printed: U+202E RIGHT-TO-LEFT OVERRIDE; write another name"),
        ("a\u2028b.mp4", "printed: U+2028 LINE SEPARATOR"),
        ("a\xadb/c.mp4", "printed: U+00AD SOFT HYPHEN"),
        ("NUL", "Windows"),
        ("con.mp4", "Windows"),
        ("a/Com1.mp4", "Windows"),
        ("lpt9 .mp4", "Windows"),
        ("x" * 220, "longer than 219"),
        ("é" * 110, "longer than 219"),
        ("/".join(["abc"] * 300), "longer than 982"),
        ("x.mp4.part", "unfinished"),
        ("batchgen.db", "of a job table"),
        ("a/jobs.DB-journal", "of a job table"),
        ("batchgen.db.run-0123456789ab", "of a job table"),
        ("x.PART", "unfinished"),
        ("S3://clips/a.mp4", "begins with s3://, gs://, az://, file://"),
        ("https://clips.example.com/a.mp4", "begins with s3://"),
        ("s3://clips", "no name"),
        ("s3://clips/", "no name"),
        ("s3:///a.mp4", "name of a bucket"),
        ("s3://key:secret@clips/a.mp4", "name of a bucket"),
        ("s3://b/a.mp4", "of 3 or more lowercase letters"),
        ("s3://Clips/a.mp4", "name of a bucket"),
        ("s3://clips/../a.mp4", "the output URL has a part that is .."),
        ("s3://clips/a//b.mp4", "empty part"),
        ("s3://clips/.a/b.mp4", "the output URL begins with a dot"),
        ("s3://clips/a?versionId=1", "?"),
        ("s3://clips/a\nb.mp4", "printed"),
        ("s3://clips/x.mp4.part", "unfinished"),
        ("file://mnt/a.mp4", "a whole path"),
        ("file:///mnt/../a.mp4", ".."),
    ],
)
def test_an_unsafe_path_is_refused(path: str, reason: str) -> None:
    assert reason in (path_fault(path, BYTES_ADDED_LATER) or "")


@pytest.mark.parametrize("path", ["~/x.mp4", "$HOME/x.mp4", "${HOME}/x.mp4", "%USERPROFILE%/x.mp4"])
def test_an_output_that_a_shell_would_fill_in_is_refused(tmp_path: Path, path: str) -> None:
    (message,) = messages(tmp_path, f"id: one, output: '{path}'")
    assert "~ and variables of the shell are not filled in" in message


def test_an_unsafe_path_is_reported_where_it_is_written_else_at_the_id(tmp_path: Path) -> None:
    assert messages(tmp_path, "id: '../../x'") == ["3:10 the output path leaves the manifest's folder"]
    assert messages(tmp_path, "id: one, output: '../{{ id }}.mp4'") == [
        "3:23 the output path leaves the manifest's folder"
    ]
    assert messages(tmp_path, "id: one", top="output: /tmp/x.mp4\n") == [
        "3:10 the output path must be relative to the manifest"
    ]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a.mp4", "a.mp4"),
        ("a.mp4", "A.MP4"),
        ("stra\u00dfe.mp4", "STRASSE.mp4"),
        ("\u00e9.mp4", "e\u0301.mp4"),
        ("./x.mp4", "x.mp4"),
        ("s3://clips/a.mp4", "s3://clips/./A.mp4"),
    ],
)
def test_two_jobs_cannot_have_the_same_path_on_any_file_system(tmp_path: Path, one: str, two: str) -> None:
    assert folded(tidy(one)) == folded(tidy(two))
    assert messages(tmp_path, f"id: one, output: {one}", f"id: two, output: {two}") == [
        f"4:23 two jobs would be written to {tidy(two)}"
    ]


def test_ids_that_differ_only_in_case_collide_in_the_default_output(tmp_path: Path) -> None:
    assert messages(tmp_path, "id: Mona", "id: mona") == ["4:10 two jobs would be written to m/mona.mp4"]


def test_a_duplicate_id_is_one_problem_not_two(tmp_path: Path) -> None:
    assert messages(tmp_path, "id: mona", "id: mona") == ["4:10 two jobs have the id `mona`"]


def test_a_path_cannot_be_the_folder_of_another(tmp_path: Path) -> None:
    expected = "3:23 a video would be written to a/b, a folder on line 4"
    assert messages(tmp_path, "id: one, output: a/B", "id: two, output: A/b/c.mp4") == [expected]
    assert messages(tmp_path, "id: one, output: A/b/c.mp4", "id: two, output: a/B") == [
        "4:23 a video would be written to a/b, a folder on line 3"
    ]


def test_a_video_cannot_replace_the_manifest_or_an_image(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert messages(tmp_path, "id: one, output: M.yaml") == [
        "3:23 the video would be written over the manifest: m.yaml"
    ]
    image = "model: klingai/v2.1-master-image-to-video, image_url: ./x/../a.png"
    assert messages(tmp_path, f"id: one, output: A.png, {image}") == [
        "3:23 the video would be written over an image that the jobs use: ./x/../a.png"
    ]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ nosuch }}", "no name `nosuch`"),
        ("{{ id", "the template cannot be read: a `{{` has no `}}`"),
        ("{{ id | center(9) }}", "no filter `center`"),
        ("{% for x in id %}{{ x }}{% endfor %}", "no statements"),
        ("{{ range(9) }}", "no name `range`"),
        ("{{ id.upper() }}", "`id` has no part `upper`"),
        ("{{ id.stem() }}", "cannot be filled in"),
        ("{{ id.x }}", "`id` has no part `x`"),
        ("a{{ id.x }}", "`id` has no part `x`"),
        ("a{{ id[0].x }}", "is undefined"),
        ("{{ 'x' * 1000000000 }}", "has no `*`"),
        ("{{ '%999999d' | format(1) }}", "at most 99"),
        ("{{ '%d' | format(id) }}", "`format` cannot be done"),
        ("{{ 'aaaa' | replace('a', 'bbbbbbbbbb') " + "| replace('b', 'bbbbbbbbbb') " * 9 + "}}", "too long"),
        ("{{ id " + "~ id " * 200 + "}}", "at most 1000"),
        ("{{ " + "not " * 10_000 + "id }}", "at most 1000"),
        ("{{ " + "(" * 900 + "}}", "recursion"),
        ("{% if id %}{{ id }}", "no statements"),
        ("{{ '}}", "cannot be read"),
    ],
)
def test_a_template_that_cannot_be_filled_in_gives_the_reason(template: str, reason: str) -> None:
    with pytest.raises(BadTemplate, match=re.escape(reason)):
        Templates().fill(template, {"id": "one"})


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    assert messages(tmp_path, "id: one", top="output: '{{ idd }}.mp4'\n") == ["4:9 the template has no name `idd`"]
    with pytest.raises(BadTemplate) as caught:
        Templates().fill("{{ idd }}", {"batch": 1, "id": 2, "seed": 3})
    assert caught.value.hint == "did you mean id? known: batch, id and seed"

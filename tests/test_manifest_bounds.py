"""Manifests and files that are too long, too deep, endless or no files: refused in a sentence, whatever they hold.

Before there were bounds, each of these took minutes, all memory, or for ever.
"""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from batchgen.errors import SHOWN_PROBLEMS, ManifestInvalid
from batchgen.files.input_file import InputFault
from batchgen.manifest import bounds, reader
from batchgen.manifest.file_pattern import matching_files

TEXT = "klingai/v2.1-master-text-to-video"
STANDARD = "kling-video/v2.1/standard/image-to-video"
GIGABYTES = 2**30

pytestmark = pytest.mark.hostile("manifests and files without measure or end", "file, line and column, and a sentence")


def refused(path: Path) -> ManifestInvalid:
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(path)
    return caught.value


def job(prompt: str) -> str:
    return f"jobs: [{{id: a, model: {TEXT}, prompt: {prompt}}}]\n"


def many(keys: str, matrix: str = "") -> str:
    numbers = list(range(1_000))
    return f"{keys}\njobs:\n- {{id: '{{{{ a }}}}-{{{{ b }}}}', matrix: {{a: {numbers}, b: {numbers}{matrix}}}}}\n"


BOMBS = {
    "120 kB of opened templates": (job(f"'{'{{' * 60_000}'"), "1:66: the template has 120,000 characters"),
    "templates that open in quotes": (job("'" + '{{"' * 15_000 + "'"), "1:66: the template cannot be read"),
    "opened templates within the bound": (job(f"'{'{{' * 22_000}'"), "1:66: the template cannot be read"),
    "statements beside a template": (job("'{{ id }}" + "{%" * 20_000 + "{% if'"), "no statements"),
    "a template that repeats a text of 4 MB": (
        f"jobs: [{{id: a, model: {TEXT}, prompt: '{'{{ x }}' * 5_000}', matrix: {{x: ['{'y' * 4_000_000}']}}}}]",
        "the template would become too long",
    ),
    "a link of 150 kB that ends in a space": (
        f"jobs: [{{id: a, model: {STANDARD}, image_url: 'https://{'a' * 150_000} '}}]",
        "1:76: the link has 150,008 characters",
    ),
    "600 merged mappings": (
        f"x: &b {{{', '.join(f'k{n}: 1' for n in range(1_600))}}}\n"
        f"jobs: [{{id: a, model: {TEXT}, prompt: p{', <<: *b' * 600}}}]",
        "aliases make this manifest too large",
    ),
    "100,000 brackets": ("jobs: " + "[" * 100_000, "1:1006: this is not YAML"),
    "aliases that multiply": (
        "defaults:\n  a0: &a0 [lol, lol]\n"
        + "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "aliases make this manifest too large",
    ),
    "a job with 5,001 values": (
        f"jobs: [{{id: a, model: {TEXT}, prompt: x, y: [{'1, ' * 5_001}]}}]",
        "the job has more than 5,000 values",
    ),
    "a list of 40,000 values in a thousand jobs": (
        f"jobs: [{{id: x, model: {TEXT}, prompt: '{{{{ x }}}}', count: 1000, matrix: {{x: [[{'1, ' * 40_000}]]}}}}]",
        "the job has more than 5,000 values",
    ),
    "an entry with 50,001 values": (f"batch: [{'1, ' * 50_001}]", "this has more than 50,000 values"),
    "10,001 keys": (
        f"jobs: [{{{', '.join(f'k{n}: 1' for n in range(10_001))}}}]",
        "this mapping has more than 10,000 keys",
    ),
    "a default of 1 MB times a million jobs": (
        many(f"defaults: {{model: {TEXT}, prompt: {'x' * 1_000_000}}}"),
        "the first 101 jobs have 101,",
    ),
    "a million million jobs": (
        many(f"defaults: {{model: {TEXT}, prompt: x}}", f", c: {list(range(1_000))}, d: {list(range(1_000))}"),
        "this makes 1,000,000,000,000 jobs",
    ),
    "17 names of two values in a matrix beside 9,000 of one": (
        f"jobs: [{{id: a, matrix: {{{', '.join(f'a{n}: [1, 2]' for n in range(17))}, "
        f"{', '.join(f'b{n}: [1]' for n in range(9_000))}}}}}]",
        "1:24: the matrix has 9,017 names; at most 100 are allowed",
    ),
    "a number of a million digits": (
        f"jobs: [{{id: a, model: {TEXT}, prompt: x, duration: {'9' * 1_000_000}}}]",
        "`duration` must be 5 or 10",
    ),
    "an id of a million characters": (f"jobs: [{{id: {'a' * 1_000_000}, model: {TEXT}}}]", "has 1000000 characters"),
    "a problem on a line of 2 MB": (
        f"jobs: [{{id: a, model: {TEXT}, prompt: {'x' * 2_000_000}, durtion: 5}}]",
        "1:2000068: ",
    ),
    "a problem behind two million lines": ("\n" * 2_000_000 + "jobs: [a]\n", ":2000001:8: a job must be a mapping"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_a_bomb_of_length_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    error = refused(path)
    assert message in str(error)
    assert len(str(error)) < 50_000


def test_of_300_000_problems_on_a_line_the_first_are_shown_and_the_rest_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(f"jobs: [{', '.join('a' * 300_000)}]\n")
    error = refused(path)
    assert len(error.problems) <= bounds.PROBLEMS + 1
    assert "so many problems that the rest of it was not read" in error.problems[0].message
    assert sum("^" in problem.hint for problem in error.problems) == SHOWN_PROBLEMS


def test_manifests_that_include_one_another_in_a_long_row_are_refused(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.yaml").write_text(f"include: {number + 1}.yaml\n")
    assert "50 that include one another" in str(refused(tmp_path / "0.yaml"))


ROWS = {
    "one line of 25 MB": ("r.csv", b"n\n" + b"a" * 25_000_000, "r.csv:2:1: a row has more than 20,000,000 characters"),
    "one quote that stays open": (
        "r.csv",
        b'n\n"' + b"a\n" * 1_000_000,
        "r.csv:2:1: this is not CSV: a quoted field has no end",
    ),
    "cells with line ends and no end of the row": (
        "r.csv",
        b"n\n" + b'"a\n",' * 4_100_000,
        "a row has more than 20,000,000 characters",
    ),
    "100,000 columns": ("r.csv", b",".join(b"c%d" % n for n in range(100_000)), "the header has 100,000 columns"),
    "1,100,000 rows": ("r.csv", b"n\n" + b"1\n" * 1_100_000, "m.yaml:1:83: the rows make more than 1,000,000 jobs"),
    "100,000 names": (
        "r.jsonl",
        b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}",
        "the row has 100,000 names",
    ),
    "a number of a million digits": ("r.jsonl", b'{"n": ' + b"9" * 1_000_000 + b"}", "a number that is too long"),
    "100,000 brackets": ("r.jsonl", b'{"n": ' + b"[" * 100_000, "nested more than 64 deep"),
    "half a surrogate pair": ("r.jsonl", b'{"n": "\\ud800"}', "half of a surrogate pair"),
    "a NUL in an id": ("r.jsonl", b'{"n": "\\u0000"}', "cannot be printed"),
    "nothing but NUL": ("r.jsonl", b"\0" * 100_000, "r.jsonl:1:1: the row is not JSON"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content", "message"), ROWS.values(), ids=ROWS)
def test_a_file_of_rows_without_measure_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    assert message in str(refused(manifest_of_rows(tmp_path, name, content)))


def manifest_of_rows(folder: Path, name: str, content: bytes) -> Path:
    """A manifest whose jobs come from a file of this content."""
    (folder / name).write_bytes(content)
    path = folder / "m.yaml"
    path.write_text(f"jobs: [{{id: '{{{{ n }}}}', model: {TEXT}, prompt: x, rows: {name}}}]\n")
    return path


def test_a_header_without_measure_is_the_first_thing_that_a_process_reads(tmp_path: Path) -> None:
    """The reader of CSV has a bound of its own, which is one for the whole process."""
    csv.field_size_limit(131_072)
    name, content, message = ROWS["100,000 columns"]
    assert message in str(refused(manifest_of_rows(tmp_path, name, content)))


@pytest.mark.slow
def test_a_mistake_in_every_row_of_many_is_counted_only_so_far(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(100_000)))
    path = tmp_path / "m.yaml"
    path.write_text(f"jobs: [{{id: 'a{{{{ n }}}}', model: {TEXT}, promt: x, rows: r.csv}}]\n")
    assert "was not read" in str(refused(path))


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 6 * GIGABYTES)


def listening_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a sparse file of 6 GB": (sparse, "6,442 MB; at most"),
    "a FIFO": (os.mkfifo, "not a regular file"),
    "a socket": (listening_socket, "not a regular file"),
    "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "a link to a link to /dev/stdin": (lambda path: path.symlink_to("/dev/null"), "not a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "a folder": (Path.mkdir, "this is a folder"),
}
USES = {
    "the manifest": ("m.yaml", ""),
    "a manifest that is included": ("other.yaml", "include: other.yaml\n"),
    "rows": ("r.csv", f"jobs: [{{id: '{{{{ n }}}}', model: {TEXT}, prompt: x, rows: r.csv}}]\n"),
    "an image": ("i.png", f"jobs: [{{id: a, model: {STANDARD}, image_url: i.png}}]\n"),
    "a sound": ("a.mp3", "jobs: [{id: a, model: veed/fabric-1.0, image_url: 'https://x/i.png', audio_url: a.mp3}]\n"),
}


@pytest.mark.parametrize(("make", "message"), NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize(("name", "text"), USES.values(), ids=USES)
def test_what_is_no_file_is_not_read(
    tmp_path: Path, name: str, text: str, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / name)
    if text:
        (tmp_path / "m.yaml").write_text(text)
    assert message in str(refused(tmp_path / "m.yaml"))


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """A folder of images, with folders that hold themselves and the folder above."""
    for name in ("a.png", "b.jpg", ".hidden.png", "one/c.png", "one/two/d.png", ".git/e.png", "one/.f/g.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    for number in range(5):
        (tmp_path / "one" / f"up{number}").symlink_to("..")
    (tmp_path / "self").symlink_to(".")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.png", ["a.png", "link.png"]),
        ("**/*.png", ["a.png", "link.png", "one/c.png", "one/two/d.png"]),
        ("**", ["a.png", "b.jpg", "link.png", "one/c.png", "one/two/d.png"]),
        ("**/**/d.*", ["one/two/d.png"]),
        (".*.png", [".hidden.png"]),
        ("[ab].*", ["a.png", "b.jpg"]),
        ("one/c.png", ["one/c.png"]),
        ("./one/../a.png", ["one/../a.png"]),
        ("one/*/d.png", ["one/two/d.png"]),
        ("self/?.png", ["self/a.png"]),
        ("nowhere/*.png", []),
        ("one", []),
    ],
)
def test_a_pattern_finds_files_and_follows_no_links_below_a_double_star(
    frames: Path, pattern: str, files: list[str]
) -> None:
    assert matching_files(frames, pattern)[0] == files
    assert matching_files(Path("/"), f"{frames}/{pattern}")[0] == [str(Path(frames, name)) for name in files]


@pytest.mark.slow
def test_a_pattern_that_looks_at_too_many_files_is_refused(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(30):
        folder /= "f"
        folder.mkdir()
        for number in range(200):
            (folder / str(number)).touch()
    assert matching_files(tmp_path, "**/" * 3 + "no such file") == ([], [])
    with pytest.raises(InputFault, match="more than 200,000 files"):
        matching_files(tmp_path, "**/" * 40 + "*.png")
    with pytest.raises(InputFault, match="more than 64 parts"):
        matching_files(tmp_path, "../" * 10_000 + "*")

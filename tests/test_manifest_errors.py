"""The whole message for each mistake in a manifest."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

from batchgen.errors import ManifestInvalid, Problem
from batchgen.manifest import reader
from batchgen.services.text import visible

STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"
MINIMAL = f"{{id: one, model: {STANDARD}, image_url: a.png}}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 18), "teal").save(tmp_path / "a.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path


def problems(folder: Path, text: str | bytes) -> list[Problem]:
    path = folder / "m.yaml"
    path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(path)
    assert caught.value.exit_code == 2
    assert all(problem.path == path for problem in caught.value.problems)
    return caught.value.problems


def reported(folder: Path, text: str | bytes) -> str:
    """Every problem as `line:column message | label`."""
    lines = []
    for problem in problems(folder, text):
        label = (
            problem.hint.partition("\n")[2].partition("^")[2].lstrip("^").strip()
            if "^" in problem.hint
            else problem.hint
        )
        lines.append(f"{problem.line}:{problem.column} {problem.message}" + (f" | {label}" if label else ""))
    return "\n".join(lines)


GOLDEN = {
    "a text with a comma in {…}": (
        f"defaults: {{prompt: a cat, on a mat, duration: 5,5}}\njobs: [{MINIMAL}]",
        "1:27 `on a mat` has no value | put a text that holds a comma in quotes\n"
        "1:49 `5` has no value | put a text that holds a comma in quotes",
    ),
    "a text with a comma in {…}, with blanks": (
        f"defaults: {{ prompt: a cat , on a mat # soon\n }}\njobs: [{MINIMAL}]",
        "1:29 `on a mat` has no value | put a text that holds a comma in quotes",
    ),
    "an amount with a comma": (
        f"limits: {{max_cost: 1,500}}\njobs: [{MINIMAL}]",
        "1:22 `500` has no value | put a text that holds a comma in quotes",
    ),
    "an empty file": ("", "1:1 the manifest is empty | a manifest has a list of jobs under `jobs:`"),
    "only a comment": ("# soon\n", "1:1 the manifest is empty | a manifest has a list of jobs under `jobs:`"),
    "a list": ("- 1\n", "1:1 a manifest is a mapping | begin with a key such as `jobs:`"),
    "text": ("hello\n", "1:1 a manifest is a mapping | begin with a key such as `jobs:`"),
    "no jobs": ("batch: x\n", "1:1 the manifest has no jobs | list them under `jobs:`"),
    "null jobs": ("batch: x\njobs:\n", "2:1 the manifest has no jobs | list them under `jobs:`"),
    "empty jobs": ("jobs: []\n", "1:1 the manifest has no jobs | list them under `jobs:`"),
    "jobs by name": (
        "jobs: {a: 1}\n",
        "1:7 `jobs` must be a list, not a mapping | begin each job with a dash: - id: NAME",
    ),
    "a job that is text": ("jobs: [one]\n", '1:8 a job must be a mapping, not "one" | write {id: NAME, prompt: …}'),
    "an unknown key": (f"jobs: [{MINIMAL}]\nlimit: 3\n", "2:1 a manifest has no key `limit` | did you mean limits?"),
    "a key like no other": (
        f"jobs: [{MINIMAL}]\nxyzzy: 3\n",
        "2:1 a manifest has no key `xyzzy` | known: batch, service, output, limits, include, defaults and jobs;"
        " what all jobs have stands in `defaults`",
    ),
    "a number that no float holds": (
        f"jobs:\n  - {{id: one, prompt: x, model: {STANDARD}, image_url: a.png,\n"
        "     extra: {n: 123456789012345678901234567890}}\n",
        "3:17 123456789012345678901234567890 is too long for a number"
        " | put it in quotes where it is text; a number has at most 19 digits",
    ),
    "a misspelt model": (
        "jobs: [{id: a, modle: x, prompt: y}]\n",
        "1:8 the job has no `model` | write `model` in place of `modle`",
    ),
    "a matrix above the jobs": (
        f"matrix: {{a: [1]}}\njobs: [{MINIMAL}]\n",
        "1:1 `matrix` belongs to a job | write it under `jobs:`",
    ),
    "rows and a matrix among the defaults": (
        f"defaults: {{rows: a.csv, matrix: {{a: [1]}}}}\njobs: [{MINIMAL}]\n",
        "1:12 `rows` cannot be a default | write it in the job\n"
        "1:25 `matrix` cannot be a default | write it in the job",
    ),
    "a batch that is a list": (f"batch: [a]\njobs: [{MINIMAL}]\n", "1:8 `batch` must be text, not a list"),
    "a batch in two lines": (
        f'batch: "a\\nb"\njobs: [{MINIMAL}]\n',
        "1:8 `batch` holds a character that cannot be printed: U+000A CONTROL CHARACTER; write another one",
    ),
    "a blank behind a batch": (
        f'batch: "a\u3000"\njobs: [{MINIMAL}]\n',
        "1:8 `batch` has blanks around it; write it without them",
    ),
    "an image whose name turns the text": (
        f'jobs: [{{id: one, model: {STANDARD}, image_url: "a\u202eb.png"}}]\n',
        "1:78 the path holds a character that cannot be printed: U+202E RIGHT-TO-LEFT OVERRIDE"
        " | rename the file, and write its new name here",
    ),
    "an unknown service": (
        f"service: aimlap\njobs: [{MINIMAL}]\n",
        "1:10 there is no service `aimlap` | did you mean aimlapi?",
    ),
    "a service of the wrong type": (
        f"service: 5\njobs: [{MINIMAL}]\n",
        "1:10 `service` must be aimlapi, simulator or a mapping, not 5",
    ),
    "a service with wrong keys": (
        f"service: {{nam: aimlapi, endpoint: legasy}}\njobs: [{MINIMAL}]\n",
        "1:11 `service` has no key `nam` | did you mean name?\n"
        '1:35 `endpoint` must be universal or legacy, not "legasy" | did you mean legacy?',
    ),
    "a service with a wrong name, whose endpoint counts all the same": (
        f"service: {{name: aimlap, endpoint: legacy}}\njobs: [{MINIMAL[:-1]}, tail_image_url: a.png}}]\n",
        "1:17 there is no service `aimlap` | did you mean aimlapi?",
    ),
    "limits out of range": (
        f"""\
        limits:
          submits_per_minute: 0
          in_flight: 1001
          downloads: 33
          max_cost: -1
          deadline_minutes: 1e9
        jobs: [{MINIMAL}]
        """,
        "2:23 `submits_per_minute` must be more than 0 and at most 60,000, not 0\n"
        "3:14 `in_flight` must be more than 0 and at most 1,000, not 1001\n"
        "4:14 `downloads` must be more than 0 and at most 32, not 33\n"
        "5:13 `max_cost` must be more than 0 and at most 1,000,000,000, not -1\n"
        "6:21 `deadline_minutes` must be more than 0 and at most 10,080, not 1e9",
    ),
    "no limit in a word": (
        f"limits: {{max_cost: none}}\njobs: [{MINIMAL}]\n",
        '1:20 `max_cost` must be an amount in USD, such as 50.00, not "none" | without `max_cost` there is none',
    ),
    "limits of the wrong type": (
        f"""\
        limits:
          submits_per_minute: fast
          in_flight: 2.5
          downloads: true
          max_cost: $50
          on_unconfirmed: resend
          in_fligt: 3
        jobs: [{MINIMAL}]
        """,
        '2:23 `submits_per_minute` must be a number or auto, not "fast"\n'
        "3:14 `in_flight` must be a whole number or auto, not 2.5\n"
        "4:14 `downloads` must be a whole number, not true\n"
        '5:13 `max_cost` must be an amount in USD, such as 50.00, not "$50"\n'
        '6:19 `on_unconfirmed` must be hold or resubmit, not "resend"\n'
        "7:3 `limits` has no key `in_fligt` | did you mean in_flight?",
    ),
    "a take that is no number": (
        f"jobs: [{MINIMAL[:-1]}, take: two}}]\n",
        f'1:{len(MINIMAL) + 15} `take` must be a whole number from 1 to 1,000,000, not "two"',
    ),
    "a take beside a count": (
        f"jobs: [{MINIMAL[:-1]}, count: 1, take: 2}}]\n",
        f"1:{len(MINIMAL) + 25} `take` and `count` exclude one another (take 1) | `count` numbers the takes itself",
    ),
    "an origin without an id": (
        f"jobs: [{MINIMAL[:-1]}, from: {{batch: spring}}}}]\n",
        f"1:{len(MINIMAL) + 15} `from` must name a job by its `batch` and its `id` |"
        " such as {batch: spring, id: mona}",
    ),
    "an origin with an empty id": (
        f"jobs: [{MINIMAL[:-1]}, from: {{batch: spring, id: ''}}}}]\n",
        f"1:{len(MINIMAL) + 35} the `id` of `from` is empty",
    ),
    "limits that are a list": (
        f"limits: [1]\njobs: [{MINIMAL}]\n",
        "1:9 `limits` must be a mapping or auto, not a list",
    ),
    "defaults that are text": (f"defaults: x\njobs: [{MINIMAL}]\n", '1:11 `defaults` must be a mapping, not "x"'),
    "an id among the defaults": (
        f"defaults: {{id: x}}\njobs: [{MINIMAL}]\n",
        "1:12 an `id` cannot be a default | give every job its own",
    ),
    "no id": (
        f"jobs:\n  - model: {STANDARD}\n    image_url: a.png\n",
        "2:5 the job has no `id` | give it one: it is the job's name from run to run",
    ),
    "an empty id": (f"jobs: [{{id: ~, model: {STANDARD}, image_url: a.png}}]\n", "1:13 `id` is empty"),
    "an id that is a list": (
        f"jobs: [{{id: [a], model: {STANDARD}, image_url: a.png}}]\n",
        "1:13 `id` must be text, not a list",
    ),
    "one id twice": (f"jobs:\n - {MINIMAL}\n - {MINIMAL}\n", "3:9 two jobs have the id `one` | the other is on line 2"),
    "one id twice in a line": (
        f"jobs: [{MINIMAL}, {MINIMAL}]\n",
        "1:91 two jobs have the id `one` | the other is on line 1",
    ),
    "no model": (
        "jobs: [{id: one, image_url: a.png}]\n",
        "1:8 the job has no `model` | name one here or in `defaults`",
    ),
    "a model that is a number": ("jobs: [{id: one, model: 5}]\n", "1:25 `model` must be text, not 5"),
    "an unknown model": (
        "jobs: [{id: one, model: klingai/v2.1-mastr-image-to-video, image_url: a.png}]\n",
        f"1:25 there is no model `klingai/v2.1-mastr-image-to-video` | did you mean {MASTER},"
        " klingai/v2-master-image-to-video or klingai/v2.1-master-text-to-video?",
    ),
    "a model like no other": (
        "defaults: {model: qqqq}\njobs: [{id: one}, {id: two}]\n",
        "1:19 there is no model `qqqq` | `batchgen models` lists them",
    ),
    "a misspelt key of a job": (
        f"jobs: [{{id: one, model: {STANDARD}, image_url: a.png, priorty: 3}}]\n",
        f"1:85 `{STANDARD}` does not take `priorty` | did you mean priority?",
    ),
    "a wrong default, once": (
        f"defaults: {{model: {STANDARD}, image_url: a.png, duration: 7}}\n"
        "jobs: [{id: one}, {id: two, duration: 5}, {id: three}]\n",
        "1:89 `duration` must be 5 or 10, not 7 | this default applies to the job on line 2",
    ),
    "a misspelt null": (
        f"defaults: {{model: {STANDARD}, image_url: a.png, prompt: x}}\njobs: [{{id: one, promt: null}}]\n",
        f"2:18 `{STANDARD}` does not take `promt` | did you mean prompt?",
    ),
    "a parameter of another path": (
        f"jobs:\n  - {{id: one, model: {STANDARD}, image_url: a.png, tail_image_url: a.png}}\n",
        f"2:82 `{STANDARD}` does not take `tail_image_url` | only the legacy endpoint takes it",
    ),
    "a nested parameter": (
        f"jobs:\n- id: one\n  model: {STANDARD}\n  image_url: a.png\n"
        "  camera_control: {config: {zoom: 11, 'a/b~c': 1}}\n",
        "5:35 `camera_control.config.zoom` must be -10 to 10, not 11\n"
        "5:39 `camera_control.config` does not take `a/b~c` |"
        " known: horizontal, pan, roll, tilt, vertical and zoom",
    ),
    "a missing image": (
        f"jobs: [{{id: one, model: {STANDARD}, image_url: nosuch.png}}]\n",
        "1:78 there is no such file beside the manifest: nosuch.png",
    ),
    "one missing image for many jobs": (
        f"defaults: {{model: {STANDARD}, image_url: nosuch.png}}\njobs: [{{id: one}}, {{id: two}}]\n",
        "1:72 there is no such file beside the manifest: nosuch.png",
    ),
    "bad images": (
        f"""\
        defaults: {{model: {STANDARD}}}
        jobs:
          - {{id: a, image_url: empty.png}}
          - {{id: b, image_url: text.png}}
          - {{id: c, image_url: cut.png}}
          - {{id: d, image_url: folder.png}}
          - {{id: e, image_url: pipe.png}}
          - {{id: f, image_url: a.png/x}}
          - {{id: g, image_url: "s3://bucket/x.png"}}
          - {{id: h, image_url: ""}}
          - {{id: i, image_url: "https://"}}
          - {{id: j, image_url: "~/a.png"}}
        """,
        "3:24 the file is empty\n"
        "4:24 the file is not an image (JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF)\n"
        "5:24 the image is damaged\n"
        "6:24 this is a folder, not an image\n"
        "7:24 this is not a regular file\n"
        "8:24 there is no such file beside the manifest: a.png/x\n"
        "9:24 an image must be a link (http, https), a data URI or a local path\n"
        "10:24 this is not a path\n"
        "11:24 a link has no spaces and names a host | such as https://example.com/a.png\n"
        "12:24 there is no such file: ~/a.png | ~ is the home folder of the user who runs this",
    ),
    "a local video": (
        "jobs: [{id: one, model: runway/gen4_aleph, prompt: x, video_url: v.mp4}]\n",
        "1:66 there is no such file beside the manifest: v.mp4",
    ),
    "one image where several are meant": (
        "jobs: [{id: one, model: kling-video/v1.6/standard/multi-image-to-video, prompt: x, image_list: https://a.b/c}]\n",
        '1:96 `image_list` must be a list, not "https://a.b/c" | one value is written ["https://a.b/c"]',
    ),
    "priority and tags": (
        f"""\
        defaults: {{model: {STANDARD}, image_url: a.png}}
        jobs:
          - {{id: a, priority: high, tags: x}}
          - {{id: b, priority: 1000001, tags: [[x], ""]}}
        """,
        '3:23 `priority` must be a whole number from -1,000,000 to 1,000,000, not "high"\n'
        '3:35 `tags` must be a list, not "x" | one value is written ["x"]\n'
        "4:23 `priority` must be a whole number from -1,000,000 to 1,000,000, not 1000001\n"
        "4:39 a tag must be text, not a list",
    ),
    "a key twice": (
        f"jobs:\n  - id: one\n    model: {STANDARD}\n    image_url: a.png\n    image_url: a.png\n",
        "5:5 `image_url` stands here twice | first on 4:5",
    ),
    "a top-level key twice": (
        f"batch: a\nbatch: b\njobs: [{MINIMAL}]\n",
        "2:1 `batch` stands here twice | first on 1:1",
    ),
    "a tag": (
        f"batch: !!python/name:os.system x\njobs: [{MINIMAL}]\n",
        "1:8 YAML tags are not read: `tag:yaml.org,2002:python/name:os.system`"
        " | take the tag away, or put a text that begins with ! in quotes",
    ),
    "an unknown anchor": (
        "jobs: [*x]\n",
        "1:8 there is no anchor `&x` above | put a text that begins with * in quotes",
    ),
    "a value inside itself": (
        f"jobs: [{{id: one, model: {STANDARD}, image_url: a.png, dynamic_masks: &m [*m]}}]\n",
        "1:104 `*m` stands inside the value that it names",
    ),
    "a merge of text": (
        f"jobs:\n  - <<: x\n    id: one\n    model: {STANDARD}\n    image_url: a.png\n",
        "2:5 `<<` takes a mapping, or a list of mappings",
    ),
    "a key that is a list": (f"jobs: [{MINIMAL}]\n? [a]\n: 1\n", "2:3 a key must be text"),
    "a second document": (
        f"jobs: [{MINIMAL}]\n---\njobs: []\n",
        "2:1 a manifest is one YAML document | put a second batch into a file of its own",
    ),
    "YAML that does not parse, after another problem": (
        "servise: x\njobs:\n  - id: [one\n    model: x\n",
        "1:1 a manifest has no key `servise` | did you mean service?\n"
        "4:10 this is not YAML: while parsing a flow sequence did not find expected ',' or ']'"
        " | a comma is missing before this, or the [ on 3:9 is not closed; put a text that begins with [ in quotes",
    ),
    "a tab as indentation": (
        "jobs:\n\t- id: one\n",
        "2:1 this is not YAML: while scanning for the next token found character that cannot start any token"
        " | indent with spaces, not with tabs",
    ),
    "a blank that breaks no line as indentation": (
        f"jobs:\n  - id: one\n  \xa0 model: {STANDARD}\n    image_url: a.png\n",
        "2:5 the job has no `model` | name one here or in `defaults`\n"
        "3:3 this is not YAML: while parsing a block collection did not find expected '-' indicator"
        " | indent with plain spaces, not with U+00A0 NO-BREAK SPACE",
    ),
    "such a blank before a job": (
        f"jobs:\n\xa0\xa0- id: one\n    model: {STANDARD}\n",
        "2:1 this key holds a blank that YAML takes for a letter"
        " | indent with plain spaces, not with U+00A0 NO-BREAK SPACE",
    ),
    "the blank of Japanese before a key": (
        "limits:\n\u3000\u3000in_flight: 3\n",
        "2:1 this key holds a blank that YAML takes for a letter"
        " | indent with plain spaces, not with U+3000 IDEOGRAPHIC SPACE",
    ),
    "a narrow blank in braces": (
        f"jobs:\n  - {{id: one,\n\u202f model: {STANDARD}}}\n",
        "3:1 this key holds a blank that YAML takes for a letter"
        " | indent with plain spaces, not with U+202F NARROW NO-BREAK SPACE",
    ),
    "such a blank behind a dash": (
        f"jobs:\n  -\xa0id: one\n    model: {STANDARD}\n",
        "2:3 this key holds a blank that YAML takes for a letter"
        " | put a plain space behind the dash, not U+00A0 NO-BREAK SPACE",
    ),
    "such a blank on a line of its own": (
        f"batch: x\n\xa0\njobs: [{MINIMAL}]\n",
        "2:1 this is not YAML: while scanning a simple key could not find expected ':'"
        " | indent with plain spaces, not with U+00A0 NO-BREAK SPACE",
    ),
    "NUL": (b"batch: x\nlimits: \0\n", "2:9 the character U+0000 cannot stand in YAML | remove it"),
    "Latin-1": (b"batch: x\nprompt: caf\xe9\n", "2:12 byte 0xe9 is not UTF-8 | save the file as UTF-8"),
    "UTF-16": ("batch: x\n".encode("utf-16"), "1:1 the manifest has no jobs | list them under `jobs:`"),
    "damaged UTF-16": (b"\xff\xfeb", "1:1 byte 0xff is not UTF-8 | save the file as UTF-8"),
}


@pytest.mark.parametrize(("text", "expected"), GOLDEN.values(), ids=GOLDEN)
def test_an_invalid_manifest_is_reported(folder: Path, text: str | bytes, expected: str) -> None:
    assert reported(folder, text) == expected


QUOTED = "put a text that begins with {} in quotes"
DOUBLE, SINGLE = "inside double quotes write", "inside single quotes write a quote twice"
COLUMN = "write this key in the same column as the other keys of its job"
VERSIONS, COMMA = "git has left two versions here", "a comma is missing before this, or the {} is not closed"
COMMENT = "in YAML a comment begins with #"
SLIPS = {
    **{f"a text with {char}": (f"- id: a\n  prompt: {char} turn", 3, QUOTED.format(char)) for char in "%@*&-?>|!`"},
    "a template without quotes": ("- id: a\n  prompt: {{ title }} turns", 3, QUOTED.format("{{")),
    "one with a brace": ("- id: a\n  prompt: {slow} turn", 3, QUOTED.format("{")),
    "a bracket that stays open": ("- id: a\n  prompt: [slow turn\n  seed: 5", 4, QUOTED.format("[")),
    "double quotes inside": ('- id: a\n  prompt: "he said "hi" to me"', 3, DOUBLE),
    "single quotes inside": ("- id: a\n  prompt: 'it's raining'", 3, SINGLE),
    "a quote without an end": ('- id: a\n  prompt: "x\n- id: b', 3, "this quote has no end"),
    "a key too far right": ("- id: a\n   prompt: x", 3, COLUMN),
    "a key too far left": (" - id: a\n  prompt: x", 3, "write it in the same column"),
    "a dash without a space": (" -id: a\n   prompt: x", 3, "put a space behind the dash"),
    "an en dash": ("\u2013 id: a\n  prompt: x", 3, "begin an item of a list with a hyphen and a space"),
    "a colon without a space": ("- id: a\n  prompt:x\n", 3, "put a space behind the colon"),
    "the same in the first key": ("- id:a\n  prompt: x", 3, "put a space behind the colon, on the line above"),
    "a line of a wide blank": ("    \u3000\n  - {id: a, prompt: x}", 3, "U+3000 IDEOGRAPHIC SPACE, on the line above"),
    "a key without a colon": ("- id: a\n  prompt\n  seed: 1", 3, "a key has a colon and a space behind it"),
    "a full-width colon": ("- id: a\n  prompt\uff1ax\n", 3, "write a plain colon and a space"),
    "a no-break space": ("- id: a\n  prompt:\u00a0x\n", 3, "write a plain space behind the colon"),
    "a colon in braces": ("- {id: a, prompt: b: c}", 2, "put a text that holds a colon and a space in quotes"),
    "a comment in braces": ("- {id: a, prompt: x #1 red}\n", 3, "the rest of line 2 from # on is a comment"),
    "a brace that stays open": ("- {id: a\n- {id: b}", 3, COMMA.format("{ on 2:3")),
    "versions of git": ("<<<<<<< HEAD\n- id: a\n=======\n- id: b\n>>>>>>> other", 2, VERSIONS),
    "a fence": ("- id: a\n```", 3, "remove the line"),
    "a comment of C": (' [{"id": "a"}, /* b */ {"id": "b"}]', 2, COMMENT),
    "objects without a comma": (' [{"id": "a"}\n {"id": "b"}]', 3, COMMA.format("[ on 2:2")),
    "a file that is cut": (' [{"id": "a"}\n', 3, "the file ends before the [ on 2:2 is closed"),
}


@pytest.mark.parametrize(("jobs", "line", "hint"), SLIPS.values(), ids=SLIPS)
def test_a_slip_of_yaml_has_a_hint_at_its_line(folder: Path, jobs: str, line: int, hint: str) -> None:
    problem = problems(folder, f"jobs:\n{jobs}")[-1]
    assert (problem.line, hint in problem.hint) == (line, True), problem.hint


def test_all_problems_come_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = f"""\
    jobs:
      - id: one
        model: {STANDARD}
        duration: 7
      - image_url: a.png
    service: nobody
    defaults:
      cfg_scale: 2
    """
    found = problems(folder, text)
    assert [(problem.line, problem.column) for problem in found] == [(2, 5), (4, 15), (5, 5), (5, 5), (6, 10), (8, 14)]


def test_each_problem_is_reported_once(folder: Path) -> None:
    jobs = "".join(f"  - id: j{number}\n" for number in range(50))
    text = f"defaults:\n  model: {STANDARD}\n  image_url: nosuch.png\n  duratoin: 5\njobs:\n{jobs}batch: late\n"
    assert [(problem.line, problem.message) for problem in problems(folder, text)] == [
        (3, "there is no such file beside the manifest: nosuch.png"),
        (4, f"`{STANDARD}` does not take `duratoin`"),
    ]


def test_a_problem_shows_its_line_with_a_caret(folder: Path) -> None:
    (problem,) = problems(folder, f"jobs:\n  - id: one\n    model: {STANDARD}\n    image_url: a.png\n    duratoin: 5\n")
    assert problem.hint == "   5 |     duratoin: 5\n     |     ^^^^^^^^ did you mean duration?"


def test_the_caret_counts_the_width_of_characters(folder: Path) -> None:
    (problem,) = problems(folder, f'jobs: [{{id: "日本\\u001b[31m", model: {STANDARD}, image_url: a.png}}]\n')
    above, below = problem.hint.splitlines()
    assert below.index("^") == above.index('"')  # nothing wide before it
    (problem,) = problems(folder, f"jobs: [{{id: 日本, model: {STANDARD}, image_url: a.png, duration: 7}}]\n")
    above, below = problem.hint.splitlines()
    assert below.index("^") == above.index("7}") + 2  # two characters before it take two columns each


def test_messages_hold_no_control_characters(folder: Path) -> None:
    text = f'jobs: [{{id: one, model: {STANDARD}, image_url: "\\e[31mx", "k\\e]0;x\\a": 1}}]\n'
    for problem in problems(folder, text):
        assert visible(problem.message) == problem.message
        assert visible(problem.hint) == problem.hint.replace("\n", "\\n")


def test_a_long_line_is_cut_around_the_problem(folder: Path) -> None:
    prompt = "x" * 5_000
    (problem,) = problems(folder, f"jobs: [{{id: one, prompt: {prompt}, model: {STANDARD}, image_url: nosuch.png}}]\n")
    assert "nosuch.png" in problem.hint
    assert max(map(len, problem.hint.splitlines())) < 140


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch.yaml", "there is no such manifest"),
        ("folder.png", "this is a folder, not a manifest"),
        ("pipe.png", "this is not a regular file"),
        ("a.png/m.yaml", "the manifest cannot be read: Not a directory"),
        ("x" * 300, "the manifest cannot be read: File name too long"),
        ("\0", "the manifest cannot be read: no file has such a name"),
        ("caf\udce9/m.yaml", "the path of this manifest is not UTF-8"),
    ],
)
def test_a_path_that_is_no_manifest_is_reported(folder: Path, name: str, message: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(folder / name)
    (problem,) = caught.value.problems
    assert (problem.message, problem.line, problem.column) == (message, 1, 1)


def test_a_blank_that_only_looks_like_the_usual_one_is_named(folder: Path) -> None:
    (folder / "shot at 9.41\u202fAM.png").touch()
    (problem,) = problems(folder, f"jobs: [{{id: a, model: {STANDARD}, image_url: shot at 9.41 AM.png}}]\n")
    assert problem.message == "there is no such file beside the manifest: shot at 9.41 AM.png"
    blank = "Its blank is U+202F NARROW NO-BREAK SPACE: copy the name"
    assert problem.hint.endswith(f"did you mean shot at 9.41\u202fAM.png? {blank}")


def test_a_file_of_a_similar_name_is_suggested(folder: Path) -> None:
    (folder / "spring.yaml").touch()
    (folder / "hero.png").touch()
    (folder / "dead.png").symlink_to("nowhere.png")
    with pytest.raises(ManifestInvalid, match=r"did you mean .*spring\.yaml\?"):
        reader.read(folder / "sprng.yaml")
    hints = [
        problems(folder, f"jobs: [{{id: a, model: {STANDARD}, prompt: x, image_url: {image}}}]\n")[0].hint
        for image in ("heroo.png", "dead.png")
    ]
    assert "did you mean hero.png?" in hints[0]
    assert "this is a link to a file that is not there" in hints[1]

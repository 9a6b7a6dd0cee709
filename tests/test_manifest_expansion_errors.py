"""The whole message for each mistake in an expansion, in a row, and in a job made from one."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image

from batchgen.errors import ManifestInvalid, Problem
from batchgen.manifest import reader

TEXT = "klingai/v2.1-master-text-to-video"
STANDARD = "kling-video/v2.1/standard/image-to-video"
REST = f"model: {TEXT}, prompt: p"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 18), "teal").save(tmp_path / "a.png")
    (tmp_path / "dir.csv").mkdir()
    return tmp_path


def problems(folder: Path, text: str, files: dict[str, bytes]) -> list[Problem]:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    path = folder / "m.yaml"
    path.write_text(dedent(text), "utf-8")
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(path)
    return caught.value.problems


def reported(folder: Path, text: str, files: dict[str, bytes]) -> str:
    """Every problem as `file:line:column message | label`."""
    lines = []
    for problem in problems(folder, text, files):
        label = problem.hint.partition("\n")[2].partition("^")[2].lstrip("^").strip()
        place = f"{problem.path.relative_to(folder)}:{problem.line}:{problem.column}"
        lines.append(f"{place} {problem.message}" + (f" | {label}" if label else ""))
    return "\n".join(lines).replace(str(folder), "FOLDER")


def job(more: str, key: str = "'{{ s }}'") -> str:
    return f"jobs:\n - {{id: {key}, {REST}, {more}}}\n"


def rows(more: str = "") -> str:
    return job(f"rows: r.csv{more}", "'{{ sku }}'")


MATRICES = {
    "a matrix that is a list": (
        job("matrix: [a]"),
        "m.yaml:2:81 `matrix` must be a mapping of names to lists, not a list | such as {style: [noir, pop]}",
    ),
    "an empty matrix": (
        job("matrix: {}"),
        "m.yaml:2:81 `matrix` must be a mapping of names to lists, not an empty mapping | such as {style: [noir, pop]}",
    ),
    "an axis that is one value": (
        job("matrix: {s: noir}"),
        'm.yaml:2:85 `s` must be a list, or {glob: …}, not "noir" | one value is written ["noir"]',
    ),
    "an axis without values": (job("matrix: {s: []}"), "m.yaml:2:85 `s` has no values"),
    "an axis with a name that no template can say": (
        job("matrix: {a-b: [1], s: [1]}"),
        "m.yaml:2:82 `a-b` is no name for a template: the letters a to z, digits and _ only",
    ),
    "a misspelt glob": (job("matrix: {s: {globb: x}}"), "m.yaml:2:85 `s` must be a list, or {glob: …}, not a mapping"),
    "a glob that is a list": (
        job("matrix: {s: {glob: [x]}}"),
        "m.yaml:2:92 `glob` must be text, not a list | such as frames/*.png",
    ),
    "a glob without a match": (
        job("matrix: {s: {glob: 'frames/*.png'}}"),
        "m.yaml:2:92 no file matches frames/*.png | the path is relative to the manifest's folder",
    ),
    "a count of none": (job("count: 0", "x"), "m.yaml:2:72 `count` must be a whole number from 1 to 1,000, not 0"),
    "a count that is text": (
        job("count: '3'", "x"),
        'm.yaml:2:72 `count` must be a whole number from 1 to 1,000, not "3"',
    ),
    "too many combinations": (
        job(f"matrix: {{s: [{', '.join('1' * 101)}], t: [{', '.join('1' * 100)}]}}, count: 100"),
        "m.yaml:2:81 this makes 1,010,000 jobs; a manifest may have 1,000,000",
    ),
    "one id for all": (
        job("matrix: {s: [a, b]}", "x"),
        "m.yaml:2:9 every job of this entry would have the id `x` | name what tells them apart, such as {{ s }}",
    ),
    "an id that tells only some apart": (
        job("matrix: {s: [a, b], t: [1, 2, 3]}"),
        "m.yaml:2:9 two jobs have the id `a` (s=a, t=2 and 3 more jobs) | the other is on line 2 (s=a, t=1)",
    ),
    "an id that a plain job has": (
        f"jobs:\n - {{id: a, {REST}}}\n - {{id: '{{{{ s }}}}', {REST}, matrix: {{s: [a, b]}}}}\n",
        "m.yaml:3:9 two jobs have the id `a` (s=a) | the other is on line 2",
    ),
    "an id that a take has": (
        f"jobs:\n - {{id: a, {REST}, count: 2}}\n - {{id: a-2, {REST}}}\n",
        "m.yaml:3:9 two jobs have the id `a-2` | the other is on line 2 (take 2)",
    ),
    "an id that is empty in a cell": (
        job("matrix: {s: ['', ok, ' ']}"),
        "m.yaml:2:9 `id` is empty (s= and 1 more job)",
    ),
    "an id with the job's position": (
        job("matrix: {s: [a]}", "'{{ s }}-{{ index }}'"),
        "m.yaml:2:9 the template has no name `index` (s=a)"
        " | an id must stay when a row is added above; known: batch, model and s",
    ),
    "an unknown name": (
        job("matrix: {style: [a, b]}", "'{{ stile }}'"),
        "m.yaml:2:9 the template has no name `stile` (style=a and 1 more job)"
        " | did you mean style? known: batch, model and style",
    ),
    "an unknown name in a default": (
        f"defaults: {{negative_prompt: '{{{{ s }}}} {{{{ t }}}}'}}\n{job('matrix: {s: [a, b]}')}",
        "m.yaml:1:29 the template has no name `t` (s=a and 1 more job) | known: batch, id, index, model and s",
    ),
    "a default that is wrong in a cell, and in a job that stands for itself": (
        "defaults: {model: qqqq, prompt: p}\njobs: [{id: '{{ s }}', matrix: {s: [a, b]}}, {id: c}]",
        "m.yaml:1:19 there is no model `qqqq` (s=a and 1 more job) | `batchgen models` lists them",
    ),
    "a default that is wrong in a job that stands for itself, and in a cell": (
        "defaults: {model: qqqq, prompt: p}\njobs: [{id: c}, {id: '{{ s }}', matrix: {s: [a, b]}}]",
        "m.yaml:1:19 there is no model `qqqq` (and 2 more jobs) | `batchgen models` lists them",
    ),
    "a name that means two things": (
        job("matrix: {id: [a], s: [b]}, negative_prompt: '{{ id }}'"),
        "m.yaml:2:117 `id` means two things: it is b for the job, and another in its row (id=a, s=b)"
        " | rename the column",
    ),
    "a model in a cell": (
        f"jobs: [{{id: '{{{{ m }}}}', model: '{{{{ m }}}}', prompt: p, matrix: {{m: [qqqq, {TEXT}, zzzz]}}}}]",
        "m.yaml:1:31 there is no model `qqqq` (m=qqqq and 1 more job) | `batchgen models` lists them",
    ),
    "a value in a cell": (
        job("matrix: {s: [5, 6, 7, 10]}, duration: '{{ s }}'"),
        "m.yaml:2:111 `duration` must be 5 or 10, not 6 (s=6 and 1 more job)",
    ),
    "within a value from a cell": (
        f"jobs: [{{id: '{{{{ c.x }}}}', model: {STANDARD}, image_url: a.png, camera_control: '{{{{ c }}}}',"
        " matrix: {c: [{x: 1}]}}]",
        "m.yaml:1:109 `camera_control` does not take `x` (c=a mapping) | known: config and type",
    ),
    "outputs that meet": (
        job("matrix: {s: [a, b]}, output: x.mp4"),
        "m.yaml:2:102 two jobs would be written to x.mp4 (s=b) | the other is on line 2 (s=a)",
    ),
    "the priority in a cell": (
        job("matrix: {s: [high, '5']}, priority: '{{ s }}'"),
        'm.yaml:2:109 `priority` must be a whole number from -1,000,000 to 1,000,000, not "high" (s=high)',
    ),
}

ROWS: dict[str, tuple[str, dict[str, bytes], str]] = {
    "no such file": (rows(), {}, "m.yaml:2:81 there is no such file beside the manifest: r.csv"),
    "a file of nearly that name": (
        job("rows: product.csv"),
        {"products.csv": b"n\n"},
        "m.yaml:2:79 there is no such file beside the manifest: product.csv | did you mean products.csv?",
    ),
    "no such file at a path of a shell": (
        job("rows: ~/r.csv"),
        {},
        "m.yaml:2:79 there is no such file: ~/r.csv | ~ is the home folder of the user who runs this",
    ),
    "a file of another kind": (
        job("rows: r.xlsx"),
        {},
        "m.yaml:2:79 `rows` are read from .csv, .tsv, .txt and .jsonl files: r.xlsx | save the sheet as CSV UTF-8",
    ),
    "rows that are a list": (
        job("rows: [a.csv]"),
        {},
        "m.yaml:2:79 `rows` must be the name of a file, not a list | such as products.csv",
    ),
    "a folder": (job("rows: dir.csv"), {}, "m.yaml:2:79 this is a folder, not a file of rows: dir.csv"),
    "an empty file": (rows(), {"r.csv": b""}, "r.csv:1:1 the file has no rows | each row makes a job"),
    "a header alone": (rows(), {"r.csv": b"sku\n"}, "r.csv:1:1 the file has no rows | each row makes a job"),
    "ragged rows, once": (
        rows(),
        {"r.csv": b'sku,t\n"a\nb",1\nc\nd,2\ne,3,4,5\nf,6,7\n'},
        "m.yaml:2:9 `id` holds a character that cannot be printed: U+000A CONTROL CHARACTER; write another one"
        " (r.csv:2)\n"
        "r.csv:6:1 the row does not have the header's 2 fields: 4 fields (and 1 more row: 7)"
        ' | put a field that holds a comma in straight quotes (")',
    ),
    "a header of one column": (
        rows(),
        {"r.csv": b"sku\n1,2\n"},
        "r.csv:2:1 the row does not have the header's 1 field: 2 fields"
        ' | put a field that holds a comma in straight quotes (")',
    ),
    "an empty column that is called as the parameter": (
        f"jobs: [{{id: '{{{{ sku }}}}', model: {TEXT}, rows: r.csv, prompt: '{{{{ prompt }}}}'}}]",
        {"r.csv": b"sku,prompt\n1,\n"},
        "m.yaml:1:89 `prompt` is empty here (r.csv:2)"
        " | fill it in, or write {{ prompt | default('') }} where it may be empty",
    ),
    "a column twice": (
        rows(),
        {"r.csv": b"sku,t,sku\na,b,c\n"},
        "r.csv:1:1 the header has the column `sku` twice | rename one of them",
    ),
    "Latin-1": (
        rows(),
        {"r.csv": b"sku,t\na,caf\xe9\n"},
        "r.csv:2:6 byte 0xe9 is not UTF-8 | save the file as UTF-8; Excel calls it CSV UTF-8",
    ),
    "a quote that does not end": (
        rows(),
        {"r.csv": b'sku,t\na,b\nc,"d\n'},
        "r.csv:3:1 this is not CSV: a quoted field has no end"
        " | put quotes around the field, and write a quote inside them twice",
    ),
    "a missing column": (
        rows(", negative_prompt: '{{ titel }}'"),
        {"r.csv": b"sku,title\na,b\nc,d\n"},
        "m.yaml:2:105 the template has no name `titel` (r.csv:2 and 1 more row: 3) | did you mean title?"
        " known: batch, id, index, model, sku and title; the columns are those of r.csv",
    ),
    "a column with a name that no template can say": (
        rows(", negative_prompt: '{{ prompt_text }}'"),
        {"r.csv": b"sku,Prompt Text,Notes here,Notes here\na,b,c,d\n"},
        "m.yaml:2:105 the template has no name `prompt_text` (r.csv:2) | known: batch, id, index, model and sku;"
        " the columns are those of r.csv, where `Prompt Text` and `Notes here` must be renamed:"
        " a name has the letters a to z, digits and _ only",
    ),
    "such a column in a template": (
        rows(", negative_prompt: '{{ Prompt Text }}'"),
        {"r.csv": b"sku,Prompt Text\na,b\n"},
        "m.yaml:2:105 the template cannot be filled in: unexpected identifier, expected end of variable block (r.csv:2)"
        " | the columns are those of r.csv, where `Prompt Text` must be renamed:"
        " a name has the letters a to z, digits and _ only",
    ),
    "a header without a name that a template can say": (
        rows(),
        {"r.csv": "größe,商品\na,b\n".encode()},
        "r.csv:1:1 the first line is no header: it has no name that a template can use"
        " | a name has the letters a to z, digits and _ only, such as: sku,title",
    ),
    "a column that is a name of the matrix": (
        rows(", matrix: {t: [1]}"),
        {"r.csv": b"sku,t\na,b\n"},
        "r.csv:2:1 `t` is the name of a matrix as well as of a column | rename one",
    ),
    "one id in two rows": (
        rows(),
        {"r.csv": b"sku,t\na,b\nc,d\na,e\na,f\n"},
        "m.yaml:2:9 two jobs have the id `a` (r.csv:4 and 1 more row: 5) | the other is on line 2 (r.csv:2)",
    ),
    "rows that are not JSON": (
        job("rows: r.jsonl"),
        {
            "r.jsonl": b'{"s": "a"}\n{"s": \n[1]\n{"s": NaN}\n{"s": 1e999}\n{"s": "\\ud800"}\n{"s": 1, "s": 2}\n'
            + b'{"t": 1}\n{}\n{"s": null}\n{"s": ""}\n'
        },
        "m.yaml:2:9 the template has no name `s` (r.jsonl:8)"
        " | known: batch, model and t; each row of r.jsonl has names of its own: one without a value has the name with"
        " null\n"
        "r.jsonl:2:1 the row is not JSON: Expecting value"
        " | write one object a line, without brackets, commas or comments around it\n"
        'r.jsonl:3:1 a row must be an object, such as {"sku": "a-1"}'
        " | write one object a line, without brackets, commas or comments around it\n"
        "r.jsonl:4:1 the row has the number NaN, which JSON does not allow: write null for a value that is missing\n"
        "r.jsonl:5:1 the row has the number 1e999, which JSON does not allow\n"
        "r.jsonl:6:1 the row holds half of a surrogate pair, which is no text\n"
        "r.jsonl:7:1 the row has a name twice: s",
    ),
    "a carriage return in the header": (
        rows(),
        {"r.csv": b"sep=,\nsku,t\ra,b\r"},
        "r.csv:2:1 this is not CSV: a line ends with a carriage return alone, and others do not"
        " | put quotes around the field, and write a quote inside them twice",
    ),
    "a separator that is not UTF-8": (
        rows(),
        {"r.csv": b"sep=\xa7\nsku\xa7t\na\xa7b\n"},
        "r.csv:1:5 byte 0xa7 is not UTF-8 | save the file as UTF-8; Excel calls it CSV UTF-8",
    ),
    "deep and long JSON": (
        job("rows: r.jsonl"),
        {"r.jsonl": b'{"s": ' + b"[" * 100 + b"]" * 100 + b"}\n" + b"[" * 100_000 + b'\n{"s": ' + b"9" * 99 + b"}\n"},
        "r.jsonl:1:1 the row is nested more than 64 deep (and 1 more row: 2)\n"
        "r.jsonl:3:1 the row has a number that is too long: put it in quotes",
    ),
    "missing images, once": (
        f"jobs:\n - {{id: '{{{{ sku }}}}', model: {STANDARD}, rows: r.csv, image_url: '{{{{ photo }}}}'}}\n",
        {"r.csv": b"sku,photo\na,a.png\nb,no.png\nc,nor.png\nd,https://x/y\n"},
        "m.yaml:2:95 there is no such file beside the manifest: no.png (r.csv:3 and 1 more row: 4)",
    ),
    "a video over the rows": (
        rows(", output: '{{ sku }}.csv'"),
        {"r.csv": b"sku\nr\n"},
        "m.yaml:2:96 the video would be written over a file of rows: r.csv (r.csv:2)",
    ),
}

GLOBS = {
    "*.PNG": "capital letters count: a.png",
    "dir.csv/": "this is a folder: write dir.csv/* for the files in it",
    "~/*.png": "~ and variables of the shell are not filled in; write the path relative to the manifest",
    "shots [final]/*.png": "[…] stands for one of these characters: write [[] where the name has a [",
    "x\\*.png": "write / in place of \\",
    "*.{jpg,png}": "a pattern has no {…}: write *.* for files of every kind, or a matrix for each kind",
}

INCLUDES: dict[str, tuple[str, dict[str, bytes], str]] = {
    "no such manifest": (
        "include: [no.yaml]\n" + job("count: 1", "x"),
        {},
        "m.yaml:1:11 there is no such manifest: no.yaml",
    ),
    "no such manifest, beside one of a similar name, which includes it": (
        "include: n.yaml\n",
        {},
        "m.yaml:1:10 there is no such manifest: n.yaml",
    ),
    "a list of something else": (
        "include: [{a: 1}, 5]\n" + job("count: 1", "x"),
        {},
        "m.yaml:1:11 an entry of `include` must be the name of a manifest, not a mapping\n"
        "m.yaml:1:19 an entry of `include` must be the name of a manifest, not 5",
    ),
    "itself": (
        "include: m.yaml\n",
        {},
        "m.yaml:1:10 a manifest cannot include itself: m.yaml | FOLDER/m.yaml → FOLDER/m.yaml",
    ),
    "a circle": (
        "include: a.yaml\n",
        {"a.yaml": b"include: b.yaml\n", "b.yaml": b"include: ./a.yaml\n"},
        "b.yaml:1:10 a manifest cannot include itself: ./a.yaml"
        " | FOLDER/m.yaml → FOLDER/a.yaml → FOLDER/b.yaml → FOLDER/a.yaml",
    ),
    "one manifest twice": (
        "include: [a.yaml, ./a.yaml]\n",
        {"a.yaml": f"jobs: [{{id: x, {REST}}}]".encode()},
        "m.yaml:1:19 this manifest is included twice: ./a.yaml | first on line 1",
    ),
    "what only the main manifest says": (
        "include: a.yaml\n",
        {"a.yaml": b"service: simulator\nbatch: y\nlimits: {}\noutput: x\njob: 1\n"},
        "a.yaml:1:1 an included manifest has no `service` | write it in the main manifest, for all jobs\n"
        "a.yaml:2:1 an included manifest has no `batch` | write it in the main manifest, for all jobs\n"
        "a.yaml:3:1 an included manifest has no `limits` | write it in the main manifest, for all jobs\n"
        "a.yaml:4:1 an included manifest has no `output` | write it in the main manifest, for all jobs\n"
        "a.yaml:5:1 a manifest has no key `job` | did you mean jobs?",
    ),
    "problems in both files": (
        f"include: sub/a.yaml\njobs:\n - {{id: x, {REST}, duration: 7}}\n",
        {"sub/a.yaml": f"jobs:\n - {{id: x, {REST}}}\n - {{id: y, model: {STANDARD}, image_url: a.png}}\n".encode()},
        "m.yaml:3:75 `duration` must be 5 or 10, not 7\n"
        "sub/a.yaml:2:9 two jobs have the id `x` | the other is at FOLDER/m.yaml:3\n"
        "sub/a.yaml:3:72 there is no such file beside the manifest: sub/a.png",
    ),
    "YAML that does not parse": (
        "include: a.yaml\n",
        {"a.yaml": b"jobs: [\n"},
        "a.yaml:2:1 this is not YAML: while parsing a flow node did not find expected node content",
    ),
    "bytes": ("include: a.yaml\n", {"a.yaml": b"jobs: \xff\n"}, "a.yaml:1:7 byte 0xff is not UTF-8"),
    "nothing in it": (
        "include: a.yaml\n",
        {"a.yaml": b"defaults: {}\n"},
        "a.yaml:1:1 the manifest has no jobs | list them under `jobs:`",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MATRICES.values(), ids=MATRICES)
def test_a_mistake_in_a_matrix_is_reported(folder: Path, text: str, expected: str) -> None:
    assert reported(folder, text, {}) == expected


@pytest.mark.parametrize(("text", "files", "expected"), ROWS.values(), ids=ROWS)
def test_a_mistake_in_rows_is_reported(folder: Path, text: str, files: dict[str, bytes], expected: str) -> None:
    assert reported(folder, text, files) == expected


@pytest.mark.parametrize(("text", "files", "expected"), INCLUDES.values(), ids=INCLUDES)
def test_a_mistake_in_an_include_is_reported(folder: Path, text: str, files: dict[str, bytes], expected: str) -> None:
    assert reported(folder, text, files) == expected


@pytest.mark.parametrize(("pattern", "hint"), GLOBS.items(), ids=GLOBS)
def test_a_glob_without_a_match_has_a_hint(folder: Path, pattern: str, hint: str) -> None:
    text = job(f"matrix: {{s: {{glob: '{pattern}'}}}}")
    assert reported(folder, text, {}) == f"m.yaml:2:92 no file matches {pattern} | {hint}"


def test_a_glob_that_leaves_out_an_ending_in_capitals_warns(folder: Path) -> None:
    for name in ("b.PNG", ".c.PNG", ".d.png"):
        (folder / name).touch()
    (folder / "m.yaml").write_text(job("matrix: {s: {glob: '*.png'}}, negative_prompt: '{{ s }}'", "'{{ s.stem }}'"))
    (warning,) = reader.read(folder / "m.yaml").warnings
    assert "*.png leaves out 1 file, as capital letters count: b.PNG" in warning


def test_one_mistake_in_ten_thousand_rows_is_reported_once(folder: Path) -> None:
    table = "sku,s\n" + "".join(f"j{number},{number + 11}\n" for number in range(10_000))
    (problem,) = problems(folder, rows(", duration: '{{ s }}'"), {"r.csv": table.encode()})
    assert problem.message == (
        "`duration` must be 5 or 10, not 11 (r.csv:2 and 9,999 more rows: 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, …)"
    )


def test_a_bad_row_is_shown_with_a_caret(folder: Path) -> None:
    (problem,) = problems(folder, rows(), {"r.csv": b"sku,t\na,b\nc,d,e\n"})
    assert problem.hint == '   3 | c,d,e\n     | ^^^^^ put a field that holds a comma in straight quotes (")'


def test_a_manifest_with_too_many_jobs_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchgen.manifest.job_list.MOST_JOBS", 10)
    table = "sku\n" + "".join(f"j{number}\n" for number in range(20))
    (problem,) = problems(folder, rows(), {"r.csv": table.encode()})
    assert "more than" in problem.message
    included = {"r.csv": table.encode(), "a.yaml": rows().encode()}
    (problem,) = problems(folder, "include: a.yaml\n", included)
    assert "more than" in problem.message

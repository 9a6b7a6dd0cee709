"""Values keep the shape in which a person wrote them, wherever they come from; what is empty or no text is seen."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import batchgen
from batchgen.api.opening import open_run
from batchgen.cli.run import announce_warnings
from batchgen.errors import ManifestInvalid
from batchgen.manifest import reader
from batchgen.manifest.reader import Manifest
from batchgen.report.plan import plan_json, plan_lines

TEXT = "klingai/v2.1-master-text-to-video"
STANDARD = "kling-video/v2.1/standard/image-to-video"
SEEDED = "alibaba/wan-2-6-t2v"
LINK = "https://images.example.com/a.jpg"

Files = dict[str, str | bytes]


def read(folder: Path, text: str, files: Files | None = None) -> Manifest:
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    path = folder / "m.yaml"
    path.write_text(dedent(text), "utf-8")
    return reader.read(path)


def refusal(folder: Path, text: str, files: Files | None = None) -> str:
    with pytest.raises(ManifestInvalid) as caught:
        read(folder, text, files)
    return str(caught.value)


def params(parsed: Manifest, name: str) -> list[Any]:
    return [json.loads(job.request).get(name) for job in parsed.jobs]


SHAPES = ["001", "1.10", "0x10", "1e3", "010", "1_000", "yes", "2024-01-01", "12:30", "true", "0.50", "+7", "5.0"]
ENTRY = f"""
output: "out/c{{{{ x | replace(':', '_') }}}}.mp4"
jobs:
  - id: "clip-{{{{ x }}}}"
    model: {STANDARD}
    prompt: "{{{{ x }}}} turns"
    image_url: "https://images.example.com/{{{{ x }}}}.jpg"
    tags: ["t-{{{{ x }}}}"]
"""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("    matrix: {x: [SHAPE]}", {}),
        ("    rows: r.csv", {"r.csv": "x\nSHAPE\n"}),
        ("    rows: r.jsonl", {"r.jsonl": '{"x": "SHAPE"}\n'}),
    ],
    ids=["matrix", "CSV", "JSON lines"],
)
def test_a_value_in_a_longer_text_stands_as_it_was_written(
    tmp_path: Path, shape: str, source: str, files: dict[str, str]
) -> None:
    written = {name: text.replace("SHAPE", shape) for name, text in files.items()}
    (job,) = read(tmp_path, ENTRY + source.replace("SHAPE", shape) + "\n", dict(written)).jobs
    request = json.loads(job.request)
    assert (request["prompt"], request["image_url"]) == (f"{shape} turns", f"https://images.example.com/{shape}.jpg")
    path_part = shape.replace(":", "_")
    assert (job.key, job.output, job.tags) == (f"clip-{shape}", f"out/c{path_part}.mp4", (f"t-{shape}",))


@pytest.mark.parametrize("number", ["1.10", "1e3", "5.0", "7"])
def test_a_number_of_json_stands_as_it_was_written(tmp_path: Path, number: str) -> None:
    (job,) = read(tmp_path, ENTRY + "    rows: r.jsonl\n", {"r.jsonl": f'{{"x": {number}}}\n'}).jobs
    assert (job.key, json.loads(job.request)["prompt"]) == (f"clip-{number}", f"{number} turns")


def test_a_pair_of_escapes_stands_beside_a_number_in_rows_of_json(tmp_path: Path) -> None:
    content = '{"x": 7, "face": "\\ud83d\\ude00"}\n'
    (job,) = read(tmp_path, ENTRY.replace("turns", "{{ face }}") + "    rows: r.jsonl\n", {"r.jsonl": content}).jobs
    assert json.loads(job.request)["prompt"] == "7 \U0001f600"


@pytest.mark.parametrize("null", ["~", "null", "''", ""])
def test_an_empty_value_of_a_matrix_is_empty_text(tmp_path: Path, null: str) -> None:
    (job,) = read(tmp_path, ENTRY + f"    matrix: {{x: [{null or '~'}]}}\n").jobs
    assert (job.key, json.loads(job.request)["prompt"], job.tags) == ("clip-", " turns", ("t-",))


EXPRESSIONS = {
    "a filter of text": ("{{ s | upper }}", "007"),
    "a replacement": ("{{ f | replace('.', '_') }}", "1_10"),
    "text beside text": ("{{ e ~ '-' ~ s }}", "-007"),
    "a format": ("{{ '%03d' | format(n) }}", "005"),
    "a sum": ("{{ n + 1 }}!", "6!"),
    "a choice": ("{{ s if n == 5 else 'x' }}", "007"),
    "a truth value": ("{{ 'on' if b else 'off' }}{{ b }}", "ontrue"),
    "a default": ("{{ e | default('-', true) }}", "-"),
    "a member of a mapping": ("{{ d.x }} {{ d.y }}.", "0x10 ."),
    "an item of a list": ("{{ l[0] }} {{ l | first }} {{ l | length }}", "x x 1"),
    "dashes": ("a  {{- n -}}  b", "a5b"),
}


@pytest.mark.parametrize(("template", "text"), EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_shows_values_as_they_were_written(tmp_path: Path, template: str, text: str) -> None:
    names = "".join(f", {name}: [{value}]" for name, value in CELL_VALUES.items()).removeprefix(", ")
    job = f'- {{id: a, model: {TEXT}, prompt: "{template}", matrix: {{{names}}}}}'
    assert params(read(tmp_path, f"jobs:\n{job}\n"), "prompt") == [text]


CELL_VALUES = {"s": "007", "f": "1.10", "n": "5", "b": "true", "e": "~", "d": "{x: 0x10, y: ~}", "l": "[x]"}

NO_TEXT = {
    "a list in a text": ("prompt: '{{ l }} turns'", "`l` is a list, which is no text"),
    "a mapping in a text": ("prompt: '{{ d }} turns'", "`d` is a mapping, which is no text"),
    "a list through a filter": ("prompt: '{{ l | lower }}'", "`l` is a list, which is no text"),
    "a list as the prompt": ("prompt: '{{ l }}'", "`prompt` must be text, not a list"),
    "a truth value as the prompt": ("prompt: '{{ b }}'", "`prompt` must be text, not true"),
    "a truth value": ("prompt: true", "`prompt` must be text, not true"),
    "not a number": ("prompt: .nan", ".nan is no value that can be sent"),
    "infinite": ("prompt: x, negative_prompt: -.inf", "-.inf is no value that can be sent"),
    "nothing but blanks": ("prompt: '  '", "`prompt` is empty"),
    "a list in the tags": ("prompt: x, tags: ['{{ l }}']", "`l` is a list, which is no text"),
    "a list in the output": ("prompt: x, output: '{{ l }}.mp4'", "`l` is a list, which is no text"),
}


@pytest.mark.parametrize(("keys", "message"), NO_TEXT.values(), ids=NO_TEXT)
def test_what_is_no_text_is_refused_with_its_place(tmp_path: Path, keys: str, message: str) -> None:
    job = f"jobs:\n- {{id: a, model: {TEXT}, {keys}, matrix: {{l: [[x]], d: [{{y: 1}}], b: [true]}}}}\n"
    shown = refusal(tmp_path, job)
    assert message in shown
    assert "m.yaml:2:" in shown
    assert "['x']" not in shown


@pytest.mark.parametrize(("written", "sent"), [("7", "7"), ("007", "007"), ("1.10", "1.10"), ("0x10", "0x10")])
def test_a_number_as_a_whole_text_is_the_text(tmp_path: Path, written: str, sent: str) -> None:
    text = f"jobs: [{{id: {written}, model: {TEXT}, prompt: {written}, negative_prompt: ~, tags: [{written}]}}]"
    (job,) = read(tmp_path, text).jobs
    assert (job.key, json.loads(job.request), job.tags) == (written, {"model": TEXT, "prompt": sent}, (written,))


def test_a_whole_template_keeps_the_type_of_its_value_where_the_model_takes_it(tmp_path: Path) -> None:
    text = f"""
    defaults: {{seed: 007}}
    output: "{{{{ seed }}}}-{{{{ id }}}}.mp4"
    jobs: [{{id: a, model: {SEEDED}, prompt: "{{{{ x }}}}", duration: "{{{{ d }}}}", matrix: {{x: [007], d: [5.0]}}}}]
    """
    (job,) = read(tmp_path, text).jobs
    assert job.request == f'{{"model":"{SEEDED}","seed":7,"prompt":"007","duration":5}}'
    assert job.output == "007-a.mp4"


ROWS_JOB = f"""
jobs:
  - id: "{{{{ sku }}}}"
    rows: NAME
    model: {STANDARD}
    prompt: "{{{{ title }}}} turns"
    image_url: "{{{{ photo }}}}"
    negative_prompt: "{{{{ neg }}}}"
"""
HEADER = "sku,title,photo,neg\n"
FULL = f"1,Pot,{LINK},x\n"

SHEETS: dict[str, str | bytes] = {
    "as it should be": f"{HEADER}{FULL}",
    "rows without their last cells": f"{HEADER}{FULL}".replace(",x", ""),
    "a row of commas": f"{HEADER},,,\n{FULL},,,\n , ,\t,\u00a0\n",
    "blank lines": f"\n\n{HEADER}\n{FULL}\n   \n",
    "more commas than columns": f"{HEADER}{FULL.strip()},,\n",
    "a column without a name": f"sku,title,photo,neg,,\n{FULL.strip()},,\n",
    "line ends of an old Macintosh": f"{HEADER}{FULL}".replace("\n", "\r"),
    "line ends of Windows and a mark": f"\ufeff{HEADER}{FULL}".replace("\n", "\r\n"),
    "UTF-16 with a mark": f"{HEADER}{FULL}".encode("utf-16"),
    "UTF-16 with tabs, as Excel's Unicode text": f"{HEADER}{FULL}".replace(",", "\t").encode("utf-16"),
    "semicolons": f"{HEADER}{FULL}".replace(",", ";"),
    "tabs": f"{HEADER}{FULL}".replace(",", "\t"),
    "a line that names the separator": f"sep=;\r\n{HEADER}{FULL}".replace(",", ";"),
    "a line that names the comma": f"sep=,\n{HEADER}{FULL}",
    "a line that names another separator": f"sep=;\n{HEADER}{FULL}",
    "a text like an error": f"{HEADER.replace('sku', 'sku,wish')}1,#Wow!,Pot,{LINK},x\n",
    "a line of PowerShell": f"#TYPE System.Object\r\n{HEADER}{FULL}",
    "blanks around names and cells": f"sku , title,photo,neg\n 1 ,Pot, {LINK} ,x\n",
    "no-break spaces and a zero-width space": f"sku\u00a0,title,photo,neg\n\u200b1,Pot,\u00a0{LINK}\u200b,x\n",
    "a line end in a cell of a link": f'{HEADER}1,Pot,"{LINK}\n",x\n',
    "a quote behind a blank": f'{HEADER}1, "Pot", "{LINK}", x\n',
}


@pytest.mark.parametrize("content", SHEETS.values(), ids=SHEETS)
@pytest.mark.parametrize("name", ["r.csv", "r.txt"])
def test_what_spreadsheets_write_is_read(tmp_path: Path, name: str, content: str | bytes) -> None:
    (job,) = read(tmp_path, ROWS_JOB.replace("NAME", name), {name: content}).jobs
    request = json.loads(job.request)
    assert (job.key, request["prompt"], request["image_url"]) == ("1", "Pot turns", LINK)


def test_rows_of_json_with_nothing_in_them_are_no_rows(tmp_path: Path) -> None:
    row = json.dumps({"sku": 1, "title": "Pot", "photo": LINK, "neg": None})
    content = f'{{}}\n\n{row}\n{{"sku": null, "title": ""}}\n  \n'
    assert len(read(tmp_path, ROWS_JOB.replace("NAME", "r.jsonl"), {"r.jsonl": content}).jobs) == 1


def test_a_cell_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    files: Files = {"r.csv": f"n,title\n1,{'x' * 10_000_000}\n"}
    text = f"jobs: [{{id: '{{{{ n }}}}', model: {SEEDED}, rows: r.csv, prompt: '{{{{ title }}}}'}}]"
    assert len(params(read(tmp_path, text, files), "prompt")[0]) == 10_000_000


BAD_SHEETS: dict[str, tuple[str, str]] = {
    "a quote with a backslash": (
        f'{HEADER}1,"a \\"cat\\" waves",{LINK},x\n',
        'a quote inside quotes is written twice: ""',
    ),
    "an empty id": (f"{HEADER},Pot,{LINK},x\n", "`id` is empty (r.csv:2)"),
    "an empty link": (f"{HEADER}1,Pot,,x\n", "`image_url` is empty: `photo` is empty here (r.csv:2)"),
    "a formula that failed": (f"{HEADER}1,#REF!,{LINK},x\n", "`title` is #REF!, which stands for no value (r.csv:2)"),
    "a formula that failed in German": (f"{HEADER}1,#WERT!,{LINK},x\n", "`title` is #WERT!, which stands for no value"),
    "a formula that failed in LibreOffice": (f"{HEADER}1,Err:502,{LINK},x\n", "`title` is Err:502, which stands for"),
    "a cell too narrow for its number": (f"{HEADER}1,#####,{LINK},x\n", "`title` is #####, which stands for no value"),
    "a missing value of pandas": (f"{HEADER}1,nan,{LINK},x\n", "`title` is nan, which stands for no value"),
    "a missing value of a database": (f"{HEADER}1,\\N,{LINK},x\n", "`title` is \\N, which stands for no value"),
    "a shortened number": (f"{HEADER}1.23E+12,Pot,{LINK},x\n", "a number that a spreadsheet has shortened: 1.23E+12"),
    "a lookup without a match": (f"{HEADER}1,Pot,#N/A,x\n", "`photo` is #N/A, which stands for no value (r.csv:2)"),
    **{
        f"a failed formula, {cell}": (f"{HEADER}1,{cell},{LINK},x\n", f"`title` is {cell}, which stands for no value")
        for cell in ("#VALORE!", "#N/D", "#ИМЯ?", "#¿NOMBRE?", "#N/DISP", "#ДЕЛ/0!", "NULL")
    },
    "the header once more": (f"{HEADER}{FULL}\ufeff{HEADER}", "r.csv:3:1: the header stands here once more"),
    "the header once more, with blanks and a comma": (
        f"{HEADER}{FULL}{HEADER.strip().replace(',', ' , ')},\n",
        "r.csv:3:1: the header stands here once more",
    ),
    "a row with another separator": (
        f"{HEADER}1;Pot;{LINK};x\n",
        "r.csv:2:1: the header has commas between its fields, this row has semicolons",
    ),
    "a character that was lost": (f"{HEADER}1,caf\ufffd,{LINK},x\n", "`prompt` is damaged: it holds U+FFFD (r.csv:2)"),
    "NUL": (f"{HEADER}1,a \0 cat,{LINK},x\n", "`prompt` is damaged: it holds U+0000 (r.csv:2)"),
    "a zero-width space in a link": (f"{HEADER}1,Pot,https://a.example/\u200bb.jpg,x\n", "it holds zero width space"),
}


@pytest.mark.parametrize(("content", "message"), BAD_SHEETS.values(), ids=BAD_SHEETS)
def test_what_no_spreadsheet_means_is_refused(tmp_path: Path, content: str, message: str) -> None:
    files: Files = {"r.csv": content.encode("utf-8", "surrogateescape")}
    assert message in refusal(tmp_path, ROWS_JOB.replace("NAME", "r.csv"), files)


@pytest.mark.parametrize("key", ["id", "image_url"])
def test_an_empty_cell_within_an_id_or_a_link_is_refused_unless_it_may_be_empty(tmp_path: Path, key: str) -> None:
    keys = {"id": "a-{{ n }}", "image_url": "https://a.example/{{ n }}.jpg"}
    keys[key] = keys[key].replace("{{ n }}", "{{ x }}")
    text = f"jobs: [{{id: '{keys['id']}', model: {STANDARD}, rows: r.csv, image_url: '{keys['image_url']}'}}]"
    files: Files = {"r.csv": "n,x\n1,\n"}
    assert "`x` is empty here (r.csv:2)" in refusal(tmp_path, text, files)
    (job,) = read(tmp_path, text.replace("{{ x }}", '{{ x | default("") }}'), files).jobs
    assert "a-" in job.key


@pytest.mark.parametrize(
    ("content", "prompts"),
    [
        ('prompt,n\n"A cat, running"\n', ["A cat, running"]),
        ("prompt;n\nA cat, running\n", ["A cat, running"]),
        ("sep=;\nprompt\nA cat, running\n", ["A cat, running"]),
        ("prompt\nprompt\n", ["prompt"]),
        *((f"prompt,n\n{cell},1\n", [cell]) for cell in ("#1/3", "#24/7", "#A/B", "#SALE!", "#YOLO?", "None", "N/A")),
    ],
)
def test_a_cell_that_looks_like_a_slip_and_is_none_is_sent(tmp_path: Path, content: str, prompts: list[str]) -> None:
    job = "id: 'a{{ prompt | length }}', rows: r.csv, prompt: '{{ prompt }}'"
    manifest = read(tmp_path, f"jobs: [{{{job}, model: {SEEDED}}}]", {"r.csv": content})
    assert params(manifest, "prompt") == prompts


@pytest.mark.parametrize(
    ("cell", "prompt"),
    [('="007"', "007"), ('"=""mug"""', "mug"), ('="a"&"b"', '="a"&"b"'), ('="', '="'), ("=007", "=007")],
)
def test_a_cell_that_a_formula_keeps_as_text_is_that_text(tmp_path: Path, cell: str, prompt: str) -> None:
    job = "id: '{{ n }}', rows: r.csv, prompt: '{{ prompt }}'"
    manifest = read(tmp_path, f"jobs: [{{{job}, model: {TEXT}}}]", {"r.csv": f"n,prompt\n1,{cell}\n"})
    assert params(manifest, "prompt") == [prompt]


def test_a_value_in_braces_may_be_empty_or_an_alias_of_nothing(tmp_path: Path) -> None:
    keys = 'id: a, prompt: x, negative_prompt: *none, size: , "seed":null'
    text = f"defaults: {{negative_prompt: &none ~, size: , seed: ~}}\njobs: [{{{keys}, model: {SEEDED}}}]"
    assert params(read(tmp_path, text), "prompt") == ["x"]


def test_a_prompt_that_goes_without_an_empty_column_is_a_warning_once(tmp_path: Path) -> None:
    text = f"jobs: [{{id: '{{{{ n }}}}', model: {SEEDED}, rows: r.csv, prompt: 'A {{{{ colour }}}} {{{{ thing }}}}'}}]"
    rows_file: Files = {"r.csv": "n,colour,thing\n1,red,cup\n2,,cup\n3,,cup\n4,red\n"}
    remarks = [remark.partition(": ")[2] for remark in read(tmp_path, text, rows_file).remarks]
    assert remarks == [
        f"`prompt` goes without `{column}` in rows that leave it empty (r.csv:{rows}); fill it in, or write"
        f" {{{{ {column} | default('') }}}} where it may be empty"
        for column, rows in (("colour", "3 and 1 more row: 4"), ("thing", "5"))
    ]
    meant = text.replace("colour", 'colour | default("")').replace("thing", 'thing | default("")')
    assert not read(tmp_path, meant, rows_file).remarks


def test_an_empty_prompt_of_a_row_is_refused_unless_it_may_be_empty(tmp_path: Path) -> None:
    text = f"jobs: [{{id: '{{{{ n }}}}', model: {STANDARD}, rows: r.csv, image_url: '{LINK}', prompt: '{{{{ x }}}}'}}]"
    files: Files = {"r.csv": "n,x\n1,\n"}
    assert "`prompt` is empty: `x` is empty here (r.csv:2)" in refusal(tmp_path, text, files)
    assert params(read(tmp_path, text.replace("{{ x }}", '{{ x | default("") }}'), files), "prompt") == [None]


CONVERSIONS: dict[str, tuple[str, str, object]] = {
    "5.0 for a whole number": ("duration", "5.0", 5),
    "1e1 for a whole number": ("duration", "1e1", 10),
    "a comma for the point": ("duration", "5,0", 5),
    "blanks around a number": ("duration", " 5 ", 5),
    "TRUE in a cell": ("generate_audio", "TRUE", True),
    "false in a cell": ("generate_audio", " false", False),
    "blanks around a choice": ("resolution", "720p ", "720p"),
    "another case of a choice": ("resolution", "720P", "720p"),
}


@pytest.mark.parametrize(("name", "cell", "sent"), CONVERSIONS.values(), ids=CONVERSIONS)
def test_a_cell_becomes_what_the_model_takes(tmp_path: Path, name: str, cell: str, sent: object) -> None:
    text = f"jobs: [{{id: '{{{{ n }}}}', model: {SEEDED}, prompt: x, rows: r.csv, {name}: '{{{{ c }}}}'}}]"
    (value,) = params(read(tmp_path, text, {"r.csv": f'n,c\n1,"{cell}"\n'}), name)
    assert (value, type(value)) == (sent, type(sent))


HEADS: dict[str, tuple[bytes, str]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n\0", "this is an image, not a"),
    "JPEG": (b"\xff\xd8\xff\xe0\0", "this is an image, not a"),
    "MP4": (b"\0\0\0\x20ftypisom", "this is a video, not a"),
    "a spreadsheet": (b"PK\x03\x04\x14\0", "this is a spreadsheet or an archive, not a"),
    "SQLite": (b"SQLite format 3\0", "this is a database"),
    "gzip": (b"\x1f\x8b\x08\0", "this is a compressed file"),
    "UTF-16 without a mark": (f"{HEADER}{FULL}".encode("utf-16-le"), "this looks like UTF-16"),
    "UTF-16 without a mark, the other way": (f"{HEADER}{FULL}".encode("utf-16-be"), "this looks like UTF-16"),
    "a page of a login": (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html lang=en>", "this is a web page, not a"),
    "RTF": (b"{\\rtf1\\ansi\\cocoartf2639 a,b}", "this is a text with formats (RTF), not a"),
    "Parquet": (b"PAR1\x15\x04\x15\xe0\x12", "this is a Parquet file, not a"),
    "a table of a web page": (b"<table border=1><tr><td>sku", "this is a web page, not a"),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
        "this is a pointer of Git LFS, not a",
    ),
    "UTF-32": (f"{HEADER}{FULL}".encode("utf-32"), "or like UTF-32"),
}


@pytest.mark.parametrize(("content", "message"), HEADS.values(), ids=HEADS)
def test_a_file_that_is_no_text_is_called_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    assert message in refusal(tmp_path, ROWS_JOB.replace("NAME", "r.csv"), {"r.csv": content})
    assert message in refusal(tmp_path, "include: n.yaml", {"n.yaml": content})


JSON_TEXTS: dict[str, tuple[str, str]] = {
    "two escapes": ("a cat \\ud83d\\ude00 waves", "a cat \U0001f600 waves"),
    "capital digits, twice": ("\\uD83D\\uDE00\\ud83d\\ude00", "\U0001f600\U0001f600"),
    "behind an escaped quote": ('\\"\\ud83d\\ude00', '"\U0001f600'),
    "behind an escaped backslash": ("\\\\ud83d\\\\ude00", "\\ud83d\\ude00"),
}


@pytest.mark.parametrize(("escaped", "text"), JSON_TEXTS.values(), ids=JSON_TEXTS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "with a byte order mark"])
def test_a_surrogate_pair_of_json_is_one_character(tmp_path: Path, escaped: str, text: str, mark: bytes) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(mark + f'{{"jobs": [{{"id": "a", "model": "{TEXT}", "prompt": "{escaped}"}},]}}'.encode())
    assert params(reader.read(path), "prompt") == [text]


HINTS: dict[str, tuple[str, str, str]] = {
    "half of a pair": ("m.json", '{"jobs": [{"id": "a\\ud83d"}]}', "half of a surrogate pair"),
    "a comment in JSON": ("m.json", '{\n  // the jobs\n  "jobs": []}', "a comment begins with #"),
    "NaN in JSON": ("m.json", '{"jobs": [{"id": "a", "model": NaN}]}', "NaN is no value that can be sent"),
    "a colon in a text": ("m.txt", "jobs:\n  - prompt: a: b\n", "put a text that holds a colon and a space in quotes"),
    "a path of Windows in double quotes": ("m.yaml", 'jobs: [{id: "images\\cat"}]', "write a backslash twice"),
    "a sheet as the manifest": ("jobs.csv", "id,prompt\n1,x\n", "`rows: jobs.csv` in a job"),
    "a workbook as the manifest": ("jobs.xlsx", "PK", "this is a file of rows, not a manifest"),
}


@pytest.mark.parametrize(("name", "content", "hint"), HINTS.values(), ids=HINTS)
def test_a_slip_gets_the_hint_that_helps(tmp_path: Path, name: str, content: str, hint: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(tmp_path / name)
    assert hint in str(caught.value)


SLIPS_OF_NAMES = {
    "a mapping of jobs": ("jobs:\n  a: {prompt: x}", "begin each job with a dash: - id: NAME"),
    "a list of prompts": (f"jobs: [{{id: a, model: {TEXT}, prompt: [x, y]}}]", "for a job each: matrix: {text: […]}"),
    "text": (f"jobs: [{{id: a, model: {TEXT}, text: x}}]", "did you mean prompt?"),
    "seconds": (f"jobs: [{{id: a, model: {TEXT}, prompt: x, seconds: 5}}]", "did you mean duration?"),
    "repeat": (f"jobs: [{{id: a, model: {TEXT}, prompt: x, repeat: 5}}]", "did you mean count?"),
    "name": (f"jobs: [{{name: a, model: {TEXT}, prompt: x}}]", "did you mean id?"),
    "an image for a model of text": (
        f"jobs: [{{id: a, model: klingai/v2.1-master-text-to-video, prompt: x, image_url: '{LINK}'}}]",
        "klingai/v2.1-master-image-to-video does",
    ),
    "a parameter that is like none": (f"jobs: [{{id: a, model: {TEXT}, prompt: x, style: noir}}]", "known: prompt"),
}


@pytest.mark.parametrize(("text", "hint"), SLIPS_OF_NAMES.values(), ids=SLIPS_OF_NAMES)
def test_a_name_from_another_tool_gets_the_one_that_is_meant(tmp_path: Path, text: str, hint: str) -> None:
    assert hint in refusal(tmp_path, text)


COMMENTED = {
    "a prompt": ("prompt: a red car #sunset #35mm, slow", True),
    "a prompt that is all comment": ("prompt: #sunset over the sea", True),
    "a negative prompt": ("negative_prompt: blur #1", True),
    "a prompt in two lines": ("prompt: a red car\n      drifts #sunset", True),
    "a text of a matrix": ("matrix:\n      s:\n        - noir #dark\n        - pop\n    prompt: '{{ s }}'", True),
    "a comment": ("prompt: a red car # comment", False),
    "a comment behind a number": ("duration: 5 #x", False),
    "a text in quotes": ('prompt: "a red car" #sunset', False),
    "a hash in quotes": ("prompt: 'a red car #sunset'", False),
    "a block": ("prompt: |\n      a red car #sunset", False),
    "a hash in a word": ("prompt: a red car#sunset", False),
}


@pytest.mark.parametrize(("keys", "is_warned"), COMMENTED.values(), ids=COMMENTED)
def test_a_comment_that_was_meant_as_text_is_warned_of(tmp_path: Path, keys: str, is_warned: bool) -> None:
    key = '"{{ s }}"' if "matrix" in keys else "a"
    text = f"jobs:\n  - id: {key}\n    model: {STANDARD}\n    image_url: {LINK}\n    {keys}\n"
    warnings = read(tmp_path, text).warnings
    assert bool(warnings) == is_warned
    for warning in warnings:
        line = next(number for number, line in enumerate(text.splitlines(), 1) if " #" in line)
        column = text.splitlines()[line - 1].index("#") + 1
        assert f"m.yaml:{line}:{column}: the rest of this line is a comment; put the text in quotes" in warning


def test_a_text_that_loses_its_first_word_as_an_anchor_is_warned_of(tmp_path: Path) -> None:
    jobs = "{id: a, prompt: &slow turn}, {id: b, prompt: &used turn}, {id: c, prompt: *used}"
    (warning,) = read(tmp_path, f"defaults: {{model: {TEXT}}}\njobs: [{jobs}]").warnings
    assert "m.yaml:2:24: no alias names the anchor `&slow`, which is not sent" in warning


@pytest.mark.parametrize(
    ("prompt", "is_misread"),
    [
        ("MÃ¼ller", True),
        ("itâ€™s", True),
        ("a cat ðŸ˜€", True),
        ("20 Â°C", True),
        ("it‚Äôs", True),
        ("M√ºller", True),
        ("ÐºÐ¾Ñ‚", True),
        ("«MAÇÃ» – “AMANHÔ «CAFÉ» 20 °C √2 Ðór it’s 😀 кот", False),
    ],
)
def test_a_text_that_was_read_in_another_encoding_is_warned_of(tmp_path: Path, prompt: str, is_misread: bool) -> None:
    job = "id: '{{ n }}', rows: r.csv, prompt: '{{ prompt }}'"
    manifest = read(tmp_path, f"jobs: [{{{job}, model: {TEXT}}}]", {"r.csv": f"n,prompt\n1,{prompt}\n2,{prompt}!\n"})
    assert len(manifest.warnings) == is_misread
    assert params(manifest, "prompt") == [prompt, f"{prompt}!"]


def test_a_column_whose_name_is_a_number_is_not_sent_as_that_number(tmp_path: Path) -> None:
    text = ROWS_JOB.replace("NAME", "r.csv").replace("{{ title }}", "{{ 2024 }}")
    assert "{{ 2024 }}" in text
    message = refusal(tmp_path, text, {"r.csv": f"{HEADER.strip()},2024\n1,a,{LINK},x,b\n"})
    assert "`2024` is a number here, and no name" in message
    assert "where `2024` must be renamed" in message


def test_a_comment_of_the_defaults_is_warned_of_once(tmp_path: Path) -> None:
    text = f"defaults:\n  prompt: sea #sunset\n  model: {TEXT}\njobs: [{{id: a}}, {{id: b}}]\nbatch: x\n"
    (warning,) = read(tmp_path, text).warnings
    assert "m.yaml:2:15:" in warning


@pytest.mark.parametrize(
    ("link", "is_warned_of"),
    [
        ("http://localhost:8000/a.png", True),
        ("https://192.168.1.5/a.png", True),
        ("http://[::1]/a.png", True),
        ("https://nas/a.png", True),
        ("https://nas.local./a.png", True),
        ("https://8.8.8.8/a.png", False),
        ("https://my_bucket.s3.amazonaws.com:443/a.png", False),
        ("https://bücher.example/a.png", False),
        ("https://drive.google.com/file/d/1abc/view?usp=sharing", True),
        ("https://www.dropbox.com/s/abc/cat.jpg?dl=0", True),
        ("https://github.com/a/b/blob/main/cat.png", True),
        ("https://www.icloud.com/photos/#0abc", True),
        ("https://share.icloud.com/photos/0abc", True),
        ("https://we.tl/t-abc", True),
        ("https://commons.wikimedia.org/wiki/File:Mona_Lisa.jpg", True),
        ("https://upload.wikimedia.org/wikipedia/commons/e/ec/Mona_Lisa.jpg", False),
        ("https://a.example/1.jpg,https://a.example/2.jpg", True),
        ("https://a.example/1.jpg;", True),
        ("https://a.example/w_100,h_100/1.jpg", False),
        ("https://www.dropbox.com/s/abc/cat.jpg?dl=1", False),
        ("https://drive.google.com/uc?export=download&id=1abc", False),
        (LINK, False),
    ],
)
def test_a_link_that_does_not_lead_the_service_to_a_file_is_warned_of(
    tmp_path: Path, link: str, is_warned_of: bool
) -> None:
    warnings = read(tmp_path, f"jobs: [{{id: a, model: {STANDARD}, image_url: '{link}'}}]").warnings
    assert bool(warnings) == is_warned_of


def test_a_warning_of_many_rows_is_one_line(tmp_path: Path) -> None:
    text = f"jobs: [{{id: '{{{{ id }}}}', model: {STANDARD}, rows: r.csv, image_url: '{{{{ link }}}}'}}]"
    rows_file: Files = {"r.csv": "id,link\n" + "".join(f"{n},https://nas/{n}.png\n" for n in range(2, 700))}
    (warning,) = read(tmp_path, text, rows_file).warnings
    assert "https://nas/2.png (r.csv:2 and 697 more rows: 3, 4, 5," in warning


PLACEHOLDERS = {
    "braces": "a {title} turns",
    "a shell's": "a ${ title } turns",
    "a shell's without braces": "a $title turns",
    "braces that Markdown has escaped": "a \\{\\{ title \\}\\} turns",
    "wide braces": "a ｛｛ title ｝｝ turns",
    "per cent signs": "a %title% turns",
    "printf": "a %(title)s turns",
    "angle brackets": "a <title> turns",
    "two angle brackets": "a <<title>> turns",
    "square brackets": "a [[title]] turns",
    "a statement": "a {% if title %}big{% endif %} mug",
    "beside a template": "{{ title }} {title}",
}


@pytest.mark.parametrize("prompt", PLACEHOLDERS.values(), ids=PLACEHOLDERS)
@pytest.mark.parametrize("source", ["rows: r.csv", "matrix: {title: [mug, bowl]}"])
def test_a_placeholder_of_another_tool_is_warned_of_once(tmp_path: Path, prompt: str, source: str) -> None:
    text = f"jobs:\n- id: '{{{{ title }}}}'\n  {source}\n  model: {TEXT}\n  prompt: '{prompt}'"
    (warning,) = read(tmp_path, text, {"r.csv": "title\nmug\nbowl\n"}).warnings
    assert "m.yaml:5:11: " in warning
    assert "stays as it is written; a template is {{ title }}" in warning


@pytest.mark.parametrize(
    ("keys", "is_warned_of"),
    [
        ("prompt: a mug in a style", True),
        ("prompt: 'a mug, {{ style }}'", False),
        ("prompt: a mug, negative_prompt: '{{ style | lower }}'", False),
        ("prompt: a mug, extra: {look: ['{{ style }}']}", False),
    ],
)
def test_a_matrix_whose_values_ask_for_the_same_is_warned_of(tmp_path: Path, keys: str, is_warned_of: bool) -> None:
    matrix = "id: 'a-{{ style }}-{{ n }}', matrix: {style: [noir, pop], n: [1]}"
    warnings = read(tmp_path, f"jobs: [{{{matrix}, model: {SEEDED}, {keys}}}]").warnings
    assert ["`style` is in no parameter" in warning for warning in warnings] == [True] * is_warned_of


@pytest.mark.parametrize("template", ["{{\u00a0title\u00a0}}", "{{ title | default(“x”) }}"])
def test_a_character_that_only_looks_like_a_blank_or_a_quote_is_named_in_an_expression(
    tmp_path: Path, template: str
) -> None:
    text = f"jobs: [{{id: '{{{{ title }}}}', rows: r.csv, model: {TEXT}, prompt: '{template}'}}]"
    message = refusal(tmp_path, text, {"r.csv": "title\nmug\n"})
    assert "an expression holds " in message
    assert "write plain blanks, and straight quotes" in message


@pytest.mark.parametrize("prompt", ["a {colour} $5 turns, 50% off <3", "{{ title }} turns", "a [mug] turns", "title"])
def test_what_names_no_column_is_no_placeholder(tmp_path: Path, prompt: str) -> None:
    text = f"jobs:\n- id: '{{{{ title }}}}'\n  rows: r.csv\n  model: {TEXT}\n  prompt: '{prompt}'"
    assert read(tmp_path, text, {"r.csv": "title\nmug\nbowl\n"}).warnings == ()


def test_a_template_in_a_value_is_not_filled_in_and_is_warned_of(tmp_path: Path) -> None:
    text = f"jobs: [{{id: '{{{{ id }}}}', model: {TEXT}, rows: r.csv, prompt: '{{{{ line }}}}'}}]"
    manifest = read(tmp_path, text, {"r.csv": "id,line\na,mug\nb,a {{ colour }} bowl\nc,{{ x }}\n"})
    assert params(manifest, "prompt") == ["mug", "a {{ colour }} bowl", "{{ x }}"]
    (warning,) = manifest.warnings
    assert "what is filled in stays as it is written: {{ colour }} (r.csv:3 and 1 more row: 4)" in warning


@pytest.mark.parametrize("host", ["e.com:99999", "e.com:0", "-", ".", "a..b", "[::1"])
def test_a_link_whose_host_cannot_exist_is_refused(tmp_path: Path, host: str) -> None:
    text = f"jobs: [{{id: a, model: {STANDARD}, image_url: 'https://{host}/a.png'}}]"
    assert f"the link has an unusable address: {host}" in refusal(tmp_path, text)


COMMENT = "m.yaml:3:32: the rest of this line is a comment; put the text in quotes: #sunset"


@pytest.fixture
def commented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest with a comment that was meant as text, and prompts that a terminal must not obey."""
    prompts = ["a red car #sunset", "a red car", f'"{"long " * 40}"', '"\\e[31m red\\nline"', "the last"]
    jobs = "".join(f"  - {{id: j{number}, prompt: {prompt}\n    }}\n" for number, prompt in enumerate(prompts))
    (tmp_path / "m.yaml").write_text(f"defaults: {{model: {TEXT}}}\njobs:\n{jobs}")
    monkeypatch.chdir(tmp_path)
    return Path("m.yaml")


def test_a_plan_shows_warnings_and_the_first_different_prompts_in_full(commented: Path) -> None:
    plan = batchgen.plan(commented, simulate=True)
    lines = list(plan_lines(plan, plan.p50_at))
    assert lines[0] == f"warning: {COMMENT}"
    prompts = lines[lines.index("  the first prompts, as they would be sent:") + 1 :]
    assert prompts[:3] == ["    j0:", "      a red car", "    j2:"]
    begin = prompts.index("    j3:")
    assert " ".join(line.strip() for line in prompts[3:begin]) == ("long " * 40).strip()
    assert max(map(len, prompts[:begin])) <= 80
    assert prompts[begin + 1 : begin + 3] == ["      \\x1b[31m red", "      line"]
    document = plan_json(plan, "batchgen run m.yaml")
    assert document["warnings"] == [COMMENT]
    assert document["next"] == "batchgen run m.yaml"
    assert document["first_prompts"][1] == {"job": "j2", "prompt": "long " * 40}


async def test_check_and_run_show_warnings_before_anything_is_paid(
    commented: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batchgen.check(commented).warnings == (COMMENT,)
    async with open_run(commented, {"simulate": True}) as opened:
        announce_warnings(opened.warnings, as_json=True)
        announce_warnings(opened.warnings, as_json=False)
    written = capsys.readouterr()
    assert json.loads(written.out) == {"event": "warning", "message": COMMENT}
    assert written.err == f"warning: {COMMENT}\n"

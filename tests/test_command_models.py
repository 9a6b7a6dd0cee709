"""`batchgen models`: the catalogue listed, filtered and shown."""

from __future__ import annotations

import asyncio
import gzip
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batchgen.catalogue import register, validation
from batchgen.report.models import describe, model_lines
from batchgen.services.model_documents import fetch_schemas
from tests.batches import STANDARD, TEXT_MODEL
from tests.conftest import Command, Launch, Simulate
from tests.waiting import rows
from tests.wire import Request, answer, serving


def test_every_model_is_listed_and_can_be_shown(tmp_path: Path, batchgen: Command) -> None:
    listed = batchgen("models")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(register.models())
    assert list(tmp_path.iterdir()) == []
    for model in register.models():
        lines = list(model_lines(model, None, None))
        text = "\n".join(lines)
        assert all(
            f"  {name}" in text for path in register.endpoints(model) for name in validation.parameters(model, path)
        )


def test_a_job_table_that_cannot_be_read_costs_only_the_prices_unless_it_is_named(
    tmp_path: Path, batchgen: Command
) -> None:
    (tmp_path / "batchgen.db").write_text("no table")
    shown = batchgen("models", STANDARD)
    assert (shown.returncode, "price      unknown" in shown.stdout) == (0, True)
    assert shown.stderr.startswith(f"no stored prices: {tmp_path / 'batchgen.db'}: the job table cannot be used")
    assert batchgen("models", STANDARD, "--db", "batchgen.db").returncode == 8


def test_words_narrow_the_list_by_name_type_and_parameter(batchgen: Command) -> None:
    models = [json.loads(line) for line in batchgen("models", "kling", "text-to-video", "--json").stdout.splitlines()]
    assert TEXT_MODEL in {model["model"] for model in models}
    assert all("kling" in model["model"] and "text-to-video" in model["types"] for model in models)
    taking = [line.split()[0] for line in batchgen("models", "tail_image_url").stdout.splitlines()]
    assert STANDARD in taking
    assert TEXT_MODEL not in taking
    none = batchgen("models", "klingg", "v2.1", "mastr")
    assert none.returncode == 2
    assert "Did you mean klingai/v2.1-master" in none.stderr


def test_one_model_is_shown_with_its_parameters_and_by_its_older_name_too(batchgen: Command) -> None:
    ended = batchgen("models", STANDARD)
    assert ended.stderr == "no stored prices: `batchgen models --refresh` gets those of aimlapi, without a key\n"
    shown = ended.stdout
    assert shown.splitlines()[2] == "  universal  /v2/video/generations"
    assert "image_url *" in shown
    assert "number, from 0 to 1" in shown
    assert "on legacy, also:" in shown
    assert "price      unknown" in shown
    older = batchgen("models", "kling-video/v2.1/master/image-to-video").stdout
    assert older.startswith("klingai/v2.1-master-image-to-video\n")
    whole = json.loads(batchgen("models", STANDARD, "--json").stdout)
    assert whole["schemas"]["/v2/video/generations"]["required"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"enum": [5, 10], "default": 5}, "5, 10; default 5"),
        ({"type": "integer", "minimum": 1, "maximum": 3}, "whole number, from 1 to 3"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"type": "string", "maxLength": 2500}, "text, at most 2500 characters"),
        ({"type": "boolean", "default": True}, "true or false; default true"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3}, "list, 1 to 3 of: text"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"type": "string", "x-media": "image"}, "image: a link or a local file"),
        ({"enum": list(range(20))}, ", ".join(map(str, range(16))) + ", … (20 in all)"),
        ({}, "anything"),
    ],
)
def test_a_parameter_is_described_in_a_few_words(schema: dict[str, object], words: str) -> None:
    assert describe(schema) == words


def test_refresh_gets_the_live_prices_and_stores_them(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    public = {"AIMLAPI_BASE_URL": simulate().base_url}
    shown = batchgen("models", "--refresh", TEXT_MODEL, **public)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "$1.47 for video (duration 5), $2.94 for video (duration 10) (as listed 20" in shown.stdout
    (first,) = rows(tmp_path / "batchgen.db", "SELECT DISTINCT listed_at, etag FROM prices")
    assert batchgen("models", "--refresh", TEXT_MODEL, **public).stdout == shown.stdout
    (second,) = rows(tmp_path / "batchgen.db", "SELECT DISTINCT listed_at, etag FROM prices")
    assert (second["etag"], second["listed_at"] > first["listed_at"]) == (first["etag"], True)
    nobody = batchgen("models", "--refresh", AIMLAPI_BASE_URL="http://127.0.0.1:9")
    assert nobody.returncode == 6
    assert "$1.47" in batchgen("models", TEXT_MODEL, AIMLAPI_BASE_URL="http://127.0.0.1:9").stdout


async def test_a_live_video_model_that_is_not_in_the_catalogue_is_listed_and_other_models_are_not(
    tmp_path: Path, batchgen: Command
) -> None:
    pricing = {"kind": "fixed", "units": [{"name": "video", "measure": "count", "price": 0.5, "per": 1}]}
    video = {"type": "internal/video-generations/submit", "pricing": pricing}
    listed = [
        {"id": "kling/v9", "aliases": ["kling-nine"], **video},
        {"id": "vendor:text", "aliases": [TEXT_MODEL], **video},
        {"id": "a-chat-model", "type": "chat-completion", "pricing": pricing},
    ]
    async with serving(lambda _request: answer(200, {"data": listed})) as wire:
        environment = {"AIMLAPI_BASE_URL": wire.base_url}
        shown = await asyncio.to_thread(batchgen, "models", "--refresh", **environment)
    newer = [line for line in shown.stdout.splitlines() if "--no-validate" in line]
    assert [line.split()[0] for line in newer] == ["kling/v9"]
    assert newer[0].endswith("$0.5 for video")
    assert "$0.5 for video" in next(line for line in shown.stdout.splitlines() if line.startswith(TEXT_MODEL + " "))
    assert "chat" not in shown.stdout
    (line,) = batchgen("models", "v9", "--json").stdout.splitlines()
    assert (json.loads(line)["model"], json.loads(line)["types"]) == ("kling/v9", [])


DOCUMENT = {
    "paths": {
        "/v2/video/generations": {
            "get": {},
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "required": ["model", "prompt"],
                                "properties": {
                                    "model": {"type": "string", "enum": ["kling/v10"]},
                                    "prompt": {"type": "string", "pattern": "(a*)*b", "description": "What is seen."},
                                    "image_url": {"type": "string", "format": "uri"},
                                    "duration": {"type": "integer", "enum": [5, 10], "default": "5"},
                                    "seed": {"type": "integer", "nullable": True},
                                },
                            }
                        }
                    }
                }
            },
        }
    }
}
ODD_DOCUMENTS: dict[str, bytes] = {
    "no JSON": b"<html>",
    "JSON of another form": b'{"paths": {"/x": {"post": []}}}',
    "an empty document": b"",
    "deep nesting": b"[" * 100_000,
    "a schema of a megabyte": json.dumps(DOCUMENT)
    .replace("What is seen.", "x")
    .replace('"prompt": {', '"prompt": {"enum": [' + ", ".join(f'"{n}"' for n in range(100_000)) + "], ")
    .encode(),
    "a type that is none": json.dumps(DOCUMENT).replace('"integer"', '"intger"').encode(),
    "a path to elsewhere": json.dumps(DOCUMENT).replace("/v2/video/generations", "https://elsewhere.test/x").encode(),
    "another model": json.dumps(DOCUMENT).replace("kling/v10", "kling/v11").encode(),
    "a gigabyte of zeros": gzip.compress(bytes(1 << 25)),
}


@pytest.mark.hostile("live documents of models that are none", "the model stays unknown")
@pytest.mark.parametrize("document", ODD_DOCUMENTS.values(), ids=ODD_DOCUMENTS)
async def test_an_odd_document_gives_no_schema(document: bytes) -> None:
    async with serving(answer(200, document)) as wire:
        assert await fetch_schemas({"kling/v10": wire.base_url}, wire.base_url) == {}


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(json.dumps(DOCUMENT).encode())[:-9]], ids=["none", "cut"])
async def test_a_document_that_cannot_be_decoded_keeps_no_other_one_away(body: bytes) -> None:
    def respond(request: Request) -> bytes:
        if request.path == "/odd.json":
            return answer(200, body, {"Content-Encoding": "gzip"})
        return answer(200, json.dumps(DOCUMENT).encode())

    async with serving(respond) as wire:
        documents = {"kling/odd": f"{wire.base_url}/odd.json", "kling/v10": f"{wire.base_url}/v10.json"}
        assert list(await fetch_schemas(documents, wire.base_url)) == ["kling/v10"]


@pytest.mark.slow
async def test_refresh_takes_the_schema_of_a_new_model_from_its_live_document(tmp_path: Path, launch: Launch) -> None:
    pricing = {"kind": "fixed", "units": [{"name": "video", "measure": "count", "price": 0.5, "per": 1}]}
    video = {"type": "internal/video-generations/submit", "pricing": pricing}
    requests: list[Request] = []

    def respond(request: Request) -> bytes:
        requests.append(request)
        documents = {"/v10.json": json.dumps(DOCUMENT).encode(), "/odd.json": b"<html>"}
        if request.path in documents:
            return answer(200, documents[request.path])
        listed = [
            {"id": "kling/v10", "aliases": ["kling-ten"], "info": {"docsJson": f"{wire.base_url}/v10.json"}, **video},
            {"id": "kling/odd", "info": {"docsJson": f"{wire.base_url}/odd.json"}, **video},
            {"id": "kling/nowhere", "info": {"docsJson": "http://127.0.0.1:9/x.json"}, **video},
            {"id": "vendor:text", "aliases": [TEXT_MODEL], "info": {"docsJson": f"{wire.base_url}/t.json"}, **video},
        ]
        return answer(200, {"data": listed})

    def job(model: str, **params: object) -> Path:
        path = tmp_path / "m.yaml"
        path.write_text(json.dumps({"jobs": [{"id": "a", "model": model, "prompt": "x", **params}]}))
        return path

    async def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Each command in a process of its own, which remembers nothing."""
        return await asyncio.to_thread(launch(*words, **variables).end)

    assert "there is no model `kling/v10`" in (await run("check", job("kling/v10"))).stderr
    async with serving(respond) as wire:
        key = {"AIMLAPI_BASE_URL": wire.base_url, "AIMLAPI_API_KEY": "sk-never-sent"}
        listed = await run("models", "--refresh", "kling/", **key)
    assert sorted(request.path for request in requests[1:]) == ["/odd.json", "/v10.json"]
    assert not any("authorization" in request.headers for request in requests)
    lines = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert "text-to-video, image-to-video (by its live document of 20" in lines["kling/v10"]
    assert "--no-validate" in lines["kling/odd"]
    assert "kling-ten" not in lines

    (stored,) = rows(tmp_path / "batchgen.db", "SELECT schemas FROM prices WHERE model = 'kling/v10'")
    schemas = json.loads(stored["schemas"])
    assert "pattern" not in stored["schemas"]
    for name in ("kling/v10", "kling-ten"):
        checked = await run("check", job(name, duration="10"))
        assert checked.returncode == 0
        assert f"warning: {name}: checked by its live document of 20" in checked.stderr
    assert "`duration` must be 5 or 10, not 7" in (await run("check", job("kling-ten", duration=7))).stderr
    assert "did you mean seed?" in (await run("check", job("kling/v10", sed=7))).stderr
    assert (await run("check", job("vendor:text"))).returncode == 0
    assert "there is no model" in (await run("check", job("kling/odd"))).stderr
    with closing(sqlite3.connect(tmp_path / "batchgen.db")) as table, table:
        table.execute("UPDATE prices SET schemas = '{\"/x\": [1]}' WHERE model = 'kling/v10'")
    assert "there is no model `kling/v10`" in (await run("check", job("kling/v10"))).stderr
    with closing(sqlite3.connect(tmp_path / "batchgen.db")) as table, table:
        table.execute("UPDATE prices SET schemas = ? WHERE model = 'kling/v10'", [json.dumps(schemas)])
    planned = await run("plan", job("kling-ten"), AIMLAPI_BASE_URL="http://127.0.0.1:9")
    assert planned.returncode == 0
    assert "0.50" in planned.stdout


def test_listing_models_needs_neither_the_database_nor_the_network(tmp_path: Path) -> None:
    script = """
import sys
from batchgen.cli import commands
commands(["models", "kling"], standalone_mode=False)
print(sorted({"sqlalchemy", "httpx2", "pydantic", "rich"} & set(sys.modules)), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines() == [
        "no stored prices: `batchgen models --refresh` gets those of aimlapi, without a key",
        "[]",
    ]

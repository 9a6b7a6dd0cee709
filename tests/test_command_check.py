"""`batchgen check --online`: every remote image is requested once, and all problems are shown at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.batches import STANDARD, write_manifest
from tests.conftest import Command
from tests.wire import HANG, Answer, Request, answer, closed_port, serving


def typed(kind: str | None, status: int = 200) -> bytes:
    return answer(status, b"", {"Content-Type": kind, "Content-Length": "9"})


def job(key: str, link: str) -> dict[str, str]:
    return {"id": key, "model": STANDARD, "prompt": "She smiles.", "image_url": link}


NO_FILES = {
    "/gone.png": "cannot be fetched: its server answers 404",
    "/broken.png": "cannot be fetched: its server answers 500",
    "/nothing.png": "cannot be fetched: its server answers 204",
    "/nowhere.png": "cannot be fetched: its server answers 302",
    "/empty.png": "is empty",
}
PAGES: dict[str, Answer] = {
    "/ok.png": typed("image/png"),
    "/bytes": typed("application/octet-stream"),
    "/silent": typed(None),
    "/moved": answer(302, b"", {"Location": "/ok.png"}),
    "/gone.png": typed("text/html", 404),
    "/broken.png": typed(None, 500),
    "/login": typed("text/html; charset=utf-8"),
    "/moved-to-login": answer(302, b"", {"Location": "/login"}),
    "/error": typed("Application/JSON"),
    "/clip.mp4": typed("video/mp4"),
    "/logo.svg": typed("image/svg+xml"),
    "/nothing.png": answer(204, b""),
    "/nowhere.png": answer(302, b""),
    "/empty.png": answer(200, b"", {"Content-Type": "image/png"}),
}


def by_path(request: Request) -> Answer:
    assert "authorization" not in request.headers
    if request.path.startswith("/no-head"):
        status = int(request.path[-3:])
        return typed("text/plain", status) if request.method == "HEAD" else typed("image/jpeg", 206)
    if request.path == "/signed-and-expired":
        return typed("application/xml", 403)
    is_answered = request.method == "HEAD" or request.path in NO_FILES
    return PAGES[request.path] if is_answered else HANG


async def test_every_remote_image_that_cannot_be_fetched_or_is_no_image_is_shown(
    tmp_path: Path, batchgen: Command
) -> None:
    wrong = {
        **NO_FILES,
        "/signed-and-expired": "cannot be fetched: its server answers 403",
        "/login": "is not an image: its server says text/html",
        "/moved-to-login": "is not an image: its server says text/html",
        "/error": "is not an image: its server says application/json",
        "/clip.mp4": "is not an image: its server says video/mp4",
        "/logo.svg": "must be saved as JPEG or PNG: its server says image/svg+xml",
    }
    no_head = [f"/no-head-{status}" for status in (400, 401, 403, 404, 405, 429, 500, 501)]
    right = ("/ok.png", "/bytes", "/silent", "/moved", *no_head)
    async with serving(by_path) as wire:
        jobs = [job(path.strip("/").replace(".", "-"), wire.base_url + path) for path in (*right, *wrong)]
        manifest = write_manifest(tmp_path / "m.yaml", jobs)
        checked = await asyncio.to_thread(
            batchgen, "check", manifest, "--online", AIMLAPI_API_KEY="a-secret-key", **NEARBY
        )
    assert checked.returncode == 2, checked.stderr
    lines = [line for line in checked.stderr.splitlines() if "the image" in line]
    assert len(lines) == len(wrong)
    for (path, words), line in zip(wrong.items(), lines, strict=True):
        assert f" {wire.base_url}{path} of the job " in line
        assert line.endswith(words)
    ranged = [request for request in wire.requests if request.method == "GET"]
    assert {request.headers["range"] for request in ranged} == {"bytes=0-0"}
    assert {request.path for request in ranged} == {*no_head, *NO_FILES, "/signed-and-expired"}


NEARBY = {"AIMLAPI_BASE_URL": "http://127.0.0.1:9"}
"""A service of this machine, which can fetch images of this machine."""


@pytest.mark.parametrize(
    "host", [f"127.0.0.1:{closed_port()}", f"{'a' * 70}.invalid"], ids=["nobody listens", "name too long"]
)
async def test_a_server_that_cannot_be_reached_is_a_problem(tmp_path: Path, batchgen: Command, host: str) -> None:
    path = write_manifest(tmp_path / "m.yaml", [job("mona", f"http://{host}/mona.png")])
    checked = await asyncio.to_thread(batchgen, "check", path, "--online", **NEARBY)
    assert checked.returncode == 2, checked.stderr
    assert f"the image http://{host}/mona.png of the job `mona` cannot be reached: " in checked.stderr


async def test_an_image_of_many_jobs_is_requested_once_and_shown_at_the_first_of_them(
    tmp_path: Path, batchgen: Command
) -> None:
    async with serving(by_path) as wire:
        link = f"{wire.base_url}/gone.png"
        path = write_manifest(tmp_path / "m.yaml", [job(f"take-{number}", link) for number in range(10)])
        checked = await asyncio.to_thread(batchgen, "check", path, "--online", **NEARBY)
    assert checked.stderr.count("the image") == 1
    assert f"the image {link} of the job `take-0` and 9 more jobs cannot be fetched" in checked.stderr
    first = next(number for number, line in enumerate(path.read_text().splitlines(), 1) if "take-0" in line)
    assert f"m.yaml:{first}:" in checked.stderr
    assert [request.method for request in wire.requests] == ["HEAD", "GET"]


async def test_an_image_of_an_included_row_is_shown_where_it_is_written(tmp_path: Path, batchgen: Command) -> None:
    async with serving(by_path) as wire:
        rows = f"sku,photo\nmug,{wire.base_url}/ok.png\ncup,{wire.base_url}/gone.png\n"
        parts = tmp_path / "parts"
        parts.mkdir()
        (parts / "products.csv").write_text(rows)
        defaults = f"defaults: {{model: {STANDARD}, prompt: It turns.}}"
        entry = '{id: "{{ sku }}", rows: products.csv, image_url: "{{ photo }}"}'
        (parts / "products.yaml").write_text(f"{defaults}\njobs:\n  - {entry}\n")
        (tmp_path / "m.yaml").write_text("include: parts/products.yaml\n")
        checked = await asyncio.to_thread(batchgen, "check", "m.yaml", "--online", **NEARBY)
    assert checked.returncode == 2
    assert "parts/products.yaml:3:1: the image" in checked.stderr
    assert "of the job `cup` (products.csv:3) cannot be fetched" in checked.stderr


async def test_the_images_of_a_model_newer_than_the_catalogue_are_recognised_by_the_parameters_names(
    tmp_path: Path, batchgen: Command
) -> None:
    async with serving(by_path) as wire:
        new = {**job("mona", f"{wire.base_url}/gone.png"), "model": "kling-video/v9"}
        path = write_manifest(tmp_path / "m.yaml", [new])
        checked = await asyncio.to_thread(batchgen, "check", path, "--online", "--no-validate", **NEARBY)
    assert checked.returncode == 2
    assert "answers 404" in checked.stderr


async def test_images_are_requested_only_with_online_and_a_valid_manifest_stays_valid(
    tmp_path: Path, batchgen: Command
) -> None:
    async with serving(by_path) as wire:
        path = write_manifest(tmp_path / "m.yaml", [job("mona", f"{wire.base_url}/ok.png")])
        plain = await asyncio.to_thread(batchgen, "check", path, "--json")
        assert not wire.requests
        online = await asyncio.to_thread(batchgen, "check", path, "--json", "--online", **NEARBY)
        assert [(request.method, request.path) for request in wire.requests] == [("HEAD", "/ok.png")]
    assert plain.returncode == online.returncode == 0
    assert json.loads(plain.stdout) == json.loads(online.stdout)

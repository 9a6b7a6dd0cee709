"""Local images of a batch whose outputs are in an object store: a machine without them can send its jobs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.files.local_files import url_of
from batchgen.scheduler import Scheduler
from tests.batches import MASTER, Bill, write_image, write_manifest
from tests.conftest import Command, Simulate
from tests.scripted import ScriptedService, context_of, turn
from tests.stores import TestStore
from tests.table import Table, spec
from tests.waiting import JOBS, rows

PORTRAIT = b"\x89PNG\r\n\x1a\n a portrait"
DIGEST = hashlib.sha256(PORTRAIT).hexdigest()


def enrol(table: Table, store: TestStore) -> str:
    """A job with a local image, which is no longer on this machine. Returns the URL that the image has."""
    image = table.folder / "images" / "mona.png"
    image.parent.mkdir()
    image.write_bytes(PORTRAIT)
    target = f"{store.url}/spring/mona.mp4"
    table.sync(spec(image="images/mona.png", input_pointers=("/image_url",), output=target))
    image.unlink()
    image.parent.rmdir()
    return url_of(target, DIGEST)


async def test_an_image_that_this_machine_lacks_comes_from_the_store(
    table: Table, folder_store: TestStore, clock: Clock
) -> None:
    folder_store.write(enrol(table, folder_store), PORTRAIT)
    service = ScriptedService()
    await turn(Scheduler(context_of(table, service), 8))
    sent = json.loads(service.submitted[0].body())["image_url"]
    assert sent == "data:image/png;base64," + base64.b64encode(PORTRAIT).decode()
    assert json.loads(table.attempt().input_digests)["images/mona.png"]["sha256"] == DIGEST
    assert table.attempt().fingerprint == table.row().fingerprint


@pytest.mark.parametrize("stored", [None, b"another image"])
async def test_nothing_is_sent_without_the_image_that_was_enrolled(
    table: Table, folder_store: TestStore, clock: Clock, stored: bytes | None
) -> None:
    url = enrol(table, folder_store)
    if stored:
        folder_store.write(url, stored)
    service = ScriptedService()
    await turn(Scheduler(context_of(table, service), 8))
    assert (service.submitted, "images/mona.png" in table.row().error) == ([], True)


async def test_an_image_of_a_job_without_a_store_is_not_looked_for(table: Table, clock: Clock) -> None:
    table.sync(spec(image="gone.png", input_pointers=("/image_url",)))
    service = ScriptedService()
    await turn(Scheduler(context_of(table, service), 8))
    assert service.submitted == []


@pytest.mark.slow
def test_a_run_stores_each_image_once_before_it_sends_a_job(
    tmp_path: Path, folder_store: TestStore, batchgen: Command, simulate: Simulate
) -> None:
    content = write_image(tmp_path / "a b.png", 640, 360)
    jobs = [{"id": f"clip-{n}", "prompt": f"Number {n}.", "image_url": "a b.png"} for n in range(3)]
    header = {"defaults": {"model": MASTER, "duration": 5}, "output": f"{folder_store.url}/{{{{ id }}}}.mp4"}
    manifest, environment = write_manifest(tmp_path / "m.yaml", jobs, **header), simulate().environment
    stored = f"{folder_store.url}/inputs/{hashlib.sha256(content).hexdigest()}"

    assert batchgen("run", manifest, "--max-cost", "0.01", **environment).returncode == 5
    assert folder_store.objects == {stored: content}
    assert {job["state"] for job in rows(tmp_path / "batchgen.db", JOBS)} == {"pending"}
    assert Bill(tmp_path / "simulator.ledger").accepted == []
    ended = batchgen("run", manifest, **environment)
    assert ended.returncode == 0, ended.stderr
    assert set(folder_store.objects) == {stored, *(f"{folder_store.url}/clip-{n}.mp4" for n in range(3))}


@pytest.mark.slow
def test_a_worker_sends_a_job_whose_image_is_only_in_the_store(
    tmp_path: Path, folder_store: TestStore, batchgen: Command, simulate: Simulate
) -> None:
    write_image(tmp_path / "dusk.png", 640, 360)
    job = {"id": "dusk", "model": MASTER, "prompt": "Dusk.", "image_url": "dusk.png"}
    write_manifest(tmp_path / "m.yaml", [job], output=f"{folder_store.url}/{{{{ id }}}}.mp4")
    assert batchgen("run", "m.yaml", "--enroll").returncode == 0
    (tmp_path / "dusk.png").unlink()
    ended = batchgen("worker", **simulate().environment)
    assert (ended.returncode, "not here" in ended.stderr) == (0, False), ended.stderr
    assert f"{folder_store.url}/dusk.mp4" in folder_store.objects

"""The way of a video into an object store: whole, once, without replacing anything; and what a dead run has left."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path

import obstore
import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import update

from batchgen.download.task import SAME_BYTES
from batchgen.files import object_store, store_client
from batchgen.files.part import Part
from batchgen.files.placing import StorePlacing
from batchgen.files.store_client import StoreError
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.jobtable.schema import jobs
from batchgen.runs.ending import judge_run
from batchgen.services.outcomes import Finished
from tests.conftest import NOON
from tests.fileserver import CLIP, OTHER, PAGE, downloading, full_answer, undecodable_clip
from tests.scripted import ScriptedService, context_of, turn, turn_when_due
from tests.stores import TestStore
from tests.table import RUN, Table, spec
from tests.wire import serving

DIGEST = hashlib.sha256(CLIP).hexdigest()
NOWHERE = "http://127.0.0.1:9/v.mp4"
"""The address of a video that no test may fetch."""


@pytest.fixture(params=["folder_store", "bucket"], ids=["a folder", "S3"])
def store(request: pytest.FixtureRequest) -> TestStore:
    store: TestStore = request.getfixturevalue(request.param)
    return store


def finished(table: Table, store: TestStore, url: str, output: str = "mona.mp4") -> str:
    """A finished generation whose video is at `url`. Returns the URL that the video is to get."""
    target = f"{store.url}/{output}"
    table.sync(spec(output=target))
    table.bring(State.DOWNLOADING)
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.relocated, job, RUN, job.outputs[0], url)
    table.bury()
    return target


def verified(table: Table) -> None:
    """A run has verified the download, and died."""
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.verified, job, RUN, job.outputs[0], len(CLIP), DIGEST)
    table.bury()


def part_of(table: Table) -> Part:
    """The `.part` of mona, in the scratch folder."""

    async def unused() -> None: ...

    return StorePlacing(table.folder, unused).part(table.row().output_path, table.attempt().client_request_id, None)


def parts(table: Table) -> list[Path]:
    return list((table.folder / ".batchgen" / "parts").glob("*"))


async def test_a_video_is_stored_whole_with_its_checksum_and_the_part_is_gone(table: Table, store: TestStore) -> None:
    async with serving(full_answer()) as wire:
        target = finished(table, store, f"{wire.base_url}/v.mp4", "a b/mona é~+.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert store.objects == {target: CLIP}
    assert (table.row().state, table.row().output_path, table.output().path) == ("done", target, target)
    assert (table.output().sha256, table.output().bytes) == (DIGEST, len(CLIP))
    assert parts(table) == []
    if target.startswith("s3:"):
        key = target.split("/", 3)[3]
        metadata = obstore.get(store.client, key, options={"head": True}).attributes
        assert metadata == {"sha256": DIGEST, "Content-Type": "video/mp4"}


async def test_an_object_of_somebody_else_is_never_replaced(table: Table, store: TestStore, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        target = finished(table, store, f"{wire.base_url}/v.mp4")
        store.write(target, OTHER)
        store.write(f"{store.url}/mona~1.mp4", b"x" * len(CLIP))
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert store.objects == {
        target: OTHER,
        f"{store.url}/mona~1.mp4": b"x" * len(CLIP),
        f"{store.url}/mona~2.mp4": CLIP,
    }
    assert table.row().output_path == f"{store.url}/mona~2.mp4"


async def test_after_a_crash_between_upload_and_row_nothing_is_sent_again(table: Table, store: TestStore) -> None:
    target = finished(table, store, NOWHERE)
    verified(table)
    store.write(f"{store.url}/mona~1.mp4", CLIP)
    store.write(target, OTHER)
    before = store.objects
    async with downloading(context_of(table, ScriptedService())) as stage:
        await turn(stage)
    assert store.objects == before
    assert (table.row().state, table.row().output_path) == ("done", f"{store.url}/mona~1.mp4")


async def test_after_a_crash_before_the_upload_nothing_is_downloaded_again(table: Table, store: TestStore) -> None:
    target = finished(table, store, NOWHERE)
    verified(table)
    part = part_of(table)
    part.append([CLIP])
    part.close()
    async with downloading(context_of(table, ScriptedService())) as stage:
        await turn(stage)
    assert store.objects == {target: CLIP}
    assert table.row().state == "done"
    assert parts(table) == []


async def test_a_part_that_is_not_what_was_verified_is_not_stored(table: Table, folder_store: TestStore) -> None:
    async with serving(full_answer()) as wire:
        target = finished(table, folder_store, f"{wire.base_url}/v.mp4")
        verified(table)
        part = part_of(table)
        part.append([OTHER[: len(CLIP)].ljust(len(CLIP), b"x")])
        part.close()
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert folder_store.objects == {target: CLIP}


async def test_a_store_that_does_not_answer_costs_no_second_download(
    table: Table, bucket: TestStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(full_answer()) as wire:
        target = finished(table, bucket, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            with monkeypatch.context() as cut:
                cut.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
                await turn(stage)
            error = table.row().error
            assert error.startswith(f"{target}: the store does not answer: ")
            assert (table.row().state, stage.context.disk_fault, len(wire.requests)) == ("downloading", None, 1)
            await turn_when_due(stage, table, clock, 1)
    assert len(wire.requests) == 1
    assert bucket.objects == {target: CLIP}
    assert table.row().state == "done"


async def test_a_bucket_that_is_gone_stops_all_downloads_of_the_run(table: Table, bucket: TestStore) -> None:
    async with serving(full_answer()) as wire:
        gone = TestStore("s3://no-such-bucket/spring", bucket.environment)
        target = finished(table, gone, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
            reason = f"{target}: there is no such bucket. Make it, or correct `output:`"
            assert stage.context.disk_fault == reason
            message = table.database.read_now(judge_run, stage.context, None, NOON).message
            assert message == f"{reason}. Then run the same command: what is paid waits"
    assert table.row().state == "downloading"
    assert len(parts(table)) == 1


@pytest.mark.parametrize(
    ("content", "state", "ending"),
    [(undecodable_clip(), "done", ""), (PAGE, "failed", ".unplayable")],
    ids=["a video that does not play", "no video, under another name"],
)
async def test_what_does_not_play_is_kept_in_the_store(
    table: Table, folder_store: TestStore, clock: Clock, content: bytes, state: str, ending: str
) -> None:
    async with serving(full_answer(content)) as wire:
        target = finished(table, folder_store, f"{wire.base_url}/v.mp4")
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, SAME_BYTES)
    assert table.row().state == state
    assert folder_store.objects == {f"{target}{ending}": content}


async def test_downloads_wait_in_the_scratch_folder_that_a_person_names(
    table: Table, folder_store: TestStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = table.folder / "elsewhere" / "scratch"
    monkeypatch.setenv("BATCHGEN_SCRATCH", str(scratch))
    async with serving(full_answer()) as wire:
        target = finished(table, folder_store, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert folder_store.objects == {target: CLIP}
    assert list(scratch.iterdir()) == []
    assert not (table.folder / ".batchgen").exists()


@pytest.mark.parametrize("output", ["file:///{0}/../evil.mp4", "file:///{0}/.config/evil.mp4", "http://{0}/evil.mp4"])
async def test_a_url_in_a_row_is_judged_again(table: Table, folder_store: TestStore, output: str) -> None:
    async with serving(full_answer()) as wire:
        finished(table, folder_store, f"{wire.base_url}/v.mp4")
        unsafe = output.format(str(table.folder / "store").lstrip("/"))
        table.change(lambda connection: connection.execute(update(jobs).values(output_path=unsafe)))
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert "Give its job another `output:`" in table.row().error
    assert not list(table.folder.rglob("evil*"))


async def test_a_folder_that_may_not_be_written_is_named_as_the_system_names_it(
    table: Table, folder_store: TestStore
) -> None:
    (table.folder / "store" / "a").write_text("a file in place of a folder")
    async with serving(full_answer()) as wire:
        target = finished(table, folder_store, f"{wire.base_url}/v.mp4", "a/mona.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert table.row().error == f"{target}: Not a directory"


async def test_a_link_in_place_of_the_scratch_folder_is_not_followed(
    table: Table, folder_store: TestStore, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (table.folder / ".batchgen").symlink_to(elsewhere)
    async with serving(full_answer()) as wire:
        finished(table, folder_store, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert "a symbolic link" in table.row().error
    assert (list(elsewhere.iterdir()), folder_store.objects) == ([], {})


async def test_what_is_no_file_in_a_folder_that_is_a_store_keeps_its_name_and_holds_up_nothing(
    table: Table, folder_store: TestStore
) -> None:
    url = f"{folder_store.url}/mona.mp4"
    path = Path(url.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    assert object_store.describe(url) == object_store.StoredObject(0, None, is_file=False)
    with pytest.raises(StoreError, match="is no file"):
        list(object_store.read(url))
    async with serving(full_answer()) as wire:
        finished(table, folder_store, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert table.output().path == f"{folder_store.url}/mona~1.mp4"


async def test_an_empty_file_is_stored_as_one(table: Table, folder_store: TestStore) -> None:
    with tempfile.TemporaryFile() as empty:
        assert await object_store.upload(f"{folder_store.url}/empty.mp4", empty, DIGEST)


async def test_a_store_that_stops_in_the_middle_of_an_object_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_client, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(store_client, "RETRIES", 0)
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    release = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: "e"\r\n'
            b"Last-Modified: Sun, 01 Mar 2026 12:00:00 GMT\r\n\r\nhalf"
        )
        await release.wait()
        writer.close()

    async with await asyncio.start_server(stall, "127.0.0.1", 0) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        with pytest.raises(StoreError):
            await asyncio.to_thread(lambda: list(object_store.read("s3://clips/mona.mp4")))
        release.set()

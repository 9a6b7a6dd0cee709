"""Commands on a batch whose videos are in an object store, and what stops a run there before anything is paid for."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import tarfile
from pathlib import Path
from threading import Event

import pytest

import batchgen as api
from batchgen.files.output_paths import split_url
from batchgen.files.store_client import fault_of_store
from batchgen.jobs import State
from tests.batches import Bill, write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.listening import listening_on_a_thread, read_head
from tests.stores import TestStore
from tests.waiting import JOBS, rows, until
from tests.wire import answer

pytestmark = pytest.mark.slow

SECRET = "a-secret-that-is-seen-nowhere"


def write(folder: Path, url: str, jobs: int = 1) -> Path:
    return write_manifest(folder / "m.yaml", jobs, batch="spring", output=f"{url}/{{{{ id }}}}.mp4")


def test_every_command_reads_the_videos_in_their_store(
    tmp_path: Path, folder_store: TestStore, batchgen: Command, simulate: Simulate
) -> None:
    manifest, names = write(tmp_path, folder_store.url, 3), [f"{folder_store.url}/clip-{n}.mp4" for n in range(3)]
    environment = simulate().environment
    log = tmp_path / "log"
    script = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + chr(10))"
    hook = f"{shlex.quote(sys.executable)} -c {shlex.quote(script)} {{path}}"
    first = batchgen("run", manifest, "--exec", hook, **environment)
    assert first.returncode == 0, first.stderr
    assert f"delivered: 3 clips, in {folder_store.url}\n" in first.stdout + first.stderr
    assert sorted(folder_store.objects) == names == sorted(log.read_text().splitlines())
    assert len(list((tmp_path / ".batchgen" / "posters").rglob("*.webp"))) == 3, first.stderr
    assert list((tmp_path / ".batchgen" / "parts").iterdir()) == []
    assert "not there" not in batchgen("status", manifest, "--verify").stdout

    # A lost and a changed object come back for nothing, and the changed one is not replaced.
    contents = folder_store.objects
    folder_store.delete(names[0])
    folder_store.write(names[1], b"x" * len(contents[names[1]]))
    assert "1 delivered file not there as delivered" in batchgen("status", manifest).stdout
    assert "2 delivered files not there as delivered" in batchgen("status", manifest, "--verify").stdout
    export = batchgen("export", manifest, "--format", "jsonl", "--verify")
    assert (export.returncode, export.stdout.count("\n")) == (3, 1)
    ids = ("clip-0", "clip-1")
    assert batchgen("retry", manifest, *ids, "--download", **environment).returncode == 0
    again = batchgen("run", manifest, **environment)
    assert again.returncode == 0, again.stderr
    other = f"{folder_store.url}/clip-1~1.mp4"
    assert folder_store.objects == {**contents, names[1]: b"x" * len(contents[names[1]]), other: contents[names[1]]}
    assert len(Bill(tmp_path / "simulator.ledger").accepted) == 3

    assert batchgen("export", manifest, "--format", "webdataset", "-o", "set").returncode == 0
    with tarfile.open(next((tmp_path / "set").glob("*.tar"))) as shard:
        clips = {shard.extractfile(member).read() for member in shard if member.name.endswith(".mp4")}  # type: ignore[union-attr]
    assert clips == set(contents.values())
    sidecars = batchgen("export", manifest, "--sidecar")
    assert (sidecars.returncode, "no sidecar is written into an object store" in sidecars.stderr) == (3, True)
    assert batchgen("report", manifest).returncode == 0
    doctor = batchgen("doctor", manifest, **environment)
    assert "file://: videos can be stored, and nothing is replaced" in doctor.stdout
    assert (doctor.returncode, folder_store.url in doctor.stdout) == (0, False)
    assert list((tmp_path / "store").glob(".batchgen*")) == []


def test_the_python_api_and_a_simulation_have_places_of_their_own(tmp_path: Path, folder_store: TestStore) -> None:
    result = api.run(write(tmp_path, folder_store.url), simulate=True)
    (job,) = result.jobs
    assert (job.state, job.path, job.url) == (State.DONE, None, f"{folder_store.url}/simulated/clip-0.mp4")
    assert list(folder_store.objects) == [job.url]


def test_a_new_job_table_asks_before_it_pays_for_a_video_that_is_in_the_store(
    tmp_path: Path, folder_store: TestStore, batchgen: Command, simulate: Simulate
) -> None:
    manifest, environment = write(tmp_path, folder_store.url), simulate().environment
    folder_store.write(target := f"{folder_store.url}/clip-0.mp4", b"a video")
    refused = batchgen("run", manifest, **environment)
    assert (refused.returncode, Bill(tmp_path / "simulator.ledger").accepted) == (2, [])
    assert f"clip-0: {target} exists already, and no job of this table made it" in refused.stderr
    assert batchgen("run", manifest, "--changed", "redo", **environment).returncode == 0
    assert folder_store.read(target) == b"a video"
    edited = Path(manifest).read_text().replace("Number 0.", "Number zero.")
    manifest.write_text(edited)
    assert batchgen("run", manifest, "--changed", "redo", **environment).returncode == 0
    paths = {job["key"]: job["path"] for job in rows(tmp_path / "batchgen.db", JOBS)}
    assert paths == {"clip-0~1": f"{folder_store.url}/clip-0~1.mp4", "clip-0": f"{folder_store.url}/clip-0~2.mp4"}
    assert set(folder_store.objects) == {target, *paths.values()}


REFUSALS: dict[str, tuple[dict[str, str | None], str]] = {
    "a wrong bucket": ({}, "s3://no-such-bucket: there is no such bucket. Make it, or correct `output:`."),
    "no network": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, ": the store does not answer: "),
    "no TLS": ({"AWS_ALLOW_HTTP": ""}, ": AWS_ENDPOINT_URL begins with http://. Set AWS_ALLOW_HTTP=true"),
    "half a key": ({"AWS_SECRET_ACCESS_KEY": None}, ": there are no credentials for this store. Set AWS_ACCESS_KEY_ID"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_store_that_cannot_be_used_ends_a_run_before_anything_is_sent(
    name: str, tmp_path: Path, bucket: TestStore, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, sentence = REFUSALS[name]
    for variable, value in variables.items():
        monkeypatch.delenv(variable) if value is None else monkeypatch.setenv(variable, value)
    manifest = write(tmp_path, "s3://no-such-bucket" if name == "a wrong bucket" else bucket.url)
    ended = batchgen("run", manifest, **simulate().environment)
    check_refused(ended.returncode, ended.stderr, tmp_path)
    assert sentence in ended.stderr
    assert batchgen("check", manifest, "--online").returncode == 8
    assert "PROBLEM  outputs: s3://" in batchgen("doctor", manifest).stdout


def test_a_store_that_calls_every_name_taken_is_refused_before_anything_is_sent(
    tmp_path: Path, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conflict(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await read_head(reader):
            writer.write(answer(409 if head.startswith(b"PUT") else 404, b""))

    with listening_on_a_thread(conflict) as port:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        ended = batchgen("run", write(tmp_path, "s3://clips"), **simulate().environment)
    check_refused(ended.returncode, ended.stderr, tmp_path)
    assert "s3://clips: the store refuses a new name, and has nothing under it" in ended.stderr


def test_a_worker_sends_nothing_while_it_cannot_use_the_store(
    tmp_path: Path, bucket: TestStore, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batchgen("run", write(tmp_path, bucket.url), "--enroll").returncode == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    ended = batchgen("worker", **simulate().environment)
    assert (ended.returncode, "the store does not answer" in ended.stderr) == (8, True), ended.stderr
    assert rows(tmp_path / "batchgen.db", "SELECT * FROM attempts") == []


def test_no_file_is_called_lost_while_its_store_does_not_answer(
    tmp_path: Path, bucket: TestStore, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write(tmp_path, bucket.url)
    assert batchgen("run", manifest, **simulate().environment).returncode == 0
    assert batchgen("db", "check", "batchgen.db", "--verify").returncode == 0
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    sentence = f"{split_url(bucket.url).root}: the store does not answer: "
    status = batchgen("status", manifest)
    assert f"delivered files could not be looked at: {sentence}" in status.stdout
    for command in (("retry", manifest, "--download"), ("export", manifest, "--format", "csv")):
        ended = batchgen(*command)
        assert (ended.returncode, "the store does not answer" in ended.stderr) == (8, True)
    checked = batchgen("db", "check", "batchgen.db")
    assert (checked.returncode, f"could not be looked at: {sentence}" in checked.stdout) == (8, True)
    assert {job["state"] for job in rows(tmp_path / "batchgen.db", JOBS)} == {"done"}


def check_refused(code: int, message: str, folder: Path) -> None:
    assert (code, "Nothing has been sent." in message, "Traceback" in message) == (8, True, False), message
    assert SECRET not in message
    assert not any(SECRET.encode() in path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert rows(folder / "simulator.ledger", "SELECT * FROM generations") == []


ANSWERS = {
    "no rights": (answer(403, "<Error><Code>AccessDenied</Code></Error>"), "may not do this (403 AccessDenied)"),
    "another region": (
        answer(301, "<Error><Code>PermanentRedirect</Code></Error>"),
        "the bucket is in another region. Set AWS_REGION to it",
    ),
    **{
        f"credentials that are no longer valid: {code}": (
            answer(400, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()),
            f"these credentials have expired, or are not valid (400 {code}). Renew them, with their session token: set",
        )
        for code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestExpired")
    },
    "what it does not support": (
        answer(400, b"<?xml version='1.0'?><Error><Code>Odd</Code><Message>It &lt;has&gt;\nwhy.</Message></Error>"),
        "needed (400 Odd): Server returned non-2xx status code: 400 Bad Request: It <has> why. Nothing",
    ),
    "a page of a proxy": (
        answer(501, b"<html><p>We are<br>sorry?"),
        "needed (501): Server returned non-2xx status code: 501 Not Implemented. Nothing",
    ),
    "it replaces objects": (answer(200, "", {"ETag": '"1"'}), "replaces objects although it is asked not to"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_store_answers_is_explained_before_anything_is_sent(
    name: str, tmp_path: Path, bucket: TestStore, batchgen: Command, simulate: Simulate
) -> None:
    response, sentence = ANSWERS[name]

    async def store(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(response)
        await writer.drain()

    with listening_on_a_thread(store) as port:
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        ended = batchgen("run", write(tmp_path, bucket.url), **simulate().environment, **endpoint)
    check_refused(ended.returncode, ended.stderr, tmp_path)
    assert sentence in ended.stderr


def test_without_the_library_a_run_says_what_to_install(
    tmp_path: Path, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("obstore", "obstore.exceptions", "obstore.store"):
        monkeypatch.setitem(sys.modules, name, None)
    ended = batchgen("run", write(tmp_path, "s3://clips/spring"), **simulate().environment)
    assert (ended.returncode, "pip install 'batchgen[cloud]'" in ended.stderr) == (2, True)
    assert rows(tmp_path / "simulator.ledger", "SELECT * FROM generations") == []


def test_a_run_that_is_killed_during_an_upload_leaves_no_object_and_the_next_one_stores_it(
    tmp_path: Path, bucket: TestStore, launch: Launch, batchgen: Command, simulate: Simulate
) -> None:
    environment, uploading = simulate().environment, Event()
    manifest, target = write(tmp_path, bucket.url), f"{bucket.url}/clip-0.mp4"
    port = int(bucket.environment["AWS_ENDPOINT_URL"].rpartition(":")[2])

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands everything to the store, but of the video only the first bytes."""
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", port)

        async def answers() -> None:
            while piece := await store_reader.read(65_536):
                writer.write(piece)

        task = asyncio.create_task(answers())
        try:
            while piece := await reader.read(65_536):
                is_upload = piece.startswith(b"PUT ") and b".mp4" in piece.partition(b"\r\n")[0]
                store_writer.write(piece[:-1_000] if is_upload else piece)
                if is_upload:
                    await store_writer.drain()
                    uploading.set()
                    await asyncio.Event().wait()
        finally:
            task.cancel()
            store_writer.close()
            await asyncio.wait([task])

    with listening_on_a_thread(relay) as relay_port:
        running = launch("run", manifest, **environment, AWS_ENDPOINT_URL=f"http://127.0.0.1:{relay_port}")
        assert uploading.wait(60)
        running.process.kill()
        running.end()
    assert bucket.objects == {}
    assert len(list((tmp_path / ".batchgen" / "parts").iterdir())) == 1
    ended = batchgen("run", manifest, **environment)
    assert ended.returncode == 0, ended.stderr
    assert list(bucket.objects) == [target]
    assert list((tmp_path / ".batchgen" / "parts").iterdir()) == []
    bill = Bill(tmp_path / "simulator.ledger")
    assert (len(bill.accepted), len(bill.requests("cdn"))) == (1, 1)
    assert SECRET not in ended.stderr
    assert not any(SECRET.encode() in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


def test_two_runs_at_once_store_every_video_once(
    tmp_path: Path, folder_store: TestStore, launch: Launch, simulate: Simulate
) -> None:
    environment = simulate(speed=600).environment
    manifest = write(tmp_path, folder_store.url, 12)
    runs = [launch("run", manifest, **environment) for _ in range(2)]
    ended = [run.end() for run in runs]
    assert [result.returncode for result in ended] == [0, 0], [result.stderr for result in ended]
    assert set(folder_store.objects) == {f"{folder_store.url}/clip-{n}.mp4" for n in range(12)}
    bill = Bill(tmp_path / "simulator.ledger")
    assert (len(bill.accepted), bill.duplicates) == (12, 0)
    until(lambda: not list((tmp_path / ".batchgen" / "parts").iterdir()))


def test_a_json_line_names_the_object(
    tmp_path: Path, folder_store: TestStore, batchgen: Command, simulate: Simulate
) -> None:
    ended = batchgen("run", write(tmp_path, folder_store.url), "--json", **simulate().environment)
    delivered = [line for line in map(json.loads, ended.stdout.splitlines()) if line.get("to") == "done"]
    assert [line["detail"] for line in delivered] == [f"{folder_store.url}/clip-0.mp4"]


@pytest.mark.parametrize(
    "text",
    [
        f"Generic error: {SECRET} is no key",
        f"Error performing GET https://a.test/c/x?sig={SECRET}&se=1 in 3 ms - HTTP error",
        f"error - the token {SECRET}",
    ],
)
def test_nothing_secret_stands_in_an_error_of_a_store(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert SECRET not in str(fault_of_store(RuntimeError(text), split_url("s3://clips/x")))


def test_a_scratch_folder_that_cannot_be_made_is_named(
    tmp_path: Path, batchgen: Command, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BATCHGEN_SCRATCH", str(tmp_path / "file"))
    ended = batchgen("run", write_manifest(tmp_path / "m.yaml"), **simulate().environment)
    assert (ended.returncode, "Traceback" in ended.stderr) == (8, False), ended.stderr
    assert f"BATCHGEN_SCRATCH={tmp_path / 'file'}: File exists. Nothing has been sent." in ended.stderr

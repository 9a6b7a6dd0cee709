"""The served review page: who may ask, which files it gives, and how verdicts get into the table."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2 as httpx
import pytest
from sqlalchemy import update

from batchgen.cli import loopback
from batchgen.errors import StorageError, UsageError
from batchgen.jobs import State, Verdict
from batchgen.jobtable import verdicts
from batchgen.jobtable.batches import stored_batches
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import outputs
from batchgen.jobtable.verdicts import Judgement
from batchgen.review import server
from batchgen.review.server import Review, ReviewServer
from tests.review_batch import ReviewBatch, job
from tests.stores import TestStore

CLIP = b"\0\0\0\x18ftypisom" + bytes(range(256)) * 40


@contextmanager
def served_review(batch: ReviewBatch) -> Iterator[str]:
    """The address of the page of a batch, served on a thread."""
    ready = Event()
    addresses: list[str] = []

    def announce(address: str) -> None:
        addresses.append(address)
        ready.set()

    (stored,) = batch.database.read_now(stored_batches)
    with loopback.listen(0) as listener:
        serving = ReviewServer(Review(batch.database, stored, batch.folder, loopback.NAMES), listener, announce)
        thread = Thread(target=serving.run, args=([listener],), daemon=True)
        thread.start()
        try:
            assert ready.wait(10)
            yield addresses[0]
        finally:
            serving.should_exit = True
            thread.join(10)


@pytest.fixture
def batch(database: Database, tmp_path: Path) -> ReviewBatch:
    """Two delivered jobs, a failed one and one that is generated."""
    batch = ReviewBatch(database, tmp_path)
    sent = batch.send([job(key, prompt="Mist.") for key in ("mona", "lisa", "refused", "late")])
    batch.deliver_all(sent[:2], lambda job_: (CLIP, sha256(job_.key.encode()).hexdigest()), timedelta(minutes=3))
    batch.fail_all(sent[2:3], "no faces")
    return batch


@pytest.fixture
def address(batch: ReviewBatch) -> Iterator[str]:
    with served_review(batch) as address:
        yield address


def clip_name(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:16]


def entry(key: str = "mona", **changes: Any) -> dict[str, Any]:
    return {"id": key, "clip": clip_name(key), "verdict": "picked", "stars": None, **changes}


def current(batch: ReviewBatch, key: str = "mona") -> Judgement:
    return batch.database.read_now(verdicts.current, batch.row(key).attempt_id)


def test_the_page_holds_every_job_and_allows_no_other_script(address: str) -> None:
    page = httpx.get(address)
    assert page.status_code == 200
    for key in ("mona", "lisa", "refused", "late", "no faces"):
        assert key in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("", {"host": "evil.test"}, 400),
        ("", {"host": "evil.test:80"}, 400),
        ("verdicts", {"host": "evil.test"}, 400),
        ("video/99/1", {}, 404),
        ("video/1/2", {}, 404),
        ("video/3/1", {}, 404),  # it failed
        ("video/1/../../../etc/passwd", {}, 404),
        ("poster/3", {}, 404),
        ("poster/1", {}, 204),  # the file is no video
        ("job/99", {}, 404),
        (f"job/{2**70}", {}, 404),
        (f"video/1/{2**70}", {}, 404),
        (f"poster/{2**70}", {}, 404),
        ("changes?marks=[0,0,%222026-03-01T12:00:00%22]", {}, 400),
        ("changes", {}, 400),
        ("changes?marks=[1]", {}, 400),
        ("changes?marks=[1e400,1,null]", {}, 400),
    ],
)
def test_what_is_not_there_and_who_may_not_ask_is_refused(
    address: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert httpx.get(address + path, headers=headers).status_code == status


def test_without_the_token_nothing_is_there(address: str) -> None:
    root = address.rsplit("/", 2)[0]
    for path in ("", "/", "/x/", "/x/video/1/1", "/video/1/1", f"/{'x' * 32}/changes?marks=[0,0,%22%22]"):
        assert httpx.get(root + path).status_code == 404


def test_a_video_is_given_whole_or_in_ranges(address: str) -> None:
    whole = httpx.get(f"{address}video/1/1")
    assert whole.content == CLIP
    assert whole.headers["content-type"] == "video/mp4"
    part = httpx.get(f"{address}video/1/1", headers={"range": "bytes=8-11"})
    assert (part.status_code, part.content) == (206, CLIP[8:12])
    assert httpx.head(f"{address}video/1/1").headers["content-length"] == str(len(CLIP))
    assert httpx.get(f"{address}video/1/1", headers={"range": "bytes=999999-"}).status_code == 416


def test_a_video_in_an_object_store_is_passed_on_whole_or_in_ranges(
    batch: ReviewBatch, folder_store: TestStore, address: str
) -> None:
    url = f"{folder_store.url}/mona.mp4"
    folder_store.write(url, CLIP)
    row = batch.row("mona")
    batch.change(
        lambda connection: connection.execute(
            update(outputs).where(outputs.c.attempt_id == row.attempt_id).values(path=url)
        )
    )
    video = f"{address}video/{row.id}/1"
    whole = httpx.get(video)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, CLIP, "video/mp4")
    assert whole.headers["x-content-type-options"] == "nosniff"
    for asked, content in (("bytes=8-11", CLIP[8:12]), ("bytes=100-", CLIP[100:]), ("bytes=-7", CLIP[-7:])):
        part = httpx.get(video, headers={"range": asked})
        assert (part.status_code, part.content) == (206, content)
    assert part.headers["content-range"] == f"bytes {len(CLIP) - 7}-{len(CLIP) - 1}/{len(CLIP)}"
    assert httpx.get(video, headers={"range": "bytes=8-1"}).content == CLIP
    assert httpx.get(video, headers={"range": "bytes=999999-"}).status_code == 416
    assert httpx.head(video).headers["content-length"] == str(len(CLIP))
    folder_store.delete(url)
    assert httpx.get(video).status_code == 404
    folder_store.write(url, b"something else")
    assert httpx.get(video).status_code == 404


def test_a_job_whose_first_file_is_missing_is_reviewed_by_the_next_one(batch: ReviewBatch, address: str) -> None:
    """The service may not have the first file while the others are here."""
    missing = update(outputs).where(outputs.c.attempt_id == batch.row("mona").attempt_id)
    batch.change(lambda connection: connection.execute(missing.values(number=2)))
    assert httpx.get(f"{address}video/1/1").content == CLIP
    assert httpx.get(f"{address}video/1/2").status_code == 404
    assert httpx.get(f"{address}poster/1").status_code == 204, "the file is there, and no video"
    assert httpx.post(f"{address}verdicts", json=entry()).json() == {"stored": True}
    assert current(batch) == Judgement(Verdict.PICKED)


def test_a_link_in_the_place_of_a_video_leads_nowhere(batch: ReviewBatch, address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for the page")
    clip = tmp_path / "clips" / "mona.mp4"
    clip.unlink()
    clip.symlink_to(secret)
    assert httpx.get(f"{address}video/1/1").status_code == 404
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "clips").rename(elsewhere)
    (tmp_path / "clips").symlink_to(elsewhere)
    assert httpx.get(f"{address}video/2/1").status_code == 404


def test_a_verdict_goes_into_the_table(batch: ReviewBatch, address: str) -> None:
    assert httpx.post(f"{address}verdicts", json=entry(stars=4)).json() == {"stored": True}
    assert current(batch) == Judgement(Verdict.PICKED, 4)
    httpx.post(f"{address}verdicts", json=entry(verdict=None))
    assert current(batch) == Judgement()


def test_what_a_window_does_not_change_stays_as_another_one_has_judged_it(batch: ReviewBatch, address: str) -> None:
    clip = {"id": "mona", "clip": clip_name("mona")}
    for change in ({"verdict": "picked", "stars": 5}, {"verdict": "rejected"}, {"stars": 3}):
        assert httpx.post(f"{address}verdicts", json={**clip, **change}).json() == {"stored": True}
    assert current(batch) == Judgement(Verdict.REJECTED, 3)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (entry(clip="0" * 16), {}, 409),  # the clip was replaced since the page showed it
        (entry("nobody"), {}, 409),
        pytest.param(entry("写真\u30001"), {}, 409, id="an id with the blank of Japanese, which no job has"),
        pytest.param(entry("a\u202eb"), {}, 400, id="an id that turns the text"),
        pytest.param({**entry(), "id": "\ud800"}, {}, 400, id="half a surrogate pair"),
        (entry("refused"), {}, 409),
        (entry(verdict="loved"), {}, 400),
        (entry(stars=6), {}, 400),
        (entry(stars=True), {}, 400),
        (entry(stars="3"), {}, 400),
        ({"id": "mona"}, {}, 400),
        ([], {}, 400),
        ({**entry(), "more": "x" * 20_000}, {}, 413),
        (entry(), {"origin": "http://evil.test"}, 403),
        (entry(), {"origin": "null"}, 403),
        (entry(), {"content-type": "text/plain"}, 415),  # a form of another page can send this without asking first
    ],
)
def test_a_bad_verdict_is_refused_and_changes_nothing(
    batch: ReviewBatch, address: str, body: Any, headers: dict[str, str], status: int
) -> None:
    headers = {"content-type": "application/json", **headers}
    assert httpx.post(f"{address}verdicts", content=json.dumps(body), headers=headers).status_code == status
    assert current(batch) == Judgement()


def test_a_verdict_that_the_table_does_not_take_is_answered_with_the_reason(
    batch: ReviewBatch, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StorageError("batchgen.db: its disk is full")

    monkeypatch.setattr(Database, "write", refuse)
    answer = httpx.post(f"{address}verdicts", json=entry())
    assert (answer.status_code, answer.json()) == (503, {"stored": False, "why": "batchgen.db: its disk is full"})


def test_a_verdict_is_not_called_stored_in_a_table_that_was_moved_away(batch: ReviewBatch, address: str) -> None:
    table = batch.folder / "batchgen.db"
    table.rename(batch.folder / "gone.db")
    answer = httpx.post(f"{address}verdicts", json=entry())
    (batch.folder / "gone.db").rename(table)
    assert (answer.status_code, answer.json()["stored"]) == (503, False)
    assert f"{table}: the job table was moved, deleted or replaced" in answer.json()["why"]
    assert httpx.post(f"{address}verdicts", json=entry()).json() == {"stored": True}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("changes?marks=" + "[" * 3_000, 400),
        *((f"{page}{'9' * 4_400}{more}", 404) for page, more in (("job/", ""), ("poster/", ""), ("video/", "/1"))),
    ],
    ids=["deep marks", "a job", "a poster", "a video"],
)
def test_an_address_that_python_cannot_read_is_refused(address: str, path: str, status: int) -> None:
    assert httpx.get(f"{address}{path}").status_code == status


HALF_A_HEAD = "GET {path} HTTP/1.1\r\nHost: "
HALF_A_BODY = (
    "POST {path}verdicts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
)


@pytest.mark.slow
@pytest.mark.parametrize("half", [HALF_A_HEAD, HALF_A_BODY], ids=["of its head", "of its body"])
@pytest.mark.parametrize("whole_before", [0, 2])
def test_a_connection_is_closed_where_only_half_a_request_comes(
    batch: ReviewBatch, monkeypatch: pytest.MonkeyPatch, half: str, whole_before: int
) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 1.0)
    with served_review(batch) as address:
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
            for _ in range(whole_before):
                connection.sendall(f"GET {url.path}changes HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                answer = b""
                while not answer.endswith(b"Bad Request"):
                    answer += connection.recv(1 << 16)
            connection.sendall(half.format(path=url.path).encode())
            assert connection.recv(1 << 16) == b""


def test_changes_are_what_happened_since_the_marks(batch: ReviewBatch, address: str) -> None:
    def changes(marks: Any) -> tuple[list[str], Any]:
        answer = httpx.get(f"{address}changes", params={"marks": json.dumps(marks)}).json()
        return [row[1] for row in answer["rows"]], answer["marks"]

    keys, marks = changes([0, 0, ""])
    assert keys == ["mona", "lisa", "refused", "late"]
    assert changes(marks) == ([], marks)
    httpx.post(f"{address}verdicts", json=entry("lisa"))
    keys, marks = changes(marks)
    assert keys == ["lisa"]
    batch.bring(State.DONE, "new")
    keys, marks = changes(marks)
    assert keys == ["new"]


def test_the_sum_of_the_page_says_which_charges_are_not_known(batch: ReviewBatch, address: str) -> None:
    batch.change(lambda connection: connection.exec_driver_sql("UPDATE batches SET unpriced = 2, reserved_nanousd = 0"))
    assert '"uncharged":" and 2 charges not known yet"' in httpx.get(address).text
    changes = httpx.get(f"{address}changes", params={"marks": '[0, 0, ""]'}).json()
    assert changes["uncharged"] == " and 2 charges not known yet"


def test_cut_texts_are_given_whole_on_demand(database: Database, tmp_path: Path) -> None:
    batch = ReviewBatch(database, tmp_path)
    prompt = "mist " * 5_000
    batch.send([job("long", prompt=prompt)])
    with served_review(batch) as address:
        assert prompt[:600] not in httpx.get(address).text
        assert httpx.get(f"{address}job/1").json()["prompt"] == prompt


def test_a_port_that_is_taken_is_passed_over() -> None:
    with loopback.listen(0) as first:
        port = first.getsockname()[1]
        with loopback.listen(port) as second:
            assert second.getsockname()[1] != port


def test_a_port_beyond_the_last_is_an_error_for_people() -> None:
    with loopback.listen(65_535), pytest.raises(UsageError, match="--port"):
        loopback.listen(65_535)

"""A paid file that is odd: what plays is delivered, what does not is kept aside, and nothing is asked for for ever."""

from __future__ import annotations

import errno
import gzip
import io
import os
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import av
import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from PIL import Image

from batchgen.context import RunContext
from batchgen.download import verification
from batchgen.download.task import GONE_AFTER, SAME_BYTES
from batchgen.downloader import Downloader
from batchgen.files import part as part_module
from batchgen.jobs import ErrorClass
from batchgen.jobtable import delivery
from batchgen.limits import blockers
from batchgen.services.boundary import BoundedService
from batchgen.services.outcomes import Finished, Unavailable
from tests.fileserver import (
    CLIP,
    HALF,
    OTHER,
    PAGE,
    download,
    downloading,
    finished_generation,
    full_answer,
    part_of,
    undecodable_clip,
)
from tests.scripted import ScriptedService, context_of, turn_when_due
from tests.table import HOUR, Table
from tests.wire import Request, answer, serving

MOOV = CLIP.index(b"moov")


def pass_time(table: Table, clock: Clock, length: timedelta) -> None:
    table.now += length
    clock.move_to(table.now)


@cache
def made(container: str, codec: str, pixels: str = "yuv420p") -> bytes:
    """A small video in another container."""
    target = io.BytesIO()
    with av.open(target, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        for shade in range(0, 240, 60):
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 64), (shade, 255 - shade, 90)))  # type: ignore[no-untyped-call]
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return target.getvalue()


@dataclass(frozen=True)
class Odd:
    """What the file server sends each time, how often it is asked, and what is delivered with which remark."""

    name: str
    answer: bytes
    remark: str
    content: bytes | None = None
    """Where it is not the body as it was sent."""
    requests: int = SAME_BYTES


def odd(name: str, body: bytes, remark: str, requests: int = SAME_BYTES, content: bytes | None = None) -> Odd:
    return Odd(name, full_answer(body), remark, body if content is None else content, requests)


COMPRESSED = gzip.compress(CLIP)
ODD_FILES = [
    odd("a text after the last box", CLIP + b"<html>the end</html>", "20 bytes at its end belong to no part"),
    odd("zeros after the last box", CLIP + bytes(64), "64 bytes at its end"),
    odd("three bytes after the last box", CLIP + bytes(3), "3 bytes at its end"),
    odd("an index without its size", CLIP[: MOOV - 4] + bytes(4) + CLIP[MOOV:], "the container has no mdat"),
    odd("an unknown codec", CLIP.replace(b"avc1", b"zzzz"), "its codec is unknown"),
    odd("frames that do not decode", undecodable_clip(), "does not decode"),
    odd("a clip that is stored cut, with its index in front", CLIP[:HALF], "the container is cut"),
    odd("two bytes before the first box", b"\r\n" + CLIP, "without 2 bytes that the file server sent", 1, CLIP),
    odd("a text before the first box", b"HTTP ok " * 99 + CLIP, "without 792 bytes", 1, CLIP),
    odd("a file that is a gzip file", COMPRESSED, "unpacked: the file server sent it compressed", 1, CLIP),
    odd("a gzip file in a gzip file", gzip.compress(COMPRESSED), "unpacked", 1, CLIP),
    odd("a gzip file with an odd video", gzip.compress(CLIP + b"odd"), "3 bytes at its end", 3, CLIP + b"odd"),
    Odd("a body with a gzip coat", full_answer(COMPRESSED, Content_Encoding="gzip"), "unpacked", CLIP, 1),
    Odd("a body in deflate", full_answer(zlib.compress(CLIP), Content_Encoding="deflate"), "unpacked", CLIP, 1),
    Odd("a wrong content type", full_answer(CLIP, Content_Type="text/html"), "", CLIP, 1),
    Odd("no content type", full_answer(CLIP, Content_Type=None), "", CLIP, 1),
    odd("WebM", made("webm", "libvpx"), "the service sent a file of the kind .webm", 1),
    odd("QuickTime", made("mov", "h264"), "", 1),
    odd("GIF", made("gif", "gif", "rgb8"), "the service sent a file of the kind .gif", 1),
    odd("MPEG-TS", made("mpegts", "mpeg2video"), "the service sent a file of the kind .ts", 1),
    odd("AVI", made("avi", "mpeg4"), "the service sent a file of the kind .avi", 1),
]


@pytest.mark.parametrize("case", ODD_FILES, ids=lambda case: case.name)
async def test_what_plays_is_delivered_with_a_remark(table: Table, clock: Clock, case: Odd) -> None:
    async with serving(case.answer) as wire:
        target = await download(table, wire, clock=clock, tries=case.requests)
    assert (table.row().state, len(wire.requests)) == ("done", case.requests), table.row().error
    assert target.read_bytes() == case.content
    assert case.remark in (table.row().error or "")
    assert case.remark in (table.output().remark or "")
    assert bool(case.remark) == bool(table.output().remark)
    assert table.database.read_now(delivery.remarks, table.batch_id) == (
        [f"mona: mona.mp4: {table.output().remark}"] if case.remark else []
    )
    assert sorted(path.name for path in table.folder.glob("mona*")) == ["mona.mp4"], "nothing is left beside it"


NO_VIDEOS = [
    ("an error page", full_answer(PAGE), "it starts with '<html>", PAGE),
    ("JSON", full_answer(b'{"error": "expired"}'), "it starts with '{", b'{"error": "expired"}'),
    ("an image", full_answer(b"\x89PNG\r\n\x1a\n" + bytes(99)), "it starts with", b"\x89PNG\r\n\x1a\n" + bytes(99)),
    ("nothing", full_answer(b""), "an empty file", None),
    ("a clip cut before its frames", full_answer(CLIP[: MOOV + 100]), "the container is cut", CLIP[: MOOV + 100]),
    ("a gzip file that is cut", full_answer(COMPRESSED[:-99]), "a compressed file that ends early", COMPRESSED[:-99]),
    ("a page in a gzip coat", full_answer(gzip.compress(PAGE)), "it starts with '<html>", gzip.compress(PAGE)),
]


@pytest.mark.parametrize(("name", "reply", "words", "kept"), NO_VIDEOS, ids=[row[0] for row in NO_VIDEOS])
async def test_what_does_not_play_ends_at_the_third_time_and_is_kept_aside(
    table: Table, clock: Clock, name: str, reply: bytes, words: str, kept: bytes | None
) -> None:
    async with serving(reply) as wire:
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, SAME_BYTES - 1)
            assert table.row().state == "downloading"
            await turn_when_due(stage, table, clock, 1)
    row, aside = table.row(), target.with_name("mona.mp4.unplayable")
    assert (row.state, row.error_class) == ("failed", ErrorClass.NO_FILE)
    assert words in row.error
    assert "the file server has no video, 3 times the same" in row.error
    assert (aside.read_bytes() if aside.exists() else None) == kept
    assert ("mona.mp4.unplayable" in row.error) == (kept is not None)
    assert not target.exists()
    assert not part_of(table).exists()
    assert table.recomputed_totals().unpriced == 1, "what was paid counts on"


async def test_a_file_that_holds_the_key_is_named_without_it(
    table: Table, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-0123456789abcdef"
    async with serving(full_answer(f'{{"id": "{key}"}}'.encode())) as wire:
        url = f"{wire.base_url}/v.mp4"
        finished_generation(table, url)
        context = context_of(table, ScriptedService(fetches=[Finished((url,))]))
        context.service = BoundedService(context.service, key)
        async with downloading(context) as stage:
            await turn_when_due(stage, table, clock, SAME_BYTES)
    assert "it starts with '{" in table.row().error
    assert key not in str(table.everything()) + caplog.text


async def test_two_odd_files_by_turns_are_each_counted(table: Table, clock: Clock) -> None:
    first, second = CLIP + b"1", CLIP + b"2"
    replies = [full_answer(body) for body in (first, second, first, second, first)]
    async with serving(*replies) as wire:
        target = await download(table, wire, clock=clock, tries=5)
    assert target.read_bytes() == first


async def test_the_count_survives_the_run(table: Table, clock: Clock) -> None:
    async with serving(full_answer(CLIP + b"odd")) as wire:
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        finished_generation(table, f"{wire.base_url}/v.mp4")
        for _ in range(SAME_BYTES):
            assert table.row().state == "downloading"
            async with downloading(context_of(table, service)) as stage:
                await turn_when_due(stage, table, clock, 1)
    assert (table.row().state, len(wire.requests)) == ("done", SAME_BYTES)


async def test_a_good_file_after_odd_ones_has_no_remark(table: Table, clock: Clock) -> None:
    async with serving(full_answer(CLIP + b"odd"), full_answer(PAGE), full_answer()) as wire:
        await download(table, wire, clock=clock, tries=3)
    assert (table.row().state, table.row().error, table.output().remark) == ("done", None, None)


def whole_but_longer(request: Request) -> bytes:
    """The server announces more bytes than it has, and knows no ranges."""
    return answer(200, CLIP, {"Content-Length": str(len(CLIP) + 99)})


async def test_a_file_that_is_whole_is_delivered_although_its_length_was_announced_wrong(
    table: Table, clock: Clock
) -> None:
    async with serving(whole_but_longer) as wire:
        target = await download(table, wire, clock=clock, tries=SAME_BYTES)
    assert target.read_bytes() == CLIP, table.row().error
    assert "whole, although the file server 127.0.0.1" in table.row().error


async def test_a_part_that_is_not_whole_is_never_delivered_for_a_server_that_breaks_off(
    table: Table, clock: Clock
) -> None:
    def cut(request: Request) -> bytes:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        return full_answer()[: -len(CLIP) + HALF] if not start else b""

    async with serving(cut) as wire:
        await download(table, wire, clock=clock, tries=6)
    assert table.row().state == "downloading"
    assert part_of(table).read_bytes() == CLIP[:HALF], "the rest may come"


async def test_a_gzip_file_that_unpacks_to_more_than_any_video_is_not_unpacked_to_its_end(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "RATIO_FREE_BYTES", 0)
    bomb = gzip.compress(bytes(2_000_000))
    async with serving(full_answer(bomb)) as wire:
        await download(table, wire, clock=clock, tries=1)
    assert "that unpacks to more than" in table.row().error
    assert list(table.folder.glob("*.part")) == []


# --- a file that is gone, and a disk that does not take it -----------------------------------------------------------


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize(
    "fetch", [None, Unavailable("404: not found", None, 404)], ids=["a dead address", "a service that forgot"]
)
async def test_a_file_that_is_gone_for_a_day_ends_its_job_and_its_charge_stays(
    table: Table, clock: Clock, status: int, fetch: Unavailable | None
) -> None:
    async with serving(answer(status)) as wire:
        url = f"{wire.base_url}/v.mp4"
        service = ScriptedService(fetches=[fetch or Finished((url,))])
        finished_generation(table, url)
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, 2)
            assert table.row().state == "downloading"
            pass_time(table, clock, GONE_AFTER)
            await turn_when_due(stage, table, clock, 1)
    row = table.row()
    assert (row.state, row.error_class) == ("failed", ErrorClass.EXPIRED)
    assert "the service does not have the file any more" in row.error
    assert service.submitted == []
    assert table.attempt().finished_at < table.now + GONE_AFTER, "it is the end of the generation, and not of the job"


async def test_a_service_in_trouble_is_no_service_that_has_forgotten(table: Table, clock: Clock) -> None:
    async with serving(answer(403)) as wire:
        service = ScriptedService(fetches=[Unavailable("502", None, 502)])
        finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            pass_time(table, clock, GONE_AFTER * 3)
            await turn_when_due(stage, table, clock, 3)
    assert table.row().state == "downloading"


@asynccontextmanager
async def refused_by_the_disk(
    table: Table, monkeypatch: pytest.MonkeyPatch, clock: Clock, number: int
) -> AsyncIterator[tuple[RunContext, Downloader]]:
    """A download whose first bytes the system refuses with an error; it takes them afterwards."""

    def refuse(_descriptor: int, _chunk: bytes) -> None:
        raise OSError(number, os.strerror(number))

    async with serving(full_answer()) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4")
        context = context_of(table, ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))]))
        async with downloading(context) as stage:
            with monkeypatch.context() as patched:
                patched.setattr(part_module, "write_whole", refuse)
                await turn_when_due(stage, table, clock, 1)
            yield context, stage


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_too_many_open_files_are_of_the_moment_and_no_full_disk(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with refused_by_the_disk(table, monkeypatch, clock, number) as (context, stage):
        assert (context.disk_fault, context.obstacles) == (None, {})
        assert table.row().error.endswith(
            "mona.mp4: too many files are open here: raise the number that may be (ulimit -n)"
        )
        pass_time(table, clock, HOUR)
        await turn_when_due(stage, table, clock, 1)
    assert table.row().state == "done"


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENAMETOOLONG, errno.EISDIR])
async def test_a_file_that_this_disk_does_not_take_is_an_obstacle_of_the_disk(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with refused_by_the_disk(table, monkeypatch, clock, number) as (context, stage):
        assert set(context.obstacles) == {"mona"}
        reason = "this disk takes no larger file" if number == errno.EFBIG else os.strerror(number)
        assert reason in context.obstacles["mona"]
        (blocker,) = table.database.read_now(blockers.blockers, table.batch_id, table.now)
        assert str(blocker).startswith(f"1 job waits for downloads: mona.mp4: {reason}")
        pass_time(table, clock, HOUR * 2)
        await turn_when_due(stage, table, clock, 1)
    assert table.row().state == "done"


# --- a delivered file that is fetched again --------------------------------------------------------------------------


async def deliver_and_lose(table: Table, clock: Clock, url: str, service: ScriptedService) -> None:
    finished_generation(table, url)
    async with downloading(context_of(table, service)) as stage:
        await turn_when_due(stage, table, clock, 1)
    assert table.row().state == "done"
    (table.folder / "mona.mp4").unlink()
    assert table.fetch_again("mona") == ["mona"]


@pytest.mark.parametrize(
    ("body", "remark"),
    [(CLIP, None), (OTHER, "the service sent other bytes than the first time")],
    ids=["the same bytes", "other bytes"],
)
async def test_a_lost_file_is_fetched_again_and_its_hash_compared(
    table: Table, clock: Clock, body: bytes, remark: str | None
) -> None:
    async with serving(full_answer(), full_answer(body)) as wire:
        service = ScriptedService()
        await deliver_and_lose(table, clock, f"{wire.base_url}/v.mp4", service)
        assert table.database.read_now(lambda c: c.exec_driver_sql("SELECT delivered_bytes FROM batches").scalar()) == 0
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, 1)
    assert (table.folder / "mona.mp4").read_bytes() == body
    assert (table.row().state, table.row().error) == ("done", remark)
    assert (len(table.attempts()), service.submitted) == (1, [])


async def test_a_file_of_somebody_else_at_the_place_of_a_lost_one_is_kept(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        service = ScriptedService()
        await deliver_and_lose(table, clock, f"{wire.base_url}/v.mp4", service)
        (table.folder / "mona.mp4").write_bytes(b"")
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, 1)
    assert (table.folder / "mona.mp4").read_bytes() == b""
    assert (table.folder / "mona~1.mp4").read_bytes() == CLIP
    assert table.row().error == "mona.mp4 is another file now, and was kept"


async def test_a_file_that_was_moved_back_is_not_requested(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        service = ScriptedService()
        await deliver_and_lose(table, clock, f"{wire.base_url}/v.mp4", service)
        (table.folder / "mona.mp4").write_bytes(CLIP)
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, 1)
    assert (table.row().state, len(wire.requests)) == ("done", 1)


async def test_a_lost_file_that_the_service_has_no_more_fails_its_job_after_a_few_tries(
    table: Table, clock: Clock
) -> None:
    async with serving(full_answer(), answer(404)) as wire:
        service = ScriptedService(fetches=[Unavailable("404: not found", None, 404)])
        await deliver_and_lose(table, clock, f"{wire.base_url}/v.mp4", service)
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, SAME_BYTES)
    row = table.row()
    assert (row.state, row.error_class) == ("failed", ErrorClass.EXPIRED)
    assert table.story()[-3:] == ["done", "downloading", "failed"], "its history is kept"
    assert service.submitted == []

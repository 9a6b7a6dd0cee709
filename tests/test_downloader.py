"""The downloader against a file server that misbehaves: the requests it sends, and the file that it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.downloader import Downloader
from batchgen.jobs import State
from batchgen.jobtable import delivery, polling
from batchgen.services.base import Finished, Unavailable
from tests.fileserver import (
    CLIP,
    DATE,
    HALF,
    OTHER,
    PACKED,
    PAGE,
    PLAIN,
    V1,
    V2,
    CheckerInProcess,
    asked,
    beyond,
    broken,
    cut,
    downloading,
    from_,
    ready,
    rest,
    turns,
    whole,
)
from tests.scripted import ScriptedService, context_of, turn
from tests.table import RUN, Table, spec
from tests.wire import HANG, Drip, Request, Reset, answer, serving


@dataclass(frozen=True)
class Case:
    """What lies there, what the server answers, and what is asked of it; the clip must be there at the end."""

    name: str
    answers: Sequence[bytes | Reset | Drip]
    asks: Sequence[tuple[str | None, str | None]]
    part: bytes | None = None
    etag: str | None = None
    content: bytes = CLIP
    tries: int = 1
    more: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("a plain file", [whole()], [PLAIN]),
    Case("a server that names no length", [whole(Content_Length=None)], [PLAIN]),
    Case("a server without versions", [whole(etag=None)], [PLAIN]),
    # --- a .part of an earlier run ---
    Case("a part goes on", [rest(HALF)], [from_(HALF)], CLIP[:HALF], V1),
    Case("a part of one byte goes on", [rest(1)], [from_(1)], CLIP[:1], V1),
    Case("a part without its last byte goes on", [rest(len(CLIP) - 1)], [from_(len(CLIP) - 1)], CLIP[:-1], V1),
    Case("a part whose version is not known begins anew", [whole()], [PLAIN], CLIP[:HALF], None),
    Case("an empty part is no part", [whole()], [PLAIN], b"", V1),
    Case("a version without a part is no part", [whole()], [PLAIN], None, V1),
    Case("the server does not know ranges: 200 begins anew", [whole()], [from_(HALF)], CLIP[:HALF], V1),
    Case("the file has changed: 200 begins anew", [whole(OTHER, V2)], [from_(HALF)], CLIP[:HALF], V1, OTHER),
    # 206 of another version, from a server that does not look at If-Range: nothing of it may be appended
    Case(
        "206 of another version",
        [rest(HALF, OTHER, V2), whole(OTHER, V2)],
        [from_(HALF), PLAIN],
        CLIP[:HALF],
        V1,
        OTHER,
    ),
    # 206 from another place than asked for
    Case("206 from elsewhere", [rest(HALF - 9), whole()], [from_(HALF), PLAIN], CLIP[:HALF], V1),
    Case("206 without a range", [answer(206, CLIP[HALF:]), whole()], [from_(HALF), PLAIN], CLIP[:HALF], V1),
    # 416: all is there already, or what is there is not of this file
    Case("416, and all is there", [beyond(len(CLIP))], [from_(len(CLIP))], CLIP, V1),
    Case("416, and it is stale", [beyond(9), whole()], [from_(len(CLIP)), PLAIN], CLIP, V1),
    Case("416 without a size", [answer(416), whole()], [from_(len(CLIP)), PLAIN], CLIP, V1),
    Case(
        "a part that is longer than the file",
        [beyond(len(CLIP)), whole()],
        [from_(len(CLIP) + 5), PLAIN],
        CLIP + b"12345",
        V1,
    ),
    # a .part of the right length whose bytes are wrong: the container tells, and it begins anew at the next try
    Case("a part of something else", [rest(HALF), whole()], [from_(HALF), PLAIN], b"\x00" * HALF, V1, tries=2),
    # --- cut on the way ---
    Case("cut and taken up at once", [cut(whole(), HALF), rest(HALF)], [PLAIN, from_(HALF)]),
    Case("cut twice", [cut(whole(), 9_000), cut(rest(9_000), 20), rest(9_020)], [PLAIN, from_(9_000), from_(9_020)]),
    Case("cut without a version: begins anew", [cut(whole(etag=None), HALF), whole(etag=None)], [PLAIN, PLAIN]),
    Case(
        "cut under a weak version: begins anew", [cut(whole(etag='W/"v1"'), HALF), whole(etag='W/"v1"')], [PLAIN, PLAIN]
    ),
    Case(
        "cut under a date",
        [cut(whole(etag=None, Last_Modified=DATE), HALF), rest(HALF, etag=None)],
        [PLAIN, from_(HALF, DATE)],
    ),
    Case("changed between two pieces", [cut(whole(), HALF), whole(OTHER, V2)], [PLAIN, from_(HALF)], content=OTHER),
    # nothing at all came: that is a failed try, and the next begins a little later
    Case("cut before the first byte", [cut(whole(), 0), whole()], [PLAIN, PLAIN], tries=2, more={"failures": 0}),
    Case("no answer", [b"", whole()], [PLAIN, PLAIN], tries=2),
    Case("not HTTP", [b"\x00\x01", whole()], [PLAIN, PLAIN], tries=2),
    Case("a server in trouble", [answer(503), whole()], [PLAIN, PLAIN], tries=2),
    Case("a server that asks to wait", [answer(429), whole()], [PLAIN, PLAIN], tries=2),
    Case(
        "in trouble in the middle",
        [cut(whole(), HALF), answer(500), rest(HALF)],
        [PLAIN, from_(HALF), from_(HALF)],
        tries=2,
    ),
    # --- not a video ---
    Case("a captive portal's page", [answer(200, PAGE), whole()], [PLAIN, PLAIN], tries=2),
    Case(
        "a page in place of the rest",
        [cut(whole(), HALF), answer(200, PAGE), whole()],
        [PLAIN, from_(HALF), PLAIN],
        tries=2,
    ),
    Case("an empty file", [answer(200), whole()], [PLAIN, PLAIN], tries=2),
    Case("a file of three bytes", [answer(200, CLIP[:3]), whole()], [PLAIN, PLAIN], tries=2),
    Case("a clip that was stored cut", [whole(CLIP[:HALF]), whole()], [PLAIN, PLAIN], tries=2),
    Case(
        "packed, though asked not to be",
        [PACKED, whole()],
        [PLAIN, PLAIN],
        tries=2,
    ),
    Case("a clip that does not decode", [whole(broken()), whole()], [PLAIN, PLAIN], tries=2),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_video_arrives_whole(table: Table, clock: Clock, case: Case) -> None:
    service = ScriptedService(fetches=[Unavailable("not asked")])
    async with serving(*case.answers) as wire:
        target = ready(table, f"{wire.base_url}/v.mp4", case.part, case.etag)
        async with downloading(context_of(table, service)) as stage:
            await turns(stage, table, clock, case.tries)
    assert asked(wire) == list(case.asks)
    assert table.row().state == "done", table.row().error
    assert target.read_bytes() == case.content
    row = table.row()
    assert (row.bytes, row.sha256) == (len(case.content), hashlib.sha256(case.content).hexdigest())
    assert (row.output_path, row.failures, row.error, row.leased_by) == ("mona.mp4", 0, None, None)
    assert not target.with_name("mona.mp4.part").exists()
    assert service.fetched == []
    for request in wire.requests:
        assert request.headers["accept-encoding"] == "identity"
        assert "authorization" not in request.headers


OFFSETS = sorted({*range(1, 40), *range(40, len(CLIP), 997), len(CLIP) - 1})


async def test_a_video_cut_anywhere_goes_on_from_there(table: Table, clock: Clock) -> None:
    table.sync(*(spec(f"j{offset:05}") for offset in OFFSETS))
    for intent in table.intend(capacity=999):
        table.accept(intent, f"g-{intent.job.key}")

    def script(request: Request) -> bytes:
        offset = int(request.path[1:])
        start = request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        return cut(whole(), offset) if start == "0" else rest(int(start))

    async with serving(script) as wire:
        for job in table.claim(State.GENERATING, capacity=999):
            finished = Finished(f"{wire.base_url}/{int(job.key[1:])}")
            table.change(polling.finished, job, RUN, finished, table.now)
        async with downloading(context_of(table, ScriptedService())) as stage:
            while set(table.states().values()) != {"done"}:
                await turn(stage)
    assert all((table.folder / f"j{offset:05}.mp4").read_bytes() == CLIP for offset in OFFSETS)
    assert sorted(asked(wire), key=str) == sorted(
        [PLAIN] * len(OFFSETS) + [from_(offset) for offset in OFFSETS], key=str
    )


async def test_a_first_packet_of_one_byte_is_no_reason_to_doubt(table: Table, clock: Clock) -> None:
    told = whole()
    start = told.index(b"\r\n\r\n") + 4
    drops = Drip([told[:start], *(told[at : at + 1] for at in range(start, start + 20)), told[start + 20 :]])
    async with serving(drops) as wire:
        target = ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert target.read_bytes() == CLIP


async def test_as_many_files_come_at_once_as_the_manifest_allows(table: Table) -> None:
    async with serving(HANG) as wire:
        for number in range(25):
            table.bring(State.DOWNLOADING, f"clip-{number}")
        for job in table.claim(State.DOWNLOADING):
            table.change(delivery.relocated, job, RUN, f"{wire.base_url}/{job.key}.mp4")
        table.bury()
        stage = Downloader(context_of(table, ScriptedService()), 20)
        stage.checker = CheckerInProcess()
        await stage.tick(table.now)
        await wire.came(20)
        assert (wire.connections, len(stage.tasks)) == (20, 25)
        for task in stage.tasks:
            task.cancel()
        await stage.finish()
        await stage.close()

"""The downloader against a file server that misbehaves: the requests it sends, and the file that it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.download import transfer
from batchgen.downloader import Downloader
from batchgen.files import checker
from batchgen.jobs import State
from batchgen.jobtable import delivery, polling
from batchgen.services.outcomes import Finished, Unavailable
from tests.fileserver import (
    CLIP,
    DATE,
    GZIPPED,
    HALF,
    NO_RANGE,
    OTHER,
    PAGE,
    V1,
    V2,
    CheckerInProcess,
    cut_off,
    download,
    downloading,
    finished_generation,
    full_answer,
    part_of,
    partial_answer,
    range_from,
    requested_ranges,
    undecodable_clip,
    unsatisfiable,
)
from tests.scripted import ScriptedService, context_of, turn, turn_when_due
from tests.table import RUN, Table, spec
from tests.wire import HANG, Drip, Request, Reset, answer, serving


@dataclass(frozen=True)
class Case:
    """The server's answers and the ranges that it must be asked for; in the end `content` must be delivered.

    `part` and `etag` are what an earlier run left.
    """

    name: str
    answers: Sequence[bytes | Reset | Drip]
    ranges: Sequence[tuple[str | None, str | None]]
    part: bytes | None = None
    etag: str | None = None
    content: bytes = CLIP
    tries: int = 1


CASES = [
    Case("a plain file", [full_answer()], [NO_RANGE]),
    Case("a server that gives no length", [full_answer(Content_Length=None)], [NO_RANGE]),
    Case("a server without versions", [full_answer(etag=None)], [NO_RANGE]),
    # --- a .part of an earlier run ---
    Case("a part is resumed", [partial_answer(HALF)], [range_from(HALF)], CLIP[:HALF], V1),
    Case("a part of one byte is resumed", [partial_answer(1)], [range_from(1)], CLIP[:1], V1),
    Case(
        "a part without its last byte is resumed",
        [partial_answer(len(CLIP) - 1)],
        [range_from(len(CLIP) - 1)],
        CLIP[:-1],
        V1,
    ),
    Case("a part of an unknown version starts over", [full_answer()], [NO_RANGE], CLIP[:HALF], None),
    Case("an empty part is not resumed", [full_answer()], [NO_RANGE], b"", V1),
    Case("a version without a part is not resumed", [full_answer()], [NO_RANGE], None, V1),
    Case("the server does not know ranges: 200 starts over", [full_answer()], [range_from(HALF)], CLIP[:HALF], V1),
    Case("the file has changed: 200 starts over", [full_answer(OTHER, V2)], [range_from(HALF)], CLIP[:HALF], V1, OTHER),
    # A server that ignores If-Range sends 206 of another version: nothing of it may be appended.
    Case(
        "206 of another version",
        [partial_answer(HALF, OTHER, V2), full_answer(OTHER, V2)],
        [range_from(HALF), NO_RANGE],
        CLIP[:HALF],
        V1,
        OTHER,
    ),
    Case(
        "206 from another offset",
        [partial_answer(HALF - 9), full_answer()],
        [range_from(HALF), NO_RANGE],
        CLIP[:HALF],
        V1,
    ),
    Case(
        "206 without a range", [answer(206, CLIP[HALF:]), full_answer()], [range_from(HALF), NO_RANGE], CLIP[:HALF], V1
    ),
    # 416: the part is complete already, or it is not of this file.
    Case("416, and the part is complete", [unsatisfiable(len(CLIP))], [range_from(len(CLIP))], CLIP, V1),
    Case("416, and the part is stale", [unsatisfiable(9), full_answer()], [range_from(len(CLIP)), NO_RANGE], CLIP, V1),
    Case("416 without a size", [answer(416), full_answer()], [range_from(len(CLIP)), NO_RANGE], CLIP, V1),
    Case(
        "a part that is longer than the file",
        [unsatisfiable(len(CLIP)), full_answer()],
        [range_from(len(CLIP) + 5), NO_RANGE],
        CLIP + b"12345",
        V1,
    ),
    # The container shows that the bytes of a part are wrong: the next try starts over.
    Case(
        "a part of something else",
        [partial_answer(HALF), full_answer()],
        [range_from(HALF), NO_RANGE],
        b"\x00" * HALF,
        V1,
        tries=2,
    ),
    # --- cut on the way ---
    Case("cut and resumed at once", [cut_off(full_answer(), HALF), partial_answer(HALF)], [NO_RANGE, range_from(HALF)]),
    Case(
        "cut twice",
        [cut_off(full_answer(), 9_000), cut_off(partial_answer(9_000), 20), partial_answer(9_020)],
        [NO_RANGE, range_from(9_000), range_from(9_020)],
    ),
    Case(
        "cut without a version: starts over",
        [cut_off(full_answer(etag=None), HALF), full_answer(etag=None)],
        [NO_RANGE, NO_RANGE],
    ),
    Case(
        "cut with a weak ETag: starts over",
        [cut_off(full_answer(etag='W/"v1"'), HALF), full_answer(etag='W/"v1"')],
        [NO_RANGE, NO_RANGE],
    ),
    Case(
        "cut with a date for a version",
        [cut_off(full_answer(etag=None, Last_Modified=DATE), HALF), partial_answer(HALF, etag=None)],
        [NO_RANGE, range_from(HALF, DATE)],
    ),
    Case(
        "changed between two connections",
        [cut_off(full_answer(), HALF), full_answer(OTHER, V2)],
        [NO_RANGE, range_from(HALF)],
        content=OTHER,
    ),
    # Nothing came at all: that is a failed try, and the next one follows a little later.
    Case("cut before the first byte", [cut_off(full_answer(), 0), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("no answer", [b"", full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("not HTTP", [b"\x00\x01", full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("a server in trouble", [answer(503), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("a server that asks to wait", [answer(429), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case(
        "in trouble in the middle",
        [cut_off(full_answer(), HALF), answer(500), partial_answer(HALF)],
        [NO_RANGE, range_from(HALF), range_from(HALF)],
        tries=2,
    ),
    # --- not a video ---
    Case("a captive portal's page", [answer(200, PAGE), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case(
        "a page in place of the rest",
        [cut_off(full_answer(), HALF), answer(200, PAGE), full_answer()],
        [NO_RANGE, range_from(HALF), range_from(HALF)],
        tries=2,
    ),
    Case("an empty file", [answer(200), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("a file of three bytes", [answer(200, CLIP[:3]), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("a clip that was stored cut", [full_answer(CLIP[:HALF]), full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case("compressed, though identity was requested", [GZIPPED, full_answer()], [NO_RANGE, NO_RANGE], tries=2),
    Case(
        "a clip that does not decode", [full_answer(undecodable_clip()), full_answer()], [NO_RANGE, NO_RANGE], tries=2
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_video_arrives_whole(table: Table, clock: Clock, case: Case) -> None:
    service = ScriptedService(fetches=[Unavailable("not called")])
    async with serving(*case.answers) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4", case.part, case.etag)
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, case.tries)
    assert requested_ranges(wire) == list(case.ranges)
    assert table.row().state == "done", table.row().error
    assert target.read_bytes() == case.content
    row, file = table.row(), table.output()
    assert (file.path, file.bytes, file.sha256) == (
        "mona.mp4",
        len(case.content),
        hashlib.sha256(case.content).hexdigest(),
    )
    assert (row.output_path, row.failures, row.error, row.leased_by) == ("mona.mp4", 0, None, None)
    assert not part_of(table).exists()
    assert service.fetched == []
    for request in wire.requests:
        assert request.headers["accept-encoding"] == "identity"
        assert "authorization" not in request.headers


OFFSETS = sorted({*range(1, 40), *range(40, len(CLIP), 997), len(CLIP) - 1})


async def test_a_video_cut_anywhere_is_resumed_from_there(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 1_000)
    table.sync(*(spec(f"j{offset:05}") for offset in OFFSETS))
    for job in table.intend(capacity=999):
        table.accept(job, f"g-{job.key}")

    def script(request: Request) -> bytes:
        offset = int(request.path[1:])
        start = request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        return cut_off(full_answer(), offset) if start == "0" else partial_answer(int(start))

    async with serving(script) as wire:
        for job in table.claim(State.GENERATING, capacity=999):
            finished = Finished((f"{wire.base_url}/{int(job.key[1:])}",))
            table.change(polling.finished, job, RUN, finished, table.now)
        async with downloading(context_of(table, ScriptedService())) as stage:
            while set(table.states().values()) != {"done"}:
                await turn(stage)
    assert all((table.folder / f"j{offset:05}.mp4").read_bytes() == CLIP for offset in OFFSETS)
    assert sorted(requested_ranges(wire), key=str) == sorted(
        [NO_RANGE] * len(OFFSETS) + [range_from(offset) for offset in OFFSETS], key=str
    )


async def test_a_first_packet_of_one_byte_does_not_make_it_look_like_no_video(table: Table, clock: Clock) -> None:
    full = full_answer()
    start = full.index(b"\r\n\r\n") + 4
    single_bytes = (full[offset : offset + 1] for offset in range(start, start + 20))
    async with serving(Drip([full[:start], *single_bytes, full[start + 20 :]])) as wire:
        target = await download(table, wire)
    assert target.read_bytes() == CLIP


async def test_the_check_of_a_video_may_take_longer_the_larger_it_is(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "CHECK_SECONDS", 0)
    monkeypatch.setattr(checker, "CHECK_BYTES_PER_SECOND", len(CLIP) // 30)
    async with serving(full_answer()) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            stage.checker = checker.Checker()
            await turn(stage)
    assert target.read_bytes() == CLIP, table.row().error


async def test_as_many_files_are_downloaded_at_once_as_the_manifest_allows(table: Table) -> None:
    async with serving(HANG) as wire:
        for number in range(25):
            table.bring(State.DOWNLOADING, f"clip-{number}")
        for job in table.claim(State.DOWNLOADING):
            table.change(delivery.relocated, job, RUN, job.outputs[0], f"{wire.base_url}/{job.key}.mp4")
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

"""Where the video is: addresses that expire, redirect, lie or are none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen import downloader as room
from batchgen.jobtable import statistics
from batchgen.services.base import Finished, Unavailable, Working
from tests.fileserver import (
    CLIP,
    HALF,
    PLAIN,
    V1,
    asked,
    cut,
    downloading,
    from_,
    ready,
    rest,
    turns,
    whole,
)
from tests.scripted import ScriptedService, context_of, turn
from tests.table import Table
from tests.wire import answer, serving

# --- the address -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_address_is_asked_for_anew_and_the_part_goes_on(
    table: Table, clock: Clock, status: int
) -> None:
    async with serving(answer(status)) as old, serving(rest(HALF)) as new:
        service = ScriptedService(fetches=[Finished(f"{new.base_url}/v.mp4")])
        target = ready(table, f"{old.base_url}/v.mp4", CLIP[:HALF], V1)
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    assert (asked(old), asked(new)) == ([from_(HALF)], [from_(HALF)])
    assert target.read_bytes() == CLIP
    assert service.fetched == [("/v2/video/generations", "g-mona", "https://api.test")]
    assert service.submitted == []


async def test_an_address_that_expires_in_the_middle(table: Table, clock: Clock) -> None:
    async with serving(cut(whole(), HALF), answer(403)) as old, serving(rest(HALF)) as new:
        service = ScriptedService(fetches=[Finished(f"{new.base_url}/v.mp4")])
        target = ready(table, f"{old.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    assert (asked(old), asked(new)) == ([PLAIN, from_(HALF)], [from_(HALF)])
    assert target.read_bytes() == CLIP


@pytest.mark.parametrize(
    "said", [Unavailable("502"), Working("queued"), Finished("")], ids=["no answer", "working again", "no video"]
)
async def test_an_address_that_cannot_be_had_now_is_asked_for_later(table: Table, clock: Clock, said: Any) -> None:
    async with serving(answer(403)) as old, serving(rest(HALF)) as new:
        service = ScriptedService(fetches=[said, Finished(f"{new.base_url}/v.mp4")])
        target = ready(table, f"{old.base_url}/v.mp4", CLIP[:HALF], V1)
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
            assert table.row().state == "downloading"
            assert table.row().failures == 1
            assert "new address" in table.row().error
            assert target.with_name("mona.mp4.part").read_bytes() == CLIP[:HALF]
            await turns(stage, table, clock, 1)
    assert target.read_bytes() == CLIP


async def test_an_address_that_never_works_is_never_given_up(table: Table, clock: Clock) -> None:
    async with serving(answer(404)) as wire:
        service = ScriptedService(fetches=[Finished(f"{wire.base_url}/v.mp4")])
        ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turns(stage, table, clock, statistics.STUCK_FAILURES)
    assert (table.row().state, table.row().failures) == ("downloading", statistics.STUCK_FAILURES)
    assert table.database.look(statistics.batch_summary, table.batch_id, table.now).stuck == 1
    assert table.row().next_at - table.now <= timedelta(minutes=5)
    assert service.submitted == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "ftp://127.0.0.1/v.mp4",
        "http://[::1",
        "file:///etc/passwd",
        "http://a:b/",
        "http://127.0.0.1:99999/",
    ],
)
async def test_an_address_that_is_none_is_asked_for_anew(table: Table, clock: Clock, url: str) -> None:
    async with serving(whole()) as wire:
        service = ScriptedService(fetches=[Finished(f"{wire.base_url}/v.mp4")])
        target = ready(table, url)
        async with downloading(context_of(table, service)) as stage:
            await turns(stage, table, clock, 3)
    assert target.read_bytes() == CLIP


async def test_a_redirect_is_followed_without_the_key(table: Table, clock: Clock) -> None:
    async with serving(whole()) as far, serving(answer(302, headers={"Location": f"{far.base_url}/v.mp4"})) as near:
        target = ready(table, f"{near.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert target.read_bytes() == CLIP
    assert ["authorization" in request.headers for request in (*near.requests, *far.requests)] == [False, False]


async def test_redirects_without_an_end_are_a_failed_try(table: Table, clock: Clock) -> None:
    round_ = answer(302, headers={"Location": "/v.mp4"})
    async with serving(*[round_] * 21, whole()) as wire:
        target = ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
            assert table.row().failures == 1
            await turns(stage, table, clock, 1)
    assert target.read_bytes() == CLIP


async def test_a_server_that_lies_about_the_length_ends(table: Table, clock: Clock) -> None:
    """It always sends half, and calls that a whole 206: no loop without an end, no file."""
    half = answer(206, CLIP[:9], {"ETag": V1, "Content-Range": f"bytes 0-8/{len(CLIP)}"})
    async with serving(half) as wire:
        target = ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert len(wire.requests) <= room.CONNECTIONS_PER_TRY
    assert table.row().failures == 1
    assert not target.exists()

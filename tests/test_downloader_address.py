"""The address of a video: it may expire, redirect, lie about the file, or be unusable."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.download import fetching
from batchgen.jobtable import statistics
from batchgen.services.outcomes import Finished, Unavailable, Working
from tests.fileserver import (
    CLIP,
    HALF,
    NO_RANGE,
    V1,
    cut_off,
    download,
    downloading,
    finished_generation,
    full_answer,
    part_of,
    partial_answer,
    range_from,
    requested_ranges,
)
from tests.scripted import ScriptedService, context_of, turn, turn_when_due
from tests.table import Table
from tests.wire import answer, serving


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_address_is_replaced_and_the_part_is_resumed(table: Table, clock: Clock, status: int) -> None:
    async with serving(answer(status)) as old, serving(partial_answer(HALF)) as new:
        service = ScriptedService(fetches=[Finished((f"{new.base_url}/v.mp4",))])
        target = finished_generation(table, f"{old.base_url}/v.mp4", CLIP[:HALF], V1)
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    assert (requested_ranges(old), requested_ranges(new)) == ([range_from(HALF)], [range_from(HALF)])
    assert target.read_bytes() == CLIP
    assert service.fetched == [{"id": "g-mona"}]
    assert service.submitted == []


async def test_an_address_that_expires_between_two_connections_is_replaced(table: Table, clock: Clock) -> None:
    async with serving(cut_off(full_answer(), HALF), answer(403)) as old, serving(partial_answer(HALF)) as new:
        service = ScriptedService(fetches=[Finished((f"{new.base_url}/v.mp4",))])
        target = finished_generation(table, f"{old.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
    assert (requested_ranges(old), requested_ranges(new)) == ([NO_RANGE, range_from(HALF)], [range_from(HALF)])
    assert target.read_bytes() == CLIP


@pytest.mark.parametrize(
    "outcome", [Unavailable("502"), Working("queued"), Finished(())], ids=["no answer", "working again", "no video"]
)
async def test_an_address_that_the_service_does_not_give_now_is_requested_later(
    table: Table, clock: Clock, outcome: Any
) -> None:
    async with serving(answer(403)) as old, serving(partial_answer(HALF)) as new:
        service = ScriptedService(fetches=[outcome, Finished((f"{new.base_url}/v.mp4",))])
        target = finished_generation(table, f"{old.base_url}/v.mp4", CLIP[:HALF], V1)
        async with downloading(context_of(table, service)) as stage:
            await turn(stage)
            assert table.row().state == "downloading"
            assert table.row().failures == 1
            assert "new address" in table.row().error
            assert part_of(table).read_bytes() == CLIP[:HALF]
            await turn_when_due(stage, table, clock, 1)
    assert target.read_bytes() == CLIP


async def test_a_video_whose_address_never_works_is_never_given_up(table: Table, clock: Clock) -> None:
    async with serving(answer(404)) as wire:
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, statistics.STUCK_FAILURES)
    assert (table.row().state, table.row().failures) == ("downloading", statistics.STUCK_FAILURES)
    assert table.database.read_now(statistics.batch_summary, table.batch_id, table.now).stuck == 1
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
async def test_an_unusable_address_is_replaced(table: Table, clock: Clock, url: str) -> None:
    async with serving(full_answer()) as wire:
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        target = finished_generation(table, url)
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, 3)
    assert target.read_bytes() == CLIP


async def test_a_redirect_is_followed_without_the_key(table: Table, clock: Clock) -> None:
    async with (
        serving(full_answer()) as far,
        serving(answer(302, headers={"Location": f"{far.base_url}/v.mp4"})) as near,
    ):
        target = await download(table, near)
    assert target.read_bytes() == CLIP
    assert ["authorization" in request.headers for request in (*near.requests, *far.requests)] == [False, False]


async def test_endless_redirects_are_a_failed_try(table: Table, clock: Clock) -> None:
    redirect = answer(302, headers={"Location": "/v.mp4"})
    async with serving(*[redirect] * 21, full_answer()) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
            assert table.row().failures == 1
            await turn_when_due(stage, table, clock, 1)
    assert target.read_bytes() == CLIP


async def test_a_server_that_lies_about_the_length_does_not_loop_for_ever(table: Table, clock: Clock) -> None:
    """It always sends 9 bytes, and calls them all of a 206."""
    half = answer(206, CLIP[:9], {"ETag": V1, "Content-Range": f"bytes 0-8/{len(CLIP)}"})
    async with serving(half) as wire:
        target = await download(table, wire)
    assert len(wire.requests) <= fetching.CONNECTIONS_PER_TRY
    assert table.row().failures == 1
    assert not target.exists()


async def test_a_server_that_sends_another_part_each_time_is_told_apart_from_a_cut_connection(table: Table) -> None:
    part = answer(206, CLIP[HALF:], {"ETag": V1, "Content-Range": f"bytes {HALF}-{len(CLIP) - 1}/{len(CLIP)}"})
    async with serving(part) as wire:
        await download(table, wire)
    assert table.row().error == "the file server sent another part of the file, or more, than it was asked for, 6 times"

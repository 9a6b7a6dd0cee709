"""Where the video goes: nobody's file is written over, nothing is fetched twice, and a full disk loses nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import update

from batchgen.downloader import SAME_BAD_BYTES
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.jobtable.schema import jobs
from batchgen.services.base import Finished
from tests.conftest import NOON
from tests.fileserver import (
    CLIP,
    HALF,
    PLAIN,
    asked,
    broken,
    downloading,
    from_,
    ready,
    rest,
    turns,
    whole,
)
from tests.scripted import ScriptedService, context_of, turn
from tests.table import RUN, Table, spec
from tests.wire import Drip, serving

# --- the place -------------------------------------------------------------------------------------------------------


@dataclass
class DiskLog:
    """What is asked of the disk, in order: each fsync with what it syncs and each rename, as the row then stood."""

    table: Table
    steps: list[tuple[str, str, str]] = field(default_factory=list)

    def observe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fsync, replace = os.fsync, os.replace

        def fsync_observed(descriptor: int) -> None:
            fsync(descriptor)
            self.note("fsync", Path(f"/proc/self/fd/{descriptor}").resolve())

        def replace_observed(source: Path, target: Path) -> None:
            replace(source, target)
            self.note("rename", Path(target))

        monkeypatch.setattr(os, "fsync", fsync_observed)
        monkeypatch.setattr(os, "replace", replace_observed)

    def note(self, what: str, path: Path) -> None:
        size = f", {path.stat().st_size} bytes" if path.is_file() else ""
        self.steps.append((what, f"{path.relative_to(self.table.folder)}{size}", self.table.row().state))


WHOLE = f"{len(CLIP)} bytes"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux, to tell what a descriptor is of")
async def test_the_file_is_synced_before_it_gets_its_name_and_the_name_before_the_row_says_done(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DiskLog(table)
    async with serving(whole()) as wire:
        table.sync(spec(output="a/b/mona.mp4"))
        ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            log.observe(monkeypatch)
            await turn(stage)
    assert log.steps == [
        # A new folder is a name in its parent.
        ("fsync", ".", "downloading"),
        ("fsync", "a", "downloading"),
        ("fsync", f"a/b/mona.mp4.part, {WHOLE}", "downloading"),
        ("rename", f"a/b/mona.mp4, {WHOLE}", "downloading"),
        ("fsync", "a/b", "downloading"),
    ]
    assert table.row().state == "done"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux, to tell what a descriptor is of")
async def test_the_name_that_a_dead_run_gave_is_synced_before_the_row_says_done(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DiskLog(table)
    placed_by_a_dead_run(table, "http://127.0.0.1:9/v.mp4")
    async with downloading(context_of(table, ScriptedService())) as stage:
        log.observe(monkeypatch)
        await turn(stage)
    assert log.steps == [("fsync", ".", "downloading")]
    assert table.row().state == "done"


def placed_by_a_dead_run(table: Table, url: str, content: bytes = CLIP) -> None:
    """A file that was verified, and `content` under the name that it was to get."""
    target = ready(table, url)
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.verified, job, RUN, len(CLIP), hashlib.sha256(CLIP).hexdigest())
    target.write_bytes(content)
    table.bury()


async def test_a_file_that_is_not_ours_is_never_written_over(table: Table, clock: Clock) -> None:
    async with serving(whole()) as wire:
        target = ready(table, f"{wire.base_url}/v.mp4")
        target.write_text("somebody's")
        target.with_name("mona~1.mp4").write_text("somebody else's")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert target.read_text() == "somebody's"
    assert target.with_name("mona~1.mp4").read_text() == "somebody else's"
    assert target.with_name("mona~2.mp4").read_bytes() == CLIP
    assert table.row().output_path == "mona~2.mp4"


async def test_a_run_that_died_between_the_name_and_the_row_needs_no_request(table: Table, clock: Clock) -> None:
    async with serving(whole()) as wire:
        placed_by_a_dead_run(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert wire.requests == []
    assert (table.row().state, table.row().output_path) == ("done", "mona.mp4")
    assert [path.name for path in table.folder.glob("*.mp4*")] == ["mona.mp4"]


async def test_a_file_of_the_same_length_that_is_not_it_is_not_taken_for_it(table: Table, clock: Clock) -> None:
    async with serving(whole()) as wire:
        placed_by_a_dead_run(table, f"{wire.base_url}/v.mp4", b"\x00" * len(CLIP))
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert table.row().output_path == "mona~1.mp4"


async def test_folders_are_made_on_the_way(table: Table, clock: Clock) -> None:
    async with serving(whole()) as wire:
        table.sync(spec(output="a/b c/été.mp4"))
        ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert (table.folder / "a/b c/été.mp4").read_bytes() == CLIP


async def test_the_same_bad_bytes_so_often_are_what_the_service_has(table: Table, clock: Clock) -> None:
    bad = broken()
    async with serving(whole(bad)) as wire:
        service = ScriptedService(fetches=[Finished(f"{wire.base_url}/v.mp4")])
        target = ready(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turns(stage, table, clock, SAME_BAD_BYTES)
    assert len(wire.requests) == SAME_BAD_BYTES
    assert target.read_bytes() == bad
    assert table.row().state == "done"
    assert "delivered as the service has it" in table.row().error
    assert "delivered as the service has it" in table.events()[-1].detail


async def test_a_run_that_is_stopping_leaves_the_part_for_the_next(table: Table, clock: Clock) -> None:
    told = whole()
    start = told.index(b"\r\n\r\n") + 4
    pieces = [told[: start + HALF], *[told[start + HALF + n : start + HALF + n + 1] for n in range(200)]]
    async with serving(Drip(pieces), lambda request: rest(int(request.headers["range"][6:-1]))) as wire:
        target = ready(table, f"{wire.base_url}/v.mp4")
        part = target.with_name("mona.mp4.part")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await stage.tick(NOON)
            await wire.came(1)
            await asyncio.sleep(0.05)
            await stage.finish()
        assert table.row().state == "downloading"
        assert table.row().failures == 0
        assert CLIP.startswith(part.read_bytes())
        left = part.stat().st_size
        assert left >= HALF
        table.bury()
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert asked(wire) == [PLAIN, from_(left)]
    assert target.read_bytes() == CLIP


# --- the disk --------------------------------------------------------------------------------------------------------


def into(table: Table, output: str) -> None:
    table.change(lambda connection: connection.execute(update(jobs).values(output_path=output)) and None)


def a_full_disk(table: Table) -> None:
    """The kernel's own ENOSPC: what is written to /dev/full is refused as on a full disk."""
    table.folder.joinpath("mona.mp4.part").symlink_to("/dev/full")


def a_folder_that_cannot_be_written(table: Table) -> None:
    """A folder of the kernel's, in which nobody makes files."""
    into(table, "sys/mona.mp4")
    table.folder.joinpath("sys").symlink_to("/sys")


@pytest.mark.skipif(not Path("/dev/full").exists() or not Path("/sys").is_dir(), reason="needs Linux")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [(a_full_disk, "mona.mp4: No space left"), (a_folder_that_cannot_be_written, "sys/mona.mp4: ")],
    ids=["full", "read-only"],
)
async def test_a_disk_that_cannot_be_used_stops_downloads_and_loses_nothing(
    table: Table, clock: Clock, spoil: Any, told: str
) -> None:
    async with serving(whole()) as wire:
        service = ScriptedService(fetches=[Finished(f"{wire.base_url}/v.mp4")])
        ready(table, f"{wire.base_url}/v.mp4")
        spoil(table)
        context = context_of(table, service)
        async with downloading(context) as stage:
            await turn(stage)
            assert context.disk
            assert context.disk.startswith(told)
            row = table.row()
            assert (row.state, row.failures, row.leased_by, row.generation_id) == ("downloading", 1, None, "g-mona")
            assert row.error == context.disk
            assert stage.capacity == 0
            requests = len(wire.requests)
            await turns(stage, table, clock, 3)
            assert len(wire.requests) == requests, "no more downloads in this run"
        # There is room again, and another run.
        table.folder.joinpath("mona.mp4.part").unlink(missing_ok=True)
        table.folder.joinpath("sys").unlink(missing_ok=True)
        async with downloading(context_of(table, service)) as stage:
            await turns(stage, table, clock, 1)
    assert table.row().state == "done"
    assert (table.folder / table.row().output_path).read_bytes() == CLIP


async def test_a_target_that_cannot_be_had_stops_only_its_own_job(table: Table, clock: Clock) -> None:
    """A file where its folder should be: the next job may have better luck."""
    async with serving(whole()) as wire:
        ready(table, f"{wire.base_url}/v.mp4")
        table.change(
            lambda connection: connection.exec_driver_sql("UPDATE jobs SET output_path = 'file/mona.mp4'") and None
        )
        table.folder.joinpath("file").write_text("here")
        context = context_of(table, ScriptedService())
        async with downloading(context) as stage:
            await turn(stage)
    assert context.disk is None
    assert (table.row().state, table.row().failures) == ("downloading", 1)
    assert table.row().error.startswith("file/mona.mp4: ")

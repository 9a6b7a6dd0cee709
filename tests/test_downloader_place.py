"""The way to the target: durable, without overwriting or fetching twice, and nothing is lost on a full disk."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.download import transfer
from batchgen.download.task import SAME_BYTES
from batchgen.files.checker import Media
from batchgen.files.output_paths import BYTES_ADDED_LATER, FILE_NUMBER_MARK, LONGEST_NAME, path_fault
from batchgen.files.outputs import OutputFolder, numbered
from batchgen.files.part import Part
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.services.outcomes import Finished
from tests.conftest import NOON
from tests.fileserver import (
    CLIP,
    HALF,
    NO_RANGE,
    V1,
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
)
from tests.scripted import ScriptedService, context_of, settle, turn, turn_when_due
from tests.table import RUN, Table, spec
from tests.wire import Drip, serving


@dataclass
class DiskLog:
    """Every fsync and link, in order: of which file or folder, and in which state the row was then."""

    table: Table
    steps: list[tuple[str, str, str]] = field(default_factory=list)

    def observe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fsync, link = os.fsync, os.link

        def fsync_observed(descriptor: int) -> None:
            fsync(descriptor)
            self.note("fsync", Path(f"/proc/self/fd/{descriptor}").resolve())

        def link_observed(source: str, target: str, *, dst_dir_fd: int, **options: Any) -> None:
            link(source, target, dst_dir_fd=dst_dir_fd, **options)
            self.note("link", Path(f"/proc/self/fd/{dst_dir_fd}").resolve() / target)

        monkeypatch.setattr(os, "fsync", fsync_observed)
        monkeypatch.setattr(os, "link", link_observed)

    def note(self, what: str, path: Path) -> None:
        size = f", {path.stat().st_size} bytes" if path.is_file() else ""
        self.steps.append((what, f"{path.relative_to(self.table.folder)}{size}", self.table.row().state))


class RedoneMeanwhile(CheckerInProcess):
    """While a file is checked, a person edits its job and orders a redo."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table = table

    async def check(self, path: Path, size: int = 0) -> Media:
        await asyncio.to_thread(self.table.sync, spec(prompt="She smiles."), changed="redo")
        return await super().check(path, size)


async def test_the_file_of_a_version_that_is_archived_on_its_way_leaves_the_name_to_the_new_one(table: Table) -> None:
    async with serving(full_answer()) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as downloader:
            downloader.checker = RedoneMeanwhile(table)
            await turn(downloader)
    assert table.states() == {"mona~1": "done", "mona": "pending"}
    assert {row.key: row.output_path for row in table.rows()} == {"mona~1": "mona~1.mp4", "mona": "mona.mp4"}
    assert [path.name for path in table.folder.glob("*.mp4")] == ["mona~1.mp4"]


WHOLE = f"{len(CLIP)} bytes"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux, to tell what a descriptor is of")
async def test_the_file_is_synced_before_it_gets_its_name_and_the_name_before_the_row_says_done(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DiskLog(table)
    async with serving(full_answer()) as wire:
        table.sync(spec(output="a/b/mona.mp4"))
        finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            log.observe(monkeypatch)
            await turn(stage)
    assert log.steps == [
        # A new folder is a name in its parent.
        ("fsync", ".", "downloading"),
        ("fsync", "a", "downloading"),
        ("fsync", f"a/b/{part_of(table).name}, {WHOLE}", "downloading"),
        ("link", f"a/b/mona.mp4, {WHOLE}", "downloading"),
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


@pytest.mark.parametrize("sync_bytes", [1, HALF + 1], ids=["more syncs follow", "the only sync"])
async def test_an_error_of_a_sync_beside_the_stream_is_not_lost(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch, sync_bytes: int
) -> None:
    """Linux reports a lost write once: whoever syncs later hears nothing of it."""
    monkeypatch.setattr(transfer, "PIECE_BYTES", 1_000)
    monkeypatch.setattr(transfer, "SYNC_BYTES", sync_bytes)
    sync_to_disk = os.fsync
    digests: list[str | None] = []
    """What the row says of the verified file, at each sync."""

    def fail_once(descriptor: int) -> None:
        digests.append(table.output().sha256)
        if len(digests) == 1:
            while os.fstat(descriptor).st_size < len(CLIP):  # the rest comes while the disk is busy
                time.sleep(0.001)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync_to_disk(descriptor)

    full = full_answer()
    async with serving(Drip([cut_off(full, HALF), full[-len(CLIP) + HALF :]]), full) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        context = context_of(table, ScriptedService())
        async with downloading(context) as stage:
            monkeypatch.setattr(os, "fsync", fail_once)
            await turn(stage)
        assert digests == [None], "no sync began before the file was verified"
        assert context.disk_fault == "mona.mp4: Input/output error"
        assert context.disk_advice.startswith("check the disk or the network drive, then run")
        assert (table.row().state, table.row().failures) == ("downloading", 1)
        assert not part_of(table).exists(), "another try would believe what lies there"
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn_when_due(stage, table, clock, 1)
    assert requested_ranges(wire) == [NO_RANGE, NO_RANGE]
    assert target.read_bytes() == CLIP


def placed_by_a_dead_run(table: Table, url: str, content: bytes = CLIP) -> None:
    """A file that was verified, and `content` under the name that it was to get."""
    target = finished_generation(table, url)
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.verified, job, RUN, job.outputs[0], len(CLIP), hashlib.sha256(CLIP).hexdigest())
    target.write_bytes(content)
    table.bury()


async def test_a_file_of_somebody_else_is_never_overwritten(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        target.write_text("somebody's")
        target.with_name("mona~1.mp4").write_text("somebody else's")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert target.read_text() == "somebody's"
    assert target.with_name("mona~1.mp4").read_text() == "somebody else's"
    assert target.with_name("mona~2.mp4").read_bytes() == CLIP
    assert table.row().output_path == "mona~2.mp4"


def test_the_longest_output_of_a_manifest_leaves_space_for_what_is_added_to_it(tmp_path: Path) -> None:
    output = "m" * (LONGEST_NAME - BYTES_ADDED_LATER - len(".mp4")) + ".mp4"
    assert path_fault(output, BYTES_ADDED_LATER) is None
    added = numbered(numbered(output, 999, FILE_NUMBER_MARK), 99) + ".unplayable"
    assert path_fault(added) is None
    Part(OutputFolder(tmp_path), added, "batchgen-eb04330eeac263b2-5ed022abe433450eb80a326d04cb09a8").path.touch()


async def test_after_a_crash_between_rename_and_row_nothing_is_requested(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        placed_by_a_dead_run(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert wire.requests == []
    assert (table.row().state, table.row().output_path) == ("done", "mona.mp4")
    assert [path.name for path in table.folder.glob("*.mp4*")] == ["mona.mp4"]


async def test_after_a_crash_another_file_of_the_same_length_is_not_taken_for_the_video(
    table: Table, clock: Clock
) -> None:
    async with serving(full_answer()) as wire:
        placed_by_a_dead_run(table, f"{wire.base_url}/v.mp4", b"\x00" * len(CLIP))
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert table.row().output_path == "mona~1.mp4"


async def test_missing_folders_are_created(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        table.sync(spec(output="a/b c/été.mp4"))
        await download(table, wire)
    assert (table.folder / "a/b c/été.mp4").read_bytes() == CLIP


async def test_the_same_undecodable_bytes_are_delivered_at_the_third_time(table: Table, clock: Clock) -> None:
    bad = undecodable_clip()
    async with serving(full_answer(bad)) as wire:
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, SAME_BYTES)
    assert len(wire.requests) == SAME_BYTES
    assert target.read_bytes() == bad
    assert table.row().state == "done"
    assert "delivered as the service has it" in table.row().error
    assert "delivered as the service has it" in table.events()[-1].detail


async def test_a_run_that_stops_does_not_wait_for_a_silent_server_and_the_next_run_resumes(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "PIECE_BYTES", 1_000)
    silent = Drip([cut_off(full_answer(), HALF), *[b""] * 20_000])
    async with serving(silent, lambda request: partial_answer(int(request.headers["range"][6:-1]))) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        part = part_of(table)
        async with downloading(context_of(table, ScriptedService())) as stage:
            await stage.tick(NOON)
            while not (part.exists() and part.stat().st_size):  # noqa: ASYNC110 - nothing tells when it grows
                await asyncio.sleep(0.01)
            assert table.output().etag == V1, "a run that is killed now could not be resumed"
            async with asyncio.timeout(20):  # far less than the time-out of the download
                await stage.finish()
        assert (table.row().state, table.row().failures) == ("downloading", 0)
        assert part.read_bytes() == CLIP[:HALF]
        table.bury()
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert requested_ranges(wire) == [NO_RANGE, range_from(HALF)]
    assert target.read_bytes() == CLIP


async def test_a_run_that_has_lost_its_lease_writes_no_more(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await stage.tick(NOON)
            table.bury()
            assert table.claim(State.DOWNLOADING, "another run")
            await turn(stage)
    assert (table.row().state, table.row().leased_by, table.row().failures) == ("downloading", "another run", 0)
    assert not target.exists()


async def test_a_run_that_was_held_up_until_another_had_delivered_leaves_no_part_behind(
    table: Table, clock: Clock
) -> None:
    async with serving(full_answer()) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4")
        async with downloading(context_of(table, ScriptedService())) as stage:
            await stage.tick(NOON)
            table.bury()
            (job,) = table.claim(State.DOWNLOADING, "another run")
            assert table.deliver(job, "another run")
            await settle(stage)
    assert len(wire.requests) == 1
    assert table.states() == {"mona": "done"}
    assert not part_of(table).exists()

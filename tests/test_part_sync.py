"""fsync of a folder, shared by the files in it, and of a `.part`: errors reach whoever relies on it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from batchgen.files.outputs import OutputFolder
from batchgen.files.part import FolderSync, Part

OUTPUT = "clips/a.mp4"


class GatedSync:
    """A sync that ends when a test lets it. `running` has a future for each one that has begun."""

    def __init__(self) -> None:
        self.running: list[asyncio.Future[None]] = []
        self.began = asyncio.Event()

    async def __call__(self, _output: str | None = None) -> None:
        self.running.append(asyncio.get_running_loop().create_future())
        self.began.set()
        await self.running[-1]

    async def next(self) -> asyncio.Future[None]:
        """The next sync that begins."""
        await self.began.wait()
        self.began.clear()
        return self.running[-1]


async def test_files_renamed_while_a_folder_is_synced_share_the_next_sync_and_wait_for_it() -> None:
    gated = GatedSync()
    folders = FolderSync(gated)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        first = tasks.create_task(folders.sync(OUTPUT))
        sync = await gated.next()
        others = [tasks.create_task(folders.sync(OUTPUT)) for _ in range(5)]
        await asyncio.sleep(0)
        sync.set_result(None)
        await first
        sync = await gated.next()
        assert not any(task.done() for task in others), "the first sync began before their names were there"
        sync.set_result(None)
        await asyncio.gather(*others)
    assert len(gated.running) == 2


async def test_a_folder_does_not_wait_for_another() -> None:
    gated = GatedSync()
    folders = FolderSync(gated)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(folders.sync(OUTPUT))
        first = await gated.next()
        other = tasks.create_task(folders.sync("clips/spring/a.mp4"))
        (await gated.next()).set_result(None)
        await other
        first.set_result(None)


async def test_a_folder_that_cannot_be_synced_fails_every_file_that_waits_and_no_later_one() -> None:
    gated = GatedSync()
    folders = FolderSync(gated)
    async with asyncio.timeout(10):
        files = [asyncio.create_task(folders.sync(OUTPUT)) for _ in range(3)]
        (await gated.next()).set_exception(OSError(errno.EIO, "Input/output error"))
        errors = await asyncio.gather(*files, return_exceptions=True)
        assert [type(error) for error in errors] == [OSError] * 3
        later = asyncio.create_task(folders.sync(OUTPUT))
        (await gated.next()).set_result(None)
        await later


async def test_a_cancelled_caller_leaves_the_sync_to_the_others() -> None:
    gated = GatedSync()
    folders = FolderSync(gated)
    async with asyncio.timeout(10):
        cancelled, other = (asyncio.create_task(folders.sync(OUTPUT)) for _ in range(2))
        sync = await gated.next()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        sync.set_result(None)
        await other
    assert len(gated.running) == 1


def test_a_part_whose_sync_fails_is_removed_and_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part(OutputFolder(tmp_path), "a.mp4", "batchgen-1")
    part.append([b"first"])

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        part.place()
    with pytest.raises(FileNotFoundError):
        part.append([b"second"])
    assert list(tmp_path.iterdir()) == []

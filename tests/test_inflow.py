"""Bytes between the stream and the disk: in order, hashed, never far apart, and never lost from sight."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batchgen.files import inflow as room
from batchgen.files.inflow import AHEAD_BYTES, SMALL_BYTES, Inflow
from batchgen.files.part import Part
from batchgen.files.video import NotVideo

HEAD = b"\0\0\0\x10ftypisom"
CHUNK = 100_000


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def pieces(size: int) -> list[bytes]:
    content = (HEAD + os.urandom(size))[:size]
    return [content[at : at + CHUNK] for at in range(0, size, CHUNK)]


@pytest.mark.parametrize("size", [0, 1, len(HEAD), SMALL_BYTES, SMALL_BYTES + 1, 5_000_000])
async def test_what_comes_lies_in_the_part_in_its_order(tmp_path: Path, threads: ThreadPoolExecutor, size: int) -> None:
    part = Part(tmp_path / "folder" / "a.mp4")
    inflow, came = Inflow(part, threads), pieces(size)
    for chunk in came:
        await inflow.take(chunk)
    inflow.end(whole=True)
    await inflow.landed()
    content = b"".join(came)
    assert part.path.read_bytes() == content
    assert (inflow.size, part.size, part.sha256) == (size, size, hashlib.sha256(content).hexdigest())


async def test_it_goes_on_where_a_part_ended(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    part, content = Part(tmp_path / "a.mp4"), b"".join(pieces(400_000))
    for half in (content[:150_000], content[150_000:]):
        inflow = Inflow(part, threads)
        await inflow.take(half)
        inflow.end(whole=False)
        await inflow.landed()
    assert part.path.read_bytes() == content
    assert part.sha256 == hashlib.sha256(content).hexdigest()


async def test_a_page_is_refused_before_anything_is_written(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    part = Part(tmp_path / "a.mp4")
    with pytest.raises(NotVideo, match="<html>"):
        await Inflow(part, threads).take(b"<html>" * SMALL_BYTES)
    assert not part.path.exists()


async def test_the_stream_waits_for_a_slow_disk(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        gate = threading.Event()
        threads.submit(gate.wait)
        part = Part(tmp_path / "a.mp4")
        inflow, came = Inflow(part, threads), pieces(3 * AHEAD_BYTES)

        async def stream() -> None:
            for chunk in came:
                await inflow.take(chunk)
            inflow.end(whole=True)

        streaming = asyncio.create_task(stream())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not streaming.done()
        assert AHEAD_BYTES < inflow.size <= AHEAD_BYTES + CHUNK
        gate.set()
        await streaming
        await inflow.landed()
    assert part.path.read_bytes() == b"".join(came)


async def test_a_disk_that_cannot_be_written_is_told_while_the_stream_runs(
    tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    (tmp_path / "a.mp4.part").mkdir()
    inflow = Inflow(Part(tmp_path / "a.mp4"), threads)
    with pytest.raises(IsADirectoryError):
        for chunk in pieces(3 * AHEAD_BYTES):
            await inflow.take(chunk)
    inflow.end(whole=False)
    with pytest.raises(IsADirectoryError):
        await inflow.landed()


@pytest.mark.parametrize(("size", "whole", "syncs"), [(5_000_000, True, 6), (5_000_000, False, 5), (1_000, True, 0)])
async def test_a_large_file_is_made_durable_as_it_comes_and_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, whole: bool, syncs: int
) -> None:
    """What is small, the finisher makes durable."""
    done: list[int] = []
    monkeypatch.setattr(room, "SYNC_BYTES", 1_000_000)
    monkeypatch.setattr(os, "fsync", done.append)
    with ThreadPoolExecutor(2) as threads:
        inflow = Inflow(Part(tmp_path / "a.mp4"), threads)
        for chunk in pieces(size):
            await inflow.take(chunk)
        inflow.end(whole=whole)
        await inflow.landed()
    assert 0 < len(done) <= syncs if syncs else not done

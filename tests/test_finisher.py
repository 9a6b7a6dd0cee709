"""Files are finished in a process of their own, which a bad one may bring down."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batchgen.files import finisher as room
from batchgen.files.finisher import Finisher
from batchgen.files.video import NotVideo, Undecodable
from tests.fileserver import CLIP, broken


@pytest.fixture
async def finisher() -> AsyncIterator[Finisher]:
    finisher = Finisher()
    yield finisher
    await finisher.close()


def clip(folder: Path, content: bytes = CLIP, name: str = "clip.mp4") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def child_of(finisher: Finisher) -> int:
    assert finisher._child
    return finisher._child.pid


async def test_one_child_takes_one_file_after_another_whatever_their_names(finisher: Finisher, tmp_path: Path) -> None:
    await finisher.check(clip(tmp_path))
    child = child_of(finisher)
    with pytest.raises(NotVideo, match="it starts with '<html>'"):
        await finisher.check(clip(tmp_path, b"<html>", "page.mp4"))
    with pytest.raises(Undecodable, match="does not decode"):
        await finisher.check(clip(tmp_path, broken(), "broken.mp4"))
    with pytest.raises(OSError, match="No such file"):
        await finisher.check(tmp_path / "missing.mp4")
    await finisher.sync(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        await finisher.sync(tmp_path / "missing")
    for name in ("two\nlines.mp4", "drei Fähren.mp4", os.fsdecode(b"\xff.mp4")):
        await finisher.check(clip(tmp_path, name=name))
    assert child_of(finisher) == child


async def test_many_at_once_get_each_their_own_answer(finisher: Finisher, tmp_path: Path) -> None:
    good, bad = clip(tmp_path), clip(tmp_path, b"<html>", "page.mp4")
    told = await asyncio.gather(*(finisher.check(each) for each in (good, bad) * 20), return_exceptions=True)
    assert [type(each) for each in told] == [type(None), NotVideo] * 20


async def test_a_video_that_brings_the_decoder_down_is_undecodable_and_the_next_is_checked(
    finisher: Finisher, tmp_path: Path
) -> None:
    await finisher.check(clip(tmp_path))
    os.kill(child_of(finisher), signal.SIGSTOP)
    checking = asyncio.create_task(finisher.check(clip(tmp_path)))
    await asyncio.sleep(0)
    os.kill(child_of(finisher), signal.SIGKILL)
    with pytest.raises(Undecodable, match="broke down"):
        await checking
    await finisher.check(clip(tmp_path))


async def test_those_who_wait_behind_it_are_checked_by_the_next_one(finisher: Finisher, tmp_path: Path) -> None:
    await finisher.check(clip(tmp_path))
    os.kill(child_of(finisher), signal.SIGSTOP)
    good, bad = clip(tmp_path), clip(tmp_path, b"<html>", "page.mp4")
    checking = [asyncio.create_task(finisher.check(each)) for each in (good, good, bad, good)]
    await asyncio.sleep(0)
    os.kill(child_of(finisher), signal.SIGKILL)
    told = await asyncio.gather(*checking, return_exceptions=True)
    assert [type(each) for each in told] == [Undecodable, type(None), NotVideo, type(None)]


async def test_a_video_on_which_it_works_for_ever_is_undecodable(
    finisher: Finisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await finisher.check(clip(tmp_path))
    monkeypatch.setattr(room, "ORDER_SECONDS", 0.1)
    os.kill(child_of(finisher), signal.SIGSTOP)
    with pytest.raises(Undecodable, match="the decoder did not come to an end"):
        await finisher.check(clip(tmp_path))
    monkeypatch.undo()
    await finisher.check(clip(tmp_path))


async def test_a_check_that_is_left_does_not_answer_for_the_next(finisher: Finisher, tmp_path: Path) -> None:
    await finisher.check(clip(tmp_path))
    os.kill(child_of(finisher), signal.SIGSTOP)
    checking = asyncio.create_task(finisher.check(clip(tmp_path)))
    await asyncio.sleep(0)
    checking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await checking
    os.kill(child_of(finisher), signal.SIGCONT)
    with pytest.raises(NotVideo):
        await finisher.check(clip(tmp_path, b"<html>", "page.mp4"))


async def test_nothing_of_the_folder_that_it_is_started_in_is_run(
    finisher: Finisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av.py", "json.py", "signal.py"):
        (tmp_path / name).write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    await finisher.check(clip(tmp_path))
    with pytest.raises(NotVideo):
        await finisher.check(tmp_path / "av.py")


async def test_a_decoder_that_does_not_start_is_no_fault_of_the_video(
    finisher: Finisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for _ in range(2):
        with pytest.raises(OSError, match="the decoder does not start"):
            await finisher.check(clip(tmp_path))
    monkeypatch.undo()
    await finisher.check(clip(tmp_path))


async def test_one_that_is_still_starting_is_ended_too(finisher: Finisher) -> None:
    finisher.wake()
    await finisher.close()
    assert finisher._child is None

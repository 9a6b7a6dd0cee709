"""Videos are checked in child processes, which a bad file may crash or hang; the run and the other files go on."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from batchgen.files import checker as module
from batchgen.files import video
from batchgen.files.checker import Checker, read_media
from batchgen.files.video import NotVideo, Undecodable
from tests.fileserver import CLIP, undecodable_clip

TURN_SECONDS = 0.01  # between two looks at /proc


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    checker = Checker()
    yield checker
    await checker.close()


def clip(folder: Path, content: bytes = CLIP, name: str = "clip.mp4") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


class HangingFile:
    """A FIFO: whoever reads it waits for ever once `open_video` has returned."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hangs.mp4"
        os.mkfifo(self.path)
        self.writer: int | None = None

    async def opened(self) -> None:
        """Wait until somebody reads it."""
        while self.writer is None:
            try:
                self.writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                assert error.errno == errno.ENXIO  # nobody reads it yet
                await asyncio.sleep(TURN_SECONDS)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingFile]:
    file = HangingFile(tmp_path)
    yield file
    if file.writer is not None:
        os.close(file.writer)


def children(of: int) -> list[int]:
    """The processes of a run that check videos. A zombie has no command line."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            parent = re.search(r"^PPid:\t(\d+)$", (folder / "status").read_text(), re.MULTILINE)
        except OSError:  # it has just ended
            continue
        if os.fsencode(video.__file__) in arguments and parent and int(parent[1]) == of:
            pids.append(int(folder.name))
    return pids


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells when another process comes or goes
        await asyncio.sleep(TURN_SECONDS)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"<html>", NotVideo, "it starts with '<html>'"),
        (b"", NotVideo, "an empty file"),
        (CLIP[:-99], Undecodable, "the container is cut"),
        (undecodable_clip(), Undecodable, "does not decode"),
        (CLIP.replace(b"avc1", b"zzzz"), Undecodable, "its codec is unknown"),
        (None, FileNotFoundError, "No such file"),
    ],
    ids=["a page", "nothing", "a cut clip", "a broken clip", "an unknown codec", "no file"],
)
async def test_what_is_wrong_with_a_file_is_raised_here(
    checker: Checker, tmp_path: Path, content: bytes | None, error: type[Exception], words: str
) -> None:
    path = tmp_path / "clip.mp4" if content is None else clip(tmp_path, content)
    with pytest.raises(error, match=words):
        await checker.check(path, 0)


async def test_a_check_says_what_the_video_is(checker: Checker, tmp_path: Path) -> None:
    media = await checker.check(clip(tmp_path), 0)
    assert (media["codec"], media["width"], media["height"], media["fps"]) == ("h264", 384, 216, 10.0)
    assert media["seconds"] == 2.0


@pytest.mark.parametrize(
    ("line", "media"),
    [
        ({"codec": "h264", "width": 64, "seconds": 1e400, "fps": -1}, {"codec": "h264", "width": 64}),
        ({"codec": "h264", "width": 10**30, "height": "64", "fps": True}, {"codec": "h264", "fps": True}),
        ({"codec": "\x1b[2J", "width": 64}, {}),
        ({"codec": "x" * 51}, {}),
        ({}, {}),
        ([], {}),
    ],
)
def test_what_the_decoder_says_of_a_video_is_judged(line: object, media: dict[str, object]) -> None:
    outcome = read_media(json.loads(json.dumps(line)))
    assert {name: value for name, value in outcome.items() if value is not None} == media


async def test_one_child_checks_every_file_of_a_run_and_gives_each_its_own_verdict(
    checker: Checker, tmp_path: Path
) -> None:
    good, bad = clip(tmp_path), clip(tmp_path, b"<html>", "page.mp4")
    names = ("two\nlines.mp4", "drei Fähren.mp4", "-c.mp4", os.fsdecode(b"\xff.mp4"))
    odd = [clip(tmp_path, name=name) for name in names]
    checks = [checker.check(path, 0) for path in [*[good, bad] * 60, *odd]]
    verdicts = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(verdict) for verdict in verdicts] == [dict, NotVideo] * 60 + [dict] * len(odd)
    (child,) = children(os.getpid())
    await checker.check(good, 0)
    assert children(os.getpid()) == [child]


async def test_a_file_that_crashes_the_decoder_is_undecodable_and_those_behind_it_are_checked(
    checker: Checker, tmp_path: Path, hanging: HangingFile
) -> None:
    good, bad = clip(tmp_path), clip(tmp_path, b"<html>", "page.mp4")
    checks = [asyncio.create_task(checker.check(path, 0)) for path in (good, hanging.path, good, bad, good)]
    await hanging.opened()
    (child,) = children(os.getpid())
    os.kill(child, signal.SIGSEGV)
    verdicts = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(verdict) for verdict in verdicts] == [dict, Undecodable, dict, NotVideo, dict]
    assert "crashed (signal 11)" in str(verdicts[1])


@pytest.mark.slow
async def test_a_file_that_hangs_the_decoder_is_undecodable_and_those_behind_it_are_checked(
    checker: Checker, tmp_path: Path, hanging: HangingFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    await checker.check(clip(tmp_path), 0)
    monkeypatch.setattr(module, "CHECK_SECONDS", 1)
    with pytest.raises(Undecodable, match="did not finish within 1 s"):
        await checker.check(hanging.path, 0)
    monkeypatch.undo()
    await checker.check(clip(tmp_path), 0)


@pytest.mark.parametrize("output", ["nonsense", "x" * 100_000, "[" * 50_000], ids=["nonsense", "too much", "nested"])
async def test_a_file_that_makes_the_decoder_write_nonsense_is_undecodable(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    script = tmp_path / "video.py"
    script.write_text(f"print({output!r})")
    monkeypatch.setattr(video, "__file__", str(script))
    with pytest.raises(Undecodable, match="something else than an outcome"):
        await checker.check(clip(tmp_path), 0)


async def test_a_check_that_is_cancelled_does_not_answer_for_the_next(
    checker: Checker, tmp_path: Path, hanging: HangingFile
) -> None:
    check = asyncio.create_task(checker.check(hanging.path, 0))
    await hanging.opened()
    check.cancel()
    with pytest.raises(NotVideo):
        await checker.check(clip(tmp_path, b"<html>", "page.mp4"), 0)
    assert check.cancelled()


async def test_nothing_in_the_current_folder_is_imported(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av.py", "json.py", "signal.py"):
        (tmp_path / name).write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    await checker.check(clip(tmp_path), 0)


async def test_the_child_does_not_get_the_api_key(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMLAPI_API_KEY", "test-key-never-to-be-seen")
    await checker.check(clip(tmp_path), 0)
    environment = environment_of(*children(os.getpid()))
    assert b"HOME=" in environment, "or this looked at the wrong process"
    assert b"test-key" not in environment


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs Linux, to see the limits of a process")
async def test_the_child_has_no_other_files_open_and_can_use_little(
    checker: Checker, tmp_path: Path, hanging: HangingFile
) -> None:
    inheritable = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    check = asyncio.create_task(checker.check(hanging.path, 0))
    await hanging.opened()
    process = Path(f"/proc/{children(os.getpid())[0]}")
    limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()}
    files = {link.name: link.readlink() for link in (process / "fd").iterdir()}
    assert files.keys() - {"0", "1", "2"} == {name for name, path in files.items() if path == hanging.path}
    assert int(limits["Max cpu time"]) <= 2 * module.CHECK_SECONDS + 2
    assert int(limits["Max address space"]) == video.MEMORY_BYTES
    assert int(limits["Max open files"]) == video.OPEN_FILES
    assert (limits["Max file size"], limits["Max core file size"]) == ("0", "0")
    assert (process / "oom_score_adj").read_text().strip() == "1000", "where memory is short, the run must go on"
    check.cancel()
    await asyncio.gather(check, return_exceptions=True)
    os.close(inheritable)


def test_a_large_file_gets_the_time_to_be_read() -> None:
    assert module.seconds_for(600 * module.CHECK_BYTES_PER_SECOND) == module.CHECK_SECONDS + 600


async def test_a_decoder_that_cannot_start_is_no_fault_of_the_video(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    checks = [checker.check(clip(tmp_path), 0) for _ in range(2)]
    for error in await asyncio.gather(*checks, return_exceptions=True):
        assert isinstance(error, OSError)
        assert "the check of videos does not start" in str(error)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        await checker.check(clip(tmp_path), 0)
    monkeypatch.undo()
    await checker.check(clip(tmp_path), 0)


async def test_no_child_runs_before_the_first_download_and_none_after_the_end(tmp_path: Path) -> None:
    checker = Checker()
    assert not children(os.getpid())
    await checker.check(clip(tmp_path), 0)
    assert children(os.getpid())
    await checker.close()
    assert not children(os.getpid())


RUN_A_CHECK = """
import asyncio, sys
from pathlib import Path
from batchgen.files import checker

checker.CHECK_SECONDS = 1
asyncio.run(checker.Checker().check(Path(sys.argv[1]), 0))
"""


@pytest.mark.slow
async def test_a_child_that_hangs_does_not_outlive_a_killed_run_for_long(hanging: HangingFile) -> None:
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN_A_CHECK, str(hanging.path))
    await hanging.opened()
    (child,) = children(run.pid)
    run.kill()
    await run.wait()
    await until(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())

"""Videos are checked in child processes, which a bad file may crash or hang; the run and the other files go on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from batchgen.files import checker as module
from batchgen.files import video
from batchgen.files.checker import Checker
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


def pipe(folder: Path) -> Path:
    """A file that a child opens and never comes to read."""
    path = folder / "hangs.mp4"
    os.mkfifo(path)
    return path


def children_checking(path: Path) -> list[int]:
    """The processes that have the path on their command line. A zombie has none."""
    pids = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = cmdline.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if os.fsencode(video.__file__) in arguments and os.fsencode(path) in arguments:
            pids.append(int(cmdline.parent.name))
    return pids


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells when another process comes or goes
        await asyncio.sleep(TURN_SECONDS)


async def child_checking(path: Path) -> int:
    await until(lambda: children_checking(path))
    return children_checking(path)[0]


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"<html>", NotVideo, "it starts with '<html>'"),
        (b"", NotVideo, "an empty file"),
        (CLIP[:-9], NotVideo, "the container is cut"),
        (undecodable_clip(), Undecodable, "does not decode"),
        (None, FileNotFoundError, "No such file"),
    ],
    ids=["a page", "nothing", "a cut clip", "a broken clip", "no file"],
)
async def test_what_is_wrong_with_a_file_is_raised_here(
    checker: Checker, tmp_path: Path, content: bytes | None, error: type[Exception], words: str
) -> None:
    path = tmp_path / "clip.mp4" if content is None else clip(tmp_path, content)
    with pytest.raises(error, match=words):
        await checker.check(path)


async def test_files_that_wait_together_share_a_child_and_get_their_own_verdicts(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    start = module.start

    async def counting(paths: list[Path]) -> asyncio.subprocess.Process:
        batches.append(len(paths))
        return await start(paths)

    monkeypatch.setattr(module, "start", counting)
    good, bad = clip(tmp_path), clip(tmp_path, b"<html>", "page.mp4")
    names = ("two\nlines.mp4", "drei Fähren.mp4", "-c.mp4", os.fsdecode(b"\xff.mp4"))
    odd = [clip(tmp_path, name=name) for name in names]
    verdicts = await asyncio.gather(*map(checker.check, [*[good, bad] * 60, *odd]), return_exceptions=True)
    assert [type(verdict) for verdict in verdicts] == [type(None), NotVideo] * 60 + [type(None)] * len(odd)
    assert batches == [module.BATCH_FILES, 120 + len(odd) - module.BATCH_FILES]


async def test_a_file_that_crashes_the_decoder_is_undecodable_and_those_behind_it_are_checked(
    checker: Checker, tmp_path: Path
) -> None:
    crashing, good, bad = pipe(tmp_path), clip(tmp_path), clip(tmp_path, b"<html>", "page.mp4")
    checks = [asyncio.create_task(checker.check(path)) for path in (good, crashing, good, bad, good)]
    await checks[0]
    os.kill(await child_checking(crashing), signal.SIGSEGV)
    verdicts = await asyncio.gather(*checks, return_exceptions=True)
    assert [type(verdict) for verdict in verdicts] == [type(None), Undecodable, type(None), NotVideo, type(None)]
    assert "crashed (signal 11)" in str(verdicts[1])


async def test_a_file_that_hangs_the_decoder_is_undecodable_and_those_behind_it_are_checked(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_SECONDS", 3)
    hanging = pipe(tmp_path)
    checks = [checker.check(hanging), checker.check(clip(tmp_path))]
    first, second = await asyncio.gather(*checks, return_exceptions=True)
    assert isinstance(first, Undecodable)
    assert "did not finish within 3 s" in str(first)
    assert second is None
    await until(lambda: not children_checking(hanging))


@pytest.mark.parametrize("output", ["nonsense", "x" * 100_000], ids=["nonsense", "too much"])
async def test_a_file_that_makes_the_decoder_write_nonsense_is_undecodable(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    script = tmp_path / "video.py"
    script.write_text(f"print({output!r})")
    monkeypatch.setattr(video, "__file__", str(script))
    with pytest.raises(Undecodable, match="something else than an outcome"):
        await checker.check(clip(tmp_path))


async def test_a_check_that_is_cancelled_does_not_answer_for_the_next(checker: Checker, tmp_path: Path) -> None:
    checks = [asyncio.create_task(checker.check(clip(tmp_path))) for _ in range(2)]
    await asyncio.sleep(0)
    checks[0].cancel()
    with pytest.raises(NotVideo):
        await checker.check(clip(tmp_path, b"<html>", "page.mp4"))
    await checks[1]
    assert checks[0].cancelled()


async def test_nothing_in_the_current_folder_is_imported(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av.py", "json.py", "signal.py"):
        (tmp_path / name).write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    await checker.check(clip(tmp_path))


async def test_the_child_does_not_get_the_api_key(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMLAPI_API_KEY", "test-key-never-to-be-seen")
    hanging = pipe(tmp_path)
    check = asyncio.create_task(checker.check(hanging))
    environment = environment_of(await child_checking(hanging))
    assert b"HOME=" in environment, "or this looked at the wrong process"
    assert b"test-key" not in environment
    check.cancel()


async def test_a_decoder_that_cannot_start_is_no_fault_of_the_video(
    checker: Checker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    checks = [checker.check(clip(tmp_path)) for _ in range(2)]
    for error in await asyncio.gather(*checks, return_exceptions=True):
        assert isinstance(error, OSError)
        assert "the check of videos does not start" in str(error)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError):
        await checker.check(clip(tmp_path))
    monkeypatch.undo()
    await checker.check(clip(tmp_path))


async def test_no_child_runs_before_the_first_file_and_none_after_the_end(tmp_path: Path) -> None:
    checker, hanging = Checker(), pipe(tmp_path)
    assert not children_checking(hanging)
    check = asyncio.create_task(checker.check(hanging))
    await child_checking(hanging)
    await checker.close()
    assert not children_checking(hanging)
    with pytest.raises(asyncio.CancelledError):
        await check


RUN_A_CHECK = """
import asyncio, sys
from pathlib import Path
from batchgen.files import checker

checker.CHECK_SECONDS = 1
asyncio.run(checker.Checker().check(Path(sys.argv[1])))
"""


async def test_a_child_that_hangs_does_not_outlive_a_killed_run_for_long(tmp_path: Path) -> None:
    hanging = pipe(tmp_path)
    run = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN_A_CHECK, str(hanging))
    await child_checking(hanging)
    run.kill()
    await run.wait()
    await until(lambda: not children_checking(hanging))

"""Checks videos in a child process: a file that crashes or hangs the decoder costs itself a try, not the run.

The child is a filter, `video.py`: it reads one path a line and writes one outcome a line, both as JSON. Starting it
takes 0.1 s of CPU and checking a clip 2 ms, so one child serves the whole run; it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

from batchgen.files import video
from batchgen.files.video import NotVideo, Undecodable

CHECK_SECONDS = 30  # for one file: a clip takes milliseconds, a file that makes the decoder hang takes for ever
CHECK_BYTES_PER_SECOND = 10 << 20  # more time for a large file: so fast at least is it read from a slow network disk
CODEC_CHARS = 50  # of the name of a codec
NUMBER_MAX = 1_000_000  # of the seconds, pixels and frames a second of a video
ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "HOME", "APPDATA", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""All of the environment that the child gets: what Python needs to find its packages. The API key is not among it."""
Media = dict[str, float | str | None]
"""`seconds`, `width`, `height`, `fps` and `codec` of a video, as far as they are known."""


class Checker:
    """At most one child, which checks one file at a time."""

    def __init__(self) -> None:
        self._child: Process | None = None
        self._turn = asyncio.Lock()
        self._warm_up: asyncio.Task[None] | None = None

    def warm_up(self) -> None:
        """Start the child while the first file is being downloaded."""
        if self._warm_up is None:
            self._warm_up = asyncio.create_task(self._start_early())

    async def _start_early(self) -> None:
        with contextlib.suppress(OSError):  # `check` raises it, for a person to read
            async with self._turn:
                await self._ensure_child()

    async def check(self, path: Path) -> Media:
        """Check a whole file, as `video.check` does. Raises `NotVideo`, `Undecodable`, `OSError`."""
        seconds = await asyncio.to_thread(seconds_for, path)
        async with self._turn:
            child = await self._ensure_child()
            try:
                outcome = await outcome_of(child, path, seconds)
            except BaseException:
                # An answer may still come. The next file must not get it.
                await self._end_child()
                raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """End the child. A check that is running fails."""
        if self._warm_up:
            self._warm_up.cancel()
            await asyncio.gather(self._warm_up, return_exceptions=True)
        await self._end_child()

    async def _ensure_child(self) -> Process:
        if self._child is None or self._child.returncode is not None:
            self._child = await start()
        return self._child

    async def _end_child(self) -> None:
        if child := self._child:
            self._child = None
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            # The pipes have to be at their end before the event loop is: what is left of them would be reported.
            assert child.stdin
            child.stdin.close()
            with contextlib.suppress(OSError):
                await child.stdin.wait_closed()
            await child.communicate()


async def start() -> Process:
    """Start a child. Raises `OSError`."""
    return await asyncio.create_subprocess_exec(
        # -P: a module in the current folder must not be imported in place of a library.
        *(sys.executable, "-P", video.__file__),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C is for the run alone
    )


async def outcome_of(child: Process, path: Path, seconds: int) -> Media | Exception:
    """What the video is, or what is wrong with it.

    Raises `Undecodable` if the file ended the child, and `OSError` if the child cannot check anything.
    """
    assert child.stdin
    assert child.stdout
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):  # it has just ended; its exit code says why
                child.stdin.write(json.dumps([str(path), seconds]).encode() + b"\n")
                await child.stdin.drain()
            line = await child.stdout.readline()
        if line.endswith(b"\n"):
            return read_outcome(line)
    except TimeoutError:
        raise Undecodable(f"the decoder did not finish within {seconds} s") from None
    except (ValueError, RecursionError):  # a file may make the decoder do anything
        raise Undecodable("the decoder wrote something else than an outcome") from None
    if (code := await child.wait()) < 0:
        raise Undecodable(f"the decoder crashed (signal {-code})")
    advice = f"is PyAV installed? Try: {sys.executable} -c 'import av'"
    raise OSError(errno.ENOEXEC, f"the check of videos does not start (exit code {code}); {advice}")


def seconds_for(path: Path) -> int:
    """How long the check of a file may take."""
    return CHECK_SECONDS + path.stat().st_size // CHECK_BYTES_PER_SECOND


def read_outcome(line: bytes) -> Media | Exception:
    """What `video.outcome_of` has written. A file can make the decoder say anything, so each value is judged."""
    outcome = json.loads(line)
    match outcome:
        case {"error": "OSError", "errno": number, "message": message}:
            return OSError(number, message)
        case {"error": kind, "message": message}:
            return NotVideo(message) if kind == NotVideo.__name__ else Undecodable(message)
        case {"codec": str(codec)} if codec.isprintable() and len(codec) <= CODEC_CHARS:
            numbers = {name: outcome.get(name) for name in ("seconds", "width", "height", "fps")}
            return {"codec": codec, **{name: in_bounds(value) for name, value in numbers.items()}}
    return {}


def in_bounds(value: Any) -> float | None:
    """A length, a size or a rate; None where no video has it."""
    return value if isinstance(value, int | float) and 0 < value < NUMBER_MAX else None

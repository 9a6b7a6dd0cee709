"""Decodes videos in a child process: a file that crashes or hangs the decoder costs itself a try, not the run.

The child is a filter, `video.py`: it reads one request a line and writes one outcome a line, both as JSON. Starting it
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from batchgen.files import video
from batchgen.files.measures import ANSWER_BYTES, Samples, read_samples
from batchgen.files.video import NotVideo, Undecodable

CHECK_SECONDS = 30  # for one file: a clip takes milliseconds, a file that makes the decoder hang takes for ever
CHECK_BYTES_PER_SECOND = 10 << 20  # more time for a large file: so fast at least is it read from a slow network disk
SAMPLE_SECONDS = 10  # for the samples of one clip: they take milliseconds, and the next clip waits for its check
CODEC_CHARS = 50  # of the name of a codec
NUMBER_MAX = 1_000_000  # of the seconds, pixels and frames a second of a video
ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "HOME", "APPDATA", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""All of the environment that the child gets: what Python needs to find its packages. The API key is not among it."""
T = TypeVar("T")
Media = dict[str, float | str | None]
"""`seconds`, `width`, `height`, `fps` and `codec` of a video, as far as they are known."""


class Checker:
    """At most one child, which decodes one file at a time. A patient one leaves the processor to whatever needs it."""

    def __init__(self, *, is_patient: bool = False) -> None:
        self._is_patient = is_patient
        self._child: Process | None = None
        self._turn = asyncio.Lock()

    async def check(self, path: Path, size: int) -> Media:
        """Check a whole file of this size, as `video.check` does. Raises `NotVideo`, `Undecodable`, `OSError`."""
        return await self._ask("check", path, seconds_for(size), read_media)

    async def sample(self, path: Path, image: str | None = None, *, whole: bool = False) -> Samples:
        """What a delivered video shows, as `sampling.sample` does. Raises `Undecodable`, `OSError`."""
        return await self._ask("sample", path, SAMPLE_SECONDS, read_samples, image, whole)

    async def _ask(self, task: str, path: Path, seconds: int, read: Callable[[Any], T], *arguments: Any) -> T:
        async with self._turn:
            child = await self._ensure_child()
            try:
                outcome = await outcome_of(child, [task, str(path), seconds, *arguments], seconds, read)
            except BaseException:
                # An answer may still come. The next file must not get it.
                await self.close()
                raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None:
        """End the child. A check that is running fails."""
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

    async def _ensure_child(self) -> Process:
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                # -P: a module in the current folder must not be imported in place of a library.
                *(sys.executable, "-P", video.__file__, *([video.PATIENT] if self._is_patient else [])),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=ANSWER_BYTES,
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for the run alone
            )
        return self._child


async def outcome_of(child: Process, request: list[Any], seconds: int, read: Callable[[Any], T]) -> T | Exception:
    """What `read` makes of the child's answer, or what is wrong with the file.

    Raises `Undecodable` if the file ended the child, and `OSError` if the child cannot decode anything.
    """
    assert child.stdin
    assert child.stdout
    try:
        async with asyncio.timeout(seconds):
            with contextlib.suppress(ConnectionError):  # it has just ended; its exit code says why
                child.stdin.write(json.dumps(request).encode() + b"\n")
                await child.stdin.drain()
            line = await child.stdout.readline()
        if line.endswith(b"\n"):
            answer = json.loads(line)
            return read_error(answer) or read(answer)
    except TimeoutError:
        raise Undecodable(f"the decoder did not finish within {seconds} s") from None
    except (ValueError, RecursionError):  # a file may make the decoder do anything
        raise Undecodable("the decoder wrote something else than an outcome") from None
    if (code := await child.wait()) < 0:
        raise Undecodable(f"the decoder crashed (signal {-code})")
    advice = f"is PyAV installed? Try: {sys.executable} -c 'import av'"
    raise OSError(errno.ENOEXEC, f"the check of videos does not start (exit code {code}); {advice}")


def seconds_for(size: int) -> int:
    """For how long the check of a file of this size is waited for."""
    return CHECK_SECONDS + size // CHECK_BYTES_PER_SECOND


def read_error(answer: Any) -> Exception | None:
    """The error that the answer of the child process stands for; None where it has checked the file."""
    match answer:
        case {"error": "OSError", "errno": number, "message": message}:
            return OSError(number, message)
        case {"error": kind, "message": message}:
            return NotVideo(message) if kind == NotVideo.__name__ else Undecodable(message)
    return None


def read_media(answer: Any) -> Media:
    """What `video.check` has written. A file can make the decoder say anything, so each value is judged."""
    match answer:
        case {"codec": str(codec)} if codec.isprintable() and len(codec) <= CODEC_CHARS:
            numbers = {name: answer.get(name) for name in ("seconds", "width", "height", "fps")}
            return {"codec": codec, **{name: in_bounds(value) for name, value in numbers.items()}}
    return {}


def in_bounds(value: Any) -> float | None:
    """A length, a size or a rate; None where no video has it."""
    return value if isinstance(value, int | float) and 0 < value < NUMBER_MAX else None

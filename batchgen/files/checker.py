"""Checks videos in child processes: a file that crashes or hangs the decoder costs itself a try, not the run.

A child checks the files that it is given on its command line and ends. Starting one takes 0.1 s of CPU, checking a clip
2 ms; so files that arrive while a child works share the next one, as writes share a commit in a group commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from batchgen.files import video
from batchgen.files.video import NotVideo, Undecodable

CHECK_SECONDS = 300  # for one file: several GB on a slow network disk take minutes, a decoder that hangs takes for ever
BATCH_FILES = 100  # for one child: their paths must fit into a command line
PAUSE_SECONDS = 1.0  # between two children, so that starting them takes at most a tenth of a core
ENVIRONMENT = ("PYTHONPATH", "PYTHONHOME", "HOME", "APPDATA", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""All of the environment that a child gets: what Python needs to find its packages. The API key is not among it."""


class Checker:
    """A queue of files to check, and at most one child, which runs only while files wait."""

    def __init__(self) -> None:
        self._queue: deque[tuple[Path, asyncio.Future[None]]] = deque()
        """Files without a verdict. The first ones are those that the child has."""
        self._batch: asyncio.Task[None] | None = None
        """The work of one child. Stays set during the pause that follows."""
        self._child: Process | None = None
        self._closing = False

    async def check(self, path: Path) -> None:
        """Check a whole file, as `video.check` does. Raises `NotVideo`, `Undecodable`, `OSError`."""
        verdict: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((path, verdict))
        self._begin_batch()
        await verdict

    async def close(self) -> None:
        """End the child. Checks without a verdict are cancelled."""
        self._closing = True
        for _, verdict in self._queue:
            verdict.cancel()
        if self._child:
            await end(self._child)
        if self._batch:
            await self._batch

    def _begin_batch(self) -> None:
        if self._queue and not self._batch and not self._closing:
            self._batch = asyncio.create_task(self._check_batch())

    def _end_pause(self) -> None:
        self._batch = None
        self._begin_batch()

    async def _check_batch(self) -> None:
        """Check files from the front of the queue in one child. Those behind one that ends the child stay queued."""
        paths = [path for path, _ in islice(self._queue, BATCH_FILES)]
        try:
            self._child = await start(paths)
            for _ in paths:
                if self._closing:
                    break
                self._settle_first(await next_outcome(self._child))
        except Undecodable as error:
            self._settle_first(error)
        except OSError as error:
            while self._queue:
                self._settle_first(error)
        finally:
            if self._child:
                await end(self._child)
                self._child = None
            asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._end_pause)

    def _settle_first(self, error: Exception | None) -> None:
        """Give the first file its verdict, unless its check was cancelled."""
        _, verdict = self._queue.popleft()
        if not verdict.done():
            if error:
                verdict.set_exception(error)
            else:
                verdict.set_result(None)


async def start(paths: Sequence[Path]) -> Process:
    """A child that checks these files. Raises `OSError`."""
    return await asyncio.create_subprocess_exec(
        # -P: a module in the current folder must not be imported in place of a library.
        *(sys.executable, "-P", video.__file__, str(CHECK_SECONDS), *map(str, paths)),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        start_new_session=True,  # Ctrl-C is for the run alone
    )


async def next_outcome(child: Process) -> Exception | None:
    """What is wrong with the file that the child is checking; None if nothing.

    Raises `Undecodable` if the file ended the child, and `OSError` if the child cannot check anything.
    """
    assert child.stdout
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            line = await child.stdout.readline()
        if line.endswith(b"\n"):
            return error_in(line)
    except TimeoutError:
        raise Undecodable(f"the decoder did not finish within {CHECK_SECONDS} s") from None
    except ValueError:  # a file may make the decoder do anything
        raise Undecodable("the decoder wrote something else than an outcome") from None
    if (code := await child.wait()) < 0:
        raise Undecodable(f"the decoder crashed (signal {-code})")
    advice = f"is PyAV installed? Try: {sys.executable} -c 'import av'"
    raise OSError(errno.ENOEXEC, f"the check of videos does not start (exit code {code}); {advice}")


def error_in(line: bytes) -> Exception | None:
    """The exception that `video.outcome_of` describes."""
    match json.loads(line):
        case {"error": "OSError", "errno": number, "message": message}:
            return OSError(number, message)
        case {"error": kind, "message": message}:
            return NotVideo(message) if kind == NotVideo.__name__ else Undecodable(message)
    return None


async def end(child: Process) -> None:
    """Kill the child, if it still runs, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()

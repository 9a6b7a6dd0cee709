"""Videos are decoded in a process of their own: one that brings the decoder down does not bring down the run, and what
the run does meanwhile is not held up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from batchgen.video import ANSWERS, READY, Undecodable

HOME = Path(__file__).resolve().parents[1]


class Decoder:
    """`check` with a child that is started at its first use and takes one video at a time."""

    def __init__(self) -> None:
        self._child: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._turn = asyncio.Lock()

    def wake(self) -> None:
        """Have the child started while other things are done."""
        if not self._child and not self._starting:
            self._starting = asyncio.create_task(start())

    async def check(self, path: Path) -> None:
        """`video.check` beside the run. Raises what that raises."""
        async with self._turn:
            child = await self._ready()
            try:
                answer = await ask(child, path)
            except asyncio.CancelledError:
                await self.close()  # its answer would be taken for that of the next video
                raise
            if not answer:
                await self.close()
                raise Undecodable(f"the decoder broke down over it ({child.returncode})")
        if told := json.loads(answer):
            kind, *words = told
            raise ANSWERS[kind](*words)

    async def _ready(self) -> Process:
        self.wake()
        if starting := self._starting:
            try:
                self._child = await asyncio.shield(starting)
            finally:
                if starting.done():
                    self._starting = None
        assert self._child
        return self._child

    async def close(self) -> None:
        """End the child."""
        if self._starting:
            with contextlib.suppress(OSError):
                await self._ready()
        child, self._child, self._starting = self._child, None, None
        if child:
            await end(child)


async def start() -> Process:
    """A child that is ready. Raises `OSError`."""
    # Nothing of the folder that the run was started in may be imported (-P).
    found = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "batchgen.video"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**os.environ, "PYTHONPATH": found},
        start_new_session=True,  # Ctrl-C is for the run to hear
    )
    assert child.stdout
    if await child.stdout.readline() != READY:
        await end(child)
        raise OSError(errno.ENOEXEC, f"the decoder does not start ({child.returncode})")
    return child


async def end(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()


async def ask(child: Process, path: Path) -> bytes:
    """The child's answer; empty where it ended instead."""
    assert child.stdin
    assert child.stdout
    try:
        child.stdin.write(json.dumps(str(path)).encode() + b"\n")
        await child.stdin.drain()
        return await child.stdout.readline()
    except (BrokenPipeError, ConnectionResetError):
        return b""

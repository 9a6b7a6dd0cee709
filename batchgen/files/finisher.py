"""Files that have come are finished in a process of their own: a video that brings the decoder down does not bring down
the run, and what the run does meanwhile is not held up."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from pathlib import Path
from typing import Any

from batchgen.files.finishing import CHECK, READY, SYNC, TROUBLE
from batchgen.files.video import Undecodable

ORDER_SECONDS = 600.0  # with those before it in the line
HOME = Path(__file__).resolve().parents[2]


class Finisher:
    """A child that is started at its first use, and takes one order after another."""

    def __init__(self) -> None:
        self._child: Process | None = None
        self._starting: asyncio.Task[Process] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: deque[tuple[bytes, asyncio.Future[list[Any]]]] = deque()
        """What the child has been asked and not answered, first come first. The next is asked while it is at work."""

    def wake(self) -> None:
        """Have the child started while other things are done."""
        if not self._child and not self._starting:
            self._starting = asyncio.create_task(start())

    async def check(self, path: Path) -> None:
        """Make a file durable and look at it whole. Raises `NotVideo`, `Undecodable`, `OSError`."""
        await self._order(CHECK, path)

    async def sync(self, folder: Path) -> None:
        """Make the names in a folder durable. Raises `OSError`."""
        await self._order(SYNC, folder)

    async def _order(self, order: str, path: Path) -> None:
        child = await self._ready()
        line = json.dumps([order, str(path)]).encode() + b"\n"
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._asked.append((line, answer))
        write(child, line)
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                told = await answer
        except TimeoutError:
            await end(child)
            raise Undecodable(f"the decoder did not come to an end with it in {ORDER_SECONDS:g} s") from None
        if told:
            kind, *words = told
            raise TROUBLE[kind](*words)

    async def _ready(self) -> Process:
        self.wake()
        if starting := self._starting:
            try:
                child = await asyncio.shield(starting)
            finally:
                if starting.done() and self._starting is starting:
                    self._starting = None
            if not self._child:
                self._child = child
                self._reading = asyncio.create_task(self._read(child))
                for line, _ in self._asked:
                    write(child, line)
        assert self._child
        return self._child

    async def _read(self, child: Process) -> None:
        """Hand on the child's answers, which come in the order of the questions, until it ends."""
        assert child.stdout
        while line := await child.stdout.readline():
            _, answer = self._asked.popleft()
            if not answer.done():
                answer.set_result(json.loads(line))
        self._child = None
        await child.wait()
        if self._asked:
            _, answer = self._asked.popleft()
            if not answer.done():
                answer.set_exception(Undecodable(f"the decoder broke down over it ({child.returncode})"))
        if self._asked:
            try:
                await self._ready()
            except OSError as error:
                while self._asked:
                    self._asked.popleft()[1].set_exception(error)

    async def close(self) -> None:
        """End the child."""
        if self._starting:
            with contextlib.suppress(OSError):
                await self._ready()
        self._asked.clear()
        if child := self._child:
            await end(child)
        if self._reading:
            await self._reading


def write(child: Process, line: bytes) -> None:
    assert child.stdin
    child.stdin.write(line)


async def start() -> Process:
    """A child that is ready. Raises `OSError`."""
    # Nothing of the folder that the run was started in may be imported (-P).
    found = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "batchgen.files.finishing"),
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

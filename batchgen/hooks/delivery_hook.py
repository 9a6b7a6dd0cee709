"""The command of `--exec`: started once for each delivered file, in order of delivery, a few at one time.

There is no shell: the text is split once, when it is typed, and a placeholder is replaced only where it is a whole
argument. So nothing of a manifest or a service can become another argument or another command.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgen import clock
from batchgen.catalogue.wording import listed
from batchgen.errors import UsageError
from batchgen.files.output_paths import is_url
from batchgen.jobtable import delivery_hooks, leases, run_lock
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery_hooks import HookStart
from batchgen.services.text import one_line

LOG = logging.getLogger("batchgen.hooks")
AT_ONCE = 4  # commands: most wait for a network or a disk that the downloads need as well
TIMEOUT_SECONDS = 600.0  # of one command: an upload of a large file takes minutes
END_SECONDS = 600.0  # for which the end of a run waits for the commands that are left
STOP_SECONDS = 10.0  # the same after Ctrl-C: what has not ended is started again by the next run
CHECK_SECONDS = 0.2  # between two checks for Ctrl-C while the end of a run waits
KILL_SECONDS = 5.0  # for which the end of a killed command is waited for
TAIL_BYTES = 4_096  # of a command's output that are kept: its last line says why it failed
TAIL_SECONDS = 1.0  # for which the rest of the output is read after the end of the command
MESSAGE_CHARS = 300  # of that line
CANNOT_START, TIMED_OUT = 126, 124  # exit codes with which shells and `timeout` say the same
START_HINTS: dict[int | None, str] = {
    errno.ENOEXEC: ". A script begins with a line such as #!/bin/sh",
    errno.ENOENT: ". If it is there, the interpreter in its first line is not (or that line ends as in Windows)",
}
PLACEHOLDERS = ("{path}", "{id}", "{batch}", "{model}", "{url}")
PLACEHOLDER = re.compile("|".join(map(re.escape, ("{}", *PLACEHOLDERS))))
# Whose command would end well and do nothing, or move each clip over the one before, into a file named ~ or $HOME:
SHELL_WORD = re.compile(r"&&|\|\|?|&|[12]?>>?|<|2>&1|~.*|.*(\$[\w({]|`).*")
OTHER_PLACEHOLDER = re.compile(r"\{\w+\}")
QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)  # or escaped: it is no word of a shell
SECRET_VARIABLES = ("BATCHGEN_NOTIFY", "BATCHGEN_DB")  # a URL in them may hold a password


@dataclass(frozen=True, slots=True)
class HookResult:
    """How the command ended for one delivered file."""

    key: str
    path: str
    """Absolute, or the URL of an object."""
    exit_code: int
    message: str
    """The last line of its output, bounded and printable."""

    def __str__(self) -> str:
        code, reason = self.exit_code, f": {self.message}" if self.message else ""
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.key}: --exec {ended}{reason}"


def parse_command(command: str | Sequence[str]) -> list[str]:
    """The arguments of a command. Raises `UsageError` for one that cannot be started as it is typed."""
    try:
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise UsageError(f"--exec {command!r}: {error}") from None
    if not arguments or any("\0" in argument for argument in arguments):
        raise UsageError("--exec: there is no command")
    for word in QUOTED.sub("_", command).split() if isinstance(command, str) else ():
        if OTHER_PLACEHOLDER.fullmatch(word) and not PLACEHOLDER.fullmatch(word):
            raise UsageError(f"--exec: there is no {word}; known: {listed(PLACEHOLDERS)}")
        if SHELL_WORD.fullmatch(word):
            raise UsageError(
                f"--exec: no shell is started, and {word} would be an argument of {arguments[0]}. Write a script,"
                """ or sh -c '…', which has the path as "$BATCHGEN_PATH\""""
            )
    for argument in arguments:
        if PLACEHOLDER.search(argument) and not PLACEHOLDER.fullmatch(argument):
            raise UsageError(
                f"--exec: {argument!r}: a placeholder must be an argument of its own. A script can put together"
                " what it needs from the variables BATCHGEN_PATH, BATCHGEN_ID, …"
            )
    if PLACEHOLDER.fullmatch(arguments[0]):
        raise UsageError(f"--exec: the program cannot be {arguments[0]}")
    return arguments


class DeliveryHook:
    """Runs a command in `folder` for the delivered files of a batch. Its failures go to `on_result`, and end nothing.

    Raises `UsageError` where the command cannot be started.
    """

    def __init__(self, command: str | Sequence[str], folder: Path) -> None:
        self.arguments, self.folder = parse_command(command), folder.absolute()
        program = self.arguments[0]
        if not shutil.which(self.folder / program if os.sep in program else program):
            raise UsageError(f"--exec: there is no program {program!r} that can be started. Nothing has been sent.")
        self.digest = hashlib.sha256(json.dumps(self.arguments).encode()).hexdigest()
        self.on_result: Callable[[HookResult], None] = lambda _result: None
        self.waiting: deque[int] = deque()
        """The row ids of the delivered files for which the command is to be started."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_closing = False
        self.broken_off = 0
        """Commands that the end of the run killed or did not start any more."""

    async def open(self, database: Database, batch: str, batch_id: int, run_id: str, secrets: Collection[str]) -> None:
        """Take up the files of earlier runs. `secrets` are the environment variables that the command must not see."""
        self.database, self.batch, self.batch_id, self.run_id = database, batch, batch_id, run_id
        hidden = {*secrets, *SECRET_VARIABLES}
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        unended = await database.read(leases.unended, batch_id)
        self.dead_runs = await asyncio.to_thread(run_lock.dead_runs, database, unended)
        self.waiting.extend(await database.read(delivery_hooks.waiting_outputs, batch_id, self.digest))

    async def add(self, keys: Iterable[str]) -> None:
        """Take up the files of jobs that were delivered just now."""
        self.waiting.extend(await self.database.read(delivery_hooks.outputs_of, self.batch_id, list(keys)))

    def start_waiting(self) -> None:
        """Start commands, as many as may run at one time."""
        while self.waiting and len(self.tasks) < AT_ONCE and not self.is_closing:
            task = asyncio.create_task(self.handle(self.waiting.popleft()))
            self.tasks.add(task)
            task.add_done_callback(self.ended)

    def ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            LOG.warning("hook.failed", extra={"reason": str(error)})
        self.start_waiting()

    @property
    def unended(self) -> int:
        """Commands that run, and files for which one is to be started."""
        return len(self.tasks) + len(self.waiting)

    async def close(self, is_stopping: Callable[[], bool]) -> None:
        """Wait for the commands that are left, for a bounded time, and kill what has not ended by then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + END_SECONDS
        while self.tasks and loop.time() < deadline:
            if is_stopping() and not self.is_closing:
                self.is_closing = True
                deadline = min(deadline, loop.time() + STOP_SECONDS)
            await asyncio.wait(self.tasks, timeout=CHECK_SECONDS)
        self.is_closing, self.broken_off = True, self.unended
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def handle(self, output_id: int) -> None:
        """Run the command for one file, unless another run does, or did."""
        write, start = self.database.write, HookStart(output_id, self.digest, self.run_id)
        file = await write(delivery_hooks.begin, start, self.dead_runs, clock.utcnow())
        if file is None:
            return
        path = file.path if is_url(file.path) else str((self.folder / file.path).absolute())
        code, message = await self.execute(file, path)
        await write(delivery_hooks.end, start, code, message or None, clock.utcnow())
        self.on_result(HookResult(file.key, path, code, message))

    async def execute(self, file: Any, path: str) -> tuple[int, str]:
        """Start the command, and return its exit code and the last line that it wrote. Cancelled, it is killed."""
        values = {"path": path, "id": file.key, "batch": self.batch, "model": file.model, "url": file.url}
        placeholders = {"{}": path} | {f"{{{name}}}": value for name, value in values.items()}
        arguments = [placeholders.get(argument, argument) for argument in self.arguments]
        details = {**values, "number": str(file.number), "sha256": file.sha256}
        variables = {f"BATCHGEN_{name.upper()}": value.replace("\0", "") for name, value in details.items()}
        try:
            transport, output = await asyncio.get_running_loop().subprocess_exec(
                CommandOutput,
                *arguments,
                cwd=self.folder,
                env={**self.environment, **variables},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a timeout ends what the command has started as well
            )
        except (OSError, ValueError) as error:
            hint = START_HINTS.get(getattr(error, "errno", None), "")
            return CANNOT_START, one_line(f"it cannot be started: {error}{hint}", MESSAGE_CHARS)
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await output.ended.wait()
            # What the command has started and left behind may keep the pipe open.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TAIL_SECONDS):
                    await output.closed.wait()
        except TimeoutError:
            return TIMED_OUT, f"it was killed after {TIMEOUT_SECONDS:g} s. {last_line(output.tail)}".strip()
        finally:
            # A program of another user cannot be killed, nor one that waits for a disk which does not answer.
            with contextlib.suppress(OSError, TimeoutError):
                if not output.ended.is_set():
                    kill_group(transport.get_pid())
                    async with asyncio.timeout(KILL_SECONDS):
                        await output.ended.wait()
            with contextlib.suppress(OSError):
                transport.close()
        code = transport.get_returncode()
        assert code is not None
        return code, last_line(output.tail)


class CommandOutput(asyncio.SubprocessProtocol):
    """The last bytes that a command writes, its end, and the end of its output, which may come much later or never.

    `asyncio.subprocess.Process.wait` waits for both ends.
    """

    def __init__(self) -> None:
        self.tail = bytearray()
        self.ended, self.closed = asyncio.Event(), asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 - a method of asyncio
        self.tail += data
        del self.tail[:-TAIL_BYTES]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 - a method of asyncio
        self.closed.set()

    def process_exited(self) -> None:
        self.ended.set()


def last_line(tail: bytes | bytearray) -> str:
    """The last line that is not empty."""
    lines = tail.decode("utf-8", "replace").strip().splitlines()
    return one_line(lines[-1], MESSAGE_CHARS) if lines else ""


def kill_group(pid: int) -> None:
    """Kill a process with everything that it has started."""
    if hasattr(os, "killpg"):
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGTERM)

"""Python processes that are forked from a server which has imported batchgen: importing it takes longer than most runs.

A fork is a process of its own, with its own folder, environment, streams and exit code; it can be signalled and killed.
What depends on the start of an interpreter itself (its options, its encoding, closed streams) needs `subprocess`.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, chdir, suppress
from functools import cache
from multiprocessing import connection, get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.reduction import DupFd
from pathlib import Path
from subprocess import PIPE, CompletedProcess, TimeoutExpired
from threading import Lock, Thread
from typing import Any, Self, TextIO

ROOT = Path(__file__).resolve().parents[1]
PRELOADED = ("pytest", "tests.preloaded")
"""What the server imports. Each fork of a `pytest` that was started by its script would import pytest otherwise."""

TURN = Lock()
"""One thread at a time starts forks or reads exit codes: `multiprocessing` looks after all of them at each start."""


@cache
def server() -> ForkServerContext:
    """The server, which ends with this process."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with chdir(ROOT):  # from where `tests` can be imported; one that cannot be is passed over without a word
        ensure_running()
    return context


class Descriptor:
    """A file descriptor among the arguments of a fork, which receives the number of its own copy."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return detach, (DupFd(self.number),)


def detach(copy: Any) -> int:
    number: int = copy.detach()
    return number


def become(arguments: Sequence[str], folder: str, environment: Mapping[str, str], streams: Sequence[int]) -> None:
    """Be `python *arguments` in the process that was forked for it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with `&` ignore Ctrl-C
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, copy in enumerate(streams):
        os.dup2(copy, number)
        os.close(copy)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    if "error" in os.environ.get("PYTHONWARNINGS", ""):
        warnings.simplefilter("error")
    option, program, *sys.argv[1:] = arguments
    sys.argv[0] = option
    if option == "-m":
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        exec(program, {"__name__": "__main__"})


class Reader(Thread):
    """Reads a pipe to its end, so that its writer need not wait."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(daemon=True)
        self.stream = stream
        self.content = ""
        self.start()

    def run(self) -> None:
        if self.stream and not self.stream.closed:
            with self.stream:
                self.content = self.stream.read()

    def text(self) -> str:
        self.join()
        return self.content


class Fork:
    """`python *arguments` as a fork: `-m module …` or `-c code …`. Its methods are those of `subprocess.Popen`.

    A stream is a file descriptor, or `PIPE`, of which the other end is here, as text.
    """

    stdin: TextIO | None = None
    stdout: TextIO | None = None
    stderr: TextIO | None = None

    def __init__(
        self, arguments: Sequence[str], *, cwd: str | Path = ".", env: Mapping[str, str] = os.environ, **streams: int
    ) -> None:
        self.args = list(arguments)
        self._readers: list[Reader] = []
        with ExitStack() as opened:
            nowhere = opened.enter_context(Path(os.devnull).open("r+b")).fileno()
            numbers = {name: streams.get(name, nowhere) for name in ("stdin", "stdout", "stderr")}
            for name in (name for name, number in numbers.items() if number == PIPE):
                reader, writer = os.pipe()
                numbers[name], end = (reader, writer) if name == "stdin" else (writer, reader)
                opened.callback(os.close, numbers[name])
                setattr(self, name, os.fdopen(end, "w" if name == "stdin" else "r", encoding="utf-8"))
            descriptors = [Descriptor(number) for number in numbers.values()]
            self._process = server().Process(target=become, args=(self.args, str(cwd), dict(env), descriptors))
            with TURN:
                self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.communicate()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with TURN:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code. Raises `TimeoutExpired`."""
        connection.wait([self._process.sentinel], timeout)
        if (code := self.poll()) is None:
            raise TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Close its input, and read what is left of its output until its end. Raises `TimeoutExpired`."""
        if self.stdin:
            self.stdin.close()
        if not self._readers:
            self._readers = [Reader(stream) for stream in (self.stdout, self.stderr)]
        self.wait(timeout)
        stdout, stderr = (reader.text() for reader in self._readers)
        return stdout, stderr

    def send_signal(self, number: signal.Signals) -> None:
        # The fork server may have collected an ended process whose exit code is not here yet.
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(arguments: Sequence[str], *, timeout: float, **options: Any) -> CompletedProcess[str]:
    """Run a fork to its end. One that takes longer is killed, and raises `TimeoutExpired`."""
    fork = Fork(arguments, stdout=PIPE, stderr=PIPE, **options)
    try:
        stdout, stderr = fork.communicate(timeout)
    finally:
        fork.kill()
    return CompletedProcess(fork.args, fork.wait(), stdout, stderr)

"""When the first create request of a run arrives, on a socket of another process than its own."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

REFUSAL = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
PATIENCE_SECONDS = 120
MEGABYTE = 1_000_000
OUTPUT = (1, 2)


class Taken(NamedTuple):
    """What a process took: wall time, and the most memory that was resident in it."""

    seconds: float
    megabytes: float


class Doorbell:
    """Knows no question that is asked; the first create request rings."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.wait_for = threading.Event()
        self.at = 0.0
        threading.Thread(target=self.open, daemon=True).start()

    def open(self) -> None:
        while True:
            try:
                caller, _ = self.server.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self.listen, args=(caller,), daemon=True).start()

    def listen(self, caller: socket.socket) -> None:
        heard = b""
        with caller, suppress(ConnectionResetError):  # the run is killed while it asks
            while piece := caller.recv(65_536):
                heard += piece
                if heard.startswith(b"POST") and not self.wait_for.is_set():
                    self.at = time.perf_counter()
                    self.wait_for.set()
                while b"\r\n\r\n" in heard and heard.startswith(b"GET"):
                    heard = heard.partition(b"\r\n\r\n")[2]
                    caller.sendall(REFUSAL)


@contextmanager
def doorbell() -> Iterator[Doorbell]:
    wakeup = Doorbell()
    try:
        yield wakeup
    finally:
        wakeup.server.close()


def until_first_request(manifest: Path) -> Taken:
    """From the start of `batchgen run` to its first create request; then it is killed."""
    with doorbell() as wakeup, tempfile.TemporaryFile() as said:
        address = f"http://127.0.0.1:{wakeup.server.getsockname()[1]}"
        options = ("--submits-per-minute", "60000", "--in-flight", "1000")
        environment = {**os.environ, "AIMLAPI_BASE_URL": address, "AIMLAPI_API_KEY": "none"}
        began = time.perf_counter()
        child = spawn(said.fileno(), environment, "-m", "batchgen", "run", str(manifest), *options)
        came = wakeup.wait_for.wait(PATIENCE_SECONDS)
        os.kill(child, signal.SIGKILL)
        megabytes = waited_for(child)[1]
        if not came:
            said.seek(0)
            sys.exit(f"no create request came\n{said.read().decode(errors='replace')}")
        return Taken(wakeup.at - began, megabytes)


def taken(*arguments: str, **environment: str) -> Taken:
    """A fresh interpreter, waited for."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        status, megabytes = waited_for(spawn(said.fileno(), {**os.environ, **environment}, *arguments))
        seconds = time.perf_counter() - began
        if status:
            said.seek(0)
            sys.exit(f"{' '.join(arguments)} ended with {status}\n{said.read().decode(errors='replace')}")
    return Taken(seconds, megabytes)


def spawn(output: int, environment: dict[str, str], *arguments: str) -> int:
    streams = [(os.POSIX_SPAWN_DUP2, output, number) for number in OUTPUT]
    return os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=streams)


def waited_for(child: int) -> tuple[int, float]:
    """How it ended, and the most memory it had: the kernel keeps that account until somebody waits for it."""
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MEGABYTE

"""When the first create request of a run arrives, on a socket of another process."""

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

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
PATIENCE_SECONDS = 120
MEGABYTE = 1_000_000
OUTPUT = (1, 2)  # file descriptors of a child: stdout and stderr


class Taken(NamedTuple):
    """What a process took: wall time, and the most memory that was resident in it."""

    seconds: float
    megabytes: float


class FirstRequest:
    """A server that answers every GET with 404 and records when the first create request arrives."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.arrived = threading.Event()
        self.at = 0.0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self.receive, args=(connection,), daemon=True).start()

    def receive(self, connection: socket.socket) -> None:
        received = b""
        with connection, suppress(ConnectionResetError):  # the run is killed while it sends
            while chunk := connection.recv(65_536):
                received += chunk
                if received.startswith(b"POST") and not self.arrived.is_set():
                    self.at = time.perf_counter()
                    self.arrived.set()
                while b"\r\n\r\n" in received and received.startswith(b"GET"):
                    received = received.partition(b"\r\n\r\n")[2]
                    connection.sendall(NOT_FOUND)


@contextmanager
def first_request() -> Iterator[FirstRequest]:
    server = FirstRequest()
    try:
        yield server
    finally:
        server.server.close()


def until_first_request(manifest: Path) -> Taken:
    """From the start of `batchgen run` to its first create request; then it is killed."""
    with first_request() as first, tempfile.TemporaryFile() as output:
        address = f"http://127.0.0.1:{first.server.getsockname()[1]}"
        options = ("--submits-per-minute", "60000", "--in-flight", "1000")
        environment = {**os.environ, "AIMLAPI_BASE_URL": address, "AIMLAPI_API_KEY": "none"}
        began = time.perf_counter()
        child = spawn(output.fileno(), environment, "-m", "batchgen", "run", str(manifest), *options)
        arrived = first.arrived.wait(PATIENCE_SECONDS)
        os.kill(child, signal.SIGKILL)
        megabytes = waited_for(child)[1]
        if not arrived:
            output.seek(0)
            sys.exit(f"no create request arrived\n{output.read().decode(errors='replace')}")
        return Taken(first.at - began, megabytes)


def taken(*arguments: str, **environment: str) -> Taken:
    """Run a fresh interpreter to its end."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        status, megabytes = waited_for(spawn(output.fileno(), {**os.environ, **environment}, *arguments))
        seconds = time.perf_counter() - began
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(arguments)} ended with {status}\n{output.read().decode(errors='replace')}")
    return Taken(seconds, megabytes)


def spawn(output: int, environment: dict[str, str], *arguments: str) -> int:
    streams = [(os.POSIX_SPAWN_DUP2, output, number) for number in OUTPUT]
    return os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=streams)


def waited_for(child: int) -> tuple[int, float]:
    """The exit status of a child and its peak memory in MB, which the kernel keeps until the child is waited for."""
    _, status, usage = os.wait4(child, 0)
    return status, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MEGABYTE

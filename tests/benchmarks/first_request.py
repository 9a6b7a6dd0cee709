"""How long `batchgen run` takes from its start to its first create request."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.benchmarks.measure import Usage, fail, python_process, wait

NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
TIMEOUT_SECONDS = 120
"""Bounds the wait for the create request: several times what 100,000 jobs take on a slow machine."""


class FirstRequestServer:
    """Answers every GET with 404, never answers a POST, and notes when the first POST arrives."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.base_url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.arrived = threading.Event()
        self.arrived_at = 0.0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # the listener is closed
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        received = b""
        with connection, suppress(ConnectionResetError):  # the run is killed during a request
            while chunk := connection.recv(65_536):
                received += chunk
                if received.startswith(b"POST") and not self.arrived.is_set():
                    self.arrived_at = time.perf_counter()
                    self.arrived.set()
                while b"\r\n\r\n" in received and received.startswith(b"GET"):
                    received = received.partition(b"\r\n\r\n")[2]
                    connection.sendall(NOT_FOUND)


@contextmanager
def first_request_server() -> Iterator[FirstRequestServer]:
    server = FirstRequestServer()
    try:
        yield server
    finally:
        server.listener.close()


def run_to_first_request(manifest: Path, **environment: str) -> Usage:
    """Run a manifest and kill the run at its first create request. The wall time ends when the request arrives."""
    arguments = ("-m", "batchgen", "run", str(manifest), "--submits-per-minute", "60000", "--in-flight", "1000")
    with first_request_server() as server:
        began = time.perf_counter()
        account = {"AIMLAPI_BASE_URL": server.base_url, "AIMLAPI_API_KEY": "none"}
        with python_process(*arguments, **account, **environment) as (process, output):
            if not server.arrived.wait(TIMEOUT_SECONDS):
                fail("the run sent no create request", output)
            process.kill()
            usage = wait(process)
        return usage._replace(seconds=server.arrived_at - began)

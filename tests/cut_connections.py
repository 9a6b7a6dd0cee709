"""A proxy before PostgreSQL that cuts a connection around its next COMMIT."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread


class Cutter:
    """Passes bytes on. With `moment`, it cuts the connection of the next COMMIT: before the server has it, or after."""

    def __init__(self, port: int) -> None:
        self.server_port = port
        self.moment = ""
        self.commits = 0
        """COMMITs after which a connection was cut."""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.server_port))
                Thread(target=self.pass_on, args=[client, server, True], daemon=True).start()
                Thread(target=self.pass_on, args=[server, client, False], daemon=True).start()

    def pass_on(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with suppress(OSError), source, target:
            while content := source.recv(1 << 16):
                if is_client and self.moment and b"COMMIT" in content:
                    moment, self.moment = self.moment, ""
                    self.commits += 1
                    source.shutdown(socket.SHUT_RDWR)  # nothing that the server says arrives any more
                    if moment == "after":
                        target.sendall(content)
                        target.shutdown(socket.SHUT_WR)
                        return
                    target.shutdown(socket.SHUT_RDWR)
                    return
                target.sendall(content)


@contextmanager
def cutting(port: int) -> Iterator[Cutter]:
    """A proxy before the server on this port of the loopback."""
    cutter = Cutter(port)
    thread = Thread(target=cutter.serve, daemon=True)
    thread.start()
    try:
        yield cutter
    finally:
        cutter.listener.shutdown(socket.SHUT_RDWR)
        cutter.listener.close()
        thread.join()

"""A file server whose bytes the kernel sends: `python -m tests.benchmarks.file_server VIDEO`.

It prints its base URL, and serves the same file under every path.
"""

from __future__ import annotations

import os
import socketserver
import sys
from pathlib import Path


class Handler(socketserver.StreamRequestHandler):
    video: Path

    def handle(self) -> None:
        with self.video.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: "v1"\r\nContent-Type: video/mp4\r\n\r\n'
            while line := self.rfile.readline():
                if line == b"\r\n":  # the end of a request
                    self.connection.sendall(head.encode())
                    self.connection.sendfile(file)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


if __name__ == "__main__":
    Handler.video = Path(sys.argv[1])
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()

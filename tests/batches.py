"""Manifests for the tests of commands, and checks of what the simulator and the disk have afterwards."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
from hashlib import sha256
from pathlib import Path
from threading import Thread
from typing import Any

import av
import yaml
from PIL import Image

from tests.waiting import JOBS, rows

TEXT_MODEL = "klingai/v2.1-master-text-to-video"
STANDARD = "kling-video/v2.1/standard/image-to-video"
MASTER = "klingai/v2.1-master-image-to-video"


def write_manifest(path: Path, jobs: int | list[dict[str, Any]] = 1, **header: Any) -> Path:
    """Write a manifest of `jobs` (a number, or entries). Its limits slow no test down unless `header` has others."""
    entries = [{"id": f"clip-{n}", "prompt": f"Number {n}."} for n in range(jobs)] if isinstance(jobs, int) else jobs
    fast = {"submits_per_minute": 60_000, "in_flight": 100}
    document = {"limits": fast, "defaults": {"model": TEXT_MODEL, "duration": 5}, **header, "jobs": entries}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def write_image(path: Path, width: int, height: int, colour: str = "teal") -> bytes:
    """An image file; returns its bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)
    return path.read_bytes()


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def probe(path: Path) -> tuple[int, int, int]:
    """Width, height and number of frames of a video, decoded to its last frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        return stream.codec_context.width, stream.codec_context.height, frames


def image_in(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size


class Bill:
    """What the simulated service accepted and which requests it got, read from its ledger file."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger

    @property
    def accepted(self) -> list[dict[str, Any]]:
        return rows(self.ledger, "SELECT * FROM generations ORDER BY created_at, id")

    @property
    def duplicates(self) -> int:
        """The number of generations with the same body as an earlier one."""
        return len([row for row in self.accepted if row["nth"]])

    def requests(self, kind: str) -> list[dict[str, Any]]:
        return rows(self.ledger, "SELECT * FROM requests WHERE kind = ? ORDER BY n", kind)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(row["body"]) for row in self.accepted]


def check_delivered(folder: Path, database: Path) -> None:
    """Check that every job is done, its file has the bytes of its row, and no `.part` and no lock file is left."""
    jobs = rows(database, JOBS)
    assert jobs and {job["state"] for job in jobs} == {"done"}
    for job in jobs:
        content = (folder / job["path"]).read_bytes()
        assert (len(content), sha256(content).hexdigest()) == (job["bytes"], job["sha256"])
    assert not list(folder.rglob("*.part"))
    assert not list(database.parent.glob("*.run-*"))


class Eavesdropper(Thread):
    """Receives one whole create call on a socket and refuses it. `request` has its bytes."""

    def __init__(self, server: socket.socket) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.request = b""

    def run(self) -> None:
        while not self.request.startswith(b"POST"):
            connection, _ = self.server.accept()
            with connection:
                self.request = self.read(connection)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")

    def read(self, connection: socket.socket) -> bytes:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536)
        length = re.search(rb"content-length: (\d+)", received.lower())
        whole = received.index(b"\r\n\r\n") + 4 + (int(length[1]) if length else 0)
        while len(received) < whole:
            received += connection.recv(65_536)
        return received

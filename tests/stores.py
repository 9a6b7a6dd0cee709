"""Object stores for the tests: a folder, and a real S3-speaking server (moto) in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import obstore
from obstore.store import from_url

from batchgen.files.output_paths import split_url
from tests.waiting import until

SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
"""Prints the port, and serves until the standard input ends."""


@dataclass(frozen=True)
class TestStore:
    """A folder of a store, as a URL, and the variables with which it is reached."""

    __test__ = False
    url: str
    environment: Mapping[str, str]

    @property
    def objects(self) -> dict[str, bytes]:
        """Content by URL, below the folder."""
        parts = split_url(self.url)
        entries = obstore.list(self.client, parts.key or None).collect()
        return {f"{parts.root}/{entry['path']}": self.read(f"{parts.root}/{entry['path']}") for entry in entries}

    @property
    def client(self) -> Any:
        root = split_url(self.url).root
        return from_url("file:///" if root == "file://" else root, client_options={"allow_http": True})

    def read(self, url: str) -> bytes:
        return bytes(obstore.get(self.client, split_url(url).key).bytes())

    def write(self, url: str, content: bytes, **metadata: str) -> None:
        attributes: Any = metadata or None
        obstore.put(self.client, split_url(url).key, content, attributes=attributes)

    def delete(self, url: str) -> None:
        obstore.delete(self.client, split_url(url).key)


@contextmanager
def moto() -> Iterator[Callable[[str], dict[str, str]]]:
    """A server. The function that it yields makes a bucket, and returns the variables with which it is reached."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"

        def make(bucket: str) -> dict[str, str]:
            until(lambda: httpx.put(f"{endpoint}/{bucket}").is_success, "a bucket is made")
            return {
                "AWS_ACCESS_KEY_ID": "AKIA-seen-nowhere",
                "AWS_SECRET_ACCESS_KEY": "a-secret-that-is-seen-nowhere",
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_REGION": "us-east-1",
                "AWS_ALLOW_HTTP": "true",
            }

        yield make
    finally:
        process.communicate("")  # its standard input ends, and it with it

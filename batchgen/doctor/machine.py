"""The machine and the manifest's folder: versions, the decoder of videos, free disk, the `.env`, what stands where
videos belong, unfinished downloads that nobody goes on with."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sqlite3
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.filesize import decimal

from batchgen import __version__
from batchgen.catalogue.wording import plural
from batchgen.doctor.findings import Finding, move_aside, ok, problem, shell
from batchgen.errors import BatchgenError, ExitCode, UsageError, os_reason
from batchgen.files import object_store
from batchgen.files.checker import Checker
from batchgen.files.disk_space import free_and_reserve, shortage
from batchgen.files.output_paths import is_url, split_url
from batchgen.files.outputs import OutputFolder, folders_of
from batchgen.files.placing import ScratchFolder
from batchgen.files.safe_open import UnsafePath
from batchgen.files.video import NotVideo
from batchgen.services.account import NotUTF8, UnreadableLine, Variables, read_dotenv

LIBRARIES = ("av", "httpx2", "sqlalchemy")
PART = re.compile(r".+\.([0-9a-f]{12})\.part")
OTHERS = stat.S_IRWXG | stat.S_IRWXO
SHOWN_PARTS = 20


def examine_machine(folder: Path) -> Iterator[Finding]:
    numbers = ", ".join(f"{name} {installed_version(name)}" for name in LIBRARIES)
    python = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    yield ok("versions", f"batchgen {__version__}, {python}, {numbers}")
    yield examine_decoder()
    yield examine_disk(folder)


def installed_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def examine_decoder() -> Finding:
    fault = asyncio.run(decoder_fault())
    if not fault:
        return ok("decoder", "the check of videos works")
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
        return problem("disk", f"{folder}: it may not be written", shell("chmod", "u+rwx", folder), ExitCode.STORAGE)
    if short := shortage(folder):
        message = f"{folder}: {short}. Free some space; this lists what takes most"
        return problem("disk", message, f"du -ah {shell(folder)} | sort -h | tail", ExitCode.STORAGE)
    return ok("disk", f"{folder}: {decimal(free_and_reserve(folder)[0])} free")


def examine_dotenv(path: Path, variables: Variables) -> Iterator[Finding]:
    """Whether a `.env` can be read, and by its user only. Nothing where there is none."""
    try:
        values = read_dotenv(path, variables)
    except UsageError as error:
        mend = "" if isinstance(error, UnreadableLine) else move_aside([path])
        if isinstance(error, NotUTF8):
            converted = path.with_name(f"{path.name}.utf8")
            convert = f"(umask 077; {shell('iconv', '-f', 'WINDOWS-1252', '-t', 'UTF-8', path)} > {shell(converted)})"
            mend = f"{convert} && {shell('mv', '--', converted, path)}"
        yield problem("key", str(error), mend, ExitCode.USAGE)
        return
    if values.get(variables.key) and is_readable_by_others(path):
        message = f"{path} holds the key, and other users of this machine may read it"
        yield problem("key", message, shell("chmod", "600", path), ExitCode.ACCOUNT)


def is_readable_by_others(path: Path) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & OTHERS)


def examine_output_folders(folder: Path, outputs: Iterable[str]) -> Iterator[Finding]:
    """What stands in the place of a folder for videos."""
    folders = {parent for output in outputs if not is_url(output) for parent in Path(output).parents}
    for path in sorted(folders - {Path()}):
        place = folder / path
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            kind = "a symbolic link" if place.is_symlink() else "a file"
            message = f"{place}: {kind} stands where a folder for videos belongs"
            yield problem("outputs", message, move_aside([place]), ExitCode.STORAGE)
            return


def examine_rights(folder: Path, outputs: Iterable[str]) -> Iterator[Finding]:
    """A folder in which a video that is to come cannot be written."""
    places = OutputFolder(folder)
    for name in folders_of(outputs):
        with suppress(OSError, UnsafePath), places.open_nearest(name) as directory:
            if not directory.may_write:
                mend = shell("chmod", "u+rwx", directory.path)
                yield problem("outputs", f"{directory.path}: it may not be written", mend, ExitCode.STORAGE)
                return


def examine_stores(outputs: Iterable[str]) -> Iterator[Finding]:
    """Whether videos can be stored in the object stores of these outputs. Each run tries the same at its start."""
    urls = [output for output in outputs if is_url(output)]
    try:
        asyncio.run(object_store.check_stores(urls))
    except BatchgenError as error:
        mend = shell(sys.executable, "-m", "pip", "install", "batchgen[cloud]") if isinstance(error, UsageError) else ""
        yield problem("outputs", str(error), mend, error.exit_code)
        return
    for root in sorted({split_url(url).root for url in urls}):
        yield ok("outputs", f"{root}: videos can be stored, and nothing is replaced")


def examine_parts(folder: Path, outputs: Iterable[str], resumable: Collection[str]) -> Iterator[Finding]:
    """Unfinished downloads that no job goes on with: those without the mark of a `resumable` one."""
    places = {
        ScratchFolder(folder).root if is_url(output) else folder / output.rpartition("/")[0] for output in outputs
    }
    parts = [
        part
        for place in sorted(places)
        for part in sorted(place.glob("*.part"))
        if (match := PART.fullmatch(part.name)) and match[1] not in resumable and not part.is_symlink()
    ]
    if parts:
        shown = parts[:SHOWN_PARTS]
        size = sum(part.lstat().st_size for part in parts)
        message = f"{plural(len(parts), 'unfinished download')} ({size:,} bytes) that no job goes on with"
        yield problem("leftovers", message, shell("rm", "--", *shown))


def stray_files(folder: Path, outputs: Iterable[str], recorded: Collection[str]) -> list[str]:
    """The videos in the folders of `outputs` that are not `recorded`: the files that end as the outputs do."""
    endings: dict[str, set[str]] = {}
    for output in outputs:
        endings.setdefault(f"{folder}/{output}".rpartition("/")[0], set()).add(Path(output).suffix)
    strays = []
    for place, suffixes in sorted(endings.items()):
        try:
            with os.scandir(place) as entries:
                names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except OSError:
            continue
        of_kind = (f"{place}/{name}" for name in names if Path(name).suffix in suffixes)
        strays += [path for path in of_kind if path not in recorded]
    return sorted(strays)

"""The review page as one file that opens without a server, with its posters in it or in a folder beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import quote

from batchgen.errors import StorageError, UsageError
from batchgen.files.outputs import OutputFolder
from batchgen.review.page import GENERATOR, PageData, policy, render

MEDIA = "'self' file:"
"""What the page may load: files beside it, opened from a disk or from a server that has them."""
HEAD_BYTES = 4_000  # of a file, in which a page of ours names its maker
BASE64_GROWTH = 4 / 3


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """What was written."""

    path: Path
    bytes: int
    posters: int
    poster_folder: Path | None
    """Where the posters are; None where they are in the page."""


def judge_target(path: Path) -> None:
    """Raise `UsageError` where a page would replace something that is no page of ours, or has no folder."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file, such as {path / 'report.html'}")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    if f'content="{GENERATOR}"'.encode() not in head:
        raise UsageError(f"{path}: is not a page that batchgen made, and is not replaced; name another file with -o")


def write_report(
    page: PageData, path: Path, folder: Path, read_poster: Callable[[str], bytes | None], inline_bytes: float
) -> WrittenReport:
    """Write the page of a batch whose videos lie below `folder`. Raises `StorageError`, `UsageError`.

    Posters are in the page where all of them together take at most `inline_bytes` in it.
    """
    judge_target(path)
    posters = {name: poster for name, sha256 in page.posters.items() if (poster := read_poster(sha256))}
    is_inline = sum(map(len, posters.values())) * BASE64_GROWTH <= inline_bytes
    poster_folder = None if is_inline or not posters else path.with_name(f"{path.stem}-posters")
    document = {
        **page.document,
        "videos": address_of(folder, path.parent),
        "posters": f"{quote(poster_folder.name)}/" if poster_folder else "",
    }
    inline = {name: base64.b64encode(poster).decode() for name, poster in posters.items()} if is_inline else None
    content = render(page, document, policy(media=MEDIA), inline).encode("utf-8", "replace")
    try:
        if poster_folder:
            write_posters(poster_folder, posters)
        replace(path, content)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error
    return WrittenReport(path, len(content), len(posters), poster_folder)


def address_of(folder: Path, base: Path) -> str:
    """The relative address of a folder from a page in `base`, with a slash at its end; "" where it is the same."""
    try:
        relative = os.path.relpath(folder.resolve(), base.resolve())
    except ValueError:  # on another drive of Windows
        return f"{folder.resolve().as_uri()}/"
    return "" if relative == "." else f"{quote(Path(relative).as_posix())}/"


def write_posters(folder: Path, posters: Mapping[str, bytes]) -> None:
    """Write the posters that are not there yet. Raises `OSError`."""
    folder.mkdir(exist_ok=True)
    for name, poster in posters.items():
        path = folder / f"{name}.webp"
        if not path.exists():
            replace(path, poster)


def replace(path: Path, content: bytes) -> None:
    """Put a file in place at once, with the permissions of any new file. Raises `OSError`."""
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(OutputFolder(path.parent).video_mode)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

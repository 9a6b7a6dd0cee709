"""The review page as one file that opens without a server, with its posters in it or in a folder beside it."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from batchgen.files.safe_open import open_below, user_mode
from batchgen.files.staged_file import report_file
from batchgen.review.page import GENERATOR, PageData, policy, render

MEDIA = "'self' file:"
"""What the page may load: files beside it, opened from a disk or from a server that has them."""
MARK = f'content="{GENERATOR}"'
"""Of a page of ours: only such a one is replaced."""
BASE64_GROWTH = 4 / 3
INLINE_BYTES = 20_000_000  # of posters in the page: those of some 2,000 clips


def write_report(page: PageData, path: Path, folder: Path) -> Path | None:
    """Write the page of a batch whose videos lie below `folder`. Returns the folder of its posters; None where they are
    in the page.

    Raises `UnsafePath`, `StorageError`.
    """
    posters = page.posters
    is_inline = sum(map(len, posters.values())) * BASE64_GROWTH <= INLINE_BYTES
    poster_folder = None if is_inline or not posters else path.with_name(f"{path.stem}-posters")
    document = {
        **page.document,
        "videos": address_of(folder, path.parent),
        "posters": f"{quote(poster_folder.name)}/" if poster_folder else "",
    }
    inline = {name: base64.b64encode(poster).decode() for name, poster in posters.items()} if is_inline else None
    content = render(page, document, policy(media=MEDIA), inline)
    with report_file(path, MARK) as file:
        file.write(content)
        if poster_folder:
            write_posters(poster_folder, posters)
    return poster_folder


def address_of(folder: Path, base: Path) -> str:
    """The relative address of a folder from a page in `base`, with a slash at its end; "" where it is the same."""
    try:
        relative = os.path.relpath(folder.resolve(), base.resolve())
    except ValueError:  # on another drive of Windows
        return f"{folder.resolve().as_uri()}/"
    return "" if relative == "." else f"{quote(Path(relative).as_posix())}/"


def write_posters(place: Path, posters: Mapping[str, bytes]) -> None:
    """Write the posters that are not there whole. Raises `OSError`, `UnsafePath` for a link in place of the folder."""
    mode = user_mode()
    with open_below(place.parent, (place.name,), create=True) as folder:
        for short, poster in posters.items():
            name = f"{short}.webp"
            status = folder.stat(name)
            if status is None or status.st_size != len(poster):  # one that a power cut has taken is written again
                folder.replace(name, poster, mode)

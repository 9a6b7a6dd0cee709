"""The posters of delivered clips: one small WebP each, by the SHA-256 of the clip, in a folder beside the manifest.

They are made as clips arrive and can be made again at any time: nothing is lost with them.
"""

from __future__ import annotations

from pathlib import Path

from batchgen.files.safe_open import PRIVATE_FOLDER, Directory, UnsafePath, open_below

FOLDERS = (".batchgen", "posters")
POSTER_BYTES_MAX = 200_000  # a poster of 320 pixels has some 12 kB; a larger file there is not one of ours


class Posters:
    """The posters of one manifest's folder. Everything here may wait for the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, sha256: str) -> bytes | None:
        """The poster of a clip, as WebP; None where there is none."""
        try:
            with self.open_folder(sha256) as folder, folder.reader(name_of(sha256)) as file:
                poster = file.read(POSTER_BYTES_MAX + 1)
        except (OSError, UnsafePath):
            return None
        return poster if 0 < len(poster) <= POSTER_BYTES_MAX else None

    def store(self, sha256: str, poster: bytes) -> None:
        """Keep a poster, by an atomic rename. Raises `OSError`, `UnsafePath`."""
        with self.open_folder(sha256, create=True) as folder:
            folder.replace(name_of(sha256), poster)

    def open_folder(self, sha256: str, *, create: bool = False) -> Directory:
        """The folder of a clip's poster, by the first digits: no folder gets a hundred thousand files."""
        return open_below(self.root, (*FOLDERS, sha256[:2]), create=create, mode=PRIVATE_FOLDER)


def name_of(sha256: str) -> str:
    return f"{sha256}.webp"

"""The posters of delivered clips: one small WebP each, by the SHA-256 of the clip, in a folder beside the manifest.

They are made as clips arrive and can be made again at any time: nothing is lost with them.
"""

from __future__ import annotations

import os
from pathlib import Path

from batchgen.files.outputs import OutputFolder, name_of
from batchgen.files.safe_open import UnsafePath

FOLDER = ".batchgen/posters"
POSTER_BYTES_MAX = 200_000  # a poster of 320 pixels has some 8 kB; a larger file there is not one of ours


class Posters:
    """The posters of one manifest's folder. Everything here may wait for the disk."""

    def __init__(self, folder: Path) -> None:
        self.outputs = OutputFolder(folder)

    def read(self, sha256: str) -> bytes | None:
        """The poster of a clip, as WebP; None where there is none."""
        path = path_of(sha256)
        try:
            with (
                self.outputs.open_parent(path) as folder,
                os.fdopen(folder.open(name_of(path), os.O_RDONLY), "rb") as file,
            ):
                poster = file.read(POSTER_BYTES_MAX + 1)
        except (OSError, UnsafePath):
            return None
        return poster if 0 < len(poster) <= POSTER_BYTES_MAX else None

    def store(self, sha256: str, poster: bytes) -> None:
        """Keep a poster. Raises `OSError`, `UnsafePath`."""
        path, temporary = path_of(sha256), f"{name_of(path_of(sha256))}.{os.getpid()}"
        with self.outputs.open_parent(path, create=True) as folder:
            folder.unlink(temporary)
            with os.fdopen(folder.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(poster)
            os.replace(
                *(folder.locate(temporary), folder.locate(name_of(path))),
                src_dir_fd=folder.descriptor,
                dst_dir_fd=folder.descriptor,
            )


def path_of(sha256: str) -> str:
    """Where the poster of a clip lies, relative to the manifest's folder."""
    return f"{FOLDER}/{sha256[:2]}/{sha256}.webp"

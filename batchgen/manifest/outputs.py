"""Where the videos go: paths that stay in the manifest's folder, work on every system and do not meet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from posixpath import normpath

from batchgen.manifest.spots import Spot

PART = ".part"
"""Ends the name of a file that is being downloaded."""
LONGEST_PART = 255 - len(PART)
"""Bytes of one name; most file systems take 255."""
LONGEST_PATH = 1_000
"""Bytes of a whole path; some systems take 1,024."""
UNSAFE = re.compile(r'[<>:"|?*\\]')
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)

PLAIN_PART = r"(?!con|prn|aux|nul|com|lpt)[a-z0-9_][a-z0-9_-]{0,99}"
PLAIN = re.compile(rf"({PLAIN_PART}/){{0,5}}{PLAIN_PART}\.mp4", re.IGNORECASE | re.ASCII)
"""Paths that need no closer look."""


def path_fault(path: str) -> str | None:
    """Why no video may be written to `path`, or None. Single dots in it are harmless: see `tidy`."""
    if PLAIN.fullmatch(path):
        return None
    if not path.strip():
        return "the output path is empty"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "the output path must be relative to the manifest"
    if len(path.encode("utf-8", "replace")) > LONGEST_PATH:
        return f"the output path is longer than {LONGEST_PATH} bytes"
    for part in path.split("/"):
        if part != "." and (why := part_fault(part)):
            return why
    if path.endswith("/.") or not tidy(path):
        return "the output path has no name in it"
    if path.casefold().endswith(PART):
        return f"a name that ends in {PART} is that of an unfinished download"
    return None


def part_fault(part: str) -> str | None:
    if not part:
        return "the output path has an empty part"
    if part == "..":
        return "the output path leaves the manifest's folder"
    if part.startswith("."):
        return f"a part of the output path begins with a dot: {part}"
    if part[-1] in ". " or part[0] == " ":
        return f"a part of the output path begins or ends with a space, or ends with a dot: {part}"
    if not part.isprintable():
        return "the output path holds a character that cannot be printed"
    if unsafe := UNSAFE.search(part):
        return f"the output path holds {unsafe[0]} which not every system can have in a file's name"
    if RESERVED.match(part):
        return f"{part} is the name of a device on Windows"
    if len(part.encode("utf-8", "replace")) > LONGEST_PART:
        return f"a part of the output path is longer than {LONGEST_PART} bytes"
    return None


def tidy(path: str) -> str:
    """`path` without single dots."""
    return "/".join(part for part in path.split("/") if part != ".")


def folded(path: str) -> str:
    """The same text for all paths that are one file on some file system (macOS and Windows fold case and accents)."""
    return (
        path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
    )


class Outputs:
    """Every output path so far, to see that no two meet."""

    def __init__(self) -> None:
        self.files: dict[str, Spot] = {}
        self.folders: dict[str, Spot] = {}

    def add(self, path: str, spot: Spot) -> bool:
        """Take the path of a job; `spot` is where the manifest says it. False, and a finding, if it meets another."""
        key = folded(path)
        first = self.files.setdefault(key, spot)
        if first is not spot:
            spot.add(f"two jobs would be written to {path}", f"the other is {first.told(spot)}")
            return False
        while (key := key.rpartition("/")[0]) and key not in self.folders:
            self.folders[key] = spot
        return True

    def finish(self, manifests: Iterable[str], rows: Iterable[str], images: Iterable[str]) -> None:
        """What only shows when all jobs are known. All paths that are read are relative to the main manifest."""
        for key in self.files.keys() & self.folders.keys():
            inside = self.folders[key]
            self.files[key].add(f"a video would be written to {key}, a folder {inside.told(self.files[key])}")
        for what, paths in (
            ("the manifest", manifests),
            ("a file of rows", rows),
            ("an image that the jobs use", images),
        ):
            for path in paths:
                spot = self.files.get(folded(normpath(path)))
                if spot:
                    spot.add(f"the video would be written over {what}: {path}")

"""The files that match a shell pattern, such as `frames/**/*.png`, found by a bounded search.

Other than `glob` of the standard library, `**` follows no links to folders, which may lead back to themselves.
"""

import os
import re
from collections.abc import Callable, Iterator
from fnmatch import translate
from pathlib import Path, PurePosixPath

from batchgen.files.input_file import InputFault
from batchgen.manifest import bounds

MAGIC = re.compile(r"[*?\[]")


def matching_files(folder: Path, pattern: str) -> tuple[list[str], list[str]]:
    """The paths of the files that match, relative to `folder` where the pattern is, sorted.

    Beside them those that would match with their ending in the other case, as in B.JPG. A name that begins with a dot
    matches only a pattern that does. Raises InputFault for too many files to look at, and OSError.
    """
    search = _Search(folder)
    parts = PurePosixPath(pattern.replace(os.sep, "/")).parts
    if len(parts) > bounds.GLOB_DEPTH:
        raise InputFault(f"the pattern has more than {bounds.GLOB_DEPTH} parts")
    if not parts:
        return [], []
    if parts[-1] == "**":
        parts = (*parts, "*")
    return sorted(set(search.below("", parts))), sorted(search.other_case)


def in_other_case(name: str, matches: Callable[[str], object]) -> bool:
    """Whether a file's name matches with its ending in small or in capital letters."""
    stem, dot, ending = name.rpartition(".")
    return bool(stem) and any(matches(f"{stem}{dot}{spelt}") for spelt in (ending.lower(), ending.upper()))


class _Search:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = 0
        self.other_case: set[str] = set()
        self.searched: set[tuple[str, int]] = set()
        """The folders with the number of parts that were left of the pattern: several `**` lead to one many times."""

    def below(self, prefix: str, parts: tuple[str, ...]) -> Iterator[str]:
        """The files under the folder `prefix` that match the rest of the pattern."""
        if (prefix, len(parts)) in self.searched:
            return
        self.searched.add((prefix, len(parts)))
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self.below(prefix, rest)
            for path, entry in self.scan(prefix) if prefix.count("/") < bounds.GLOB_DEPTH else ():
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    yield from self.below(f"{path}/", parts)
        elif not MAGIC.search(part):
            path = f"{prefix}{part}"
            if rest:
                yield from self.below(path if path.endswith("/") else f"{path}/", rest)
            elif (self.folder / path).is_file():
                yield path
        else:
            yield from self.matching(prefix, part, rest)

    def matching(self, prefix: str, part: str, rest: tuple[str, ...]) -> Iterator[str]:
        """The files under `prefix` whose path begins with a name that matches `part`."""
        matches = re.compile(translate(part)).match
        for path, entry in self.scan(prefix):
            is_hidden = entry.name.startswith(".")
            if matches(entry.name) and (part.startswith(".") or not is_hidden):
                if rest and entry.is_dir():
                    yield from self.below(f"{path}/", rest)
                elif not rest and entry.is_file():
                    yield path
            elif not rest and not is_hidden and in_other_case(entry.name, matches) and entry.is_file():
                self.other_case.add(path)

    def scan(self, prefix: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """The names in a folder, each with its path."""
        try:
            entries = os.scandir(self.folder / prefix)
        except OSError:
            return  # a folder that is missing or may not be read holds no match
        with entries:
            for entry in entries:
                self.entries += 1
                if self.entries > bounds.GLOB_ENTRIES:
                    message = f"the pattern has to look at more than {bounds.GLOB_ENTRIES:,} files"
                    raise InputFault(message, "name a smaller folder in it")
                yield f"{prefix}{entry.name}", entry

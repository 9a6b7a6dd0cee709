"""Finds the file that a path means where it is spelt otherwise on the disk: accents, slashes, escapes of links."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Container, Iterator
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from batchgen.catalogue.wording import did_you_mean
from batchgen.errors import INIT_WRITES
from batchgen.files.output_paths import folded

NAMES_MAX = 200_000
"""Names of one folder that are read: a larger folder takes seconds to list."""
COMPARED_CHARACTERS = 100
"""Characters of a name that are compared: comparing takes time in the square of the length."""
CANDIDATES_MAX = 1_000
"""Names of one folder that a name is compared with, for the same reason."""
NEAR = 0.8
"""How similar a name must be, from 0 to 1, to be suggested: one slip in a short name is."""
MANIFESTS = (".yaml", ".yml", ".json")
"""How the names of manifests end: JSON is YAML."""
FILE_LINK = re.compile(r"file:(//(localhost)?)?(?=/)", re.IGNORECASE)


class FileNames:
    """The names in the folders that were looked into, each listed once."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, list[str]]] = {}
        """Folder → folded name → the names on the disk."""

    def existing(self, folder: Path, path: str) -> str:
        """The path of the existing file that `path` means; `path` itself where there is none."""
        for candidate in dict.fromkeys(spellings(path)):
            if os.path.lexists(folder / candidate):
                return candidate
            match = self.match(folder, candidate)
            if match and normal(match) == normal(candidate):
                return match
        return path

    def similar(self, folder: Path, path: str, endings: Collection[str] = ()) -> str | None:
        """The path of another file whose name is `path` but for the case of its letters; else of the file with the
        nearest name, which has one of the `endings`."""
        matches = [match for candidate in spellings(path) if (match := self.match(folder, candidate)) and match != path]
        if matches:
            return matches[0]
        place, slash, name = path.rpartition("/")
        names = [other for spelt in self.names(folder / f"{place}{slash}").values() for other in spelt if other != name]
        names = [other for other in names if not endings or Path(other).suffix.lower() in endings]
        near = [other for other in names if Path(other).stem == name]
        near = near or get_close_matches(name[:COMPARED_CHARACTERS], names[:CANDIDATES_MAX], 1, NEAR)
        return f"{place}{slash}{near[0]}" if near else None

    def match(self, folder: Path, path: str) -> str | None:
        """The existing path that is `path` but for letter case and the form of accents, if there is only one."""
        done = "/" if path.startswith("/") else ""
        for part in filter(None, path.split("/")):
            names = [part] if os.path.lexists(folder / done / part) else self.names(folder / done).get(folded(part), [])
            exact = [name for name in names if normal(name) == normal(part)]
            if len(exact or names) != 1:
                return None
            done = f"{done}{'/' if done.strip('/') else ''}{(exact or names)[0]}"
        return done or None

    def names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self.folders:
            names = self.folders[folder] = {}
            with suppress(OSError, ValueError), os.scandir(folder) as entries:  # some folders cannot be listed
                for entry in islice(entries, NAMES_MAX):
                    names.setdefault(folded(entry.name), []).append(entry.name)
        return self.folders[folder]


def similar_manifest(path: Path, read_before: Container[Path] = ()) -> str:
    """The hint "did you mean …?" with the manifest of the nearest name; "" for none, or one that was read before."""
    similar = FileNames().similar(path.parent, path.name, MANIFESTS) if len(path.name) <= COMPARED_CHARACTERS else None
    if not similar or (path.parent / similar).resolve() in read_before:
        return ""
    return did_you_mean(str(path.parent / similar), str(path))


def no_such_manifest(path: Path) -> str:
    """What to say of a manifest that is not there."""
    return f"{path}: there is no such manifest; {similar_manifest(path) or INIT_WRITES}"


def spellings(path: str) -> Iterator[str]:
    """The paths that a text may stand for, the most literal first."""
    yield path
    if FILE_LINK.match(path):
        yield unquote(FILE_LINK.sub("", path))
    if path.startswith("~/"):
        yield str(Path(path).expanduser())
    if "\\" in path:
        yield path.replace("\\", "/")
    if "%" in path:
        yield unquote(path)


def normal(name: str) -> str:
    """One form for all forms of the same accents: macOS takes them apart, most keyboards do not."""
    return unicodedata.normalize("NFC", name)

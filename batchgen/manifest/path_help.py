"""What people mean by a path, a glob or an output that cannot work, and what to write instead."""

import os
import re
from pathlib import Path

from batchgen.catalogue.wording import did_you_mean
from batchgen.files.spelling import FileNames

ENDS = re.compile(r"\{[^}]*,[^}]*\}")
"""Alternatives, as some shells have them."""
HOME = re.compile(r"~/|\$\{?[A-Z_]+\}?/|%[A-Z_]+%[/\\]")
"""The beginning of a path that a shell would fill in."""
NOT_FILLED_IN = "~ and variables of the shell are not filled in"
MISSING: tuple[tuple[str, str], ...] = (
    (r"(www\.|//|[\w-]+(\.[\w-]+)*\.(com|org|net|io|de|co|ai|app|dev)/)|https?:/?[^/]", "a link begins with https://"),
    (r"(.*/)?[A-Za-z]:[\\/]", "this is a path of Windows; write it relative to the manifest"),
    (r"[\"'“”„‘’«]|.*[\"'“”‘’»]$", "take the quotes away: they are part of the path"),
    (r"<", "take the angle brackets away: they are part of the path"),
    (r"!?\[.*\]\(", "write the link alone, without its title"),
    (r".*\\ ", "take the backslash before each blank away: this is no shell"),
    (r"~/", "~ is the home folder of the user who runs this"),
    (HOME.pattern, f"{NOT_FILLED_IN}; write the path relative to the manifest"),
    (r"/|file:", "write the path relative to the manifest"),
)
"""The beginning of a path without a file, as a pattern, and what may be meant."""


def missing_hint(names: FileNames, folder: Path, path: str) -> str:
    """What may be meant by a path in `folder` that has no file."""
    similar = names.similar(folder, path)
    if similar and not (folder / similar).is_dir():
        return did_you_mean(similar[:200], path)
    return next((hint for pattern, hint in MISSING if re.match(pattern, path, re.DOTALL)), "")


def glob_hint(folder: Path, pattern: str) -> str:
    """What to do about a pattern that matches no file."""
    if HOME.match(pattern):
        return f"{NOT_FILLED_IN}; write the path relative to the manifest"
    if ENDS.search(pattern):
        return "a pattern has no {…}: write *.* for files of every kind, or a matrix for each kind"
    if "\\" in pattern and os.sep != "\\":
        return "write / in place of \\"
    if "[" in pattern:
        return "[…] stands for one of these characters: write [[] where the name has a ["
    if (folder / pattern).is_dir():
        return f"this is a folder: write {pattern.rstrip('/')[:100]}/* for the files in it"
    return "" if pattern.startswith("/") else "the path is relative to the manifest's folder"


def home_fault(output: str) -> str | None:
    """Why an output that a shell would fill in is none, or None."""
    if HOME.match(output):
        return f"{NOT_FILLED_IN}; an output is relative to the manifest, or begins with file://"
    return None

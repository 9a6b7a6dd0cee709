"""The parts of a README that a command writes: each stands between two comments that name it.

The prose around them is written by hand and kept.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from batchgen import clock


def read_block(path: Path, name: str) -> str | None:
    """The content of a block; None if the file has no such block."""
    match = _pattern(name).search(path.read_text(encoding="utf-8"))
    return match["content"].strip() if match else None


def write_block(path: Path, name: str, content: str) -> None:
    """Replace the content of a block. Raises LookupError if the file has no such block."""
    text = path.read_text(encoding="utf-8")
    match = _pattern(name).search(text)
    if match is None:
        raise LookupError(f"{path} has no block <!-- {name} -->")
    start, end = match.span("content")
    path.write_text(f"{text[:start]}\n{content.strip()}\n{text[end:]}", encoding="utf-8")


def block_names(path: Path) -> list[str]:
    """The names of a file's blocks, in their order."""
    return re.findall(r"^<!-- /(.+) -->$", path.read_text(encoding="utf-8"), re.MULTILINE)


def machine() -> str:
    """The date and the machine in a few words: absolute figures belong to them."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{clock.utcnow():%Y-%m-%d}, {os.cpu_count()} cores, {python}"


def _pattern(name: str) -> re.Pattern[str]:
    start, end = f"<!-- {re.escape(name)} -->", f"<!-- /{re.escape(name)} -->"
    return re.compile(f"^{start}$(?P<content>.*?)^{end}$", re.MULTILINE | re.DOTALL)

"""One entry becomes many jobs: its `rows`, times the cells of its `matrix`, times `count` takes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from glob import iglob
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

from batchgen.manifest import words
from batchgen.manifest.nodes import Node, plain
from batchgen.manifest.rows import NAME, Rows, Unreadable
from batchgen.manifest.source import Findings, Origin

MOST_JOBS = 1_000_000
"""Jobs of one manifest."""
MOST_TAKES = 1_000


@dataclass(slots=True)
class Folder:
    """The folder that a manifest's files are named from, and what was read of it besides the manifests."""

    path: Path
    """Absolute."""
    prefix: str = ""
    """From the main manifest's folder to this one, as a prefix of relative paths."""
    shown: Path = field(default_factory=Path)
    """As the user would write it."""
    named: dict[str, str] = field(default_factory=dict)
    """What the manifests name besides images (included manifests, files of rows), shared by all of them."""

    def name(self, path: str, kind: str) -> None:
        """Note a file before it is read."""
        self.named[self.join(path)] = kind

    def below(self, path: str) -> Folder:
        """The folder of the manifest at `path`, which one in this folder includes."""
        parent = Path(path).parent.as_posix()
        prefix = "" if parent == "." else parent.rstrip("/") + "/"
        return Folder(self.path / parent, self.join(prefix), self.shown / parent, self.named)

    def join(self, path: str) -> str:
        """`path`, written in this folder, as it is relative to the main manifest's."""
        return path if not self.prefix or not path or Path(path).is_absolute() else f"{self.prefix}{path}"


@dataclass(slots=True)
class Expansion:
    """What one entry is multiplied by."""

    rows: Rows | None
    axes: dict[str, list[Any]]
    takes: int | None
    """None for a job without `count`."""

    def cells(self) -> Iterator[tuple[dict[str, Any], Origin]]:
        """The names and the origin of each job: the last thing written varies fastest."""
        name = self.rows.name if self.rows else ""
        takes = range(1, self.takes + 1) if self.takes else (0,)
        combinations = list(product(*self.axes.values())) if self.rows else product(*self.axes.values())
        for line, row in self.rows or ((0, {}),):
            for values in combinations:
                cell = tuple(zip(self.axes, values, strict=True))
                for take in takes:
                    names = {**row, **dict(cell)} if cell else row
                    yield names, Origin(name, line, cell, take)

    @property
    def names(self) -> list[str]:
        return [*((self.rows.columns if self.rows else None) or ()), *self.axes]


def expansion(fields: Mapping[str, Node], folder: Folder, findings: Findings) -> Expansion | None:
    """What the entry `fields` is multiplied by; None, and findings, where that is wrong."""
    before = len(findings)
    axes = _matrix(fields["matrix"], folder, findings) if "matrix" in fields else {}
    takes = _count(fields["count"], findings) if "count" in fields else None
    rows = _rows(fields["rows"], axes, folder, findings) if "rows" in fields else None
    if len(findings) > before:
        return None
    if (number := prod(map(len, axes.values())) * (takes or 1)) > MOST_JOBS:
        place = fields["matrix"] if axes else fields["count"]
        findings.add(place, f"this makes {number:,} jobs; a manifest may have {MOST_JOBS:,}")
        return None
    return Expansion(rows, axes, takes)


def _count(node: Node, findings: Findings) -> int | None:
    if node.value is None:
        return None
    if type(node.value) is int and 1 <= node.value <= MOST_TAKES:
        return node.value
    what = node.text[:20] if type(node.value) is int else words.kind(node)
    findings.add(node, f"`count` must be a whole number from 1 to {MOST_TAKES:,}, not {what}")
    return None


def _matrix(node: Node, folder: Folder, findings: Findings) -> dict[str, list[Any]]:
    if type(node.value) is not dict or not node.value:
        what = "empty" if type(node.value) is dict else words.kind(node)
        findings.add(node, f"`matrix` must be a mapping of names to lists, not {what}", "such as {style: [noir, pop]}")
        return {}
    axes = {}
    for name, values in node.value.items():
        if not NAME.fullmatch(name):
            findings.add(node.keys[name], f"`{name[:100]}` is no name for a template: letters, digits and _ only")
        axes[name] = _axis(name, values, folder, findings)
    return axes


def _axis(name: str, node: Node, folder: Folder, findings: Findings) -> list[Any]:
    if type(node.value) is list:
        if not node.value:
            findings.add(node, f"`{name[:100]}` has no values")
        return [plain(child) for child in node.value]
    if type(node.value) is not dict:
        message = f"`{name[:100]}` must be a list, or {{glob: …}}, not {words.kind(node)}"
        findings.add(node, message, f"one value is written [{node.text[:40]}]" if node.text else "")
        return []
    for key in node.value:
        if key != "glob":
            findings.add(node.keys[key], f"a matrix has no `{key[:100]}`", "did you mean glob?")
    pattern = node.value.get("glob")
    if pattern is None:
        return []
    if type(pattern.value) is not str or not pattern.value.strip():
        findings.add(pattern, f"`glob` must be text, not {words.kind(pattern)}", "such as frames/*.png")
        return []
    return _glob(pattern, folder, findings)


def _glob(node: Node, folder: Folder, findings: Findings) -> list[Any]:
    try:
        found = matches(node.value, folder.path)
    except (OSError, ValueError) as error:
        findings.add(node, f"the glob cannot be read: {getattr(error, 'strerror', None) or error}")
        return []
    if not found:
        findings.add(node, f"no file is like {node.value[:200]}", "the path begins beside the manifest")
    for match in found:
        if not match.isprintable():
            findings.add(node, "a file's name holds characters that cannot be printed", ascii(match)[1:201])
            return []
    return found


def matches(pattern: str, folder: Path) -> list[str]:
    """The files like `pattern`, relative to `folder`, in the order of their names. Raises OSError, ValueError."""
    # Not Path.glob: it takes no absolute pattern, and finds what is hidden.
    found = islice(iglob(pattern, root_dir=folder, recursive=True), MOST_JOBS + 1)  # noqa: PTH207
    return sorted(match.replace(os.sep, "/") for match in found if (folder / match).is_file())


def _rows(node: Node, axes: Collection[str], folder: Folder, findings: Findings) -> Rows | None:
    if type(node.value) is not str or not node.value.strip():
        findings.add(node, f"`rows` must be the name of a file, not {words.kind(node)}", "such as products.csv")
        return None
    try:
        rows = Rows(folder.path / node.value, folder.shown / node.value, axes, findings)
    except Unreadable as error:
        findings.add(node, f"{error}: {node.value[:200]}", error.label)
        return None
    folder.name(node.value, "rows")
    return rows

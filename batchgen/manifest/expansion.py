"""Expands one entry to many jobs: its `rows`, times the cells of its `matrix`, times `count` takes."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from batchgen.catalogue.wording import list_hint, listed, plural, quoted
from batchgen.errors import os_reason
from batchgen.files.input_file import InputFault
from batchgen.files.media import no_such_file
from batchgen.files.spelling import FileNames
from batchgen.manifest.diagnostics import Diagnostics, Origin
from batchgen.manifest.file_pattern import matching_files
from batchgen.manifest.header import Folder
from batchgen.manifest.job_keys import MOST_JOBS, MOST_TAKES, NAME, number_fault
from batchgen.manifest.nodes import Node, written
from batchgen.manifest.path_help import glob_hint, missing_hint
from batchgen.manifest.rows import RowsFile
from batchgen.services.text import character_fault


@dataclass(slots=True)
class Expansion:
    """What multiplies an entry. `axes` are the names of the matrix with their values."""

    rows: RowsFile | None
    axes: dict[str, list[Any]]
    takes: int | None
    """None for an entry without `count`."""

    def variants(self) -> Iterator[tuple[dict[str, Any], Origin]]:
        """The template names and the origin of each job. Takes vary fastest, then the last axis; rows slowest."""
        name = self.rows.name if self.rows else ""
        takes = range(1, self.takes + 1) if self.takes else (0,)
        for line, row in self.rows or ((0, {}),):
            for values in product(*self.axes.values()):
                cell = tuple(zip(self.axes, values, strict=True))
                for take in takes:
                    names = {**row, **dict(cell)} if cell else row
                    yield names, Origin(name, line, cell, take)


def expansion(fields: Mapping[str, Node], folder: Folder, diagnostics: Diagnostics) -> Expansion | None:
    """The expansion of the entry with these `fields`; None where it is wrong, which is reported."""
    before = len(diagnostics)
    axes = _matrix(fields["matrix"], folder, diagnostics) if "matrix" in fields else {}
    rows = _rows(fields["rows"], axes, folder, diagnostics) if "rows" in fields else None
    takes: int | None = fields["count"].value if "count" in fields else None
    if takes is not None and (fault := number_fault("count", takes, 1, MOST_TAKES)):
        diagnostics.add(fields["count"], fault)
        return None
    if len(diagnostics) > before:
        return None
    if (number := prod(map(len, axes.values())) * (takes or 1)) > MOST_JOBS:
        multiplier = fields["matrix"] if axes else fields["count"]
        diagnostics.add(multiplier, f"this makes {number:,} jobs; a manifest may have {MOST_JOBS:,}")
    elif rows and rows.has_more_than(MOST_JOBS // number):
        diagnostics.add(fields["rows"], f"the rows make more than {MOST_JOBS:,} jobs", "divide them into several files")
    return Expansion(rows, axes, takes) if len(diagnostics) == before else None


def _matrix(node: Node, folder: Folder, diagnostics: Diagnostics) -> dict[str, list[Any]]:
    if type(node.value) is not dict or not node.value:
        value = "an empty mapping" if type(node.value) is dict else quoted(node.value)
        hint = "such as {style: [noir, pop]}"
        diagnostics.add(node, f"`matrix` must be a mapping of names to lists, not {value}", hint)
        return {}
    axes = {}
    for name, values in node.value.items():
        if not NAME.fullmatch(name):
            message = f"`{name[:100]}` is no name for a template: the letters a to z, digits and _ only"
            diagnostics.add(node.keys[name], message)
        axes[name] = _axis(name, values, folder, diagnostics)
    return axes


def _axis(name: str, node: Node, folder: Folder, diagnostics: Diagnostics) -> list[Any]:
    if type(node.value) is list:
        if not node.value:
            diagnostics.add(node, f"`{name[:100]}` has no values")
        return [written(child) for child in node.value]
    if type(node.value) is dict and node.value.keys() == {"glob"}:
        return _glob(node.value["glob"], folder, diagnostics)
    message = f"`{name[:100]}` must be a list, or {{glob: …}}, not {quoted(node.value)}"
    diagnostics.add(node, message, list_hint(node.value))
    return []


def _glob(node: Node, folder: Folder, diagnostics: Diagnostics) -> list[Any]:
    if type(node.value) is not str or not node.value.strip():
        diagnostics.add(node, f"`glob` must be text, not {quoted(node.value)}", "such as frames/*.png")
        return []
    try:
        matches, others = matching_files(folder.path, node.value)
    except (InputFault, OSError, ValueError) as error:
        diagnostics.add(node, f"the glob cannot be read: {os_reason(error)}", getattr(error, "hint", ""))
        return []
    capitals = f"capital letters count: {listed(others)[:200]}"
    if not matches:
        hint = capitals if others else glob_hint(folder.path, node.value)
        diagnostics.add(node, f"no file matches {node.value[:200]}", hint)
    elif others:
        hint = "write both cases in brackets to take them too, such as *.[jJ][pP][gG]"
        diagnostics.warn(node, f"{node.value[:200]} leaves out {plural(len(others), 'file')}, as {capitals}", hint)
    for match in matches:
        if fault := character_fault(match):
            diagnostics.add(node, f"the name of a file {fault}", f"rename the file: {match[:200]}")
            return []
    return matches


def _rows(node: Node, axes: Collection[str], folder: Folder, diagnostics: Diagnostics) -> RowsFile | None:
    if type(node.value) is not str or not node.value.strip():
        diagnostics.add(node, f"`rows` must be the name of a file, not {quoted(node.value)}", "such as products.csv")
        return None
    missing = no_such_file(node.value)
    try:
        rows = RowsFile(folder.path / node.value, folder.shown / node.value, missing, axes, diagnostics)
    except InputFault as error:
        hint = missing_hint(FileNames(), folder.path, node.value) if str(error) == missing else error.hint
        diagnostics.add(node, f"{error}: {node.value[:200]}", hint)
        return None
    folder.add_file(node.value, "a file of rows")
    return rows

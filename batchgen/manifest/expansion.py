"""Expands one entry to many jobs: its `rows`, times the cells of its `matrix`, times `count` takes."""

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from batchgen.catalogue.wording import list_hint, listed, plural, quoted
from batchgen.errors import os_reason
from batchgen.files.input_file import InputFault
from batchgen.files.media import no_such_file
from batchgen.files.spelling import FileNames
from batchgen.manifest import bounds
from batchgen.manifest.diagnostics import Origin, ReadingStopped
from batchgen.manifest.entry import Entry
from batchgen.manifest.file_pattern import matching_files
from batchgen.manifest.job_keys import MOST_JOBS, MOST_TAKES, NAME, number_fault
from batchgen.manifest.nodes import Node, written
from batchgen.manifest.path_help import glob_hint, missing_hint
from batchgen.manifest.rows import RowsFile
from batchgen.manifest.templates import has_template
from batchgen.services.text import character_fault


def variants(entry: Entry) -> Iterator[tuple[dict[str, Any], Origin]]:
    """The template names and the origin of each job of an entry; no job where its expansion is wrong.

    Takes vary fastest, then the last axis of the matrix; rows slowest.
    """
    fields, diagnostics = entry.fields, entry.file.job_diagnostics
    before = len(diagnostics)
    axes = _matrix(fields["matrix"], entry) if "matrix" in fields else {}
    entry.rows = _rows(fields["rows"], axes, entry) if "rows" in fields else None
    count: int | None = fields["count"].value if "count" in fields else None
    if count is not None and (fault := number_fault("count", count, 1, MOST_TAKES)):
        entry.report(fields["count"], fault)
        return
    if len(diagnostics) > before or _is_refused(entry, axes, prod(map(len, axes.values())) * (count or 1)):
        return
    name = entry.rows.name if entry.rows else ""
    takes = range(1, count + 1) if count else (0,)
    pairs = [[(name, value) for value in values] for name, values in axes.items()]  # shared by the origins of all jobs
    for line, row in entry.rows or ((0, {}),):
        for cell in product(*pairs):
            for take in takes:
                names = {**row, **dict(cell)} if cell else row
                yield names, Origin(name, line, cell, take)


def _is_refused(entry: Entry, axes: Mapping[str, list[Any]], number: int) -> bool:
    """Whether there are too many jobs, `number` for each row, or all rows and cells share an id; this is reported.

    Takes get a suffix each.
    """
    key, hint = entry.node.value.get("id"), ""
    try:
        if number > MOST_JOBS:
            where = entry.fields["matrix" if axes else "count"]
            message = f"this makes {number:,} jobs; a manifest may have {MOST_JOBS:,}"
        elif entry.rows and entry.rows.has_more_than(MOST_JOBS // max(number, 1)):
            where, hint = entry.fields["rows"], "divide them into several files"
            message = f"the rows make more than {MOST_JOBS:,} jobs"
        elif key and not has_template(key) and (entry.rows or any(len(values) > 1 for values in axes.values())):
            where, hint = key, f"name what tells them apart, such as {{{{ {next(iter(axes), 'sku')} }}}}"
            message = f"every job of this entry would have the id `{key.text[:100]}`"
        else:
            return False
    except ReadingStopped:
        return True
    entry.report(where, message, hint)
    return True


def _matrix(node: Node, entry: Entry) -> dict[str, list[Any]]:
    if type(node.value) is not dict or not node.value:
        value = "an empty mapping" if type(node.value) is dict else quoted(node.value)
        hint = "such as {style: [noir, pop]}"
        entry.report(node, f"`matrix` must be a mapping of names to lists, not {value}", hint)
        return {}
    if len(node.value) > bounds.AXES:
        message = f"the matrix has {len(node.value):,} names; at most {bounds.AXES} are allowed"
        entry.report(node, message, "leave out the names that no template uses")
        return {}
    axes = {}
    for name, values in node.value.items():
        if not NAME.fullmatch(name):
            message = f"`{name[:100]}` is no name for a template: the letters a to z, digits and _ only"
            entry.report(node.keys[name], message)
        axes[name] = _axis(name, values, entry)
    return axes


def _axis(name: str, node: Node, entry: Entry) -> list[Any]:
    if type(node.value) is list:
        if not node.value:
            entry.report(node, f"`{name[:100]}` has no values")
        return [written(child) for child in node.value]
    if type(node.value) is dict and node.value.keys() == {"glob"}:
        return _glob(node.value["glob"], entry)
    message = f"`{name[:100]}` must be a list, or {{glob: …}}, not {quoted(node.value)}"
    entry.report(node, message, list_hint(node.value))
    return []


def _glob(node: Node, entry: Entry) -> list[Any]:
    if type(node.value) is not str or not node.value.strip():
        entry.report(node, f"`glob` must be text, not {quoted(node.value)}", "such as frames/*.png")
        return []
    try:
        matches, others = matching_files(entry.file.folder, node.value)
    except (InputFault, OSError, ValueError) as error:
        entry.report(node, f"the glob cannot be read: {os_reason(error)}", getattr(error, "hint", ""))
        return []
    capitals = f"capital letters count: {listed(others)[:200]}"
    if not matches:
        hint = capitals if others else glob_hint(entry.file.folder, node.value)
        entry.report(node, f"no file matches {node.value[:200]}", hint)
    elif others:
        hint = "write both cases in brackets to take them too, such as *.[jJ][pP][gG]"
        entry.warn(node, f"{node.value[:200]} leaves out {plural(len(others), 'file')}, as {capitals}", hint)
    for match in matches:
        if fault := character_fault(match):
            entry.report(node, f"the name of a file {fault}", f"rename the file: {match[:200]}")
            return []
    return matches


def _rows(node: Node, axes: Collection[str], entry: Entry) -> RowsFile | None:
    if type(node.value) is not str or not node.value.strip():
        entry.report(node, f"`rows` must be the name of a file, not {quoted(node.value)}", "such as products.csv")
        return None
    try:
        rows = RowsFile(entry.file, node.value, axes)
    except InputFault as error:
        hint = error.hint
        if str(error) == no_such_file(node.value):
            hint = missing_hint(FileNames(), entry.file.folder, node.value)
        entry.report(node, f"{error}: {node.value[:200]}", hint)
        return None
    entry.file.files_read[entry.file.join(node.value)] = "a file of rows"
    return rows

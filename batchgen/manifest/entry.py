"""One entry under `jobs`: its fields with their positions, and their templates, filled in for job after job."""

import re
from collections.abc import Container, Mapping
from functools import partial
from typing import Any

from batchgen.catalogue import pointers, validation
from batchgen.catalogue.links import medium
from batchgen.catalogue.wording import listed, quoted
from batchgen.catalogue.written import shown, trimmed
from batchgen.manifest.diagnostics import Location, Origin
from batchgen.manifest.expressions import BadTemplate, UnknownName, may_be_empty
from batchgen.manifest.header import ManifestFile
from batchgen.manifest.job_keys import JOB_KEYS, MULTIPLIERS, name_fault
from batchgen.manifest.job_list import JobList
from batchgen.manifest.nodes import Node, leaves, written
from batchgen.manifest.rows import TABLES, RowsFile
from batchgen.manifest.source import Marked, Position
from batchgen.manifest.templates import has_template

NEVER_EMPTY = ("prompt", "image_url", "video_url", "audio_url")
"""Parameters of which an empty cell is an error, and does not leave them out: the paid video would differ."""
COMMENT = "the rest of this line is a comment; put the text in quotes"
QUOTES_AND_BLOCKS = frozenset("\"'|>")
"""The first characters of texts in which ` #` begins no comment."""
NAME = re.compile(r"[A-Za-z_]\w*")
TEMPLATE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
PLACEHOLDER = re.compile(
    r"""
      \$?(\\?[{｛])+ \s* (?P<brace>\w+) \s* \\?[}｝]  # {title}, ${title}, \{\{ title \}\} of Markdown
    | \{% [^%]*? \b(?P<block>\w+) \s* %\} # {% if title %}
    | %\( \s* (?P<printf>\w+) \s* \)s     # %(title)s
    | %(?P<percent>\w+)%                  # %title%
    | <+ \s* (?P<angle>\w+) \s* >+        # <title>, <<title>>
    | \[+ \s* (?P<square>\w+) \s* \]+     # [title], [[title]]
    | \$(?P<dollar>\w+)                   # $title
    """,
    re.VERBOSE | re.ASCII,
)
"""A placeholder as other tools write it: it would be paid for as it stands."""
Values = Mapping[str, Any]
"""The values that a template can use, by name."""


class Entry:
    """An entry under `jobs`: its fields with the defaults, their positions and their templates.

    From `row` on, which has the names of its row and cell, all is of the job that is built from it at the moment.
    """

    def __init__(self, jobs: JobList, file: ManifestFile, node: Node) -> None:
        self.jobs = jobs
        self.file = file
        self.node = node
        self.line = node.start_mark.line + 1
        defaults = file.defaults
        # A default that the job overrides keeps its place, so the order of keys is that of the defaults.
        self.fields: dict[str, Node] = {**defaults, **node.value} if defaults else node.value
        self.params = {name: node for name, node in self.fields.items() if name not in JOB_KEYS}
        self.rows: RowsFile | None = None
        self.row: Values = {}
        self.origin: Origin | None = None
        self.key = self.model = self.endpoint = ""
        self.documented = False
        """Whether the catalogue describes the model of the current job."""
        self.broken = False
        """Whether a parameter of the current job could not be filled in: then they are not checked."""

    def key_position(self, name: str) -> Marked:
        """The position of a key: in the entry, else in the defaults."""
        return self.node.keys.get(name) or self.file.default_keys.get(name) or self.node

    def at(self, pointer: str) -> Node:
        """The node at a JSON pointer. Where a template makes the value, the innermost node around it."""
        node = self.node
        for depth, name in enumerate(pointers.split(pointer)):
            children = self.fields if depth == 0 else node.value
            if type(children) is list and int(name) < len(children):
                node = children[int(name)]
            elif type(children) is dict and name in children:
                node = children[name]
            else:
                break
        return node

    def location(self, where: Marked) -> Location:
        return Location(self.file.job_diagnostics, Position.of(where), self.origin)

    def warn(self, where: Marked, message: str, hint: str = "") -> None:
        self.file.job_diagnostics.warn(where, message, hint, self.origin)

    def report(self, where: Marked, message: str, hint: str = "") -> None:
        self.file.job_diagnostics.add(where, message, hint, self.origin)

    def warn_of_comments(self) -> None:
        """Warn of each text without quotes that ends where a comment begins with a letter or digit: ` #sunset`."""
        source = self.file.job_diagnostics.source
        if not source.odd_comments:
            return
        for name, field in self.fields.items():
            for node, key in leaves(field, name):
                is_text = name == "matrix" or key in validation.text_parameters()
                offset, first = node.end_mark.index, source.text[node.start_mark.index : node.start_mark.index + 1]
                if not is_text or offset not in source.odd_comments or first in QUOTES_AND_BLOCKS:
                    continue
                if type(node.value) is str or (node.value is None and name != "matrix"):  # all of it is a comment
                    hash_sign = source.text.index("#", offset)
                    column = node.end_mark.column + hash_sign - offset
                    position = Position(node.end_mark.line + 1, column + 1, 0, hash_sign - column)
                    rest = source.line(position)[column : column + 60]
                    self.file.job_diagnostics.warn(position, f"{COMMENT}: {rest}")

    def warn_of_placeholders(self) -> None:
        """Warn of each text that has a name of the row or the cell as another tool would write it: `{title}`."""
        for name, field in self.fields.items():
            for node, _ in leaves(field) if name not in MULTIPLIERS else ():
                if type(node.value) is str and (odd := placeholder(node.value, self.row)):
                    as_written, column = odd
                    message = f"{as_written[:60]} stays as it is written; a template is {{{{ {column} }}}}"
                    self.file.job_diagnostics.warn(node, message)

    def warn_of_unused_axes(self) -> None:
        """Warn of a name of the matrix that no parameter uses: each of its values pays for the same request."""
        matrix = self.fields.get("matrix")
        sent = [field for name, field in self.fields.items() if name not in JOB_KEYS or name in ("model", "extra")]
        texts = [node.value for field in sent for node, _ in leaves(field) if type(node.value) is str]
        used = set(NAME.findall(" ".join(template for text in texts for template in TEMPLATE.findall(text))))
        for name, values in matrix.value.items() if matrix else ():
            is_warned_of = any(placeholder(text, (name,)) for text in texts)
            if name not in used and not is_warned_of and (type(values.value) is dict or len(values.value) > 1):
                message = f"`{name[:60]}` is in no parameter, so that jobs ask for the same: each of them is paid for"
                self.file.job_diagnostics.warn(values, message, "name it in the prompt, say; for takes write count:")

    def job_values(self, *unknown: str) -> dict[str, Any]:
        """The names that every template has, without those that are `unknown` yet, or that it shall not use."""
        names = {"batch": self.jobs.main.batch, "id": self.key, "index": len(self.jobs.specs) + 1, "model": self.model}
        if self.origin and self.origin.take:
            names["take"] = self.origin.take
        for name in unknown:
            del names[name]
        return names

    def values(self, *unknown: str) -> dict[str, Any]:
        """The names of the job and those of the row. One with two different values is an error where it is used."""
        own = self.job_values(*unknown)
        for name in own.keys() & self.row.keys():
            if trimmed(shown(own[name])) != trimmed(shown(self.row[name])):
                meaning = f"it is {shown(own[name])[:60]} for the job, and another in its row"
                own[name] = BadTemplate(f"`{name}` means two things: {meaning}", "rename the column")
        return {**own, **self.row, **own}

    @property
    def columns(self) -> Container[str]:
        """The names of the row's columns, without those of a matrix."""
        if not self.origin or not self.origin.rows:
            return ()
        return self.row.keys() - dict(self.origin.axes).keys() if self.origin.axes else self.row

    def filled(self, node: Node, values: Values, name: str = "") -> Any:
        """The value of a parameter with its templates filled in; an empty one is null, like an empty value in YAML."""
        return written(node, partial(self.filled_text, values), name)

    def filled_text(self, values: Values, node: Node, name: str) -> Any:
        """The value of a parameter that is a template. A mistake is reported, and gives None."""
        templates = self.jobs.templates
        try:
            filled = templates.fill(node.value, values, self.columns if medium(name, None) else None)
            is_text = name in NEVER_EMPTY and (type(filled) is str or filled is None)
            if column := templates.empty_column(node.value, values, self.columns) if is_text else None:
                if not trimmed(filled or ""):
                    subject = "" if name == column else f"`{name}` is empty: "
                    raise BadTemplate(f"{subject}`{column[:100]}` is empty here", may_be_empty(column))
                message = f"`{name}` goes without `{column[:100]}` in rows that leave it empty"
                self.warn(node, message, may_be_empty(column))
            if type(filled) is str and "{{" in filled and (inner := placeholder_in(self.row)):
                self.warn(node, f"what is filled in stays as it is written: {inner[:60]}")
            return None if filled == "" else filled
        except BadTemplate as error:
            self.report_template(node, error)
            self.broken = True
            return None

    def text(self, node: Node, subject: str, values: Values, required: Container[str] = ()) -> str | None:
        """A text of any length, its templates filled in; None where it cannot be, which is reported of the `subject`.

        None of the names `required` may be empty in it.
        """
        if type(node.value) is not str:
            self.report(node, f"{subject} must be text, not {quoted(node.value)}")
            return None
        try:
            return self.jobs.templates.fill_text(node.value, values, required)
        except BadTemplate as error:
            self.report_template(node, error)
            return None

    def name(
        self, node: Node, subject: str, values: Values, required: Container[str] = (), *, may_be_empty: bool = False
    ) -> str | None:
        """The same for a name, which has at most `LONGEST_NAME` characters and may look like a number."""
        if has_template(node) or type(node.value) is dict or type(node.value) is list:
            text = self.text(node, subject, values, required)
        else:
            text = "" if node.value is None else node.text
        if text is None or (may_be_empty and not text) or not (fault := name_fault(text)):
            return text
        self.report(node, f"{subject} {fault}")
        return None

    def report_template(self, node: Node, error: BadTemplate) -> None:
        unusable = self.rows.unusable if self.rows else []
        is_about_column = isinstance(error, UnknownName) or any(name in node.text for name in unusable)
        columns = columns_hint(self.rows) if self.rows and is_about_column else ""
        self.report(node, str(error), "; ".join(filter(None, (error.hint, columns))))


def columns_hint(rows: RowsFile) -> str:
    """Where the names of the columns come from, and which columns have none that a template can use."""
    if rows.suffix not in TABLES:
        return f"each row of {rows.name} has names of its own: one without a value has the name with null"
    hint = f"the columns are those of {rows.name}"
    if not rows.unusable:
        return hint
    names = listed([f"`{name[:100]}`" for name in rows.unusable])
    return f"{hint}, where {names} must be renamed: a name has the letters a to z, digits and _ only"


def placeholder(text: str, names: Container[str]) -> tuple[str, str] | None:
    """The first placeholder of one of the `names` that is no template, and the name in it; None where there is none."""
    for match in PLACEHOLDER.finditer(TEMPLATE.sub("", text)):
        name = match[match.lastgroup or 0]
        if name in names:
            return match[0], name
    return None


def placeholder_in(row: Mapping[str, Any]) -> str | None:
    """The first template in the values of a row, which are never read as templates; None where there is none."""
    matches = (TEMPLATE.search(value) for value in row.values() if isinstance(value, str))
    return next((match[0] for match in matches if match), None)

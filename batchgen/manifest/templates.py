"""The `output` templates: minijinja, cut down to what names a file.

`{{ }}` with names and a few filters. Statements, functions and every filter that can multiply text are left out: fuel
bounds the steps of a template, not the memory that one step takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from minijinja import Environment, TemplateError

from batchgen.manifest.words import listed, nearest

FUEL = 10_000
LONGEST_TEMPLATE = 1_000
"""Characters. The longest path is shorter."""
LONGEST_TEXT = 10_000
"""Characters that a filter may make."""

FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
FILTERS = (
    *("abs", "capitalize", "d", "default", "first", "float", "format", "int", "last", "length", "lower", "replace"),
    *("round", "string", "title", "trim", "truncate", "upper"),
)


class BadTemplate(Exception):
    """`str(error)` says what is wrong; `label` what to write instead."""

    def __init__(self, message: str, label: str = "") -> None:
        super().__init__(message)
        self.label = label


class Templates:
    """Compiles each distinct template once."""

    def __init__(self) -> None:
        self.environment = Environment(undefined_behavior="strict", fuel=FUEL, pycompat=False)
        for function in list(self.environment.globals):
            self.environment.remove_global(function)
        self.environment.add_filter("replace", _replace)
        self.environment.add_filter("format", _format)
        self.environment.auto_escape_callback = _never
        self.names: dict[str, tuple[str, ...]] = {}

    def render(self, template: str, known: Mapping[str, object]) -> str:
        """`template` with `known` filled in. Raises BadTemplate, also for a name that is not known."""
        if "{" not in template:
            return template
        try:
            if template not in self.names:
                self.names[template] = self.compile(template)
            for name in self.names[template]:
                if name not in known:
                    raise BadTemplate(f"the template has no name `{name[:100]}`", f"known: {listed(list(known))}")
            return self.environment.render_template(template, **{name: known[name] for name in self.names[template]})
        except TemplateError as error:
            raise BadTemplate(f"the template cannot be filled in: {_reason(error)}") from None
        except _Refused as error:
            raise BadTemplate(str(error)) from None

    def compile(self, template: str) -> tuple[str, ...]:
        """Check and keep a template; the names it uses."""
        if len(template) > LONGEST_TEMPLATE:
            raise BadTemplate(f"the template has {len(template)} characters; at most {LONGEST_TEMPLATE} are allowed")
        if "{%" in template:
            raise BadTemplate("a template has no statements", "use names and filters: {{ id | lower }}")
        for used in FILTER.findall(template):
            if used not in FILTERS:
                raise BadTemplate(f"there is no filter `{used}`", nearest(used, FILTERS))
        self.environment.add_template(template, template)
        return tuple(sorted(self.environment.undeclared_variables_in_str(template)))


class _Refused(Exception):
    """A filter was asked for something unreasonable."""


def _never(_name: str) -> bool:
    """Paths are not HTML, whatever a template is called."""
    return False


def _reason(error: TemplateError) -> str:
    said = str(error.detail or error.message).splitlines()[0]
    return said.partition(" (in ")[0][:200]


def _replace(value: object, old: object, new: object) -> str:
    text, old, new = str(value), str(old), str(new)
    if len(text) + (text.count(old) + 1) * len(new) > LONGEST_TEXT:
        raise _Refused("`replace` makes the text too long")
    return text.replace(old, new)


def _format(pattern: object, *values: object) -> str:
    if re.search(r"\d{3}|\*", str(pattern)):
        raise _Refused("`format` pads to at most 99 characters")
    try:
        return str(pattern) % values
    except (TypeError, ValueError, OverflowError) as error:
        raise _Refused(f"`format` cannot be done: {error}") from None

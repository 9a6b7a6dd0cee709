"""The `{{ name }}` templates: minijinja, cut down to what fills in a text.

Names, parts of paths (`image.stem`) and a few filters. Statements, functions, multiplication and every filter that can
multiply text are left out: fuel bounds the steps of a template, not the memory that one step takes. A text without
`{{` is no template, and what is filled in is never read as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minijinja import Environment, TemplateError

from batchgen.manifest.nodes import Node, plain
from batchgen.manifest.parts import PARTS, PathText
from batchgen.manifest.words import listed, nearest

FUEL = 10_000
LONGEST_EXPRESSION = 1_000
"""Characters between `{{` and `}}`. The engine's own stack bears no more than a few thousand."""
LONGEST_TEXT = 10_000
"""Characters that a filter may make."""
KEPT = 1_000
"""So many compiled templates are kept."""

STRING = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"
EXPRESSION = re.compile(rf"\{{\{{((?:{STRING}|[^\"'}}]|\}}(?!\}}))*)\}}\}}", re.DOTALL)
QUOTED = re.compile(STRING, re.DOTALL)
STATEMENT = re.compile(r"\{%[-+]?\s*[a-z]")
SOLE = re.compile(r"\{\{\s*([A-Za-z_]\w*)((?:\.[a-z]+)*)\s*\}\}", re.ASCII)
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


class UnknownName(BadTemplate):
    """The template takes a name that nothing has."""


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Stands for a name that means one thing to the job and another to its row."""

    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a template needs: the names, and the parts of them that it takes, as (name, part, part of the part…)."""

    names: tuple[str, ...]
    parted: tuple[tuple[str, ...], ...]
    sole: tuple[str, ...] = ()
    """The name, and the parts taken of it, where the template is nothing else: then the value keeps its type."""


class Templates:
    """Compiles each distinct template once."""

    def __init__(self) -> None:
        # With these marks, which YAML cannot hold, `{%` and `{#` are text like any other.
        self.environment = Environment(
            undefined_behavior="strict",
            fuel=FUEL,
            pycompat=False,
            keep_trailing_newline=True,
            block_start_string="\0%",
            block_end_string="%\0",
            comment_start_string="\0#",
            comment_end_string="#\0",
        )
        for function in list(self.environment.globals):
            self.environment.remove_global(function)
        self.environment.add_filter("replace", _replace)
        self.environment.add_filter("format", _format)
        self.environment.auto_escape_callback = _never
        self.plans: dict[str, Plan] = {}

    def fill(self, template: str, known: Mapping[str, Any]) -> Any:
        """`template` with `known` filled in: a text, or the value itself where the template is one name and no more.

        Raises BadTemplate, also for a name that is not known.
        """
        if "{{" not in template:
            return template
        try:
            plan = self.plan(template)
            for name in plan.names:
                if name not in known:
                    raise UnknownName(f"the template has no name `{name[:100]}`", suggestion(name, tuple(known)))
                if type(known[name]) is Ambiguous:
                    raise BadTemplate(known[name].message, "rename the column")
            if plan.sole:
                return _part(known, *plan.sole)
            values = {name: known[name] for name in plan.names}
            for name, *parts in plan.parted:
                if type(known[name]) is str:
                    _part(known, name, *parts)
                    values[name] = PathText(known[name])
            return self.environment.render_template(template, **values)
        except TypeError as error:
            raise BadTemplate(
                f"the template cannot be filled in: {str(error)[:200]}", "there is nothing to call"
            ) from None
        except TemplateError as error:
            raise BadTemplate(f"the template cannot be filled in: {_reason(error)}") from None
        except _Refused as error:
            raise BadTemplate(str(error)) from None

    def plan(self, template: str) -> Plan:
        """What `template` needs. Raises BadTemplate or TemplateError if it is none."""
        return self.plans.get(template) or self.compile(template)

    def compile(self, template: str) -> Plan:
        """Check and keep a template."""
        if len(self.plans) >= KEPT:
            self.plans.clear()
            self.environment.clear_templates()
        expressions = EXPRESSION.findall(template)
        if STATEMENT.search(EXPRESSION.sub("", template)):
            raise BadTemplate("a template has no statements", "use names and filters: {{ id | lower }}")
        for expression in expressions:
            _judge(expression)
        self.environment.add_template(template, template)
        if "{{" in EXPRESSION.sub("", template):
            raise BadTemplate("the template cannot be read", "a `{{` that is text is written {{ '{{' }}")
        nested = self.environment.undeclared_variables_in_str(template, nested=True)
        names = tuple(sorted({name.partition(".")[0] for name in nested}))
        sole = SOLE.fullmatch(template)
        chosen = (sole[1], *sole[2].split(".")[1:]) if sole and names == (sole[1],) else ()
        plan = Plan(names, tuple(tuple(name.split(".")) for name in sorted(nested) if "." in name), chosen)
        self.plans[template] = plan
        return plan


def templated(node: Node) -> bool:
    """Whether there is a template anywhere in a value."""
    value = node.value
    if type(value) is str:
        return "{{" in value
    if type(value) is dict or type(value) is list:
        for child in value.values() if type(value) is dict else value:
            if templated(child):
                return True
    return False


def prepared(node: Node) -> tuple[Any, bool]:
    """The plain value of a node, or that it has to be filled in for each job."""
    value = node.value
    if type(value) is str:
        return value, "{{" in value
    if type(value) is dict or type(value) is list:
        return (None, True) if templated(node) else (plain(node), False)
    return value, False


class _Refused(Exception):
    """A filter was asked for something unreasonable."""


@lru_cache(maxsize=100)
def suggestion(name: str, known: tuple[str, ...]) -> str:
    """A label for a name that a template does not know: the nearest one, and all of them."""
    close = nearest(name, known)
    every = f"known: {listed(known)}"
    return every if close == every else f"{close} {every}"


def _judge(expression: str) -> None:
    bare = QUOTED.sub("''", expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise BadTemplate(f"an expression has {len(expression)} characters; at most {LONGEST_EXPRESSION} are allowed")
    if "*" in bare:
        raise BadTemplate("a template does not multiply: it has no `*`")
    for used in FILTER.findall(bare):
        if used not in FILTERS:
            raise BadTemplate(f"there is no filter `{used}`", nearest(used, FILTERS))


def _part(known: Mapping[str, Any], name: str, *parts: str) -> Any:
    value = known[name]
    for depth, part in enumerate(parts):
        whole = ".".join((name, *parts[:depth]))
        if type(value) is dict and part in value:
            value = value[part]
        elif type(value) is str and part in PARTS:
            value = str(getattr(PathText(value), part))
        else:
            choice = PARTS if type(value) is str else list(value) if type(value) is dict else ()
            raise BadTemplate(f"`{whole[:100]}` has no part `{part[:100]}`", nearest(part, choice) if choice else "")
    return value


def _never(_name: str) -> bool:
    """Paths and prompts are not HTML, whatever a template is called."""
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

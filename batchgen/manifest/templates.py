"""The `{{ name }}` templates: minijinja, restricted to filling in text.

A template has names, parts of paths (`image.stem`) and a few filters. Statements, functions, multiplication and filters
that can multiply text are refused: minijinja's fuel limits the steps of a template, but not the memory of one step. A
text without `{{` is no template, and the values that are filled in are never read as templates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from minijinja import Environment, TemplateError

from batchgen.catalogue.wording import listed, nearest_hint, suggestion
from batchgen.manifest import bounds
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import InvalidValue

FUEL = 10_000
"""Steps of one template in minijinja; a real one takes a few dozen."""
LONGEST_EXPRESSION = 1_000
"""Characters between `{{` and `}}`: minijinja's parser recurses, and its stack overflows at a few thousand."""
LONGEST_TEXT = 10_000
"""Characters of a filter's result, so that repeated filters cannot exhaust memory."""
MOST_COMPILED = 1_000
"""Compiled templates in memory. Beyond it all are dropped: a manifest with more has a template a job."""

STRING = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"
EXPRESSION = re.compile(rf"\{{\{{((?:{STRING}|[^\"'}}]|\}}(?!\}}))*+)\}}\}}", re.DOTALL)
QUOTED = re.compile(STRING, re.DOTALL)
STATEMENT = re.compile(r"\{%[-+]?\s*[a-z]")
SINGLE_NAME = re.compile(r"\{\{\s*([A-Za-z_]\w*)((?:\.[a-z]+)*)\s*\}\}", re.ASCII)
PARTS = ("name", "stem", "suffix", "parent")
"""The parts of a path, such as `{{ image.stem }}`."""
FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
FILTERS = (
    *("abs", "capitalize", "d", "default", "first", "float", "format", "int", "last", "length", "lower", "replace"),
    *("round", "string", "title", "trim", "truncate", "upper"),
)


class BadTemplate(InvalidValue):
    """The template cannot be filled in."""


class UnknownName(BadTemplate):
    """The template uses a name that does not exist."""


class PathText:
    """A text with the parts of a path. Of a link, what follows `?` or `#` belongs to no part.

    A template reaches the properties only: minijinja hides names that begin with an underscore.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._path = re.split(r"[?#]", text, maxsplit=1)[0] if "://" in text[:12] else text

    def __str__(self) -> str:
        return self._text

    @property
    def name(self) -> PathText:
        return PathText(PurePosixPath(self._path).name)

    @property
    def stem(self) -> PathText:
        return PathText(PurePosixPath(self._path).stem)

    @property
    def suffix(self) -> PathText:
        return PathText(PurePosixPath(self._path).suffix)

    @property
    def parent(self) -> PathText:
        """All before the last `/`; not as pathlib has it, for which `https://` is `https:/`."""
        folder, slash, _ = self._path.rpartition("/")
        return PathText(folder or slash or ".")


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The value of a name that the job and its row both have, with different values."""

    message: str


@dataclass(frozen=True, slots=True)
class TemplateNames:
    """The names that a template uses. A path is a name with the parts taken of it: (name, part, part of the part…)."""

    names: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]
    single: tuple[str, ...] = ()
    """The path that is the whole template, if it is one: then the value keeps its type."""
    chars: int = 0
    """The length of all expressions: no value can stand in them more often."""


class Templates:
    """Compiles each distinct template once."""

    def __init__(self) -> None:
        # YAML text cannot contain these delimiters, so `{%` and `{#` are ordinary text.
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
        self.environment.auto_escape_callback = _no_escaping
        self.compiled: dict[str, TemplateNames] = {}

    def fill(self, template: str, values: Mapping[str, Any]) -> Any:
        """The text of `template` with `values` filled in. A template that is a single name gives its value unchanged.

        Raises BadTemplate, also for a name without a value.
        """
        if "{{" not in template:
            return template
        try:
            uses = self.names_in(template)
            for name in uses.names:
                if name not in values:
                    raise UnknownName(f"the template has no name `{name[:100]}`", names_hint(name, tuple(values)))
                if type(values[name]) is Ambiguous:
                    raise BadTemplate(values[name].message, "rename the column")
            if uses.single:
                return _part(values, *uses.single)
            used = {name: values[name] for name in uses.names}
            longest = max((len(str(value)) for value in used.values()), default=0)
            if longest * uses.chars > bounds.FILLED_CHARS and longest > LONGEST_TEXT:
                raise BadTemplate(f"the template would become too long: a value in it has {longest:,} characters")
            for name, *parts in uses.paths:
                if type(values[name]) is str:
                    _part(values, name, *parts)
                    used[name] = PathText(values[name])
            return self.environment.render_template(template, **used)
        except TypeError as error:
            message = f"the template cannot be filled in: {str(error)[:200]}"
            raise BadTemplate(message, "there is nothing to call") from None
        except TemplateError as error:
            raise BadTemplate(f"the template cannot be filled in: {_reason(error)}") from None

    def names_in(self, template: str) -> TemplateNames:
        """The names that `template` uses. Compiles it once. Raises BadTemplate or TemplateError."""
        return self.compiled.get(template) or self.compile(template)

    def uses(self, node: Node, name: str) -> bool:
        """Whether a node is a template that uses `name`."""
        return templated(node) and name in self.names_in(node.text).names

    def compile(self, template: str) -> TemplateNames:
        if len(self.compiled) >= MOST_COMPILED:
            self.compiled.clear()
            self.environment.clear_templates()
        if len(template) > bounds.TEMPLATE_CHARS:
            message = f"the template has {len(template):,} characters; at most {bounds.TEMPLATE_CHARS:,} are allowed"
            raise BadTemplate(message)
        expressions, text, unread = _parts_of(template)
        if STATEMENT.search(text + unread):
            raise BadTemplate("a template has no statements", "use names and filters: {{ id | lower }}")
        for expression in expressions:
            _check_expression(expression)
        unreadable = BadTemplate("the template cannot be read", "a `{{` that is text is written {{ '{{' }}")
        if len(unread) > LONGEST_EXPRESSION:
            raise unreadable
        self.environment.add_template(template, template)
        if unread:
            raise unreadable
        paths = sorted(self.environment.undeclared_variables_in_str(template, nested=True))
        names = tuple(sorted({path.partition(".")[0] for path in paths}))
        match = SINGLE_NAME.fullmatch(template)
        single = (match[1], *match[2].split(".")[1:]) if match and names == (match[1],) else ()
        dotted = tuple(tuple(path.split(".")) for path in paths if "." in path)
        uses = TemplateNames(names, dotted, single, sum(map(len, expressions)))
        self.compiled[template] = uses
        return uses


def templated(node: Node) -> bool:
    """Whether a value contains a template at any depth."""
    value = node.value
    if type(value) is str:
        return "{{" in value
    if type(value) is dict or type(value) is list:
        for child in value.values() if type(value) is dict else value:
            if templated(child):
                return True
    return False


@lru_cache(maxsize=100)
def names_hint(name: str, names: tuple[str, ...]) -> str:
    """The hint for a name that a template does not know: the most similar one, and all of them."""
    return f"{nearest_hint(name, names)} known: {listed(names)}".strip()


def _parts_of(template: str) -> tuple[list[str], str, str]:
    """The expressions of a template, the text around them, and what follows from a `{{` that has no end."""
    expressions: list[str] = []
    text: list[str] = []
    start = 0
    while (opening := template.find("{{", start)) >= 0:
        text.append(template[start:opening])
        match = EXPRESSION.match(template, opening)
        if match is None:
            return expressions, "".join(text), template[opening:]
        expressions.append(match[1])
        start = match.end()
    return expressions, "".join((*text, template[start:])), ""


def _check_expression(expression: str) -> None:
    code = QUOTED.sub("''", expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise BadTemplate(f"an expression has {len(expression)} characters; at most {LONGEST_EXPRESSION} are allowed")
    if "*" in code:
        raise BadTemplate("a template does not multiply: it has no `*`")
    for name in FILTER.findall(code):
        if name not in FILTERS:
            raise BadTemplate(f"there is no filter `{name}`", suggestion(name, FILTERS))


def _part(values: Mapping[str, Any], name: str, *parts: str) -> Any:
    """The part of a value: a member of a mapping, or a part of a path."""
    value = values[name]
    for depth, part in enumerate(parts):
        whole = ".".join((name, *parts[:depth]))
        if type(value) is dict and part in value:
            value = value[part]
        elif type(value) is str and part in PARTS:
            value = str(getattr(PathText(value), part))
        else:
            choices = PARTS if type(value) is str else list(value) if type(value) is dict else ()
            hint = suggestion(part, choices) if choices else ""
            raise BadTemplate(f"`{whole[:100]}` has no part `{part[:100]}`", hint)
    return value


def _no_escaping(_name: str) -> bool:
    """minijinja escapes HTML by a template's name; paths and prompts are never HTML."""
    return False


def _reason(error: TemplateError) -> str:
    message = str(error.detail or error.message).splitlines()[0]
    return message.partition(" (in ")[0][:200]


def _replace(value: object, old: object, new: object) -> str:
    text, old, new = str(value), str(old), str(new)
    if len(text) + (text.count(old) + 1) * len(new) > LONGEST_TEXT:
        raise BadTemplate("`replace` makes the text too long")
    return text.replace(old, new)


def _format(pattern: object, *values: object) -> str:
    if re.search(r"\d{3}|\*", str(pattern)):
        raise BadTemplate("`format` pads to at most 99 characters")
    longest = max((len(str(value)) for value in values), default=0)
    if len(str(pattern)) + str(pattern).count("%") * longest > LONGEST_TEXT:
        raise BadTemplate("`format` makes the text too long")
    try:
        return str(pattern) % values
    except (TypeError, ValueError, OverflowError) as error:
        raise BadTemplate(f"`format` cannot be done: {error}") from None

"""The `{{ name }}` templates: minijinja, restricted to filling in text.

A template has names, parts of paths (`image.stem`) and a few filters. Statements, functions, multiplication and filters
that can multiply text are refused: minijinja's fuel limits the steps of a template, but not the memory of one step. A
text without `{{` is no template, and the values that are filled in are never read as templates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minijinja import Environment, TemplateError

from batchgen.catalogue.wording import listed, nearest_hint, suggestion
from batchgen.catalogue.written import text_of, trimmed
from batchgen.manifest import bounds
from batchgen.manifest.expressions import (
    ARITHMETIC,
    LONGEST_TEXT,
    QUOTED,
    STRING,
    BadTemplate,
    Expression,
    UnknownName,
    finalized,
    format_numbers,
    may_be_empty,
    operands,
    part_of,
    replace,
    single_text,
)
from batchgen.manifest.nodes import Node

FUEL = 10_000
"""Steps of one template in minijinja; a real one takes a few dozen."""
LONGEST_EXPRESSION = 1_000
"""Characters between `{{` and `}}`: minijinja's parser recurses, and its stack overflows at a few thousand."""
MOST_COMPILED = 1_000
"""Compiled templates in memory. Beyond it all are dropped: a manifest with more has a template a job."""

# An atomic group: Python 3.11.0 to 3.11.4 reads a possessive repetition of a group wrongly.
EXPRESSION = re.compile(rf"\{{\{{(?:((?>(?:{STRING}|[^\"'}}]|\}}(?!\}}))*))\}}\}}|.*)", re.DOTALL)
"""From `{{` to `}}`, with the expression between them; to the end of the text where it has no end."""
STATEMENT = re.compile(r"\{%[-+]?\s*[a-z]")
NAME_PATH = re.compile(r"\s*([A-Za-z_]\w*)((?:\.[a-z_]\w*)*)\s*", re.ASCII)
NUMBER = set("0123456789._")
FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
FILTERS = (
    *("abs", "capitalize", "d", "default", "first", "float", "format", "int", "last", "length", "lower", "replace"),
    *("round", "string", "title", "trim", "truncate", "upper"),
)

ERRORS = """
    REF|VALUE|NAME|NULL|NUM|SPILL|CALC|FIELD|BLOCKED|CONNECT|UNKNOWN|BUSY|ERROR|PYTHON|EXTERNAL|TIMEOUT|WERT
    |BEZUG|ZAHL|ÜBERLAUF|UEBERLAUF|VALEUR|NOM|NOMBRE|PROPAGATION|VALOR|DESBORDAMIENTO|DESPEJAR|VALORE|RIF|NOME
    |ESPANSIONE|WAARDE|VERW|NAAM|GETAL|OVERLOOP|ARG|ADR|NAZWA|LICZBA|ROZLANIE|ЗНАЧ|ССЫЛКА|ИМЯ|ЧИСЛО|ПУСТО
    |ПЕРЕНОС|VÄRDEFEL|REFERENS|NAMN|OGILTIGT|VÆRDI|REFERENCE|NAVN|VERDI|ARVO|VIITTAUS|NIMI|LUKU|HODNOTA|NÁZEV
    |ČÍSLO|ÉRTÉK|HIV|NÉV|SZÁM|DEĞER|BAŞV|SAYI
"""
"""The names of the errors of spreadsheets, in the languages of their users, as a part of the pattern below."""
NO_VALUE = re.compile(
    rf"""\s*(?:
    \#[¡¿]?(?:{ERRORS})[!?] | \#[¡¿]?[^\W\d_]{{2,6}}/0! | \#[NН]/[^\W\d_]{{1,4}} | \#NV | \#GETTING_DATA
    |\#\#+ | Err:5\d\d | Loading\.{{3}} | nan | NaN | <NA> | NaT | \\N | NULL
    )\s*""",
    re.VERBOSE,
)
"""What a spreadsheet exports instead of a value that it could not compute or show: #REF!, #N/D. And what pandas and
databases write for none."""
LONGEST_NO_VALUE = 40
"""Characters: a longer cell is a value."""


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template: literal texts, paths (a name and the parts taken of it) and expressions, in their order."""

    segments: tuple[str | tuple[str, ...] | Expression, ...]
    names: tuple[str, ...]
    """All names that it uses."""
    chars: int
    """The length of all expressions together. Each use of a value takes at least a character, so it bounds the uses."""

    single: tuple[str, ...] | None
    """The path that is the whole template, if it is one: then the value keeps its type."""


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
        self.environment.add_filter("replace", replace)
        self.environment.add_filter("format", format_numbers)
        self.environment.finalizer = finalized
        self.environment.auto_escape_callback = lambda _name: False  # paths and prompts are never HTML
        self.compiled: dict[str, Template] = {}

    def fill(self, template: str, values: Mapping[str, Any], required: Container[str] | None = None) -> Any:
        """The text of `template` with `values` filled in. A template that is a single name gives its value unchanged.

        With `required`, the text is an id, a link or a path: the values lose the blanks around them, and those that are
        named there must not be empty. Raises BadTemplate, also for a name without a value.
        """
        if "{{" not in template:
            return template
        try:
            compiled = self.compiled.get(template) or self.compile(template)
            check_names(compiled, values)
            if compiled.single:
                return part_of(values, *compiled.single)
            text = ""
            for segment in compiled.segments:
                text += segment if isinstance(segment, str) else self.filled(segment, values, required)
            return text
        except (TemplateError, TypeError) as error:  # TypeError: what is called and is no function
            reason = error.detail or error.message if isinstance(error, TemplateError) else error
            line = str(reason).partition("\n")[0].partition(" (in ")[0]
            raise BadTemplate(f"the template cannot be filled in: {line[:200]}") from None

    def fill_text(self, template: str, values: Mapping[str, Any], required: Container[str] | None = None) -> str:
        """The same as text without blanks around it. Raises BadTemplate also for a list or mapping."""
        return trimmed(single_text(template.strip("{} "), self.fill(template, values, required)))

    def empty_column(self, template: str, values: Mapping[str, Any], columns: Container[str]) -> str | None:
        """The first of the `columns` that stands in a template and is empty; in an expression it is meant to be."""
        compiled = self.compiled.get(template) or self.compile(template)
        paths = (part for part in compiled.segments if type(part) is tuple and part[0] in columns)
        return next((path[0] for path in paths if not trimmed(text_of(part_of(values, *path)))), None)

    def filled(
        self, segment: tuple[str, ...] | Expression, values: Mapping[str, Any], required: Container[str] | None
    ) -> str:
        """The text of one path or expression of a template."""
        if isinstance(segment, Expression):
            return self.environment.render_template(segment.code, **operands(segment, values))
        text = single_text(".".join(segment), part_of(values, *segment))
        if required is None:
            return text
        text = trimmed(text)
        if not text and segment[0] in required:
            raise BadTemplate(f"`{segment[0][:100]}` is empty here", may_be_empty(".".join(segment)))
        return text

    def uses(self, node: Node, name: str) -> bool:
        """Whether a node is a template that uses `name`."""
        return has_template(node) and name in (self.compiled.get(node.text) or self.compile(node.text)).names

    def compile(self, template: str) -> Template:
        """Compile a template once. Raises BadTemplate or TemplateError."""
        if len(self.compiled) >= MOST_COMPILED:
            self.compiled.clear()
            self.environment.clear_templates()
        if len(template) > bounds.TEMPLATE_CHARS:
            message = f"the template has {len(template):,} characters; at most {bounds.TEMPLATE_CHARS:,} are allowed"
            raise BadTemplate(message)
        texts, codes = EXPRESSION.split(template)[::2], EXPRESSION.findall(template)
        if STATEMENT.search("".join(texts)):
            raise BadTemplate("a template has no statements", "use names and filters: {{ id | lower }}")
        for code in codes:
            _check_expression(code)
        segments: list[str | tuple[str, ...] | Expression] = [texts[0]]
        for code, text in zip(codes, texts[1:], strict=True):
            # As in Jinja, a dash beside the braces takes away the white space on its side.
            if code.startswith("-"):
                segments[-1] = str(segments[-1]).rstrip()
            segments += [self.expression(code.removeprefix("-").removesuffix("-")), text]
            if code.endswith("-"):
                segments[-1] = text.lstrip()
        names = {segment[0] for segment in segments if type(segment) is tuple}
        names.update(name for segment in segments if type(segment) is Expression for name in segment.names)
        parts = tuple(segment for segment in segments if segment)
        single = parts[0] if len(parts) == 1 and isinstance(parts[0], tuple) else None
        compiled = Template(parts, tuple(sorted(names)), sum(map(len, codes)), single)
        self.compiled[template] = compiled
        return compiled

    def expression(self, code: str) -> tuple[str, ...] | Expression:
        """What stands between the braces: a path, or an expression that minijinja has compiled."""
        source = f"{{{{{code}}}}}"
        self.environment.add_template(source, source)
        variables = sorted(self.environment.undeclared_variables_in_str(source, nested=True))
        names = tuple(sorted({variable.partition(".")[0] for variable in variables}))
        match = NAME_PATH.fullmatch(code)
        if match and names == (match[1],):
            return (match[1], *match[2].split(".")[1:])
        paths = tuple(tuple(variable.split(".")) for variable in variables if "." in variable)
        return Expression(source, names, paths, bool(ARITHMETIC.search(QUOTED.sub("''", code))))


def check_names(template: Template, values: Mapping[str, Any]) -> None:
    """Raises BadTemplate for a name of the template without a usable value."""
    longest = 0
    for name in template.names:
        if name not in values:
            raise UnknownName(f"the template has no name `{name[:100]}`", names_hint(name, tuple(values)))
        value = values[name]
        if type(value) is str:
            if len(value) < LONGEST_NO_VALUE and NO_VALUE.fullmatch(value):
                hint = "mend the formula in the spreadsheet, or empty the cell"
                raise BadTemplate(f"`{name[:100]}` is {value.strip()}, which stands for no value", hint)
            longest = max(longest, len(value))
        elif isinstance(value, BadTemplate):
            raise value
        else:
            longest = max(longest, len(str(value)))
    if longest > LONGEST_TEXT and longest * template.chars > bounds.FILLED_CHARS and not template.single:
        raise BadTemplate(f"the template would become too long: a value in it has {longest:,} characters")


def has_template(node: Node) -> bool:
    """Whether a value contains a template at any depth."""
    value = node.value
    if type(value) is str:
        return "{{" in value
    children = value.values() if type(value) is dict else value if type(value) is list else ()
    return any(map(has_template, children))


@lru_cache(maxsize=100)
def names_hint(name: str, names: tuple[str, ...]) -> str:
    """The hint for a name that a template does not know: the most similar one, and all of them."""
    hint = "an id must stay when a row is added above;" if name == "index" else nearest_hint(name, names)
    return f"{hint} known: {listed(names)}".strip()


def _check_expression(expression: str) -> None:
    if not expression:
        raise BadTemplate(
            "the template cannot be read: a `{{` has no `}}`", "a `{{` that is text is written {{ '{{' }}"
        )
    code = QUOTED.sub("''", expression)
    if len(expression) > LONGEST_EXPRESSION:
        raise BadTemplate(f"an expression has {len(expression)} characters; at most {LONGEST_EXPRESSION} are allowed")
    if odd := next((char for char in code if not char.isascii() and not char.isalnum()), ""):
        message = f"an expression holds {unicodedata.name(odd, f'U+{ord(odd):04X}').lower()}"
        raise BadTemplate(message, "write plain blanks, and straight quotes")
    if (number := code.strip()) and set(number) <= NUMBER:
        raise BadTemplate(f"`{number}` is a number here, and no name", "a column of that name must be renamed")
    if "*" in code:
        raise BadTemplate("a template does not multiply: it has no `*`")
    for name in FILTER.findall(code):
        if name not in FILTERS:
            raise BadTemplate(f"there is no filter `{name}`", suggestion(name, FILTERS))

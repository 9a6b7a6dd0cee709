"""YAML as a stream of nodes that know their place: one job at a time, so that a large manifest stays small in memory.

The subset of YAML 1.2 that is data: scalars of the core schema (`16:9`, `no` and dates are text), anchors, aliases and
`<<`. Tags, duplicate keys, a second document, deep nesting and aliases that blow up are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from yaml._yaml import CParser
from yaml.error import MarkedYAMLError
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.reader import ReaderError

from batchgen.manifest.source import Findings, Mark, Place

DEEPEST = 64
"""Levels of nesting; the deepest documented request has 8."""
ALIASED = 1_000_000
"""Values that may come from aliases, beyond ten for each value written out."""

Parsed = Any
"""An event of the parser. Its attributes depend on its class, which is looked at where speed allows."""

Scalar = str | int | float | bool | None

WORDS: dict[str, Scalar] = dict.fromkeys(("", "~", "null", "Null", "NULL"), None)
WORDS.update(dict.fromkeys(("true", "True", "TRUE"), True))
WORDS.update(dict.fromkeys(("false", "False", "FALSE"), False))
INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
OTHER_BASE = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Node:
    """A value and its place. A mapping's `value` is a dict of nodes, and `keys` has the place of each key."""

    __slots__ = ("end_mark", "keys", "start_mark", "text", "value")

    def __init__(self, value: Any, text: str, event: Parsed, keys: dict[str, Parsed] | None = None) -> None:
        self.value = value
        self.text = text
        self.start_mark: Mark = event.start_mark
        self.end_mark: Mark = event.end_mark
        self.keys = keys or {}


class Stop(Exception):
    """The text cannot be read any further; why is among the findings."""


def plain(node: Node) -> Any:
    """The value without places: what JSON can say."""
    value = node.value
    if type(value) is dict:
        return {name: plain(child) for name, child in value.items()}
    if type(value) is list:
        return [plain(child) for child in value]
    return value


def resolve(text: str) -> Scalar:
    """What an unquoted scalar means in the core schema of YAML 1.2. What JSON cannot say (.inf, .nan) stays text."""
    if text in WORDS:
        return WORDS[text]
    if text[0] in "0123456789+-.":
        if INTEGER.fullmatch(text):
            return int(text)
        if OTHER_BASE.fullmatch(text):
            return int(text, 0)
        if FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
    return text


def entries(findings: Findings, stream: str) -> Iterator[tuple[Parsed | None, Node]]:
    """The top-level keys of the manifest with their values.

    The list under the key `stream` comes as an empty list first, and then item by item with None for a key.
    Raises Stop.
    """
    return _Reader(findings).entries(stream)


class _Reader:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.anchors: dict[str, Node | None] = {}
        self.sizes: dict[int, tuple[Node, int, int]] = {}
        self.written = 0
        self.aliased = 0
        try:
            self.event: Callable[[], Parsed] = CParser(findings.source.text).get_event
        except ReaderError as error:
            self.fail(error)

    def entries(self, stream: str) -> Iterator[tuple[Parsed | None, Node]]:
        try:
            yield from self.read(stream)
        except (MarkedYAMLError, ReaderError) as error:
            self.fail(error)

    def read(self, stream: str) -> Iterator[tuple[Parsed | None, Node]]:
        self.event()
        start = self.event()
        if type(start) is StreamEndEvent:
            self.halt(Place(1, 1), "the manifest is empty", "a manifest has a list of jobs under `jobs:`")
        start = self.event()
        if type(start) is not MappingStartEvent:
            self.halt(Place.of(start), "a manifest is a mapping", "begin with a key such as `jobs:`")
        self.refuse_tag(start)
        seen: dict[str, Parsed] = {}
        while type(key := self.event()) is not MappingEndEvent:
            if type(key) is not ScalarEvent:
                self.halt(Place.of(key), "a key must be text")
            self.refuse_tag(key)
            value = self.event()
            if self.duplicate(key, seen):
                self.compose(value, 1)
            elif key.value == stream and type(value) is SequenceStartEvent:
                self.refuse_tag(value)
                yield key, Node([], "", value)
                while type(item := self.event()) is not SequenceEndEvent:
                    yield None, self.compose(item, 2)
            else:
                yield key, self.compose(value, 1)
        self.event()
        if type(another := self.event()) is not StreamEndEvent:
            self.halt(Place.of(another), "a manifest is one YAML document", "put a second batch into a file of its own")

    def compose(self, event: Parsed, depth: int) -> Node:
        kind = type(event)
        self.written += 1
        if kind is ScalarEvent:
            text: str = event.value
            if event.tag is not None:
                self.refuse_tag(event)
            node = Node(resolve(text) if event.implicit[0] else text, text, event)
        elif kind is AliasEvent:
            return self.alias(event, depth)
        else:
            if depth >= DEEPEST:
                self.halt(Place.of(event), f"values are nested more than {DEEPEST} deep")
            if event.tag is not None:
                self.refuse_tag(event)
            if event.anchor:
                self.anchors[event.anchor] = None
            node = self.sequence(event, depth) if kind is SequenceStartEvent else self.mapping(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def sequence(self, start: Parsed, depth: int) -> Node:
        items: list[Node] = []
        while type(event := self.event()) is not SequenceEndEvent:
            items.append(self.compose(event, depth + 1))
        return Node(items, "", start)

    def mapping(self, start: Parsed, depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Parsed] = {}
        merged: list[tuple[Parsed, Node]] = []
        event = self.event
        while type(key := event()) is not MappingEndEvent:
            if type(key) is not ScalarEvent:
                self.halt(Place.of(key), "a key must be text")
            if key.tag is not None:
                self.refuse_tag(key)
            name = key.value
            if key.anchor:
                self.anchors[key.anchor] = Node(name, name, key)
            value = self.compose(event(), depth + 1)
            if name == "<<" and key.implicit[0]:
                merged.append((key, value))
            elif name not in keys:
                keys[name] = key
                values[name] = value
            else:
                self.duplicate(key, keys)
        if merged:
            values, keys = self.merge(merged, values, keys)
        return Node(values, "", start, keys)

    def merge(
        self, merged: list[tuple[Parsed, Node]], values: dict[str, Node], keys: dict[str, Parsed]
    ) -> tuple[dict[str, Node], dict[str, Parsed]]:
        """What is written in a mapping goes over what it merges; of several merged, the first named wins."""
        under_values: dict[str, Node] = {}
        under_keys: dict[str, Parsed] = {}
        for key, node in merged:
            for base in node.value if type(node.value) is list else [node]:
                if type(base.value) is not dict:
                    self.findings.add(key, "`<<` takes a mapping, or a list of mappings")
                    continue
                self.count_aliased(key, len(base.value))
                under_values = {**base.value, **under_values}
                under_keys = {**base.keys, **under_keys}
        return {**under_values, **values}, {**under_keys, **keys}

    def alias(self, event: Parsed, depth: int) -> Node:
        if event.anchor not in self.anchors:
            self.halt(Place.of(event), f"there is no anchor `&{event.anchor}` above")
        node = self.anchors[event.anchor]
        if node is None:
            self.halt(Place.of(event), f"`*{event.anchor}` stands inside the very value it names")
        size, height = self.measure(node)
        if depth + height > DEEPEST:
            self.halt(Place.of(event), f"values are nested more than {DEEPEST} deep")
        self.count_aliased(event, size)
        return node

    def measure(self, node: Node) -> tuple[int, int]:
        """How many values a node holds, and how deep they lie."""
        if type(node.value) is not dict and type(node.value) is not list:
            return 1, 0
        if id(node) not in self.sizes:
            children = node.value.values() if type(node.value) is dict else node.value
            measured = [self.measure(child) for child in children]
            size, height = sum(size for size, _ in measured), max((height for _, height in measured), default=0)
            # With its node kept, an id in here is never that of another node.
            self.sizes[id(node)] = node, 1 + size, 1 + height
        return self.sizes[id(node)][1:]

    def count_aliased(self, event: Parsed, size: int) -> None:
        self.aliased += size
        if self.aliased > ALIASED + 10 * self.written:
            self.halt(
                Place.of(event), "aliases blow this manifest up", f"more than {ALIASED:,} values come from aliases"
            )

    def duplicate(self, key: Parsed, seen: dict[str, Parsed]) -> bool:
        first: Parsed = seen.setdefault(key.value, key)
        if first is not key:
            where = Place.of(first)
            self.findings.add(key, f"`{key.value[:100]}` stands here twice", f"first on {where.line}:{where.column}")
        return first is not key

    def refuse_tag(self, event: Parsed) -> None:
        if event.tag is not None:
            self.findings.add(event, f"YAML tags are not read: `{event.tag[:100]}`", "take the tag away")

    def halt(self, place: Place, message: str, label: str = "") -> NoReturn:
        self.findings.add(place, message, label)
        raise Stop

    def fail(self, error: MarkedYAMLError | ReaderError) -> NoReturn:
        if isinstance(error, ReaderError):
            text = self.findings.source.text
            found = FORBIDDEN.search(text)
            above = (text[: found.start() if found else 0] + "?").splitlines()
            char = f"U+{ord(found[0]):04X}" if found else ""
            self.halt(Place(len(above), len(above[-1])), f"the character {char} cannot stand in YAML", "take it away")
        mark: Any = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        context = f" {error.context}" if error.context else ""
        self.halt(place, f"this is not YAML:{context} {error.problem}".replace("  ", " "))

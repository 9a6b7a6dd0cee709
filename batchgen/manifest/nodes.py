"""Composes YAML into nodes that know their position, one job at a time, so that a large manifest needs little memory.

Reads the part of YAML 1.2 that is data: scalars of the core schema (`16:9`, `no` and dates are text), anchors, aliases
and `<<`. Refuses tags, duplicate keys, a second document, deep nesting and alias bombs ("billion laughs").
"""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from yaml import CSafeLoader
from yaml.error import Mark, MarkedYAMLError
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

from batchgen.catalogue.written import Written
from batchgen.manifest import bounds
from batchgen.manifest.diagnostics import Diagnostics, ReadingStopped
from batchgen.manifest.scalars import LONG_INTEGER, NO_NUMBERS, resolve
from batchgen.manifest.source import Position
from batchgen.manifest.syntax_help import VALUES, blank_hint, line_hint, syntax_help

MAX_DEPTH = 64
"""Levels of nesting: well below Python's recursion limit; the deepest documented request has 8."""
MAX_ALIASED = 200_000
"""Values that aliases may add, beyond ten for each value in the text. More is an alias bomb."""

Event = Any
"""An event of PyYAML's parser. Its class decides which attributes it has; a check of each would cost speed."""


class Node:
    """A value with its position. `value` of a mapping is a dict of nodes; `keys` has the positions of its keys."""

    __slots__ = ("end_mark", "keys", "start_mark", "text", "value")

    def __init__(self, value: Any, text: str, event: Event, keys: dict[str, Event] | None = None) -> None:
        self.value = value
        self.text = text
        self.start_mark: Mark = event.start_mark
        self.end_mark: Mark = event.end_mark
        self.keys = keys or {}


def written(node: Node, fill: Callable[[Node, str], Any] | None = None, name: str = "") -> Any:
    """The value without positions, where each number and truth value keeps the text that it was written as.

    `fill` makes the value of a text with a template in it, which stands under `name`. What it makes null is left out.
    """
    value = node.value
    if type(value) is str:
        return fill(node, name) if fill and "{{" in value else value
    if type(value) is dict:
        members = ((key, child, written(child, fill, key)) for key, child in value.items())
        return {key: member for key, child, member in members if member is not None or child.value is None}
    if type(value) is list:
        items = ((child, written(child, fill, name)) for child in value)
        return [item for child, item in items if item is not None or child.value is None]
    return value if value is None else Written(value, node.text)


def leaves(node: Node, name: str = "") -> Iterator[tuple[Node, str]]:
    """The single values in a value, at any depth, each with the key that it stands under: with `name` under none."""
    if type(node.value) is dict:
        for key, child in node.value.items():
            yield from leaves(child, key)
    elif type(node.value) is list:
        for child in node.value:
            yield from leaves(child, name)
    else:
        yield node, name


def top_level(diagnostics: Diagnostics, streamed: str) -> Iterator[tuple[Event | None, Node]]:
    """The top-level keys of the manifest with their values. Raises ReadingStopped.

    The list under the key `streamed` comes as an empty list first, then item by item with None as the key.
    """
    try:
        yield from _Composer(diagnostics).top_level(streamed)
    except (MarkedYAMLError, ReaderError) as error:
        diagnostics.add(*syntax_help(error, diagnostics.source))
        raise ReadingStopped from None


class _Composer:
    """Makes nodes of the parser's events; "compose" is the word of the YAML specification."""

    def __init__(self, diagnostics: Diagnostics) -> None:
        self.diagnostics = diagnostics
        self.anchors: dict[str, Node | None] = {}
        self.unused: dict[str, Event] = {}
        """The texts with an anchor that no alias has named so far."""
        self.sizes: dict[int, tuple[Node, int, int]] = {}
        self.composed = 0
        self.most = 0
        """The number of composed values at which the current job or header key has too many."""
        self.aliased = 0
        self.event: Callable[[], Event] = CSafeLoader(diagnostics.source.text).get_event

    def top_level(self, streamed: str) -> Iterator[tuple[Event | None, Node]]:
        self.event()
        start = self.event()
        if type(start) is StreamEndEvent:
            self.stop(Position(1, 1), "the manifest is empty", "a manifest has a list of jobs under `jobs:`")
        start = self.event()
        if type(start) is not MappingStartEvent:
            hint = line_hint(self.diagnostics.source.line(Position.of(start))) or "begin with a key such as `jobs:`"
            self.stop(start, "a manifest is a mapping", hint)
        self.refuse_tag(start)
        seen: dict[str, Event] = {}
        while type(key := self.event()) is not MappingEndEvent:
            self.judge_key(key)
            value = self.event()
            self.most = self.composed + bounds.ENTRY_VALUES
            if self.is_duplicate(key, seen):
                self.compose(value, 1)
            elif key.value == streamed and type(value) is SequenceStartEvent:
                self.refuse_tag(value)
                yield key, Node([], "", value)
                while type(item := self.event()) is not SequenceEndEvent:
                    self.most = self.composed + bounds.ENTRY_VALUES
                    yield None, self.compose(item, 2)
            else:
                yield key, self.compose(value, 1)
        self.event()
        if type(another := self.event()) is not StreamEndEvent:
            hint = "put a second batch into a file of its own"
            self.stop(another, "a manifest is one YAML document", hint)
        for name, event in self.unused.items():
            self.diagnostics.warn(event, f"no alias names the anchor `&{name}`, which is not sent", VALUES["&"])

    def compose(self, event: Event, depth: int) -> Node:
        kind = type(event)
        self.composed += 1
        if self.composed > self.most:
            message = f"this has more than {bounds.ENTRY_VALUES:,} values"
            self.stop(event, message, "divide it; many rows belong into a CSV or JSONL file")
        if kind is AliasEvent:
            return self.alias(event, depth)
        if kind is ScalarEvent:
            node = self.scalar(event)
        else:
            if depth >= MAX_DEPTH:
                self.stop(event, f"values are nested more than {MAX_DEPTH} deep")
            self.refuse_tag(event)
            if event.anchor:
                self.anchors[event.anchor] = None
            node = self.sequence(event, depth) if kind is SequenceStartEvent else self.mapping(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
            if kind is ScalarEvent:
                self.unused[event.anchor] = event
        return node

    def scalar(self, event: Event) -> Node:
        text: str = event.value
        is_plain: bool = event.implicit[0]
        self.refuse_tag(event)
        if is_plain and text in NO_NUMBERS:
            hint = "write ~ for a value that is missing, or put the text in quotes"
            self.diagnostics.add(event, f"{text} is no value that can be sent", hint)
        if is_plain and LONG_INTEGER.fullmatch(text):
            hint = "put it in quotes where it is text; a number has at most 19 digits"
            self.diagnostics.add(event, f"{text[:40]} is too long for a number", hint)
        return Node(resolve(text) if is_plain else text, text, event)

    def sequence(self, start: Event, depth: int) -> Node:
        items: list[Node] = []
        while type(event := self.event()) is not SequenceEndEvent:
            items.append(self.compose(event, depth + 1))
        return Node(items, "", start)

    def mapping(self, start: Event, depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Event] = {}
        merges: list[tuple[Event, Node]] = []
        event = self.event
        while type(key := event()) is not MappingEndEvent:
            self.judge_key(key)
            name = key.value
            if key.anchor:
                self.anchors[key.anchor] = Node(name, name, key)
            value = self.compose(event(), depth + 1)
            if value.value is None:
                self.refuse_cut(key, value)
            if name == "<<" and key.implicit[0]:
                merges.append((key, value))
            elif len(keys) >= bounds.MAPPING_KEYS:
                self.stop(value, f"this mapping has more than {bounds.MAPPING_KEYS:,} keys")
            elif name not in keys:
                keys[name] = key
                values[name] = value
            else:
                self.is_duplicate(key, keys)
        if merges:
            values, keys = self.merge(merges, values, keys)
        return Node(values, "", start, keys)

    def merge(
        self, merges: list[tuple[Event, Node]], values: dict[str, Node], keys: dict[str, Event]
    ) -> tuple[dict[str, Node], dict[str, Event]]:
        """Merge the mappings under `<<`. The mapping's own keys win, then the first of the merged mappings."""
        bases: list[Node] = []
        for key, node in merges:
            for base in node.value if type(node.value) is list else [node]:
                if type(base.value) is not dict:
                    self.diagnostics.add(key, "`<<` takes a mapping, or a list of mappings")
                    continue
                self.count_aliased(key, len(base.value))
                bases.append(base)
        if sum(len(base.value) for base in bases) > bounds.ENTRY_VALUES:
            self.stop(merges[0][0], f"`<<` merges more than {bounds.ENTRY_VALUES:,} keys")
        merged_values: dict[str, Node] = {}
        merged_keys: dict[str, Event] = {}
        for base in reversed(bases):
            merged_values.update(base.value)
            merged_keys.update(base.keys)
        return {**merged_values, **values}, {**merged_keys, **keys}

    def alias(self, event: Event, depth: int) -> Node:
        if event.anchor not in self.anchors:
            self.stop(event, f"there is no anchor `&{event.anchor}` above", VALUES["*"])
        node = self.anchors[event.anchor]
        self.unused.pop(event.anchor, None)
        if node is None:
            self.stop(event, f"`*{event.anchor}` stands inside the value that it names")
        size, height = self.extent_of(node)
        if depth + height > MAX_DEPTH:
            self.stop(event, f"values are nested more than {MAX_DEPTH} deep")
        self.count_aliased(event, size)
        return node

    def extent_of(self, node: Node) -> tuple[int, int]:
        """The number of values in a node, and their greatest depth."""
        if type(node.value) is not dict and type(node.value) is not list:
            return 1, 0
        if id(node) not in self.sizes:
            children = node.value.values() if type(node.value) is dict else node.value
            extents = [self.extent_of(child) for child in children]
            size, height = sum(size for size, _ in extents), max((height for _, height in extents), default=0)
            # The node is kept with its extent, so that no later node can have the same id().
            self.sizes[id(node)] = node, 1 + size, 1 + height
        return self.sizes[id(node)][1:]

    def count_aliased(self, event: Event, size: int) -> None:
        self.aliased += size
        if self.aliased > MAX_ALIASED + 10 * self.composed:
            hint = f"aliases add more than {MAX_ALIASED:,} values"
            self.stop(event, "aliases make this manifest too large", hint)

    def is_duplicate(self, key: Event, seen: dict[str, Event]) -> bool:
        first: Event = seen.setdefault(key.value, key)
        if first is not key:
            at = Position.of(first)
            self.diagnostics.add(key, f"`{key.value[:100]}` stands here twice", f"first on {at.line}:{at.column}")
        return first is not key

    def refuse_cut(self, key: Event, value: Node) -> None:
        """Report a key without a colon: the second half of a text that stands in {…}, where a comma ends it."""
        end, start = key.end_mark.index, value.start_mark.index
        if end <= start and ":" not in self.diagnostics.source.text[end:start]:  # what an alias names stands before it
            hint = "put a text that holds a comma in quotes"
            self.diagnostics.add(key, f"`{key.value[:100]}` has no value", hint)

    def judge_key(self, key: Event) -> None:
        """Stop at a key that is none, or begins with a blank which is none in YAML: whatever follows is misread."""
        if type(key) is not ScalarEvent:
            at = Position.of(key)
            is_template = self.diagnostics.source.line(at)[: at.column].endswith("{{")
            self.stop(at, "a key must be text", "put a text that begins with {{ in quotes" if is_template else "")
        self.refuse_tag(key)
        if not key.value.isascii() and key.implicit[0] and (hint := blank_hint(key.value)):
            self.stop(key, "this key holds a blank that YAML takes for a letter", hint)

    def refuse_tag(self, event: Event) -> None:
        if event.tag is not None:
            self.diagnostics.add(
                event,
                f"YAML tags are not read: `{event.tag[:100]}`",
                "take the tag away, or put a text that begins with ! in quotes",
            )

    def stop(self, where: Position | Event, message: str, hint: str = "") -> NoReturn:
        self.diagnostics.add(where, message, hint)
        raise ReadingStopped

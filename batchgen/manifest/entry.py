"""An entry under `jobs` as it is written: its fields with the defaults, and the position of each."""

from batchgen.catalogue import pointers
from batchgen.manifest.diagnostics import Location, Origin
from batchgen.manifest.job_list import ManifestFile
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Marked, Position


class Entry:
    """One entry. `origin` is that of the job which is built from it at the moment."""

    def __init__(self, file: ManifestFile, node: Node) -> None:
        self.file = file
        self.node = node
        self.line = node.start_mark.line + 1
        self.origin: Origin | None = None
        defaults = file.header.defaults
        # A default that the job overrides keeps its place, so the order of keys is that of the defaults.
        self.fields: dict[str, Node] = {**defaults, **node.value} if defaults else node.value

    def own(self, key: str) -> Node | None:
        """The value of a key that stands in the entry itself, not in the defaults."""
        node: Node | None = self.node.value.get(key)
        return node

    def key_position(self, name: str) -> Marked:
        """The position of a key: in the entry, else in the defaults."""
        return self.node.keys.get(name) or self.file.header.default_keys.get(name) or self.node

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
        return Location(self.file.diagnostics, Position.of(where), self.origin)

    def report(self, where: Marked, message: str, hint: str = "") -> None:
        self.file.diagnostics.add(where, message, hint, self.origin)

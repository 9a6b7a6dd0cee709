"""An entry as it is written: its fields, and where each of them stands."""

from __future__ import annotations

from batchgen.catalogue import pointers
from batchgen.manifest.jobs import Jobs, Sheet
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Marked, Origin, Place
from batchgen.manifest.spots import Spot
from batchgen.manifest.templates import templated


class Written:
    """One entry under `jobs`, and which of its jobs is being made."""

    def __init__(self, jobs: Jobs, sheet: Sheet, node: Node) -> None:
        self.jobs = jobs
        self.sheet = sheet
        self.node = node
        self.line = node.start_mark.line + 1
        defaults = sheet.header.defaults
        # A default that a job overrides keeps its position, so that the order of keys is that of the defaults.
        self.fields: dict[str, Node] = {**defaults, **node.value} if defaults else node.value
        self.origin: Origin | None = None
        """The row, cell and take of the current job."""
        self.current: str | None = None
        """Its id."""

    def uses(self, node: Node, name: str) -> bool:
        """Whether the template `node`, which has been filled in, takes `name`."""
        return templated(node) and name in self.jobs.templates.plan(node.text).names

    def key(self, name: str) -> Marked:
        """The place of a key: in the job, or in the defaults it comes from."""
        return self.node.keys.get(name) or self.sheet.header.default_keys.get(name) or self.node

    def at(self, pointer: str) -> Node:
        """The node of a value, by JSON pointer; the nearest around it where a template made it, or there is none."""
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

    def spot(self, where: Marked) -> Spot:
        return Spot(self.sheet.findings, Place.of(where), self.origin)

    def blame(self, where: Marked, message: str, label: str = "") -> None:
        self.sheet.findings.add(where, message, label, self.origin)

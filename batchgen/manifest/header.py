"""All of a manifest but its jobs."""

from __future__ import annotations

from batchgen.catalogue.register import Style
from batchgen.manifest import limits, words
from batchgen.manifest.limits import Limits
from batchgen.manifest.nodes import Node
from batchgen.manifest.source import Findings, Marked

KEYS = ("batch", "service", "output", "limits", "include", "defaults", "jobs")
INCLUDED_KEYS = ("include", "defaults", "jobs")
"""Keys of a manifest that another includes; the rest is said once, by the main one."""
SERVICES = ("aimlapi", "simulator")
STYLES: tuple[Style, ...] = ("universal", "legacy")
OUTPUT = "{{ batch }}/{{ id }}.mp4"

MULTIPLIERS = ("matrix", "rows", "count")
OWN = frozenset(("id", "model", "output", "priority", "tags", *MULTIPLIERS))
"""Keys of a job that are batchgen's; every other key is a parameter of the model."""
SUGGESTED = ("id", "model", "output", "priority", "tags", *MULTIPLIERS)


class Header:
    """What applies to every job of a file. Filled key by key, in whatever order they stand."""

    def __init__(self, batch: str, findings: Findings, *, included: bool = False) -> None:
        self.findings = findings
        self.included = included
        self.includes: list[Node] = []
        self.batch = batch
        self.service = "aimlapi"
        self.style: Style = "universal"
        self.output: Node | None = None
        self.limits = Limits()
        self.defaults: dict[str, Node] = {}
        self.default_keys: dict[str, Marked] = {}

    def take(self, key: str, place: Marked, node: Node) -> None:
        match key:
            case _ if self.included and key in KEYS and key not in INCLUDED_KEYS:
                self.findings.add(place, f"an included manifest has no `{key}`", "the main manifest says it for all")
            case "include":
                self.take_includes(node)
            case "batch":
                if node.value is not None:
                    self.batch = words.name(node, "`batch`", self.findings) or self.batch
            case "service":
                self.take_service(node)
            case "output":
                if type(node.value) is str:
                    self.output = node
                elif node.value is not None:
                    self.findings.add(node, f"`output` must be text, not {words.kind(node)}")
            case "limits":
                self.limits = limits.read(node, self.findings)
            case "defaults":
                self.take_defaults(node)
            case _ if key in MULTIPLIERS:
                self.findings.add(place, f"`{key}` belongs to a job", "write it under `jobs:`")
            case _:
                keys = INCLUDED_KEYS if self.included else KEYS
                self.findings.add(place, f"a manifest has no key `{key[:100]}`", words.nearest(key, keys))

    def take_service(self, node: Node) -> None:
        if type(node.value) is not dict:
            self.take_service_name(node)
            return
        for key, value in node.value.items():
            if key == "name":
                self.take_service_name(value)
            elif key == "endpoint" and value.value in STYLES:
                self.style = value.value
            elif key == "endpoint":
                self.findings.add(value, f"`endpoint` must be {' or '.join(STYLES)}", words.nearest(value.text, STYLES))
            else:
                known = words.nearest(key, ("name", "endpoint"))
                self.findings.add(node.keys[key], f"`service` has no key `{key[:100]}`", known)

    def take_service_name(self, node: Node) -> None:
        if node.value in SERVICES:
            self.service = node.value
        elif type(node.value) is str:
            self.findings.add(node, f"there is no service `{node.text[:100]}`", words.nearest(node.text, SERVICES))
        else:
            self.findings.add(node, f"`service` must be {' or '.join(SERVICES)}, not {words.kind(node)}")

    def take_includes(self, node: Node) -> None:
        for each in node.value if type(node.value) is list else [node]:
            if type(each.value) is str and each.value.strip():
                self.includes.append(each)
            elif each is not node or node.value is not None:
                self.findings.add(each, f"`include` takes names of manifests, not {words.kind(each)}", "as a list")

    def take_defaults(self, node: Node) -> None:
        if type(node.value) is not dict:
            if node.value is not None:
                self.findings.add(node, f"`defaults` must be a mapping, not {words.kind(node)}")
            return
        for key, value in node.value.items():
            if key == "id":
                self.findings.add(node.keys[key], "an `id` cannot be a default", "give every job its own")
            elif key in ("matrix", "rows"):
                self.findings.add(node.keys[key], f"`{key}` cannot be a default", "write it in the job")
            else:
                self.defaults[key] = value
                self.default_keys[key] = node.keys[key]

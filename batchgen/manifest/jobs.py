"""The jobs of a manifest: each entry becomes a JobSpec, or findings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen import catalogue
from batchgen.catalogue import Link, Violation
from batchgen.jobs import JobSpec
from batchgen.manifest import words
from batchgen.manifest.header import LATER, OUTPUT, Header, refuse_later
from batchgen.manifest.images import Images
from batchgen.manifest.nodes import Node, plain
from batchgen.manifest.outputs import Outputs, path_fault, tidy
from batchgen.manifest.source import Findings, Marked, Place
from batchgen.manifest.templates import BadTemplate, Templates

OWN = ("id", "model", "output", "priority", "count", "matrix", "rows", "tags")
"""Keys of a job that are batchgen's; every other key is a parameter of the model."""
SUGGESTED = ("id", "model", "output", "priority", "tags")
HIGHEST_PRIORITY = 1_000_000

HTTP = re.compile(r"https?://[^\s/?#]+\S*", re.IGNORECASE)
DATA = re.compile(r"data:[^,\s]*,", re.IGNORECASE)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.IGNORECASE)

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Jobs:
    """Takes the entries in turn. `specs` are jobs that can be sent if, in the end, there are no findings."""

    def __init__(self, header: Header, folder: Path, manifest: str, findings: Findings) -> None:
        self.header = header
        self.findings = findings
        self.specs: list[JobSpec] = []
        self.index = 0
        self.ids: dict[str, Place] = {}
        self.images = Images(folder)
        self.outputs = Outputs(manifest, findings)
        self.templates = Templates()

    def add(self, node: Node) -> None:
        self.index += 1
        if type(node.value) is not dict:
            self.findings.add(node, f"a job must be a mapping, not {words.kind(node)}")
            return
        self.specs.append(_Entry(self, node).spec())

    def finish(self) -> None:
        self.outputs.finish(self.images.faults)


class _Entry:
    """One job on its way to a JobSpec."""

    def __init__(self, jobs: Jobs, node: Node) -> None:
        self.jobs = jobs
        self.findings = jobs.findings
        self.node = node
        self.line = node.start_mark.line + 1
        defaults = jobs.header.defaults
        # A default that a job overrides keeps its position, so that the order of keys is that of the defaults.
        self.fields: dict[str, Node] = {**defaults, **node.value} if defaults else node.value

    def spec(self) -> JobSpec:
        for word in LATER:
            if word in self.node.value:
                refuse_later(word, self.key(word), self.findings)
        key = self.id()
        model = self.model()
        params = {
            name: plain(value) if type(value.value) in (dict, list) else value.value
            for name, value in self.fields.items()
            if name not in OWN and name not in LATER and value.value is not None
        }
        endpoint = ""
        files: tuple[str, ...] = ()
        if model:
            endpoint = catalogue.endpoint(model, self.jobs.header.style)
            params, files = self.request(model, endpoint, params)
        return JobSpec(
            key=key or "",
            model=model or "",
            endpoint=endpoint,
            request=encode({"model": model, **params}),
            output=(self.output(key, model, params) if key and model else None) or "",
            files=files,
            priority=self.priority(),
            tags=self.tags(),
            line=self.line,
        )

    def key(self, name: str) -> Marked:
        """The place of a key: in the job, or in the defaults it comes from."""
        return self.node.keys.get(name) or self.jobs.header.default_keys.get(name) or self.node

    def id(self) -> str | None:
        node = self.node.value.get("id")
        if node is None:
            self.findings.add(self.node, "the job has no `id`", "give it one: it is the job's name from run to run")
            return None
        key = words.name(node, "`id`", self.findings)
        if key is None:
            return None
        place = Place.of(node)
        first = self.jobs.ids.setdefault(key, place)
        if first is not place:
            self.findings.add(place, f"two jobs have the id `{key}`", f"the other is on line {first.line}")
            return None
        return key

    def model(self) -> str | None:
        node = self.fields.get("model")
        if node is None or node.value is None:
            self.findings.add(self.node, "the job has no `model`", "name one here or in `defaults`")
            return None
        if type(node.value) is not str:
            self.findings.add(node, f"`model` must be text, not {words.kind(node)}")
            return None
        if node.value in catalogue.models():
            return node.value
        close = catalogue.nearest(node.value)
        label = f"did you mean {' or '.join(close)}?" if close else "see the list of the service's video models"
        self.findings.add(node, f"there is no model `{node.value[:100]}`", label)
        return None

    def request(self, model: str, endpoint: str, params: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The parameters as they are sent, and the pointers of local files among them."""
        params = catalogue.coerced(model, endpoint, params)
        for violation in catalogue.violations(model, endpoint, params, SUGGESTED):
            self.blame(violation)
        self.refuse_null_of_nothing(model, catalogue.parameters(model, endpoint))
        files = []
        for link in catalogue.media(model, endpoint, params):
            if not HTTP.fullmatch(link.value) and not DATA.match(link.value):
                files.append(link.pointer)
                self.look(link)
        return params, tuple(files)

    def refuse_null_of_nothing(self, model: str, taken: tuple[str, ...]) -> None:
        """A null that drops neither a default nor a parameter is a misspelt one, and leaves in what it should drop."""
        for name, value in self.node.value.items():
            if value.value is None and not (name in OWN or name in taken or name in self.jobs.header.defaults):
                message = f"`{model}` does not take `{name[:100]}`"
                self.findings.add(self.key(name), message, words.nearest(name, (*taken, *SUGGESTED)))

    def look(self, link: Link) -> None:
        """See that the local file behind a link can be sent."""
        value = link.value
        if link.medium != "image":
            message = f"a {link.medium} must be a link: only images are sent from local files"
            self.findings.add(self.at(link.pointer), message, "begin with https://")
        elif SCHEME.match(value):
            self.findings.add(
                self.at(link.pointer), "an image must be a link (http, https), a data URI or a local path"
            )
        elif (fault := self.jobs.images.fault(value)) and not self.is_settled():
            self.findings.add(self.at(link.pointer), fault)

    def is_settled(self) -> bool:
        """Whether the job was sent already, so that it needs its images no more."""
        header, node = self.jobs.header, self.node.value.get("id")
        return node is not None and node.text in header.settled(header.batch)

    def blame(self, violation: Violation) -> None:
        """Put a violation where its value stands, or its key if the name itself is wrong."""
        *parents, name = catalogue.tokens(violation.pointer) or [""]
        root = parents[0] if parents else name
        hint = violation.hint
        if root and root not in self.node.value:
            hint = "; ".join(filter(None, (hint, f"this default applies to the job on line {self.line}")))
        if not violation.unknown:
            self.findings.add(self.at(violation.pointer), violation.message, hint)
        elif parents:
            holder = self.at(violation.pointer.rpartition("/")[0])
            self.findings.add(holder.keys[name], violation.message, hint)
        else:
            self.findings.add(self.key(name), violation.message, hint)

    def at(self, pointer: str) -> Node:
        """The node of a value, by JSON pointer; the job's own if there is none."""
        node = self.node
        for depth, name in enumerate(catalogue.tokens(pointer)):
            children = self.fields if depth == 0 else node.value
            node = children[int(name)] if type(children) is list else children[name]
        return node

    def output(self, key: str, model: str, params: Mapping[str, Any]) -> str | None:
        header = self.jobs.header
        chosen = self.fields.get("output")
        if chosen is not None and chosen.value is not None and type(chosen.value) is not str:
            self.findings.add(chosen, f"`output` must be text, not {words.kind(chosen)}")
            return None
        chosen = chosen if chosen is not None and chosen.value is not None else header.output
        template = chosen.value if chosen is not None else OUTPUT
        known: dict[str, object] = {"batch": header.batch, "id": key, "model": model, "index": self.jobs.index}
        known |= {name: value for name, value in params.items() if type(value) is not dict and type(value) is not list}
        try:
            path = self.jobs.templates.render(template, known)
        except BadTemplate as error:
            self.findings.add(chosen if chosen is not None else self.node, str(error), error.label)
            return None
        # A path that is a job's own is blamed there; one made of its id, at the id.
        own = chosen is not None and self.node.value.get("output") is chosen
        place = Place.of(self.node.value["output" if own else "id"])
        if why := path_fault(path):
            self.findings.add(place, why, f"the path would be {path[:200]}")
            return None
        path = tidy(path)
        return path if self.jobs.outputs.add(path, place) else None

    def priority(self) -> int:
        node = self.fields.get("priority")
        if node is None or node.value is None:
            return 0
        if type(node.value) is not int:
            self.findings.add(node, f"`priority` must be a whole number, not {words.kind(node)}")
        elif abs(node.value) > HIGHEST_PRIORITY:
            self.findings.add(node, f"`priority` must be -{HIGHEST_PRIORITY:,} to {HIGHEST_PRIORITY:,}")
        else:
            return node.value
        return 0

    def tags(self) -> tuple[str, ...]:
        node = self.fields.get("tags")
        if node is None or node.value is None:
            return ()
        if type(node.value) is not list:
            self.findings.add(node, f"`tags` must be a list, not {words.kind(node)}")
            return ()
        return tuple(tag for each in node.value if (tag := words.name(each, "a tag", self.findings)))

"""One entry under `jobs`: it becomes one JobSpec, or one for each row, cell and take; or findings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from batchgen import catalogue
from batchgen.catalogue.register import UNIVERSAL
from batchgen.jobs import JobSpec
from batchgen.manifest import request, words
from batchgen.manifest.expansion import Expansion, expansion
from batchgen.manifest.header import MULTIPLIERS, OUTPUT, OWN
from batchgen.manifest.jobs import Jobs, Sheet
from batchgen.manifest.nodes import Node, resolve
from batchgen.manifest.outputs import path_fault, tidy
from batchgen.manifest.source import Place
from batchgen.manifest.spots import Spot
from batchgen.manifest.templates import Ambiguous, BadTemplate, UnknownName, prepared, templated
from batchgen.manifest.written import Written

HIGHEST_PRIORITY = 1_000_000

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Entry(Written):
    """One entry on its way to its jobs. `row` are the names and values of the current row and cell."""

    def __init__(self, jobs: Jobs, sheet: Sheet, node: Node) -> None:
        super().__init__(jobs, sheet, node)
        self.asked = [(name, value, *prepared(value)) for name, value in self.fields.items() if name not in OWN]
        self.live = any(live for *_, live in self.asked) or any(
            name in self.fields and templated(self.fields[name]) for name in ("priority", "tags")
        )
        self.row: Mapping[str, Any] = {}
        self.broken = False
        """Whether a template of the current job could not be filled in."""
        self.place: Spot
        """Of the current job's id."""

    def add(self) -> None:
        """Add the entry's jobs. Raises TooMany."""
        if self.fields.keys().isdisjoint(MULTIPLIERS):
            self.jobs.append(self.spec())
            return
        multiplied = expansion(self.fields, self.sheet.folder, self.sheet.findings)
        if multiplied is None or self.says_one_id(multiplied):
            return
        for self.row, self.origin in multiplied.cells():
            self.jobs.append(self.spec())

    def says_one_id(self, multiplied: Expansion) -> bool:
        """Whether the id, and a finding, is the same for all rows and cells. Takes tell themselves apart."""
        node = self.node.value.get("id")
        many = multiplied.rows is not None or any(len(values) > 1 for values in multiplied.axes.values())
        if not many or node is None or templated(node):
            return False
        hint = f"name what tells them apart, such as {{{{ {next(iter(multiplied.axes), 'sku')} }}}}"
        self.blame(node, f"every job of this entry would have the id `{node.text[:100]}`", hint)
        return True

    def spec(self) -> JobSpec:
        self.broken = False
        model = self.model()
        self.current = key = self.id(model or "")
        index = len(self.jobs.specs) + 1
        known = self.known(id=key or "", index=index, model=model or "") if self.live else {}
        params = {}
        for name, node, value, live in self.asked:
            made = self.filled(node, known) if live else value
            if made is not None:
                params[name] = made
        endpoint = ""
        files: tuple[str, ...] = ()
        if model:
            endpoint = catalogue.endpoint(model, self.style) if catalogue.known(model) else UNIVERSAL
            if not self.broken:
                params, files = request.complete(self, model, endpoint, params)
        return JobSpec(
            key=key or "",
            model=model or "",
            endpoint=endpoint,
            request=encode({"model": model, **params}),
            output=(self.output(key, model, index, params) if key and model else None) or "",
            input_pointers=files,
            priority=self.priority(known),
            tags=self.tags(known),
            source=self.sheet.findings.source.path,
            line=self.line,
            origin=self.origin,
        )

    @property
    def style(self) -> catalogue.Style:
        return self.jobs.header.style

    # --- templates ---------------------------------------------------------------------------------------------------

    def own(self, **own: Any) -> dict[str, Any]:
        """The names of batchgen's own, with those that every part of a job knows."""
        own = {"batch": self.jobs.header.batch, **own}
        return {**own, "take": self.origin.take} if self.origin and self.origin.take else own

    def known(self, **own: Any) -> dict[str, Any]:
        """All names: batchgen's own and those of the row. One that is both, and differs, is an Ambiguous."""
        known = self.own(**own)
        for name, value in self.row.items():
            if name not in known:
                known[name] = value
            elif str(known[name]) != str(value):
                message = f"`{name}` means two things: it is {known[name]} for the job, and another in its row"
                known[name] = Ambiguous(message)
        return known

    def filled(self, node: Node, known: Mapping[str, Any]) -> Any:
        """The value of `node`, templates filled in. What they leave empty is null, as an empty value is in YAML."""
        value = node.value
        if type(value) is dict:
            pairs = ((name, child, self.filled(child, known)) for name, child in value.items())
            return {name: made for name, child, made in pairs if made is not None or child.value is None}
        if type(value) is list:
            items = ((child, self.filled(child, known)) for child in value)
            return [made for child, made in items if made is not None or child.value is None]
        if type(value) is not str or "{{" not in value:
            return value
        try:
            made = self.jobs.templates.fill(value, known)
        except BadTemplate as error:
            self.broken = True
            unknown = isinstance(error, UnknownName) and self.origin and self.origin.rows
            header = f"; the columns are those of {self.origin.rows}" if unknown and self.origin else ""
            self.blame(node, str(error), f"{error.label}{header}")
            return None
        return None if made == "" else made

    def text(self, node: Node, known: Mapping[str, Any]) -> str | None:
        """The template `node` filled in, as text; None, and a finding, where that cannot be done."""
        before, self.broken = self.broken, False
        made = self.filled(node, known)
        failed, self.broken = self.broken, self.broken or before
        return None if failed else "" if made is None else str(made)

    # --- the parts of a job ------------------------------------------------------------------------------------------

    def model(self) -> str | None:
        node = self.fields.get("model")
        if node is None or node.value is None:
            self.blame(self.node, "the job has no `model`", "name one here or in `defaults`")
            return None
        if type(node.value) is not str:
            self.blame(node, f"`model` must be text, not {words.kind(node)}")
            return None
        name: str | None = node.value
        if "{{" in node.value:
            name = self.text(node, self.known(index=len(self.jobs.specs) + 1))
        if name is None or catalogue.known(name):
            return name
        if not self.jobs.validate:
            why = words.name_fault(name)
            if why:
                self.blame(node, f"`model` {why}")
            return None if why else name
        close = catalogue.nearest(name)
        label = f"did you mean {' or '.join(close)}?" if close else "`batchgen models` lists them"
        self.blame(node, f"there is no model `{name[:100]}`", label)
        return None

    def id(self, model: str) -> str | None:
        node = self.node.value.get("id")
        if node is None:
            self.blame(self.node, "the job has no `id`", "give it one: it is the job's name from run to run")
            return None
        if templated(node):
            key = self.text(node, self.known(model=model))
            if key is not None and (why := words.name_fault(key)):
                self.blame(node, f"`id` {why}")
                key = None
        else:
            key = words.name(node, "`id`", self.sheet.findings)
        if key is None:
            return None
        if self.origin and self.origin.take > 1 and not self.uses(node, "take"):
            # The first take is the job as it was without `count`: what was paid for stays.
            key = f"{key}-{self.origin.take}"
        self.place = self.spot(node)
        return self.jobs.claim(key, self.place)

    def output(self, key: str, model: str, index: int, params: Mapping[str, Any]) -> str | None:
        header = self.jobs.header
        chosen = self.fields.get("output")
        if chosen is not None and chosen.value is not None and type(chosen.value) is not str:
            self.blame(chosen, f"`output` must be text, not {words.kind(chosen)}")
            return None
        given = chosen is not None and chosen.value is not None
        chosen = chosen if given else header.output
        if chosen is None or chosen.value == OUTPUT:
            path = f"{header.batch}/{key}.mp4"
        else:
            known = {
                name: value for name, value in params.items() if type(value) is not dict and type(value) is not list
            }
            try:
                filled = self.jobs.templates.fill(
                    chosen.value, {**known, **self.row, **self.own(id=key, model=model, index=index)}
                )
            except BadTemplate as error:
                where = self.spot(chosen) if given else Spot(self.jobs.findings, Place.of(chosen))
                where.add(str(error), error.label)
                return None
            path = "" if filled is None else str(filled)
        # A path that is a job's own is blamed there; one made of its id, at the id.
        own = given and "output" in self.node.value
        place = self.spot(self.node.value["output"]) if own else self.place
        if why := path_fault(path):
            place.add(why, f"the path would be {path[:200]}")
            return None
        path = tidy(path)
        return path if self.jobs.outputs.add(path, place) else None

    def priority(self, known: Mapping[str, Any]) -> int:
        node = self.fields.get("priority")
        if node is None or node.value is None:
            return 0
        value = node.value
        if templated(node):
            value = self.filled(node, known)
            value = resolve(value) if type(value) is str else value
            if value is None:
                return 0
        if type(value) is not int:
            self.blame(node, f"`priority` must be a whole number, not {words.kind(Node(value, str(value), node))}")
        elif abs(value) > HIGHEST_PRIORITY:
            self.blame(node, f"`priority` must be -{HIGHEST_PRIORITY:,} to {HIGHEST_PRIORITY:,}")
        else:
            return value
        return 0

    def tags(self, known: Mapping[str, Any]) -> tuple[str, ...]:
        node = self.fields.get("tags")
        if node is None or node.value is None:
            return ()
        if type(node.value) is not list:
            self.blame(node, f"`tags` must be a list, not {words.kind(node)}")
            return ()
        return tuple(tag for each in node.value if (tag := self.tag(each, known)))

    def tag(self, node: Node, known: Mapping[str, Any]) -> str | None:
        if not templated(node):
            return words.name(node, "a tag", self.sheet.findings)
        tag = self.text(node, known)
        if tag and (why := words.name_fault(tag)):
            self.blame(node, f"a tag {why}")
            return None
        return tag

"""Builds the JobSpecs of one entry: one, or one for each row, cell and take."""

import json
import re
from typing import Any

from batchgen.catalogue import durations, register
from batchgen.catalogue.wording import list_hint, listed, nearest_name, quoted
from batchgen.catalogue.written import Written, plain, trimmed
from batchgen.files.output_paths import BYTES_ADDED_LATER, path_fault, tidy
from batchgen.jobs import JobSpec, Parent
from batchgen.manifest import bounds, request
from batchgen.manifest.diagnostics import Location
from batchgen.manifest.entry import Entry, Values
from batchgen.manifest.expansion import variants
from batchgen.manifest.expressions import BadTemplate
from batchgen.manifest.header import OUTPUT
from batchgen.manifest.job_keys import HIGHEST_PRIORITY, LAST_TAKE, MULTIPLIERS, name_fault, number_fault
from batchgen.manifest.job_list import reserve
from batchgen.manifest.nodes import Node
from batchgen.manifest.path_help import home_fault
from batchgen.manifest.scalars import resolve
from batchgen.manifest.source import Position
from batchgen.manifest.templates import has_template

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

TOO_MANY_VALUES = f"the job has more than {bounds.REQUEST_VALUES:,} values, aliases included"
SHORTENED_NUMBER = re.compile(r"(?<![\w.,])[0-9]([.,][0-9]+)?E\+[0-9]{2,3}(?!\w)")
"""How a spreadsheet writes a long number in a narrow column: its last digits are lost."""


class JobBuilder(Entry):
    """Makes the jobs of one entry, and reports what is wrong with it at its place in the file."""

    def build(self) -> None:
        """Append the entry's jobs to the list. Raises ReadingEnded."""
        values = request.values_in(self.fields)
        if values > bounds.REQUEST_VALUES:
            self.report(self.node, TOO_MANY_VALUES)
            return
        self.warn_of_comments()
        if self.fields.keys().isdisjoint(MULTIPLIERS):
            self.jobs.append(self.spec(), values)
            return
        for row, origin in variants(self):
            is_first = self.origin is None
            self.row, self.origin = row, origin
            if is_first:
                self.warn_of_placeholders()
                self.warn_of_unused_axes()
            self.jobs.append(self.spec(), values)

    def spec(self) -> JobSpec:
        self.broken = False
        self.model = self.read_model()
        self.endpoint = self.read_endpoint() if self.model else ""
        id_location = self.read_id()
        values = self.values()
        written = self.written_params(values)
        extra = self.extra_params(values, written)
        pointers: tuple[str, ...] = ()
        if self.model and not self.broken:
            params, pointers = request.complete(self, written, extra)
        else:
            params = plain(written)
        return JobSpec(
            key=self.key,
            model=self.model,
            endpoint=self.endpoint,
            request=encode({"model": self.model, **params}),
            output=self.output(id_location, params, written) if id_location and self.model else "",
            input_pointers=pointers,
            clip_seconds=durations.clip_seconds(params),
            priority=self.priority(values),
            tags=self.tags(values),
            take=self.take(),
            parent=self.parent(values),
            source=self.file.diagnostics.source.path,
            line=self.line,
            origin=self.origin,
        )

    def written_params(self, values: Values) -> dict[str, Any]:
        """The parameters as the manifest has them, their templates filled. Too many are reported, and none is kept."""
        filled = ((name, self.filled(node, values, name)) for name, node in self.params.items())
        params = {name: value for name, value in filled if value is not None}
        if request.values_in(params) > bounds.REQUEST_VALUES:  # a row or a cell of a matrix may be a list
            self.report(self.node, TOO_MANY_VALUES)
            self.broken = True
            return {}
        return params

    # --- batchgen's own keys -----------------------------------------------------------------------------------------

    def value_of(self, name: str, kind: type = object, expected: str = "") -> Node | None:
        """The value of a key, from the entry or from `defaults`; None where it is absent, null, or of another kind,
        which is reported."""
        node = self.fields.get(name)
        if node is None or node.value is None:
            return None
        if isinstance(node.value, kind):
            return node
        hint = list_hint(node.value) if kind is list else ""
        self.report(node, f"`{name}` must be {expected}, not {quoted(node.value)}", hint)
        return None

    def read_model(self) -> str:
        """The model of the current job; "" where there is none that can be, which is reported."""
        if not (node := self.value_of("model")):
            self.report(self.node, "the job has no `model`", self.misspelt("model") or "name one here or in `defaults`")
            return ""
        name: str | None = node.value
        if type(node.value) is not str or "{{" in node.value:
            name = self.text(node, "`model`", self.values("id", "model"))
        self.documented = name is not None and self.jobs.documents(name)
        if name is None or self.documented:
            return name or ""
        if not self.jobs.validate or not self.jobs.main.service.is_catalogued:
            if not (fault := name_fault(name)):
                return name
            self.report(node, f"`model` {fault}")
            return ""
        similar = register.nearest(name)
        hint = f"did you mean {listed(similar, 'or')}?" if similar else "`batchgen models` lists them"
        self.report(node, f"there is no model `{name[:100]}`", hint)
        return ""

    def misspelt(self, key: str) -> str:
        """What to do about a key that is missing because it is misspelt; "" where it is not."""
        near = nearest_name(key, self.params)
        return f"write `{key}` in place of `{near}`" if near else ""

    def read_endpoint(self) -> str:
        """The path that serves the model in the manifest's style. A style that the model has not is reported."""
        service = self.jobs.main.service
        if self.documented and not register.is_served(self.model, service.endpoint):
            paths = " and ".join(register.endpoints(self.model))
            message = f"`{self.model}` has no {service.endpoint} endpoint, only {paths}"
            hint = f"leave out `endpoint: {service.endpoint}`, or give it a manifest of its own"
            self.report(self.fields["model"], message, hint)
        return service.path_of(self.model)

    def read_id(self) -> Location | None:
        """Where the id of the current job is written; None where it cannot be one, which is reported."""
        self.key = ""
        node = self.node.value.get("id")
        if node is None:
            hint = self.misspelt("id") or "give it one: it is the job's name from run to run"
            self.report(self.node, "the job has no `id`", hint)
            return None
        key = self.name(node, "`id`", self.values("id", "index") if has_template(node) else {}, self.columns)
        if key is None:
            return None
        if "E+" in key and self.columns and (number := SHORTENED_NUMBER.search(key)):
            hint = "format the column as text in the spreadsheet, and export it again"
            self.report(node, f"`id` has a number that a spreadsheet has shortened: {number[0]}", hint)
            return None
        if self.origin and self.origin.take > 1 and not self.jobs.templates.uses(node, "take"):
            # The first take has no suffix: with a `count` added later, the paid job keeps its id.
            key = f"{key}-{self.origin.take}"
        location = self.location(node)
        if not reserve(self.jobs.ids, key, location, f"two jobs have the id `{key}`"):
            return None
        self.key = key
        return location

    def output(self, id_location: Location, params: Values, written: Values) -> str:
        """The path of the job's video; "" where it cannot be, which is reported."""
        main = self.jobs.main
        node = self.value_of("output", str, "text")
        location = self.location(node) if node else None
        template = node or main.output
        if template is None or template.value == OUTPUT:
            path = f"{main.batch}/{self.key}.mp4"
        else:
            values = {**scalars(params, written), **self.row, **self.job_values()}
            try:
                path = self.jobs.templates.fill_text(template.value, values, ())
            except BadTemplate as error:
                at = location or Location(main.diagnostics, Position.of(template))
                at.report(str(error), error.hint)
                return ""
        # A path of the job's own is reported there; a path by a shared template is reported at the id.
        place = location if location and "output" in self.node.value else id_location
        if fault := home_fault(path) or path_fault(path, BYTES_ADDED_LATER):
            place.report(fault, f"the path would be {path[:200]}")
            return ""
        path = tidy(path)
        return path if self.jobs.add_output(path, place) else ""

    def extra_params(self, values: Values, params: Values) -> dict[str, Any]:
        """The parameters under `extra`, which are sent whatever the catalogue says."""
        if not (node := self.value_of("extra", dict, "a mapping of parameters")):
            return {}
        for name in node.value:
            if name == "model" or name in params:
                self.report(node.keys[name], f"`{name[:100]}` stands in the job and in its `extra`", "leave one out")
        extra: dict[str, Any] = plain(self.filled(node, values))
        return extra

    def priority(self, values: Values) -> int:
        if not (node := self.value_of("priority")):
            return 0
        value = node.value
        if has_template(node):
            value = plain(self.filled(node, values))
            value = resolve(trimmed(value)) if type(value) is str else value
            if value is None:
                return 0
        if type(value) is float and value.is_integer():
            value = int(value)  # as spreadsheets write whole numbers
        if not (fault := number_fault("priority", value, -HIGHEST_PRIORITY, HIGHEST_PRIORITY)):
            return int(value)
        self.report(node, fault)
        return 0

    def tags(self, values: Values) -> tuple[str, ...]:
        if not (node := self.value_of("tags", list, "a list")):
            return ()
        tags = (self.name(item, "a tag", values, may_be_empty=True) for item in node.value)
        return tuple(filter(None, tags))

    def take(self) -> int:
        """The number of the take: the entry's own, or its place among those of `count`.

        The first take is as good as a job without takes: a `count` may be added later.
        """
        counted = self.origin.take if self.origin else 0
        if not (node := self.value_of("take")):
            return max(counted, 1)
        if counted:
            self.report(node, "`take` and `count` exclude one another", "`count` numbers the takes itself")
        elif fault := number_fault("take", node.value, 1, LAST_TAKE):
            self.report(node, fault)
        else:
            return int(node.value)
        return 1

    def parent(self, values: Values) -> Parent | None:
        if not (node := self.value_of("from")):
            return None
        if type(node.value) is not dict or node.value.keys() != {"batch", "id"}:
            self.report(node, "`from` must name a job by its `batch` and its `id`", "such as {batch: spring, id: mona}")
            return None
        batch, key = (self.name(node.value[name], f"the `{name}` of `from`", values) for name in ("batch", "id"))
        return Parent(batch, key) if batch and key else None


def scalars(params: Values, written: Values) -> dict[str, Any]:
    """The parameters that a path may name: as they were written, unless they were changed before sending."""
    return {
        name: own if type(own := written.get(name)) is Written and own.value == value else value
        for name, value in params.items()
        if type(value) is not dict and type(value) is not list
    }

"""The keys at the top of a manifest: all but its jobs.

Each is one entry of `header_keys`: its type, default and meaning, for the reader and for the schema of editors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path, PurePath
from typing import Any, get_args

from yaml.error import Mark

from batchgen.catalogue import register
from batchgen.catalogue.wording import listed, nearest_hint, suggestion
from batchgen.errors import UsageError
from batchgen.manifest.diagnostics import Diagnostics
from batchgen.manifest.job_keys import MULTIPLIERS, NAME_SCHEMA, NO_DEFAULTS, OUTPUT_HELP, Schema, name_fault
from batchgen.manifest.key_errors import mistakes, sound
from batchgen.manifest.limits import AUTO, LEARNED, LIMIT_KEYS, Limits
from batchgen.manifest.nodes import Node
from batchgen.manifest.scalars import resolve
from batchgen.manifest.source import Marked, SourceText
from batchgen.services import registry

INCLUDED_KEYS = ("include", "defaults", "jobs")
"""Keys of a manifest that another one includes. The main manifest has the others, once for the whole batch."""
BUILT_IN = (registry.DEFAULT, registry.SIMULATOR)
OUTPUT = "{{ batch }}/{{ id }}.mp4"


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    name: str = registry.DEFAULT
    endpoint: register.Style = "universal"

    @property
    def is_catalogued(self) -> bool:
        """Whether the catalogue describes its models. The others check parameters when a request is sent."""
        return self.name in BUILT_IN

    def documents(self, model: str) -> bool:
        """Whether the catalogue describes this model of the service."""
        return self.is_catalogued and register.is_known(model)

    def path_of(self, model: str) -> str:
        """The path that serves the model; "" where the service has one path for all models."""
        if self.documents(model):
            return register.endpoint(model, self.endpoint)
        return register.UNIVERSAL if self.is_catalogued else ""


def closed(keys: Mapping[str, Schema], defaults: Any) -> Schema:
    """The schema of a mapping with these keys only, each with its default."""
    properties = {name: {"default": getattr(defaults, name), **key} for name, key in keys.items()}
    return {"additionalProperties": False, "properties": properties, "type": "object"}


LIMITS = closed(LIMIT_KEYS, Limits())


def optional(description: str, *kinds: Schema, default: object = None) -> Schema:
    """The schema of a key that may be of these kinds, or null."""
    return {"anyOf": [*kinds, {"type": "null"}], "default": default, "description": description}


@cache
def header_keys(services: tuple[str, ...]) -> dict[str, Schema]:
    """Each key with its type, default and meaning, where these services are installed."""
    name, manifest = {"enum": list(services)}, {"pattern": r"\S", "type": "string"}
    styles = {"enum": list(get_args(register.Style)), "type": "string"}
    endpoint = {"description": "legacy: each vendor's own path.", **styles}
    return {
        "batch": {
            "default": None,
            "description": "The batch's name in the job table. Default: the file's name.",
            **NAME_SCHEMA,
        },
        "service": {
            "anyOf": [name, closed({"name": name, "endpoint": endpoint}, ServiceKeys())],
            "default": asdict(ServiceKeys()),
            "description": f"The service that makes the videos: {registry.DEFAULT} (the default),"
            f" {registry.SIMULATOR}, or an installed plug-in.",
        },
        "output": optional(OUTPUT_HELP, {"type": "string"}, default=OUTPUT),
        "limits": optional(
            "What a run may do at once, and what it may cost; auto: learned from the service's answers.",
            *(LIMITS, LEARNED),
            default=asdict(Limits()),
        ),
        "include": optional(
            "Manifests with further jobs of this batch; paths are relative to this file.",
            *(manifest, {"items": {"title": "the name of a manifest", **manifest}, "type": "array"}),
        ),
        "defaults": optional(
            "Keys for every job of this file; a job overrides them, and drops one with null.", {"type": "object"}
        ),
        "jobs": optional("One entry for each job, or for all jobs of its rows, matrix and count.", {"type": "array"}),
    }


KEYS = tuple(header_keys(BUILT_IN))


class Typed:
    """The place of what is typed on a command line."""

    start_mark = end_mark = Mark("", 0, 0, 0, "", 0)


def read_limit(name: str, text: str) -> Any:
    """The value of a limit, as a manifest with `name: text` under `limits` has it. Raises `UsageError`."""
    if (typed := resolve(text)) is None:
        raise UsageError(f"`{name}` has no value")  # nobody means to have no cap by a variable that is not set
    limits = {name: Node(typed, text, Typed())}
    for _, message, hint in mistakes(LIMITS, "limits", Node(limits, "", Typed(), {name: Typed()})):
        raise UsageError(f"{message}; {hint}" if hint else message)
    return getattr(limits_of(limits), name)


def limits_of(nodes: Mapping[str, Node]) -> Limits:
    """The limits of sound values. An amount has all digits of the manifest's text, of which a float would keep 15."""
    values: dict[str, Any] = {}
    for name, node in nodes.items():
        is_whole = type(node.value) is int
        if name == "max_cost":
            values[name] = Decimal(node.value if is_whole else node.text)
        else:
            values[name] = float(node.value) if is_whole and name not in ("in_flight", "downloads") else node.value
    return Limits(**values)


class ManifestFile:
    """One manifest while it is read: its folder, and its header, which is filled in key by key, in any order.

    `includer` is the manifest that includes it, by its `path`.
    """

    def __init__(self, source: SourceText, includer: ManifestFile | None = None, path: str = "") -> None:
        self.included = includer is not None
        self.chain: tuple[Path, ...] = (*(includer.chain if includer else ()), source.path)
        """The manifests that led to it, and itself."""
        self.folder = source.path.absolute().parent
        """The folder that the paths in it are relative to."""
        parent = PurePath(path).parent.as_posix()
        self.prefix = includer.join("" if parent == "." else parent.rstrip("/") + "/") if includer else ""
        """The prefix that makes a path in this folder relative to the main manifest's folder."""
        self.files_read: dict[str, str] = includer.files_read if includer else {}
        """The files that the manifests of the batch name, and what messages call each."""
        self.diagnostics = Diagnostics(source)
        self.job_diagnostics = Diagnostics(source)
        """These are others: they begin anew where the jobs are read again."""
        self.batch = source.path.stem
        self.service = ServiceKeys()
        self.output: Node | None = None
        self.limits = Limits()
        self.includes: list[Node] = []
        self.defaults: dict[str, Node] = {}
        self.default_keys: dict[str, Marked] = {}

    def join(self, path: str) -> str:
        """A path in this folder, made relative to the main manifest's folder."""
        return path if not self.prefix or not path or PurePath(path).is_absolute() else f"{self.prefix}{path}"

    def read_key(self, key: str, mark: Marked, node: Node) -> None:
        """Read one key. What is wrong with it is reported, and the key keeps its default."""
        names = INCLUDED_KEYS if self.included else KEYS
        if key not in names:
            self.diagnostics.add(mark, *unknown_key(key, names))
            return
        if node.value is None and key != "service":
            return  # the default stands
        match key:
            case "service":
                self.read_service(node)
            case "limits":
                self.read_limits(node)
            case "include":
                self.report_mistakes(key, node)
                nodes = node.value if type(node.value) is list else [node]
                self.includes += [item for item in nodes if type(item.value) is str and item.value.strip()]
            case _ if self.report_mistakes(key, node):
                pass
            case "batch" if fault := name_fault(node.text):
                self.diagnostics.add(node, f"`batch` {fault}")
            case "batch":
                self.batch = node.text  # as it is written: 007 stays 007
            case "output":
                self.output = node
            case "defaults":
                for name in filter(NO_DEFAULTS.__contains__, node.value):
                    self.diagnostics.add(node.keys[name], *no_default(name))
                self.defaults = {name: value for name, value in node.value.items() if name not in NO_DEFAULTS}
                self.default_keys = node.keys

    def report_mistakes(self, key: str, node: Node, services: tuple[str, ...] = BUILT_IN) -> bool:
        """Whether anything is wrong with the value of a key, or with members of it, which is reported."""
        wrong = list(mistakes(header_keys(services)[key], key, node))
        for mistake in wrong:
            self.diagnostics.add(*mistake)
        return bool(wrong)

    def read_service(self, node: Node) -> None:
        """`service: x` is short for {name: x}. The names of plug-ins take 20 ms to read: a built-in one needs none."""
        keys = {"name": node} if type(node.value) is str else node.value
        name = keys.get("name") if type(keys) is dict else None
        services = BUILT_IN if name and name.value in BUILT_IN else registry.names()
        if name and type(name.value) is str and name.value not in services:
            self.diagnostics.add(name, f"there is no service `{name.value[:100]}`", suggestion(name.value, services))
            keys = {key: child for key, child in keys.items() if child is not name}
        mapping = Node(keys, "", node, node.keys)
        self.report_mistakes("service", mapping, services)
        if type(keys) is dict:
            rest = sound(header_keys(services)["service"]["anyOf"][1], mapping)
            self.service = ServiceKeys(**{key: child.value for key, child in rest.items()})

    def read_limits(self, node: Node) -> None:
        """`limits: auto` sets both limits that can be learned; a null leaves the default."""
        if type(node.value) is dict:
            limits = {name: limit for name, limit in node.value.items() if limit.value is not None}
            node = Node(limits, "", node, node.keys)
            self.limits = limits_of(sound(LIMITS, node))
        elif node.value == AUTO:
            self.limits = Limits(submits_per_minute=AUTO, in_flight=AUTO)
        self.report_mistakes("limits", node)


def no_default(key: str) -> tuple[str, str]:
    """What to say of a key that every job has for itself, and what to do about it."""
    if key == "id":
        return "an `id` cannot be a default", "give every job its own"
    return f"`{key}` cannot be a default", "write it in the job"


def unknown_key(key: str, names: tuple[str, ...]) -> tuple[str, str]:
    """What to say of a key that a manifest does not have, and what to do about it."""
    if key in MULTIPLIERS:
        return f"`{key}` belongs to a job", "write it under `jobs:`"
    if key in KEYS:
        return f"an included manifest has no `{key}`", "write it in the main manifest, for all jobs"
    choices = f"known: {listed(names)}; what all jobs have stands in `defaults`"
    return f"a manifest has no key `{key[:100]}`", nearest_hint(key, names) or choices

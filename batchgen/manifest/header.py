"""The keys at the top of a manifest: all but its jobs.

Each is one field of `HeaderKeys`: its type, default and meaning, for the reader and for the schema of editors.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from yaml.error import Mark

from batchgen.catalogue import register
from batchgen.catalogue.wording import listed, nearest_hint, suggestion
from batchgen.errors import UsageError
from batchgen.manifest.diagnostics import Diagnostics
from batchgen.manifest.job_keys import MULTIPLIERS, NAME_SCHEMA, NO_DEFAULTS, OUTPUT_HELP, name_fault
from batchgen.manifest.key_errors import key_error, validated
from batchgen.manifest.limits import Auto, Limits, limits_of
from batchgen.manifest.nodes import Node
from batchgen.manifest.scalars import resolve
from batchgen.manifest.source import Marked, SourceText
from batchgen.services import registry

INCLUDED_KEYS = ("include", "defaults", "jobs")
"""Keys of a manifest that another one includes. The main manifest has the others, once for the whole batch."""
BUILT_IN = (registry.DEFAULT, registry.SIMULATOR)
BUILT_IN_NAMES = f"{registry.DEFAULT} (the default), {registry.SIMULATOR}"
OUTPUT = "{{ batch }}/{{ id }}.mp4"


def batch_name(value: object, info: ValidationInfo[Node]) -> object:
    """The name as the manifest writes it: 007 stays 007."""
    if value is None or isinstance(value, list | dict):
        return value
    if fault := name_fault(info.context.text):
        raise key_error(f"`batch` {fault}")
    return info.context.text


def service_name(name: str) -> str:
    """The name of an installed service. Raises a key error for another one."""
    if name not in BUILT_IN and name not in registry.names():  # The names of plug-ins take 20 ms to read.
        raise key_error(f"there is no service `{name[:100]}`", suggestion(name, registry.names()))
    return name


def default_key(key: str) -> str:
    """A key that may stand in `defaults`. Raises a key error for another one."""
    if key == "id":
        raise key_error("an `id` cannot be a default", "give every job its own", at_key=True)
    if key in NO_DEFAULTS:
        raise key_error(f"`{key}` cannot be a default", "write it in the job", at_key=True)
    return key


def service_keys(value: object) -> object:
    """`service: x` is short for `service: {name: x}`."""
    return {"name": value} if isinstance(value, str) else value


def include_list(value: object) -> object:
    """`include: a.yaml` is short for `include: [a.yaml]`."""
    return [value] if isinstance(value, str) else value


def name_services(schema: dict[str, Any]) -> None:
    """Name the installed services in a schema. They are read only for a schema, since that takes 20 ms."""
    schema.pop("type")
    schema["enum"] = list(registry.names())


ServiceName = Annotated[str, AfterValidator(service_name), Field(json_schema_extra=name_services)]
ManifestName = Annotated[str, StringConstraints(pattern=r"\S"), Field(title="the name of a manifest")]


class ServiceKeys(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: ServiceName = Field(default=registry.DEFAULT)
    endpoint: register.Style = Field(default="universal", description="legacy: each vendor's own path.")

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


class HeaderKeys(BaseModel):
    """One field a key. Validation has the node of the key as its context."""

    model_config = ConfigDict(extra="forbid")

    batch: Annotated[str | None, BeforeValidator(batch_name), WithJsonSchema(NAME_SCHEMA)] = Field(
        default=None, description="The batch's name in the job table. Default: the file's name."
    )
    service: Annotated[ServiceKeys, BeforeValidator(service_keys, json_schema_input_type=ServiceName | ServiceKeys)] = (
        Field(
            default=ServiceKeys(),
            description=f"The service that makes the videos: {BUILT_IN_NAMES}, or an installed plug-in.",
        )
    )
    output: str | None = Field(default=OUTPUT, description=OUTPUT_HELP)
    limits: Annotated[Limits, BeforeValidator(limits_of, json_schema_input_type=Limits | Auto | None)] = Field(
        default=Limits(),
        description="What a run may do at once, and what it may cost; auto: learned from the service's answers.",
    )
    include: Annotated[
        list[ManifestName] | None,
        BeforeValidator(include_list, json_schema_input_type=str | list[ManifestName] | None),
    ] = Field(default=None, description="Manifests with further jobs of this batch; paths are relative to this file.")
    defaults: dict[Annotated[str, AfterValidator(default_key)], Any] | None = Field(
        default=None, description="Keys for every job of this file; a job overrides them, and drops one with null."
    )
    jobs: list[Any] | None = Field(
        default=None, description="One entry for each job, or for all jobs of its rows, matrix and count."
    )


KEYS = tuple(HeaderKeys.model_fields)


class Typed:
    """The place of what is typed on a command line."""

    start_mark = end_mark = Mark("", 0, 0, 0, "", 0)


def read_limit(name: str, text: str) -> Any:
    """The value of a limit, as a manifest with `name: text` under `limits` has it. Raises `UsageError`."""
    if (typed := resolve(text)) is None:
        raise UsageError(f"`{name}` has no value")  # nobody means to have no cap by a variable that is not set
    limits = Node({name: Node(typed, text, Typed())}, "", Typed(), {name: Typed()})
    keys, mistakes = validated(HeaderKeys, "limits", Typed(), limits)
    if mistakes:
        _, message, hint = mistakes[0]
        raise UsageError(f"{message}; {hint}" if hint else message)
    return getattr(keys.limits, name)


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
        keys, mistakes = validated(HeaderKeys, key, mark, node)
        for mistake in mistakes:
            self.diagnostics.add(*mistake)
        match key:
            case "batch":
                self.batch = keys.batch or self.batch
            case "service":
                self.service = keys.service
            case "output" if type(node.value) is str:
                self.output = node
            case "limits":
                self.limits = keys.limits
            case "include":
                nodes = node.value if type(node.value) is list else [node]
                self.includes += [item for item in nodes if type(item.value) is str and item.value.strip()]
            case "defaults" if type(node.value) is dict:
                self.defaults = {name: value for name, value in node.value.items() if name not in NO_DEFAULTS}
                self.default_keys = node.keys


def unknown_key(key: str, names: tuple[str, ...]) -> tuple[str, str]:
    """What to say of a key that a manifest does not have, and what to do about it."""
    if key in MULTIPLIERS:
        return f"`{key}` belongs to a job", "write it under `jobs:`"
    if key in KEYS:
        return f"an included manifest has no `{key}`", "write it in the main manifest, for all jobs"
    choices = f"known: {listed(names)}; what all jobs have stands in `defaults`"
    return f"a manifest has no key `{key[:100]}`", nearest_hint(key, names) or choices

"""The manifest as a JSON Schema, for editors: every key with a sentence, and the parameters of each model.

It says a little less than `batchgen check`: that a required parameter is missing shows only when templates and defaults
are filled in.
"""

from __future__ import annotations

import json
from typing import Any

from batchgen import catalogue
from batchgen.manifest.entry import HIGHEST_PRIORITY
from batchgen.manifest.expansion import MOST_TAKES
from batchgen.manifest.header import OUTPUT, SERVICES, STYLES, SUGGESTED
from batchgen.manifest.limits import AUTO, FINDABLE, MOST
from batchgen.manifest.rows import NAME
from batchgen.manifest.words import LONGEST_NAME

Schema = dict[str, Any]

TEMPLATE: Schema = {"type": "string", "pattern": r"\{\{"}
NUMERIC: Schema = {"type": "string", "pattern": r"^([-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false)$"}
ONLY_AUTO: Schema = {"pattern": f"^{AUTO}$"}
"""Of the values that are text."""
NAMED: Schema = {"type": ["string", "number", "boolean"], "maxLength": LONGEST_NAME}
GLOB: Schema = {"type": "string", "description": "Files like this, beside the manifest, such as frames/**/*.png."}
SINGLE = ("id", "matrix", "rows")
"""Keys of a job that cannot be defaults."""
PATH = "Where the video goes, relative to the manifest. Names: batch, id, model, index, and the job's parameters."

LIMITS = {
    "submits_per_minute": "Create calls sent in a minute; auto: as the account turns out to allow.",
    "in_flight": "Videos generated at one time; auto: as the account turns out to allow.",
    "downloads": "Files fetched at one time.",
    "max_cost": "USD. What the batch may cost; no cap unless given.",
    "deadline_minutes": "A generation older than this is shown as late.",
    "unconfirmed_minutes": "How long to look for a request whose answer was lost.",
    "polls_per_minute": "Questions how generations are doing, in a minute; 6,000 unless given.",
}


def text() -> str:
    """The schema as it is printed and lies beside the manifests: a definition a line, the same bytes every time."""
    whole = schema()
    named = whole.pop("definitions")
    lines = ",\n".join(f"{json.dumps(name)}:{_compact(value)}" for name, value in named.items())
    return f'{_compact(whole)[:-1]},\n"definitions":{{\n{lines}\n}}}}\n'


def schema() -> Schema:
    """The whole, as JSON Schema of draft 7, which all editors read."""
    models = catalogue.models()
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A batchgen manifest",
        "description": "Jobs for AI video generation; `batchgen check` says whether it is good.",
        "type": "object",
        "additionalProperties": False,
        "properties": _top(),
        # A job without a model has that of the defaults.
        "allOf": [
            {
                "if": _with("defaults", {"type": "object", **_with("model", {"const": model})}),
                "then": {"properties": {"defaults": _ref(model), "jobs": {"items": _unless_model(f"{model} only")}}},
            }
            for model in models
        ],
        "definitions": {
            "loose": {"anyOf": [TEMPLATE, {"type": "null"}]},
            "number": {"anyOf": [TEMPLATE, NUMERIC, {"type": "null"}]},
            "defaults": {
                "description": "Keys for every job of this file; a job overrides them, and drops one with null.",
                "type": ["object", "null"],
                "properties": {name: what for name, what in _own().items() if name not in SINGLE},
                "propertyNames": {"not": {"enum": list(SINGLE)}},
            },
            "job": {
                "type": "object",
                "required": ["id"],
                "properties": _own(),
                "allOf": [{"if": _with("model", {"const": model}), "then": _ref(f"{model} only")} for model in models],
            },
            **{key: made for model in models for key, made in _model(model).items()},
        },
    }


def _top() -> Schema:
    number = {"type": "number", "exclusiveMinimum": 0}
    whole = {**number, "type": "integer"}
    limits: Schema = {
        name: {**(whole if name in ("in_flight", "downloads") else number), "maximum": MOST[name], "description": said}
        for name, said in LIMITS.items()
    }
    for name in FINDABLE:
        limits[name] = {**limits[name], "type": [limits[name]["type"], "string"], **ONLY_AUTO}
    limits["on_unconfirmed"] = {
        "description": "And then: ask a person, or send again, which may pay twice.",
        "enum": ["hold", "resubmit"],
        "default": "hold",
    }
    services = {"enum": list(SERVICES)}
    endpoint = {"enum": list(STYLES), "description": "legacy: each vendor's own path."}
    detailed = {"type": "object", "additionalProperties": False, "properties": {"name": services, "endpoint": endpoint}}
    names = {"type": "array", "items": {"type": "string"}}
    return {
        "batch": {**NAMED, "description": "The batch's identity in the database. Default: the file's name."},
        "service": {"description": "Who makes the videos. Default: aimlapi.", "anyOf": [services, detailed]},
        "output": {"type": "string", "description": PATH, "default": OUTPUT},
        "limits": {
            "description": "What a run may do at once, and cost; auto: as the account turns out to allow.",
            "type": ["object", "null", "string"],
            **ONLY_AUTO,
            "additionalProperties": False,
            "properties": limits,
        },
        "include": {
            "description": "Manifests whose jobs belong to this batch as well; named relative to this file.",
            "anyOf": [{"type": "string"}, names],
        },
        "defaults": {"$ref": "#/definitions/defaults"},
        "jobs": {
            "description": "One entry for each job, or for all that its rows, matrix and count make.",
            "type": ["array", "null"],
            "items": {"$ref": "#/definitions/job"},
        },
    }


def _own() -> Schema:
    """The keys of a job that are batchgen's own."""
    axis = {"type": "array", "minItems": 1}
    files = {"type": "object", "required": ["glob"], "additionalProperties": False, "properties": {"glob": GLOB}}
    priority = {"type": "integer", "minimum": -HIGHEST_PRIORITY, "maximum": HIGHEST_PRIORITY}
    return {
        "id": {**NAMED, "description": "The job's name from run to run; a template where the entry makes many jobs."},
        "model": {
            "description": "The model's name; `batchgen models` lists them.",
            "anyOf": [{"enum": list(catalogue.models())}, TEMPLATE],
        },
        "output": {"type": ["string", "null"], "description": PATH},
        "priority": {"description": "Higher goes first; 0 unless given.", "anyOf": [priority, _ref("loose")]},
        "tags": {"description": "Words of your own.", "type": ["array", "null"], "items": NAMED},
        "count": {
            "description": "So many takes of the job; {{ take }} is 1, 2, …",
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": MOST_TAKES,
        },
        "matrix": {
            "description": "A job for each combination of the values of these names.",
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^{NAME.pattern}$"},
            "additionalProperties": {"anyOf": [axis, files]},
        },
        "rows": {
            "description": "A job for each row of this file; its columns are names.",
            "type": "string",
            "pattern": r"\.([cC][sS][vV]|[jJ][sS][oO][nN][lL])$",
        },
    }


def _model(model: str) -> Schema:
    """The parameters of one model, and that there are no others. A null may drop a default of any name."""
    found: dict[str, list[Schema]] = {}
    for path in catalogue.endpoints(model):
        for name, given in catalogue.schema(model, path)["properties"].items():
            if name != "model" and (made := _loosened(given)) not in found.setdefault(name, []):
                found[name].append(made)
    taken = {name: made[0] if len(made) == 1 else {"anyOf": made} for name, made in found.items()}
    names = dict.fromkeys((*SUGGESTED, *taken), True)
    only = {"allOf": [_ref(model)], "properties": names, "additionalProperties": {"type": "null"}}
    return {_key(model): {"properties": taken}, _key(f"{model} only"): only}


def _loosened(given: Schema) -> Schema:
    """A parameter's schema, or a template, or null; numbers may be written as text, and the other way round."""
    inner = {name: value for name, value in given.items() if name != "x-media"}
    for word in ("anyOf", "oneOf"):
        if word in inner:
            inner[word] = [_loosened(branch) for branch in inner[word]]
    if "items" in inner:
        inner["items"] = _loosened(inner["items"])
    if "properties" in inner:
        inner["properties"] = {name: _loosened(value) for name, value in inner["properties"].items()}
        inner.pop("required", None)
    if "oneOf" in inner:
        # With templates allowed in them, a value may be like several.
        inner["anyOf"] = inner.pop("oneOf")
    if inner == {"type": "string"}:
        return {"type": ["string", "null"]}
    other = "number" if inner.get("type") in ("integer", "number", "boolean") else "loose"
    numeric = inner.get("type") == "string" and any(
        _is_number(value) for value in (*inner.get("enum", ()), inner.get("default"))
    )
    return {"anyOf": [inner, _ref(other), *([{"type": "number"}] if numeric else [])]}


def _is_number(value: object) -> bool:
    return isinstance(value, str) and catalogue.INTEGER.fullmatch(value) is not None


def _with(name: str, value: Schema) -> Schema:
    return {"required": [name], "properties": {name: value}}


def _unless_model(name: str) -> Schema:
    return {"if": {"not": {"required": ["model"]}}, "then": _ref(name)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{_key(name)}"}


def _key(name: str) -> str:
    """A name that needs no escape in a reference."""
    return name.replace("/", ".").replace(" ", ".")


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

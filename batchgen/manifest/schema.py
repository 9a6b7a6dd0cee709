"""The JSON Schema of manifests, for editors: every key with its description, and the parameters of each model.

The header's keys come from `HeaderKeys` and `Limits`, the job's keys from `JOB_KEYS`. The schema accepts a little more
than `batchgen check`: a missing parameter shows only when templates and defaults are filled in.
"""

import json
from copy import deepcopy

from batchgen.catalogue import conversion, register
from batchgen.manifest.header import HeaderKeys
from batchgen.manifest.job_keys import JOB_KEYS, NO_DEFAULTS, TEMPLATE
from batchgen.manifest.key_errors import Schema, schema_of

NUMBER_TEXT: Schema = {"type": "string", "pattern": r"^([-+]?[0-9.]+([eE][-+]?[0-9]+)?|true|false)$"}

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def text() -> str:
    """The schema as `batchgen schema` prints it: one definition a line, the same bytes every time."""
    whole = schema()
    definitions = whole.pop("definitions")
    lines = ",\n".join(f"{json.dumps(name)}:{_compact(value)}" for name, value in definitions.items())
    return f'{_compact(whole)[:-1]},\n"definitions":{{\n{lines}\n}}}}\n'


def schema() -> Schema:
    """The schema as JSON Schema of draft 7, which all editors read."""
    models = register.models()
    header = deepcopy(schema_of(HeaderKeys))
    keys = header["properties"]
    job_keys = {name: key for name, key in JOB_KEYS.items() if name not in NO_DEFAULTS}
    keys["defaults"] |= {"anyOf": [_ref("defaults"), {"type": "null"}]}
    keys["jobs"] |= {"anyOf": [{"type": "array", "items": _ref("job")}, {"type": "null"}]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A batchgen manifest",
        "description": "Jobs for AI video generation; `batchgen check` checks it completely.",
        "type": "object",
        "additionalProperties": False,
        "properties": keys,
        # A job without a model has the model of the defaults.
        "allOf": [
            {
                "if": _with("defaults", {"type": "object", **_with("model", {"const": model})}),
                "then": {"properties": {"defaults": _ref(model), "jobs": {"items": _unless_model(f"{model} only")}}},
            }
            for model in models
        ],
        "definitions": {
            **header["definitions"],
            "template_or_null": {"anyOf": [TEMPLATE, {"type": "null"}]},
            "number_as_text": {"anyOf": [TEMPLATE, NUMBER_TEXT, {"type": "null"}]},
            "defaults": {
                "type": "object",
                "properties": job_keys,
                "propertyNames": {"not": {"enum": list(NO_DEFAULTS)}},
            },
            "job": {
                "type": "object",
                "required": ["id"],
                "properties": JOB_KEYS,
                "allOf": [{"if": _with("model", {"const": model}), "then": _ref(f"{model} only")} for model in models],
            },
            **{key: schema for model in models for key, schema in _model(model).items()},
        },
    }


def _model(model: str) -> Schema:
    """The parameters of one model, and that it has no others. A null may drop a default of any name."""
    schemas: dict[str, list[Schema]] = {}
    for path in register.endpoints(model):
        for name, parameter in register.schema(model, path)["properties"].items():
            if name != "model" and (loosened := _loosened(parameter)) not in schemas.setdefault(name, []):
                schemas[name].append(loosened)
    parameters = {
        name: of_paths[0] if len(of_paths) == 1 else {"anyOf": of_paths} for name, of_paths in schemas.items()
    }
    names = dict.fromkeys((*JOB_KEYS, *parameters), True)
    only = {"allOf": [_ref(model)], "properties": names, "additionalProperties": {"type": "null"}}
    return {_key(model): {"properties": parameters}, _key(f"{model} only"): only}


def _loosened(schema: Schema) -> Schema:
    """A parameter's schema, or a template, or null. Numbers may be written as text, and text as numbers."""
    inner = {name: value for name, value in schema.items() if name != "x-media"}
    for keyword in ("anyOf", "oneOf"):
        if keyword in inner:
            inner[keyword] = [_loosened(branch) for branch in inner[keyword]]
    if "items" in inner:
        inner["items"] = _loosened(inner["items"])
    if "properties" in inner:
        inner["properties"] = {name: _loosened(value) for name, value in inner["properties"].items()}
        inner.pop("required", None)
    if "oneOf" in inner:
        # With templates allowed, a value may match several alternatives.
        inner["anyOf"] = inner.pop("oneOf")
    if inner == {"type": "string"}:
        return {"type": ["string", "null"]}
    other = "number_as_text" if inner.get("type") in ("integer", "number", "boolean") else "template_or_null"
    numeric = inner.get("type") == "string" and any(
        isinstance(value, str) and conversion.INTEGER.fullmatch(value)
        for value in (*inner.get("enum", ()), inner.get("default"))
    )
    return {"anyOf": [inner, _ref(other), *([{"type": "number"}] if numeric else [])]}


def _with(name: str, value: Schema) -> Schema:
    return {"required": [name], "properties": {name: value}}


def _unless_model(name: str) -> Schema:
    return {"if": {"not": {"required": ["model"]}}, "then": _ref(name)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{_key(name)}"}


def _key(name: str) -> str:
    """A name that needs no escape in a reference."""
    return name.replace("/", ".").replace(" ", ".")

"""Validates the keys of the header with pydantic, and explains each error at the YAML node that it is about.

The messages come from the same models: what a key may be is read from its JSON Schema.
"""

from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, PydanticCustomError, core_schema

from batchgen.catalogue.wording import TYPE_NAMES, allowed_range, listed, nearest_hint, quoted, suggestion
from batchgen.catalogue.written import plain
from batchgen.manifest.nodes import Node, written
from batchgen.manifest.source import Marked

Keys = TypeVar("Keys", bound=BaseModel)
Schema = dict[str, Any]
Path = tuple[str | int, ...]
"""The keys and positions that lead to a node."""
Mistake = tuple[Marked, str, str]
"""Where a key or its value is wrong, the message and the hint."""

UNKNOWN_KEY = {"extra_forbidden", "unexpected_keyword_argument"}
"""pydantic's types of error for an unknown key: of a model, and of a dataclass."""
OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
NO_LIMIT = frozenset({"none", "null", "no", "off", "never", "unlimited", "inf", "infinity"})
"""What people write to lift a limit."""
OWN_MESSAGE = "manifest"
"""The type of error of `key_error`."""


def key_error(message: str, hint: str = "", *, at_key: bool = False) -> PydanticCustomError:
    """The error of a validator that has a message of its own, for the value or for its key."""
    return PydanticCustomError(OWN_MESSAGE, "{message}", {"message": message, "hint": hint, "at_key": at_key})


class KeySchema(GenerateJsonSchema):
    """JSON Schema without the titles that pydantic makes from names; an amount of money is a number."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  The signature is pydantic's.
        return False

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        number: JsonSchemaValue = {"type": "number"}
        self.update_with_validations(number, schema, self.ValidationsMapping.numeric)
        return number


@cache
def schema_of(model: type[BaseModel]) -> Schema:
    """The JSON Schema of a model, with the models inside it under `definitions`."""
    schema = model.model_json_schema(schema_generator=KeySchema, ref_template="#/definitions/{model}")
    schema["definitions"] = schema.pop("$defs", {})
    for definition in schema["definitions"].values():
        definition.pop("title")
        definition.pop("description", None)
    return schema


def validated(model: type[Keys], key: str, mark: Marked, node: Node) -> tuple[Keys, list[Mistake]]:
    """A `model` that has one key, which stands at `mark`, without the parts that are wrong; and these."""
    value = plain(written(node))
    try:
        return model.model_validate({key: value}, context=node), []
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False, include_input=False)
    root = Node({key: node}, "", mark, {key: mark})
    # A value that fits no member of a union has one error for each member: the first stands for all of them.
    mistakes: dict[Path, Mistake] = {}
    for error in errors:
        mistakes.setdefault(*mistake(root, error, schema_of(model)))
    wrong = {path[1] for path in mistakes if len(path) > 1}
    rest = {name: member for name, member in value.items() if name not in wrong} if isinstance(value, dict) else {}
    return model.model_validate({key: rest} if wrong and rest else {}, context=node), list(mistakes.values())


def mistake(root: Node, error: ErrorDetails, schema: Schema) -> tuple[Path, Mistake]:
    """The path and the node or key of an error, in words made from the schema."""
    path: Path = ()
    parent, node, alternatives = root, root, [schema]
    for part in error["loc"]:
        if not (part in node.value if type(node.value) is dict else type(node.value) is list and type(part) is int):
            break  # pydantic adds the names of types to it
        path += (part,)
        parent, node = node, node.value[part]
        siblings, alternatives = alternatives, members(alternatives, part, schema["definitions"])
    name = path[-1]
    if error["type"] == OWN_MESSAGE:
        context = error["ctx"]
        return path, (parent.keys[str(name)] if context["at_key"] else node, context["message"], context["hint"])
    if error["type"] in UNKNOWN_KEY:
        names = [key for branch in siblings for key in branch.get("properties", ())]
        message = f"`{path[-2]}` has no key `{str(name)[:100]}`"
        return path, (parent.keys[str(name)], message, suggestion(str(name), names))
    subject = f"`{name}`" if isinstance(name, str) else f"an entry of `{path[-2]}`"
    expected, value = allowed_types(alternatives), quoted(node.value)
    if error["type"] in OUT_OF_RANGE:
        expected, value = allowed_range(alternatives[0]), node.text[:60]
    words = [str(word) for branch in alternatives for word in branch.get("enum", ())]
    hint = nearest_hint(node.text, words)
    if node.text.lower() in NO_LIMIT and any(branch.get("type") == "null" for branch in alternatives):
        hint = f"without {subject} there is none"
    return path, (node, f"{subject} must be {expected}, not {value}", hint)


def members(alternatives: list[Schema], part: str | int, definitions: Schema) -> list[Schema]:
    """The alternatives for one key of a mapping, or for an item of a list."""
    for schema in alternatives:
        member = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
        if member:
            title = {"title": member["title"]} if "title" in member else {}
            branches = [branch | title for branch in member.get("anyOf", [member])]
            return [definitions[at["$ref"].rpartition("/")[2]] if "$ref" in at else at for at in branches]
    return []


def allowed_types(alternatives: list[Schema]) -> str:
    """What the alternatives of a schema allow, as a sentence lists it: "a whole number or auto"."""
    names: list[str] = []
    for schema in alternatives:
        types = schema.get("type")
        if "title" in schema:
            names.append(schema["title"])
        elif "enum" in schema or "const" in schema:
            names += schema.get("enum") or [schema["const"]]
        elif types != "null":
            names.append(TYPE_NAMES[str(types)])
    return listed(list(dict.fromkeys(names)), "or")

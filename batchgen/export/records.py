"""The record of a clip: what is exported of it, under which names, with which types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from batchgen.catalogue.pointers import parent_of

Record = dict[str, Any]
"""The values of `COLUMNS`, in their order: text, numbers, `Decimal`, aware datetimes, and JSON for the rest."""

INLINE_CHARS_MIN = 8_000  # of a parameter without a blank: longer than any link, so it is a file in base64


class FieldKind(StrEnum):
    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    USD = "usd"
    TIME = "time"
    TEXTS = "texts"
    PARAMS = "params"
    INPUTS = "inputs"


COLUMNS = {
    "batch": FieldKind.TEXT,
    "id": FieldKind.TEXT,
    "output": FieldKind.INTEGER,  # the number of the file, from 1
    "path": FieldKind.TEXT,  # below the manifest's folder
    "prompt": FieldKind.TEXT,
    "params": FieldKind.PARAMS,  # the request without prompt and model
    "inputs": FieldKind.INPUTS,  # local files: the parameter, the file's name, its SHA-256 as it was sent
    "model": FieldKind.TEXT,
    "service": FieldKind.TEXT,
    "clip_seconds": FieldKind.NUMBER,  # as ordered
    "take": FieldKind.INTEGER,
    "tags": FieldKind.TEXTS,
    "verdict": FieldKind.TEXT,
    "stars": FieldKind.INTEGER,
    "parent_batch": FieldKind.TEXT,
    "parent_id": FieldKind.TEXT,
    "attempt": FieldKind.INTEGER,
    "generation_id": FieldKind.TEXT,
    "cost_usd": FieldKind.USD,  # of the generation, on its first delivered file, so that a sum is right
    "charge_source": FieldKind.TEXT,
    "created_at": FieldKind.TIME,
    "sent_at": FieldKind.TIME,
    "accepted_at": FieldKind.TIME,
    "finished_at": FieldKind.TIME,
    "delivered_at": FieldKind.TIME,
    "bytes": FieldKind.INTEGER,
    "sha256": FieldKind.TEXT,
    "seconds": FieldKind.NUMBER,
    "width": FieldKind.INTEGER,
    "height": FieldKind.INTEGER,
    "fps": FieldKind.NUMBER,
    "codec": FieldKind.TEXT,
    "black": FieldKind.NUMBER,  # shares of the frames, as far as the clip was measured
    "frozen": FieldKind.NUMBER,
    "unlike_input": FieldKind.NUMBER,
    "seconds_off": FieldKind.NUMBER,  # from the length that was ordered
    "copy_of": FieldKind.TEXT,
    "remark": FieldKind.TEXT,
}
"""Every column. Names keep their meaning from version to version; columns may be added at the end."""


def record_of(clip: Row[Any]) -> Record:
    """The record of a row of `jobtable.delivered_clips`."""
    row = clip._asdict()
    request = json.loads(row["request"])
    pointers = json.loads(row["input_pointers"])
    row["inputs"] = inputs_of(request, pointers, json.loads(row["input_digests"] or "{}"))
    prompt = request.pop("prompt", None)
    row["prompt"] = prompt if isinstance(prompt, str) else None
    request.pop("model", None)
    row["params"] = {name: without_inline_files(value) for name, value in request.items()}
    row["tags"] = json.loads(row["tags"])
    if row["output"] != row["first_output"]:
        row["cost_usd"] = None
    return {name: row[name] for name in COLUMNS}


def inputs_of(
    request: Mapping[str, Any], pointers: Sequence[str], digests: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The local files of a request: the parameter as a JSON pointer without its slash, the name, the SHA-256."""
    inputs = []
    for pointer in pointers:
        container, key = parent_of(request, pointer)
        name = container[key]
        digest = digests.get(name, {}).get("sha256")
        inputs.append({"param": pointer.removeprefix("/"), "file": name, "sha256": digest})
    return inputs


def without_inline_files(value: Any) -> Any:
    """A parameter, with the SHA-256 of its text in the place of a file that is written out in it."""
    match value:
        case str() if len(value) > INLINE_CHARS_MIN and not any(map(str.isspace, value)):
            return f"sha256:{hashlib.sha256(value.encode('utf-8', 'replace')).hexdigest()} of {len(value)} characters"
        case list():
            return [without_inline_files(item) for item in value]
        case dict():
            return {name: without_inline_files(item) for name, item in value.items()}
    return value

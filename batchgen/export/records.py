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


class Kind(StrEnum):
    """The type of a column."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    USD = "usd"
    TIME = "time"
    TEXTS = "texts"
    PARAMS = "params"
    INPUTS = "inputs"


COLUMNS = {
    "batch": Kind.TEXT,
    "id": Kind.TEXT,
    "output": Kind.INTEGER,  # the number of the file, from 1
    "path": Kind.TEXT,  # below the manifest's folder
    "prompt": Kind.TEXT,
    "params": Kind.PARAMS,  # the request without prompt and model
    "inputs": Kind.INPUTS,  # local files: the parameter, the file's name, its SHA-256 as it was sent
    "model": Kind.TEXT,
    "service": Kind.TEXT,
    "clip_seconds": Kind.NUMBER,  # as ordered
    "take": Kind.INTEGER,
    "tags": Kind.TEXTS,
    "verdict": Kind.TEXT,
    "stars": Kind.INTEGER,
    "parent_batch": Kind.TEXT,
    "parent_id": Kind.TEXT,
    "attempt": Kind.INTEGER,
    "generation_id": Kind.TEXT,
    "cost_usd": Kind.USD,  # of the generation, on its first file, so that a sum is right
    "charge_source": Kind.TEXT,
    "created_at": Kind.TIME,
    "sent_at": Kind.TIME,
    "accepted_at": Kind.TIME,
    "finished_at": Kind.TIME,
    "delivered_at": Kind.TIME,
    "bytes": Kind.INTEGER,
    "sha256": Kind.TEXT,
    "seconds": Kind.NUMBER,
    "width": Kind.INTEGER,
    "height": Kind.INTEGER,
    "fps": Kind.NUMBER,
    "codec": Kind.TEXT,
    "black": Kind.NUMBER,  # shares of the frames, as far as the clip was measured
    "frozen": Kind.NUMBER,
    "unlike_input": Kind.NUMBER,
    "seconds_off": Kind.NUMBER,  # from the length that was ordered
    "copy_of": Kind.TEXT,
    "remark": Kind.TEXT,
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
    if row["output"] != 1:
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

"""The record of a clip: what is exported of it, under which names, with which types; and records as one file: CSV, JSON
lines, or Parquet, written while they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, BinaryIO

from sqlalchemy import Row

from batchgen.catalogue.pointers import parent_of
from batchgen.errors import UsageError
from batchgen.report.rows import cell_text, chunks, csv_lines, inert, json_value
from batchgen.services.text import visible_json

Record = dict[str, Any]
"""The values of `COLUMNS`, in their order: text, numbers, `Decimal`, aware datetimes, and JSON for the rest."""

INLINE_CHARS_MIN = 8_000  # of a parameter without a blank: longer than any link, so it is a file in base64
RECORDS_AT_ONCE = 200  # in one write
GROUP_RECORDS = 5_000  # in one row group of Parquet
GROUP_CHARS = 32_000_000  # of texts in one row group, which lies in memory


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
    """The record of a row of `jobtable.clips`."""
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


def write_csv(records: Iterator[Record], write: Callable[[bytes], object]) -> None:
    """CSV (RFC 4180) in UTF-8 with a line of names. A text that would be a formula gets an apostrophe before it."""
    write(csv_lines([COLUMNS]).encode())
    while chunk := list(islice(records, RECORDS_AT_ONCE)):
        write(csv_lines([cells(record) for record in chunk]).encode(errors="backslashreplace"))


def cells(record: Record) -> list[str]:
    """A record as texts; NULL is an empty one."""
    texts = []
    for name, kind in COLUMNS.items():
        text = cell_text(record[name])
        texts.append(inert(text) if kind is FieldKind.TEXT else text)
    return texts


def write_jsonl(records: Iterator[Record], write: Callable[[bytes], object]) -> None:
    """One JSON object for each record. Amounts are numbers, times are ISO 8601 in UTC."""
    while chunk := list(islice(records, RECORDS_AT_ONCE)):
        write("".join(f"{json_text(record)}\n" for record in chunk).encode())


def json_text(record: Record) -> str:
    """A record as one line of JSON, which cannot control a terminal."""
    values = {name: json_value(value) for name, value in record.items()}
    return visible_json(json.dumps(values, ensure_ascii=False, default=cell_text))


def write_parquet(records: Iterator[Record], file: BinaryIO) -> None:
    """Parquet with typed columns, in row groups of a few thousand records. Raises `UsageError` without pyarrow."""
    parquet = import_pyarrow()
    import pyarrow

    schema = parquet_schema()
    texts = {name for name, kind in COLUMNS.items() if kind is FieldKind.PARAMS}
    rows = ([cell_text(value) if name in texts else value for name, value in record.items()] for record in records)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in chunks(rows, GROUP_RECORDS, GROUP_CHARS):
            columns = dict(zip(COLUMNS, map(list, zip(*group, strict=True)), strict=True))
            writer.write_table(pyarrow.table(columns, schema=schema))


def import_pyarrow() -> Any:
    """The module `pyarrow.parquet`. Raises `UsageError` where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError("--format parquet needs pyarrow: pip install 'batchgen[parquet]'") from None
    return pyarrow.parquet


def parquet_schema() -> Any:
    import pyarrow

    text = pyarrow.string()
    types = {
        FieldKind.TEXT: text,
        FieldKind.INTEGER: pyarrow.int64(),
        FieldKind.NUMBER: pyarrow.float64(),
        FieldKind.USD: pyarrow.decimal128(16, 7),
        FieldKind.TIME: pyarrow.timestamp("us", "UTC"),
        FieldKind.TEXTS: pyarrow.list_(text),
        FieldKind.PARAMS: text,
        FieldKind.INPUTS: pyarrow.list_(pyarrow.struct([("param", text), ("file", text), ("sha256", text)])),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])

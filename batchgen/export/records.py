"""The record of a clip: what is exported of it, under which names, with which types; and records as one file: CSV, JSON
lines, or Parquet, written while they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

from sqlalchemy import Row

from batchgen.catalogue.pointers import parent_of
from batchgen.errors import UsageError
from batchgen.report.rows import cell_text, chunks, csv_lines, inert, json_line

Record = dict[str, Any]
"""The values of `COLUMNS`, in their order: text, numbers, `Decimal`, aware datetimes, and JSON for the rest."""

INLINE_CHARS_MIN = 8_000  # of a parameter without a blank: longer than any link, so it is a file in base64
RECORDS_AT_ONCE = 200  # in one write
GROUP_RECORDS = 5_000  # in one row group of Parquet
GROUP_CHARS = 32_000_000  # of texts in one row group, which lies in memory


COLUMNS = {
    "batch": "text",
    "id": "text",
    "output": "integer",  # the number of the file, from 1
    "path": "text",  # below the manifest's folder
    "prompt": "text",
    "params": "text",  # JSON: the request without prompt and model
    "inputs": "inputs",  # local files: the parameter, the file's name, its SHA-256 as it was sent
    "model": "text",
    "service": "text",
    "clip_seconds": "number",  # as ordered
    "take": "integer",
    "tags": "texts",
    "verdict": "text",
    "stars": "integer",
    "parent_batch": "text",
    "parent_id": "text",
    "attempt": "integer",
    "generation_id": "text",
    "cost_usd": "usd",  # of the generation, on its first delivered file, so that a sum is right
    "charge_source": "text",
    "created_at": "time",
    "sent_at": "time",
    "accepted_at": "time",
    "finished_at": "time",
    "delivered_at": "time",
    "bytes": "integer",
    "sha256": "text",
    "seconds": "number",
    "width": "integer",
    "height": "integer",
    "fps": "number",
    "codec": "text",
    "black": "number",  # shares of the frames, as far as the clip was measured
    "frozen": "number",
    "unlike_input": "number",
    "seconds_off": "number",  # from the length that was ordered
    "copy_of": "text",
    "remark": "text",
}
"""Every column, and its kind in Parquet. Names keep their meaning between versions; columns may be added at the end."""


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
        rows = [
            [inert(value) if isinstance(value, str) else cell_text(value) for value in record.values()]
            for record in chunk
        ]
        write(csv_lines(rows).encode(errors="backslashreplace"))


def write_jsonl(records: Iterator[Record], write: Callable[[bytes], object]) -> None:
    """One JSON object for each record. Amounts are numbers, times are ISO 8601 in UTC."""
    while chunk := list(islice(records, RECORDS_AT_ONCE)):
        write("".join(f"{json_line(record)}\n" for record in chunk).encode())


def write_parquet(records: Iterator[Record], file: BinaryIO) -> None:
    """Parquet with typed columns, in row groups of a few thousand records. Raises `UsageError` without pyarrow."""
    parquet = import_pyarrow()
    import pyarrow

    types = parquet_types()
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    rows = (list((record | {"params": cell_text(record["params"])}).values()) for record in records)
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


def parquet_types() -> dict[str, Any]:
    import pyarrow

    text = pyarrow.string()
    return {
        "text": text,
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "usd": pyarrow.decimal128(16, 7),
        "time": pyarrow.timestamp("us", "UTC"),
        "texts": pyarrow.list_(text),
        "inputs": pyarrow.list_(pyarrow.struct([("param", text), ("file", text), ("sha256", text)])),
    }

"""Records as one file: CSV, JSON lines, or Parquet. They are written while they are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from batchgen.errors import UsageError
from batchgen.export.records import COLUMNS, FieldKind, Record
from batchgen.report.rows import cell_text, chunks, csv_lines, inert, json_value
from batchgen.services.text import visible_json

RECORDS_AT_ONCE = 200  # in one write
GROUP_RECORDS = 5_000  # in one row group of Parquet
GROUP_CHARS = 32_000_000  # of texts in one row group, which lies in memory


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

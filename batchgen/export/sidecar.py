"""A sidecar: a file `clip.mp4.json` with the record of a clip beside it.

The whole name of the clip stands in it, so that clip.mp4 and clip.webm never share one, and a clip.json of yours is
never mistaken for a sidecar. A sidecar has a digest of itself: one that a person has edited is never replaced.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

from batchgen.export.records import Record
from batchgen.files.outputs import OutputFolder, name_of
from batchgen.files.safe_open import Directory
from batchgen.files.staged_file import NameTaken, stage
from batchgen.report.rows import json_line

SUFFIX = ".json"
DIGEST = "record_sha256"
"""The last member of a sidecar: the SHA-256 of the others."""
BYTES_MAX = 20_000_000  # of a sidecar that is read: the longest request, and more


def write_sidecar(outputs: OutputFolder, record: Record) -> bool:
    """Write the sidecar of a clip. False if it exists and is up to date.

    Raises `NameTaken` for a foreign or edited file, `UnsafePath`, `OSError`.
    """
    target = record["path"] + SUFFIX
    name = name_of(target)
    document = json.loads(json_line(record))
    text = json.dumps({**document, DIGEST: digest_of(document)}, ensure_ascii=False, indent=2) + "\n"
    content = text.encode("utf-8", "replace")
    with outputs.open_parent(target) as folder:
        existing = read(folder, name)
        if existing == content:
            return False
        if existing is not None and not is_own(existing):
            raise NameTaken(name)
        with stage(folder, name) as staged:
            staged.file.write(content)
            return staged.place(replaces=existing is not None)


def digest_of(document: dict[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(folder: Directory, name: str) -> bytes | None:
    """The content of a file; None where nothing has the name. Raises `UnsafePath` for what is no file, `OSError`."""
    if folder.stat(name) is None:
        return None
    with folder.reader(name) as file:
        return file.read(BYTES_MAX + 1)


def is_own(content: bytes) -> bool:
    """Whether batchgen has written this, and nobody has edited it since."""
    with suppress(ValueError, RecursionError):
        document = json.loads(content)
        if isinstance(document, dict):
            return bool(document.pop(DIGEST, None) == digest_of(document))
    return False

"""Local files that travel inside a request: read, encoded, and remembered well enough to notice a later change."""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class InputMissing(Exception):
    """A local file that a request names cannot be read now. `str(error)` says which and why."""


def parent_of(document: Any, pointer: str) -> tuple[Any, str | int]:
    """The container that a JSON pointer leads into, and the key or index within it."""
    *path, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    for part in path:
        document = document[int(part) if isinstance(document, list) else part]
    return document, int(last) if isinstance(document, list) else last


def encode(folder: Path, request: str, files: Sequence[str]) -> tuple[bytes, str | None]:
    """The body to send, local files as data URIs; and, as JSON, what those files were (None where there are none).

    Raises `InputMissing`.
    """
    if not files:
        return request.encode(), None
    document = json.loads(request)
    seen: dict[str, dict[str, Any]] = {}
    for pointer in files:
        container, key = parent_of(document, pointer)
        name = container[key]
        path = folder / name
        try:
            status = path.stat()
            content = path.read_bytes()
        except OSError as error:
            raise InputMissing(f"{name}: {error.strerror or error}") from error
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        container[key] = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        digest = hashlib.sha256(content).hexdigest()
        seen[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), json.dumps(seen)


def changed(folder: Path, inputs: str | None) -> list[str]:
    """The files that read otherwise now than when they were sent. A file that has gone has not changed."""
    found = []
    for name, then in json.loads(inputs or "{}").items():
        try:
            now = (folder / name).stat()
            if (now.st_size, now.st_mtime_ns) == (then["size"], then["mtime_ns"]):
                continue
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != then["sha256"]:
                    found.append(name)
        except OSError:
            continue
    return found

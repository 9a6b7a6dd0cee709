"""Local files that travel inside a request: encoded, and hashed so that a later change is noticed."""

import base64
import hashlib
import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchgen.catalogue.pointers import parent_of


class InputMissing(Exception):
    """A local file that a request names cannot be read now. `str(error)` says which and why."""


def encode(folder: Path, request: str, pointers: Sequence[str]) -> tuple[bytes, str | None]:
    """The body to send, with the files that `pointers` lead to as data URIs; and the digests of these files as JSON.

    The digests are None if there are no files. Raises `InputMissing`.
    """
    if not pointers:
        return request.encode(), None
    document = json.loads(request)
    digests: dict[str, dict[str, Any]] = {}
    for pointer in pointers:
        container, key = parent_of(document, pointer)
        name = container[key]
        path = folder / name
        try:
            status = path.stat()
            content = path.read_bytes()
        except OSError as error:
            raise InputMissing(f"{name}: {error.strerror or error}") from error
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        container[key] = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
        digest = hashlib.sha256(content).hexdigest()
        digests[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), json.dumps(digests)


def changed(folder: Path, digests: str | None) -> list[str]:
    """The names of the files whose content has changed since it was sent. A file that is gone has not changed.

    A file of the same size and time of modification is not read.
    """
    names = []
    for name, sent in json.loads(digests or "{}").items():
        try:
            status = (folder / name).stat()
            if (status.st_size, status.st_mtime_ns) == (sent["size"], sent["mtime_ns"]):
                continue
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sent["sha256"]:
                    names.append(name)
        except OSError:
            continue
    return names

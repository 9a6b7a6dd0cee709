"""The image with which a clip begins: the local file or the data URI that its request names, if it is still there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen.catalogue.links import first_frame

DATA_CHARS = 12_000_000  # of a data URI that goes to the child process: a photo; a larger one is not compared


def image_of(folder: Path, request: str, input_digests: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The absolute path or the data URI of the image; None for one that is remote, gone, changed or too large.

    `input_digests` are those of the files that were sent.
    """
    image = first_frame(json.loads(request))
    if image is None:
        return None
    if image.startswith("data:"):
        return image if len(image) <= DATA_CHARS else None
    sent = input_digests.get(image)
    try:
        status = (folder / image).stat() if sent else None
    except (OSError, ValueError):
        return None
    is_same = sent and status and (status.st_size, status.st_mtime_ns) == (sent["size"], sent["mtime_ns"])
    return str(folder / image) if is_same else None

"""Names: a generation's id in the three shapes the service gives, and what makes two requests the same job."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

CLIENT_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_DATA_URI = re.compile(r"data:(?P<kind>[\w.+-]+/[\w.+-]+)?(?:;[\w=.-]+)*?;base64,", re.ASCII)


def nanoid() -> str:
    """A new name of 21 letters, digits, `_` and `-`."""
    return secrets.token_urlsafe(16)[:21]


def generation_id(model: str, shape: float) -> str:
    """A new id: `<uuid>:<model>`, a long number or a nanoid, as `shape` from 0 to 1 says."""
    shapes: tuple[Callable[[], str], ...] = (
        lambda: f"{uuid.uuid4()}:{model}",
        lambda: str(789 * 10**15 + secrets.randbelow(10**15)),
        nanoid,
    )
    return shapes[min(2, int(shape * 3))]()


def client_request_id(given: str | None) -> str | None:
    """The caller's own id, or nothing where it leaves the alphabet: it is dropped without a word."""
    return given if given and CLIENT_REQUEST_ID.fullmatch(given) else None


def decode_data_uri(value: str) -> bytes | None:
    """The bytes of a base64 data URI; `None` where it is not one."""
    found = _DATA_URI.match(value)
    if not found:
        return None
    try:
        return base64.b64decode(value[found.end() :], validate=True)
    except binascii.Error:
        return None


@dataclass(frozen=True, slots=True)
class Asked:
    """A create's body as it is kept: canonical JSON with images taken out, and its digest."""

    canonical: str
    digest: str
    images: dict[str, bytes] = field(default_factory=dict)
    """By digest, the one to be rendered first."""


def canonical(body: dict[str, Any]) -> Asked:
    """Take the images out of `body` and put it in the form by which two requests are compared."""
    images: dict[str, bytes] = {}

    def shorten(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("data:"):
            content = decode_data_uri(value)
            digest = sha256(value.encode() if content is None else content).hexdigest()[:32]
            if content is not None:
                images[digest] = content
            return f"data:{digest}"
        if isinstance(value, dict):
            return {name: shorten(each) for name, each in value.items()}
        return [shorten(each) for each in value] if isinstance(value, list) else value

    first = {name: shorten(body[name]) for name in ("image_url", "first_frame_image") if name in body}
    short = {name: first[name] if name in first else shorten(each) for name, each in body.items()}
    kept = json.dumps(short, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return Asked(kept, sha256(kept.encode("utf-8", "surrogatepass")).hexdigest()[:32], images)

"""A video in an object store for a browser: streamed through this server, with ranges, so that it can be sought.

The browser needs no rights in the store, and no address with a signature leaves this machine.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from starlette.responses import Response, StreamingResponse

from batchgen.files import object_store

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def object_response(url: str, size: int, range_header: str, *, is_head: bool) -> Response:
    """The answer to a request for an object of `size` bytes. A range that cannot be read is not heeded, as HTTP allows.

    Raises `UnsafePath`, and `OSError`, also where there is no such object.
    """
    stored = object_store.describe(url)
    if stored is None or stored.size != size:
        raise FileNotFoundError(url)
    headers = {"accept-ranges": "bytes"}
    span = range_in(range_header, size)
    if span == ():
        headers["content-range"] = f"bytes */{size}"
        return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)
    start, end = span or (0, size)
    if span:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    headers["content-length"] = str(end - start)
    status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
    if is_head:
        return Response(status_code=status, headers=headers, media_type="video/mp4")
    return StreamingResponse(object_store.read(url, start, end), status, headers, media_type="video/mp4")


def range_in(header: str, size: int) -> tuple[int, int] | tuple[()] | None:
    """The bytes of one range, from the first to behind the last; () where none of them exist; None for no range."""
    match = RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start, end = (int(first), int(last or size) + 1) if first else (max(0, size - int(last)), size)
    if first and last and end <= start:
        return None
    end = min(end, size)
    return (start, end) if start < end else ()

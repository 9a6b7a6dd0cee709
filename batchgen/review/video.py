"""A delivered video for a browser, with ranges, so that it can be sought.

One in an object store is streamed through this server: the browser needs no rights in the store, and no address with a
signature leaves this machine.
"""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from mimetypes import guess_type
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from batchgen.files import object_store
from batchgen.files.output_paths import is_url
from batchgen.files.outputs import OutputFolder, name_of

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def video_response(outputs: OutputFolder, path: str, size: int, request: Request) -> Response:
    """The video at a path or URL. Raises `UnsafePath`, and `OSError`, also where there is none."""
    if is_url(path):
        return object_response(path, size, request.headers.get("range", ""), is_head=request.method == "HEAD")
    with outputs.open_parent(path) as folder:
        return OpenFileResponse(folder.open(name_of(path), os.O_RDONLY), folder.path / name_of(path))


class OpenFileResponse(FileResponse):
    """A file by its descriptor, with ranges: what was opened safely is what is sent. It is closed at the end."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        by_descriptor = Path(f"/dev/fd/{descriptor}")
        # Windows has no such names; there, a name is checked before it is opened, as everywhere else.
        opened = by_descriptor if by_descriptor.exists() else path
        media_type = guess_type(path.name)[0] or ""
        is_video = media_type.startswith("video/")  # anything else would be no video, whatever its name says
        super().__init__(opened, media_type=media_type if is_video else "video/mp4", stat_result=os.fstat(descriptor))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self.descriptor)


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

"""What a file server's answer says about the file: whether it continues what is on the disk, and its whole size."""

from __future__ import annotations

from batchgen.services import http

SIZE_DIGITS_MAX = 18  # of a size in a header: an exabyte; longer numbers are not believed


class NoFile(Exception):
    """The answer has no file, and a later one may; `str(error)` says why."""


class Expired(Exception):
    """The file server does not know this address, or not any more."""


class VersionChanged(Exception):
    """The bytes on the disk are not the beginning of the file that the server has now."""


def whole_size(response: http.Response, size: int, etag: str | None) -> int | None:
    """The size of the whole file, as the answer gives it; None if it does not.

    `size` bytes of version `etag` are on the disk. Raises `VersionChanged` if the answer does not continue them,
    `Expired`, `NoFile`.
    """
    status = f"{response.status_code} {response.reason_phrase}"
    span = response.headers.get("content-range", "")
    total = as_size(span.rpartition("/")[2])
    is_same_version = validator(response) in (None, etag)
    match response.status_code:
        case 200:
            return as_size(response.headers.get("content-length", ""))
        case 206 if is_same_version and span.startswith(f"bytes {size}-"):
            return total
        case 416 if total == size:
            return total
        case 206 | 416:
            raise VersionChanged
        case 401 | 403 | 404 | 410:
            raise Expired(status)
    raise NoFile(f"the file server answers {status}")


def validator(response: http.Response) -> str | None:
    """What names this version of the file in an If-Range header (RFC 9110): a strong ETag, else the date."""
    etag = response.headers.get("etag", "")
    return etag if etag.startswith('"') else response.headers.get("last-modified") or None


def as_size(text: str) -> int | None:
    """A size in a header; None if it is not a plausible one."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= SIZE_DIGITS_MAX else None

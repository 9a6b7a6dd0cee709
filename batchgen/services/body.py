"""The body of an answer, decoded within a bound: a few kB may decode to gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable
from typing import Any

BODY_BYTES_MAX = 16 << 20  # of a decoded JSON answer; a page of 100 rows has some 100 kB
ENCODINGS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""The encodings that an answer may have, with zlib's parameter for each: their decoder can be told where to stop."""


class BodyRefused(Exception):
    """The body is too long, cut short, or encoded in a way that was not asked for; in words."""


async def decoded(pieces: AsyncIterable[bytes], encoding: str) -> bytes:
    """The decoded body, of at most `BODY_BYTES_MAX`. Raises `BodyRefused`."""
    body, decoder = bytearray(), decoder_of(encoding.strip().lower())
    async for piece in pieces:
        try:
            # zlib takes 0 for "no limit"; here it is at least 1.
            body += decoder.decompress(piece, BODY_BYTES_MAX + 1 - len(body)) if decoder else piece
        except zlib.error as error:
            raise BodyRefused(f"the answer is not in the encoding that it names: {error}") from None
        if len(body) > BODY_BYTES_MAX:
            raise BodyRefused(f"the answer is longer than {BODY_BYTES_MAX >> 20} MB")
    if decoder and body and not decoder.eof:
        raise BodyRefused("the answer's encoding ends early")
    return bytes(body)


def decoder_of(encoding: str) -> Any:
    """What decodes the body; None where it is not encoded."""
    if encoding in ("", "identity"):
        return None
    if encoding not in ENCODINGS:
        raise BodyRefused(f"the answer has an encoding that was not asked for: {encoding!r}")
    return zlib.decompressobj(ENCODINGS[encoding])

"""The video inside a downloaded file: gzip is unpacked, and bytes in front of the video are left out.

Some file servers compress although nobody asked them to, and some services store a compressed file (RFC 1952).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from batchgen.files.disk_space import FILE_BYTES_MAX
from batchgen.files.part import Part
from batchgen.files.video import NotVideo, container_of, other_container
from batchgen.jobs import Output

PACKED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda")  # how gzip and zlib (RFC 1950) begin
LAYERS_MAX = 2  # a compressed file that was compressed again on its way
RATIO_MAX, RATIO_FREE_BYTES = 100, 1 << 20
"""So many times its size, and so many bytes more, may a file unpack to. Videos hardly shrink: more is a bomb."""
PIECE_BYTES = 1 << 20  # in memory at a time
SEARCHED_BYTES = 64 << 10  # at the start of a file, in which a video may begin
FIRST_BOX_BYTES = 1024  # the `ftyp` box of an MP4 has some 30 bytes
STARTS = {b"ftyp": 4, b"\x1a\x45\xdf\xa3": 0}
"""What shows that a video begins, and how far behind its first byte that stands."""


def unpack(part: Part) -> tuple[Part, bytes, str]:
    """The video in a downloaded file, its first bytes, and a remark. It is the file itself, or a `.part` of its own.

    Raises `NotVideo` where a file does not unpack, `OSError`.
    """
    with part.reader() as file:
        head = file.read(SEARCHED_BYTES)
        start = 0 if head.startswith(PACKED) else junk_before(head)
        if not start and not head.startswith(PACKED):
            return part, head, ""
        file.seek(start)
        remark = f"without {start} bytes that the file server sent before the video"
        pieces = iter(lambda: file.read(PIECE_BYTES), b"")
        for _ in range(0 if start else LAYERS_MAX):
            remark = "unpacked: the file server sent it compressed"
            pieces = decompressed(pieces, min(RATIO_MAX * part.size + RATIO_FREE_BYTES, FILE_BYTES_MAX))
        video = Part(part.outputs, part.target, f"{part.attempt} unpacked")
        try:
            for piece in pieces:
                video.append((piece,))
        except BaseException:
            video.discard()
            raise
    with video.reader() as file:
        return video, file.read(SEARCHED_BYTES), remark


def decompressed(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    """What a gzip or zlib stream holds, of at most `most` bytes; a stream that is none, as it is. Raises `NotVideo`."""
    first = next(pieces, b"")
    if not first.startswith(PACKED):
        yield first
        yield from pieces
        return
    decoder, left = zlib.decompressobj(zlib.MAX_WBITS | 32), most
    packed = first
    try:
        while packed and not decoder.eof:
            piece = decoder.decompress(packed, min(left, PIECE_BYTES) + 1)
            left -= len(piece)
            if left < 0:
                raise NotVideo(f"a compressed file that unpacks to more than {most:,} bytes")
            yield piece
            packed = decoder.unconsumed_tail or next(pieces, b"")
    except zlib.error as error:
        raise NotVideo(f"a compressed file that does not unpack: {error}") from error
    if not decoder.eof:
        raise NotVideo("a compressed file that ends early")


def junk_before(head: bytes) -> int:
    """How many bytes come before a video; 0 where the file begins like one, or where none begins."""
    try:
        container_of(head)
    except NotVideo:
        starts = {signature: head.find(signature) - behind for signature, behind in STARTS.items()}
        is_box = 8 <= int.from_bytes(head[starts[b"ftyp"] :][:4], "big") <= FIRST_BOX_BYTES
        candidates = [at for signature, at in starts.items() if at > 0 and (is_box or signature != b"ftyp")]
        return min(candidates, default=0)
    return 0


def differences(output: Output, video: Part, path: str, head: bytes) -> list[str]:
    """In what a file differs from what its name says, and from the one that was delivered before, if one was."""
    remarks = [other_container(head, video.target)]
    if output.path and output.sha256 != video.sha256:
        remarks.append("the service sent other bytes than the first time")
    if output.path and output.path != path:
        remarks.append(f"{output.path} is another file now, and was kept")
    return [remark for remark in remarks if remark]

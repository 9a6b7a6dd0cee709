"""From the whole `.part` to the delivered file: unpack, check, place, row; and what becomes of one that does not play.

Some file servers compress although nobody asked them to, some services store a compressed file (RFC 1952), and some
send bytes in front of the video.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from batchgen import clock
from batchgen.download.task import SAME_BYTES, DownloadTask, TryFailed, path_of
from batchgen.files.checker import Checker, Media
from batchgen.files.disk_space import FILE_BYTES_MAX
from batchgen.files.part import Part
from batchgen.files.video import NotVideo, Undecodable, container_of, other_container
from batchgen.jobs import ErrorClass, Output
from batchgen.jobtable import delivery
from batchgen.jobtable.delivery import PlacedFile

PACKED = (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda")  # how gzip and zlib (RFC 1950) begin
LAYERS_MAX = 2  # a compressed file that was compressed again on its way
RATIO_MAX, RATIO_FREE_BYTES = 100, 1 << 20
"""So many times its size, and so many bytes more, may a file unpack to. Videos hardly shrink: more is a bomb."""
PIECE_BYTES = 1 << 20  # in memory at a time
FIRST_BOX_BYTES = 1024  # the `ftyp` box of an MP4 has some 30 bytes
STARTS = {b"ftyp": 4, b"\x1a\x45\xdf\xa3": 0}
"""What shows that a video begins, and how far behind its first byte that stands."""


async def verify_and_place(task: DownloadTask, checker: Checker, cut: str) -> None:
    """Check the file and give it its name. The row comes last, so it never names a file that a power cut could take.

    `cut` says how the server ended too early: then only a file without a fault is whole.
    """
    video, media = task.part, Media()
    remarks = [f"whole, although {cut}" if cut else ""]
    try:
        try:
            if not is_plain(task.part.head):
                video, remark = await task.on_disk(unpack, task.part)
                remarks.append(remark)
            media = await checker.check(video.path, video.size)
        except (NotVideo, Undecodable) as error:
            fault = type(error)(task.context.service.printable(error))  # it quotes the file
            remarks.append(await judge_fault(task, fault, cut))
        # Before it gets its name: after a crash between name and row, the next run recognises the file by this.
        output_path = await task.write(delivery.verified, video.size, video.sha256, media)
        # An archived version may have made place for the new one.
        path = await task.placing.place(video, path_of(output_path, task.output.number))
    finally:
        if video is not task.part:
            await task.on_disk(video.discard)
    if video is not task.part:
        await task.on_disk(task.part.discard)
    remarks += differences(task.output, video, path)
    file = PlacedFile(video.size, video.sha256, path, "; ".join(filter(None, remarks)) or None)
    await task.write(delivery.placed, file, clock.utcnow())


async def judge_fault(task: DownloadTask, error: NotVideo | Undecodable, cut: str) -> str:
    """The remark with which a file that has a fault is delivered, once it is sure that the service has no other.

    Raises `TryFailed` or `error` before that, and `GenerationEnded` where nothing in the file plays: then it is kept
    aside.
    """
    if cut:
        raise TryFailed(cut) from error  # The `.part` stays: the rest may come.
    if not await task.count_bytes():
        await task.on_disk(task.part.discard)
        raise error
    if isinstance(error, Undecodable):
        return f"delivered as the service has it, the same {SAME_BYTES} times: {error}"
    kept = ""
    if task.part.size:
        path = await task.placing.place(task.part, f"{task.target}.unplayable")
        kept = f". What came is kept as {path}"
    message = f"the file server has no video, {SAME_BYTES} times the same: {error}{kept}"
    raise task.ended(message, ErrorClass.NO_FILE) from error


async def deliver_placed(task: DownloadTask) -> bool:
    """Deliver a file that a run has placed, or verified, before it died; False if there is none."""
    size, sha256 = task.output.bytes, task.output.sha256
    if not sha256 or not size:
        return False
    path = await task.placing.find(task.part, task.target, size, sha256)
    if path:
        await task.write(delivery.placed, PlacedFile(size, sha256, path), clock.utcnow())
    return path is not None


def is_plain(head: bytes) -> bool:
    """Whether a file that begins so is not compressed, and has nothing before the video."""
    return not head.startswith(PACKED) and not junk_before(head)


def unpack(part: Part) -> tuple[Part, str]:
    """The video in a downloaded file, as a `.part` of its own, and a remark.

    Raises `NotVideo` where a file does not unpack, `OSError`.
    """
    start = 0 if part.head.startswith(PACKED) else junk_before(part.head)
    with part.reader() as file:
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
    return video, remark


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


def differences(output: Output, video: Part, path: str) -> list[str]:
    """In what a file differs from what its name says, and from the one that was delivered before, if one was."""
    remarks = [other_container(video.head, video.target)]
    if output.path and output.sha256 != video.sha256:
        remarks.append("the service sent other bytes than the first time")
    if output.path and output.path != path:
        remarks.append(f"{output.path} is another file now, and was kept")
    return [remark for remark in remarks if remark]

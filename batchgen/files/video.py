"""Is this file a whole video? A captive portal's page, a cut file and a clip that does not decode are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

HEAD_BYTES = 4096
KIND_BYTES = 12  # say what a file is


class NotVideo(Exception):
    """The file is something else: it starts like no video, or its container ends early."""


class Undecodable(Exception):
    """The container is whole, but what is in it does not decode."""


def check_head(head: bytes) -> None:
    """Look at the first bytes only. Raises `NotVideo`."""
    if head[4:8] == b"ftyp" or head[:4] == b"\x1a\x45\xdf\xa3" or (head[:4] == b"RIFF" and head[8:11] == b"AVI"):
        return
    shown = head[:40].decode("utf-8", "replace").strip()
    raise NotVideo(f"not a video: it starts with {shown!r}" if head else "an empty file")


def check_boxes(file: BinaryIO) -> None:
    """Walk the top-level boxes of an MP4: they must fill the file to the byte and hold an index. Raises `NotVideo`."""
    size = file.seek(0, os.SEEK_END)
    seen = set()
    at = 0
    while at < size:
        file.seek(at)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - at
        if length < 8 or at + length > size:
            raise NotVideo(f"the container is cut: the box at byte {at} says {length} bytes, {size - at} are there")
        seen.add(header[4:8])
        at += length
    if b"moov" not in seen:
        raise NotVideo("the container has no index (moov)")


def check(path: Path) -> None:
    """Look at the whole file: container, packets, and every key frame decoded.

    Raises `NotVideo`, `Undecodable` or `OSError`.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        check_head(head)
        if head[4:8] == b"ftyp":
            check_boxes(file)
    import av  # 44 ms, needed only once a video is there

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.skip_frame = "NONKEY"
            stream.thread_type = "NONE"  # threads that are made for a few frames take longer than the frames
            frames = sum(1 for _ in container.decode(stream))
    except IndexError:
        raise Undecodable("there is no video stream in it") from None
    except (av.FFmpegError, ValueError) as error:
        raise Undecodable(f"does not decode: {error}") from error
    if not frames:
        raise Undecodable("does not decode: no frame in it")

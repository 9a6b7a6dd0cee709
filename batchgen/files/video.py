"""Is this file a whole video? A captive portal's page, a truncated file and a clip that does not decode are not.

`checker.py` runs this file by its path, as a filter in a child process: `python video.py` reads requests and writes
outcomes, one line of JSON each. So nothing of the package is imported here, but for `sampling.py`, by its path too.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

HEAD_BYTES = 400  # of a file, by which its kind is judged: MPEG-TS shows itself by its second packet
SHOWN_CHARS = 40  # of the start of a file that is no video
MEMORY_BYTES = 4 << 30  # of address space in the child process: far more than an 8K video needs to decode
PATIENT = "--patient"  # the argument of a child that leaves the processor to whatever needs it
NICE_STEPS = 10  # by which its priority is lower than that of the run
OPTIONS = {
    "protocol_whitelist": "file",  # a container may name other files and addresses: they are not followed
    "skip_frame": "all",  # to open a file decodes no frame of its streams: that takes as long as the check itself
}
OPEN_FILES = 32  # in the child process, which reads one file at a time
MP4 = "mp4"
BOXES = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"})
"""The first box of an MP4 or QuickTime file; old ones begin without `ftyp`."""
INDEX_AND_FRAMES = frozenset({b"moov", b"mdat"})
SIGNATURES = {
    "webm": (0, b"\x1a\x45\xdf\xa3"),
    "avi": (8, b"AVI"),
    "gif": (0, b"GIF8"),
    "flv": (0, b"FLV\x01"),
    "ogv": (0, b"OggS"),
    "mpg": (0, b"\x00\x00\x01\xba"),
    "wmv": (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    "ts": (188, b"\x47"),
}
"""Where which bytes show a container that plays although few services send it, by the suffix of its files."""


class NotVideo(Exception):
    """Nothing in the file plays: it does not start like a video, or its container ends before there is one."""


class Undecodable(Exception):
    """The file is a video with a fault, which may play all the same: bytes that do not decode, or that do not fit."""


class Cut(Undecodable):
    """The container names more bytes than are there."""


def container_of(head: bytes) -> str:
    """The kind of container, by how a file starts. Raises `NotVideo`."""
    if head[4:8] in BOXES:
        return MP4
    for kind, (offset, signature) in SIGNATURES.items():
        if head[offset:].startswith(signature) and (kind != "ts" or head.startswith(signature)):
            return kind
    start = head[:SHOWN_CHARS].decode("utf-8", "replace").strip()
    raise NotVideo(f"not a video: it starts with {start!r}" if head else "an empty file")


def other_container(head: bytes, name: str) -> str:
    """Which container a file has, for a person to read, where it is another than the file's name says; else ""."""
    kind = container_of(head)
    suffixes = (".mp4", ".m4v", ".mov") if kind == MP4 else (f".{kind}", ".mkv")
    return "" if name.lower().endswith(suffixes) else f"the service sent a file of the kind .{kind}"


def judge_boxes(file: BinaryIO) -> None:
    """Walk the boxes of an MP4. Raises `Undecodable` where one does not fit, `NotVideo` where one is missing."""
    size = file.seek(0, os.SEEK_END)
    kinds: set[bytes] = set()
    offset, fault = 0, None
    while (left := size - offset) and not fault:
        file.seek(offset)
        header = file.read(16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = left
        is_box = len(kind) == 4 and kind.isascii() and kind.decode("ascii").isprintable()
        if not is_box or length < 8 or (length > left and kinds >= INDEX_AND_FRAMES):
            fault = Undecodable(f"{left} bytes at its end belong to no part of the video")
        elif length > left:
            fault = Cut(f"the container is cut: the box at byte {offset} says {length} bytes, {left} are there")
        if is_box:
            kinds.add(kind)
        offset += length
    if missing := INDEX_AND_FRAMES - kinds:
        names = " and no ".join(sorted(map(bytes.decode, missing)))
        raise NotVideo(str(fault or f"the container has no {names}"))
    if fault:
        raise fault


def check(path: Path) -> dict[str, Any]:
    """Check the whole file: its container, its packets, and that every key frame decodes.

    Returns `seconds`, `width`, `height`, `fps` and `codec` as the file says them; None where it does not. Raises
    `NotVideo`, `Undecodable` or `OSError`.
    """
    with path.open("rb") as file:
        if container_of(file.read(HEAD_BYTES)) == MP4:
            try:
                judge_boxes(file)
            except NotVideo as error:
                try:  # A decoder may find its way where a length is wrong.
                    decode(path)
                except Undecodable:
                    raise error from None
                raise Undecodable(str(error)) from error
    return decode(path)


def decode(path: Path) -> dict[str, Any]:
    """Decode every key frame, as `check` describes. Raises `Undecodable`."""
    with open_video(path) as (container, stream):
        stream.codec_context.skip_frame = "NONKEY"
        frames = sum(1 for _ in container.decode(stream))
        seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        media = {
            "seconds": seconds,
            "width": stream.codec_context.width,
            "height": stream.codec_context.height,
            "fps": float(stream.average_rate) if stream.average_rate else None,
            "codec": stream.codec_context.name,
        }
    if not frames:
        raise Undecodable("does not decode: no frame in it")
    return media


def sample(path: Path, image: str | None = None, whole: bool = False) -> dict[str, Any]:
    """What a video shows, as `sampling.sample` has it. Raises `Undecodable`, `OSError`."""
    with open_video(path) as (container, stream):
        sampled: dict[str, Any] = sampling()["sample"](container, stream, image, whole)
    return sampled


@cache
def sampling() -> dict[str, Any]:
    """The names of the module beside this file, found by its path: the child process need not find the package."""
    return runpy.run_path(str(Path(__file__).with_name("sampling.py")))


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video and its first video stream, for decoding. What the decoder raises about it becomes `Undecodable`."""
    import av  # Here, because `checker.py` imports this module into the run, which decodes nothing.

    try:
        with av.open(str(path), options=OPTIONS) as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise Undecodable("its codec is unknown")
            stream.thread_type = "NONE"  # starting threads takes longer than decoding these few frames
            yield container, stream
    except IndexError:
        raise Undecodable("there is no video stream in it") from None
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise Undecodable(f"does not decode: {error or type(error).__name__}") from error


def outcome_of(task: Callable[..., dict[str, Any]], path: Path, *arguments: Any) -> dict[str, Any]:
    """What `task` returns for a file as JSON; or what it raises: `error`, `message` and, for an `OSError`, `errno`."""
    try:
        return task(path, *arguments)
    except OSError as error:
        return {"error": "OSError", "errno": error.errno, "message": error.strerror}
    except (NotVideo, Undecodable) as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # A decoder of damaged bytes may raise anything.
        return {"error": "Undecodable", "message": f"the decoder fails: {type(error).__name__}: {error}"}


def limit_resources() -> None:
    """Bound what a hostile file can make the decoder do: it writes no file, and its memory and open files are few."""
    with contextlib.suppress(OSError):  # Linux: where memory is short, this process goes first, and not the run
        Path("/proc/self/oom_score_adj").write_text("1000", "utf-8")
    if resource := resources():
        for kind, limit in (
            (resource.RLIMIT_AS, MEMORY_BYTES),
            (resource.RLIMIT_NOFILE, OPEN_FILES),
            (resource.RLIMIT_FSIZE, 0),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):  # the system has a lower limit, or does not know this one
                resource.setrlimit(kind, (limit, limit))


def limit_time(seconds: int) -> None:
    """End this process if the next file takes longer; 0: no file is being checked.

    The run kills a child that takes too long. These limits come later: the processor's time, and the alarm for a child
    whose run was killed.
    """
    getattr(signal, "alarm", lambda _seconds: None)(2 * seconds)  # Windows has none
    if resource := resources():
        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        most = int(used.ru_utime + used.ru_stime) + 2 * seconds if seconds else hard
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CPU, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def resources() -> Any:
    """The module `resource`; None on Windows, which has none."""
    try:
        import resource
    except ImportError:
        return None
    return resource


def main() -> None:
    """Do what each line of standard input says, as JSON: task, path, the seconds that the run allows, arguments."""
    import av  # noqa: F401  The first file must not wait for it.

    limit_resources()
    if PATIENT in sys.argv:
        getattr(os, "nice", lambda _steps: None)(NICE_STEPS)  # Windows has none
    tasks = {"check": check, "sample": sample}
    for line in sys.stdin.buffer:
        task, path, seconds, *arguments = json.loads(line)
        limit_time(seconds)
        write_line(json.dumps(outcome_of(tasks[task], Path(path), *arguments)).encode())
        limit_time(0)


def write_line(line: bytes) -> None:
    """Write to the pipe, past all buffers: a decoder that crashes next must not take the outcome with it."""
    rest = memoryview(line + b"\n")
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    main()

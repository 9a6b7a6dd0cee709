"""Local images, videos and sounds of a request: what they are, by their content, and whether they can be sent."""

from __future__ import annotations

import base64
import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from batchgen.catalogue.links import Medium
from batchgen.files.input_file import InputFault, megabytes, open_input

MEDIA_BYTES = 50_000_000
"""One local file: the most that any service documents for an image. In base64 it grows by a third."""
HEAD_BYTES = 64
"""The beginning of a file that shows its format."""
TAIL_BYTES = 65_536
"""The end of an image in which its end mark must stand; phones append a preview behind it."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
END_MARKS = {"image/jpeg": b"\xff\xd9", "image/png": b"IEND"}

SIGNATURES: tuple[tuple[str, str], ...] = (
    (r"\xff\xd8\xff", "image/jpeg"),
    (r"\x89PNG\r\n\x1a\n", "image/png"),
    (r"RIFF....WEBP", "image/webp"),
    (r"GIF8[79]a", "image/gif"),
    (r"BM....\0\0\0\0", "image/bmp"),
    (r"II\*\0|MM\0\*", "image/tiff"),
    (r"....ftypavi[fs]", "image/avif"),
    (r"RIFF....WAVE", "audio/wav"),
    (r"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "audio/mpeg"),
    (r"\xff[\xf0\xf1\xf8\xf9]", "audio/aac"),
    (r"OggS", "audio/ogg"),
    (r"fLaC", "audio/flac"),
    (r"FORM....AIF[FC]", "audio/aiff"),
    (r"....ftypM4[AB]", "audio/mp4"),
    (r"....ftypqt  |....(moov|mdat|wide)", "video/quicktime"),
    (r"....ftyp", "video/mp4"),
    (r"\x1aE\xdf\xa3", "video/webm"),
    (r"RIFF....AVI ", "video/x-msvideo"),
    (r"\0\0\x01[\xb3\xba]", "video/mpeg"),
)
"""The first bytes of each format, as a pattern, and its media type. The first that matches counts."""
PATTERNS = [(re.compile(pattern.encode("latin-1"), re.DOTALL), media_type) for pattern, media_type in SIGNATURES]
CONTAINERS = {
    "image": ("image/",),
    "audio": ("audio/", "video/mp4", "video/quicktime", "video/webm"),
    "video": ("video/",),
}
"""What the media type of a medium begins with: a container of videos may hold a sound alone."""
HEAD_CHARS = 88
"""The base64 of the first 66 bytes."""
BASE64 = re.compile(rf"[A-Za-z0-9+/]{{{HEAD_CHARS},}}={{0,2}}")


@dataclass(frozen=True, slots=True)
class LocalMedium:
    """A local file that can be sent. `width` and `height` are an image's, in pixels."""

    media_type: str
    bytes: int
    width: int = 0
    height: int = 0


def media_type_of(head: bytes) -> str | None:
    """The media type of content that begins with `head`; None for an unknown one."""
    return next((media_type for pattern, media_type in PATTERNS if pattern.match(head)), None)


def inspect(folder: Path, path: str, medium: Medium) -> LocalMedium:
    """The local file at `path`, which a parameter takes as `medium`. Raises `InputFault`."""
    if not path.strip() or not path.isprintable():
        raise InputFault("this is not a path")
    try:
        with open_input(folder / path, MEDIA_BYTES, medium) as file:
            return inspect_content(file, medium)
    except (FileNotFoundError, NotADirectoryError):
        raise InputFault(f"there is no such file beside the manifest: {path[:200]}") from None
    except PermissionError:
        raise InputFault("the file may not be read") from None
    except (OSError, ValueError) as error:
        raise InputFault(f"the file cannot be read: {getattr(error, 'strerror', None) or error}") from None


def inspect_text(value: str, medium: Medium) -> LocalMedium:
    """A medium that stands in the request itself, as a data URI (RFC 2397) or as bare base64. Raises `InputFault`."""
    header, comma, encoded = value.partition(",")
    if comma:
        media_type, *options = header[len("data:") :].lower().split(";")
        if "base64" not in options:
            raise InputFault("a data URI must be in base64: data:image/png;base64,…")
        if not media_type.startswith(CONTAINERS[medium]):
            raise InputFault(f"the data URI is of {media_type[:60] or 'no media type'}, not of {medium}/…")
    else:
        encoded = value
    if len(encoded) > MEDIA_BYTES * 4 // 3 + 4:
        raise InputFault(f"the {medium} has more than {megabytes(MEDIA_BYTES)}")
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise InputFault(f"the base64 of the {medium} is damaged") from None
    return inspect_content(BytesIO(content), medium)


def is_base64(value: str, medium: Medium) -> bool:
    """Whether a text is bare base64 of a medium: one that begins as a known format does."""
    if not BASE64.fullmatch(value):
        return False
    media_type = media_type_of(base64.b64decode(value[:HEAD_CHARS]))
    return media_type is not None and media_type.startswith(CONTAINERS[medium])


def inspect_content(file: BinaryIO, medium: Medium) -> LocalMedium:
    """The content of a file that a parameter takes as `medium`. Raises `InputFault`."""
    head = file.read(HEAD_BYTES)
    size = file.seek(0, 2)
    if not size:
        raise InputFault("the file is empty")
    media_type = media_type_of(head)
    if medium != "image":
        if not media_type or not media_type.startswith(CONTAINERS[medium]):
            raise InputFault(f"the file is not {'a video' if medium == 'video' else 'a sound'} in a known format")
        return LocalMedium(media_type.replace("video/", f"{medium}/"), size)
    width, height = image_size(file)
    if media_type in END_MARKS:
        file.seek(max(size - TAIL_BYTES, 0))
        if END_MARKS[media_type] not in file.read():
            raise InputFault("the image is cut off: its end is missing")
    return LocalMedium(media_type or "", size, width, height)


def image_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of an image in pixels. Only its header is decoded. Raises `InputFault`."""
    from PIL import Image, UnidentifiedImageError

    file.seek(0)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata; the service decides about them.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
    except UnidentifiedImageError:
        raise InputFault(f"the file is not an image ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise InputFault("the image has too many pixels") from None
    except Exception:  # A decoder of damaged bytes may raise anything; it must not end the run.
        raise InputFault("the image is damaged") from None
    return width, height

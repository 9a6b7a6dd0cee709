"""Images, videos and sounds of a request: what they are, by their content alone, and whether they can be sent.

An image is decoded to its end: half a download has a good header.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, unquote_to_bytes

from batchgen.catalogue.links import Medium
from batchgen.errors import os_reason
from batchgen.files import video
from batchgen.files.input_file import InputFault, open_input, size_in_words
from batchgen.services.text import character_fault

if TYPE_CHECKING:
    from PIL.Image import Image

MEDIA_BYTES = 50_000_000
"""One local file: the most that any service documents for an image. In base64 it grows by a third."""
HEAD_BYTES = 64
"""The beginning of a file that shows its format."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
END_OF_PNG, END_OF_JPEG = b"IEND", b"\xff\xd9"
"""Pillow decodes a PNG without its last part, which other programs refuse."""
ZEROS = bytes(1_024)
"""Some programs reserve a file's space before they download it: the rest of half a file is zeros, which decode."""
RIFF_SLACK = 1_024  # bytes by which careless programs are wrong about the length of a WAV or AVI
DECODED_PIXELS = 50_000_000
"""Pixels of an image that is decoded, other than a JPEG: 200 MB of memory. Of a larger one the header is read."""

SIGNATURES = (
    (rb"\xff\xd8\xff", "image/jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "image/png"),
    (rb"RIFF....WEBP", "image/webp"),
    (rb"GIF8[79]a", "image/gif"),
    (rb"BM....\0\0\0\0", "image/bmp"),
    (rb"II[*+]\0|MM\0[*+]", "image/tiff"),
    (rb"....ftypavi[fs]", "image/avif"),
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "image/heic"),
    (rb"RIFF....WAVE", "audio/wav"),
    (rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "audio/mpeg"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "audio/aac"),
    (rb"OggS", "audio/ogg"),
    (rb"fLaC", "audio/flac"),
    (rb"FORM....AIF[FC]", "audio/aiff"),
    (rb"....ftypM4[AB]", "audio/mp4"),
    (rb"....ftypqt  |....(moov|mdat|wide)", "video/quicktime"),
    (rb"....ftyp", "video/mp4"),
    (rb"\x1aE\xdf\xa3", "video/webm"),
    (rb"RIFF....AVI ", "video/x-msvideo"),
    (rb"\0\0\x01[\xb3\xba]", "video/mpeg"),
)
"""The first bytes of each format, as a pattern, and its media type. The first that matches counts."""
NO_IMAGES = (
    (rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", "the image is HEIC, as phones make it: save it as JPEG or PNG"),
    (rb"\s*(<!doctype html|<html|<head)", "the file is a web page, not an image: download the image itself"),
    (rb"\s*(<\?xml|<svg)", "the file is XML or SVG: save it as PNG"),
    (rb"%PDF", "the file is a PDF: save its page as PNG"),
    (rb"version https://git-lfs", "the file is a pointer of Git LFS: fetch the image with `git lfs pull`"),
)
"""The first bytes of files that people take for images, and what to do about each."""
CUT_OFF = "the {} is cut off: its end is missing"
MISSING = "there is no such file"
WHOLE_PATH = re.compile(r"[/~]|[A-Za-z]:[\\/]|file:", re.IGNORECASE)
"""The beginning of a path that is not relative to the manifest."""
URL_SAFE = str.maketrans("-_", "+/")
"""From the alphabet of base64 in links to the plain one."""
CONTAINERS = {
    "image": ("image/",),
    "audio": ("audio/", "video/mp4", "video/quicktime", "video/webm"),
    "video": ("video/",),
}
"""What the media type of a medium begins with: a container of videos may hold a sound alone."""
OTHER_NAMES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
"""Media types that are not registered, which services take all the same."""
ANY_TYPE = ("", "application/octet-stream", "binary/octet-stream")
"""What a data URI says where nobody knew its media type."""
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
    return next((media_type for pattern, media_type in SIGNATURES if re.match(pattern, head, re.DOTALL)), None)


def inspect(folder: Path, path: str, medium: Medium) -> LocalMedium:
    """The local file at `path`, which a parameter takes as `medium`; an image by its header. Raises `InputFault`."""
    if not path.strip():
        raise InputFault("this is not a path")
    if fault := character_fault(path):
        raise InputFault(f"the path {fault}", "rename the file, and write its new name here")
    try:
        with open_input(folder / path, MEDIA_BYTES, medium) as file:
            return inspect_content(file, medium)
    except (FileNotFoundError, NotADirectoryError):
        raise InputFault(f"{no_such_file(path)}: {path[:200]}") from None
    except PermissionError:
        raise InputFault("the file may not be read") from None
    except (OSError, ValueError) as error:
        raise InputFault(f"the file cannot be read: {os_reason(error)}") from None


def no_such_file(path: str) -> str:
    return MISSING if WHOLE_PATH.match(path) else f"{MISSING} beside the manifest"


def decode_fault(path: Path) -> str | None:
    """Why the image at `path` cannot be decoded to its end, or None."""
    try:
        with open_input(path, MEDIA_BYTES, "image") as file:
            decode(file)
    except InputFault as fault:
        return str(fault)
    except OSError as error:
        return f"the file cannot be read: {os_reason(error)}"
    return None


def inspect_text(value: str, medium: Medium) -> tuple[LocalMedium, str]:
    """A medium in the request itself, as a data URI (RFC 2397) or bare base64, and the text that is sent for it.

    Line ends in it, escapes of links and a missing or wrong media type of an image are mended. Raises `InputFault`.
    """
    header, comma, encoded = value.partition(",")
    media_type, *options = header[len("data:") :].lower().replace(" ", "").split(";") if comma else ("", "base64")
    if len(value) > MEDIA_BYTES * 4 // 3 + 200:
        raise InputFault(f"the {medium} has more than {size_in_words(MEDIA_BYTES)}")
    content, encoded = decoded_text(encoded if comma else value, "base64" in options)
    if not content:
        raise InputFault("the data URI is empty: nothing stands behind its comma")
    if media_type not in ANY_TYPE and not media_type.startswith(CONTAINERS[medium]):
        raise InputFault(f"the data URI is of {media_type[:60]}, not of {medium}/…")
    file = BytesIO(content)
    inspected = inspect_content(file, medium)
    if medium == "image":
        decode(file)
    if not comma:
        return inspected, encoded
    says_image = medium == "image" and OTHER_NAMES.get(media_type, media_type) != inspected.media_type
    if media_type in ANY_TYPE or says_image:
        return inspected, f"data:{inspected.media_type};base64,{encoded}"
    same = "base64" in options and encoded == value.partition(",")[2]
    return inspected, value if same else f"data:{media_type};base64,{encoded}"


def decoded_text(encoded: str, is_base64: bool) -> tuple[bytes, str]:
    """The bytes behind the comma of a data URI, and their base64. Raises `InputFault`."""
    if not is_base64:
        content = unquote_to_bytes(encoded)
        return content, base64.b64encode(content).decode()
    if not encoded.isalnum():
        encoded = "".join(unquote(encoded).split()).translate(URL_SAFE)
    encoded = encoded.rstrip("=")
    encoded += "=" * (-len(encoded) % 4)
    try:
        return base64.b64decode(encoded, validate=True), encoded
    except ValueError:
        raise InputFault("the base64 of the data is damaged") from None


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
        if is_cut(file, head, size):
            raise InputFault(CUT_OFF.format("video" if medium == "video" else "sound"))
        return LocalMedium(media_type.replace("video/", f"{medium}/"), size)
    with opened_image(file, head) as image:
        return LocalMedium(media_type or "", size, *image.size)


def is_cut(file: BinaryIO, head: bytes, size: int) -> bool:
    """Whether a video or a sound names a length that it does not have, or lacks what no player can do without."""
    if head.startswith(b"RIFF"):  # Whoever writes into a pipe does not know the length, and names an endless one.
        return size + RIFF_SLACK < int.from_bytes(head[4:8], "little") <= MEDIA_BYTES
    with suppress(video.Undecodable):  # bytes behind the video
        try:
            if head[4:8] in video.BOXES:
                video.judge_boxes(file)
        except (video.NotVideo, video.Cut):
            return True
    return False


def decode(file: BinaryIO) -> None:
    """Decode an image to its end. Raises `InputFault`."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    with opened_image(file, head) as image:
        if image.format in ("PNG", "JPEG", "AVIF"):  # in the others, zeros may be a part of the picture
            position = file.tell()
            file.seek(0)
            if not has_end(file.read(), image.format, position):
                raise InputFault(CUT_OFF.format("image"))
            file.seek(position)
        # A JPEG is decoded small and grey: all its bytes are read, in less time and memory.
        image.draft("L", (1, 1))
        width, height = image.size
        if width * height <= DECODED_PIXELS:
            image.load()


def has_end(content: bytes, image_format: str, start: int) -> bool:
    """Whether the end of a compressed image is there, as far as a decoder does not notice it by itself.

    A JPEG's header ends at `start`. Behind an image may be anything: a film, a map of depths, zeros up to a block.
    """
    if image_format == "PNG":
        return END_OF_PNG in content
    if image_format == "JPEG":
        return not content.endswith(ZEROS) or content.find(END_OF_JPEG, start) > 0
    box = content.find(b"mdat") - 4
    return not content[: box + int.from_bytes(content[box : box + 4], "big")].endswith(ZEROS)


@contextmanager
def opened_image(file: BinaryIO, head: bytes) -> Iterator[Image]:
    """An image of which the header is read. What Pillow raises about it becomes an `InputFault`."""
    from PIL import Image, UnidentifiedImageError

    file.seek(0)
    try:
        # Pillow warns of large images and odd metadata; the service decides about them. A filter that is put back
        # afterwards is of no use here: several threads decode.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        with Image.open(file, formats=FORMATS) as image:
            yield image
    except InputFault:
        raise
    except UnidentifiedImageError:
        flags = re.DOTALL | re.IGNORECASE
        reason = next((reason for pattern, reason in NO_IMAGES if re.match(pattern, head, flags)), None)
        raise InputFault(reason or f"the file is not an image ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise InputFault("the image has too many pixels") from None
    except Exception as error:  # A decoder of damaged bytes may raise anything; it must not end the run.
        raise InputFault(CUT_OFF.format("image") if "truncated" in str(error) else "the image is damaged") from None

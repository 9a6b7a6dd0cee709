"""Real, small, playable videos: H.264 in MP4, the same bytes for the same scene every time.

PyAV and Pillow take long to import, so this module is imported only when the first clip is needed.
"""

import io
import math
import struct
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import av
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont, ImageOps

FRAMES_PER_SECOND = 10
LONG_SIDE = 384  # pixels
BACKDROP_SIDE = LONG_SIDE * 3 // 2  # pixels: larger than the frame, which moves over it
BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: the file has no encoder version and no date
ASPECT_MIN, ASPECT_MAX = 1 / 3, 3.0  # a side of fewer than 128 pixels shows nothing
CAPTION_CHARACTERS = 60  # of the prompt that fit on a frame


@dataclass(frozen=True, slots=True)
class Scene:
    """What a video shows. `aspect` is width over height; `None` takes that of the image, or 16:9."""

    id: str
    prompt: str
    seconds: float
    aspect: float | None = None
    image: bytes | None = None


def render(scene: Scene) -> bytes:
    """The scene as an MP4 with its index first: a slow move over the image, or over a gradient with the prompt."""
    image = _decode(scene.image) if scene.image else None
    width, height = frame_size(scene.aspect or (image.width / image.height if image else 16 / 9))
    return _encode(_move(image or _draw_prompt(scene, width, height), scene, width, height), width, height)


def frame_size(aspect: float) -> tuple[int, int]:
    """Even sides, of which the longer one is `LONG_SIDE`."""
    aspect = min(max(aspect, ASPECT_MIN), ASPECT_MAX)
    short = 2 * round(LONG_SIDE / max(aspect, 1 / aspect) / 2)
    return (LONG_SIDE, short) if aspect >= 1 else (short, LONG_SIDE)


def tiny(generation_id: str) -> bytes:
    """A clip of about 20 kB, rendered once, plus an MP4 box `free` with the id, so that each has other bytes."""
    name = generation_id.encode()
    return _tiny_clip() + struct.pack(">I4s", 8 + len(name), b"free") + name


@cache
def _tiny_clip() -> bytes:
    return render(Scene("tiny", "batchgen simulator", 2))


def _decode(content: bytes) -> Image.Image | None:
    """An image at the size of a backdrop; `None` for bytes that cannot be decoded."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.draft("RGB", (2 * LONG_SIDE, 2 * LONG_SIDE))
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    image.thumbnail((BACKDROP_SIDE, BACKDROP_SIDE))
    return image


def _draw_prompt(scene: Scene, width: int, height: int) -> Image.Image:
    """A backdrop of two colours that follow from the id, with the beginning of the prompt in its middle."""
    digest = sha256(scene.id.encode()).digest()
    light = Image.linear_gradient("L").rotate(digest[0] * 360 / 256, resample=Image.Resampling.BILINEAR)
    dark, bright = (digest[1] // 2, digest[2] // 2, digest[3] // 2), (digest[4], digest[5], digest[6])
    backdrop = ImageOps.colorize(light, dark, bright).resize((width * 3 // 2, height * 3 // 2))
    font_size = min(width, height) // 11
    caption = textwrap.fill(" ".join(scene.prompt.split())[:CAPTION_CHARACTERS], 2 * width // font_size)
    font = ImageFont.load_default(font_size)
    middle = (backdrop.width / 2, backdrop.height / 2)
    ImageDraw.Draw(backdrop).multiline_text(middle, caption, "white", font, anchor="mm", align="center")
    return backdrop


def _move(backdrop: Image.Image, scene: Scene, width: int, height: int) -> Iterator[Image.Image]:
    """A slow zoom and pan, as crops of `backdrop` that are not yet scaled. Both follow from the id."""
    digest = sha256(scene.id.encode()).digest()
    direction, nearer = 2 * math.pi * digest[31] / 256, 0.05 + 0.25 * digest[30] / 255
    frames = max(1, round(scene.seconds * FRAMES_PER_SECOND))
    scale = min(backdrop.width / width, backdrop.height / height)
    for frame in range(frames):
        progress = frame / max(1, frames - 1)
        zoom = scale * (0.95 - nearer * progress)
        left = (backdrop.width - width * zoom) * (0.5 + 0.4 * math.cos(direction) * (progress - 0.5))
        top = (backdrop.height - height * zoom) * (0.5 + 0.4 * math.sin(direction) * (progress - 0.5))
        yield backdrop.crop((round(left), round(top), round(left + width * zoom), round(top + height * zoom)))


def _encode(views: Iterator[Image.Image], width: int, height: int) -> bytes:
    # FFmpeg moves the index to the front only in a file with a name.
    with tempfile.TemporaryDirectory(prefix="batchgen-simulator-") as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            container.flags |= BITEXACT
            options = {"preset": "ultrafast", "crf": "30", "threads": "1"}
            stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for view in views:
                frame: av.VideoFrame = av.VideoFrame.from_image(view)  # type: ignore[no-untyped-call]
                container.mux(stream.encode(frame.reformat(width, height, "yuv420p", interpolation="BILINEAR")))
            container.mux(stream.encode())
        return path.read_bytes()

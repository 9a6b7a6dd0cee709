"""Real, small, playable videos: H.264 in an MP4, the same bytes for the same scene every time.

PyAV and Pillow are imported here and nowhere else in the simulator.
"""

from __future__ import annotations

import io
import math
import struct
import tempfile
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
BITEXACT = 0x400  # AVFMT_FLAG_BITEXACT: no encoder version, no date
ASPECTS = (1 / 3, 3.0)  # what is narrower or wider is brought within
CAPTION = 60  # characters of the prompt that are drawn


@dataclass(frozen=True, slots=True)
class Scene:
    """What a video shows. `aspect` is width over height; without it the image's own counts, else 16:9."""

    id: str
    prompt: str
    seconds: float
    aspect: float | None = None
    image: bytes | None = None


def render(scene: Scene) -> bytes:
    """The scene as an MP4 whose index comes first: a slow move over its image, or over a gradient with the prompt."""
    picture = _picture(scene)
    width, height = frame_size(scene.aspect or (picture.width / picture.height if picture else 16 / 9))
    return _encode(_move(picture or _card(scene, width, height), scene, width, height), width, height)


def frame_size(aspect: float) -> tuple[int, int]:
    """Even sides whose longer one is `LONG_SIDE`."""
    aspect = min(max(aspect, ASPECTS[0]), ASPECTS[1])
    short = 2 * round(LONG_SIDE / max(aspect, 1 / aspect) / 2)
    return (LONG_SIDE, short) if aspect >= 1 else (short, LONG_SIDE)


def tiny(generation_id: str) -> bytes:
    """One fixed clip of about 20 kB, made different by a `free` box with the id: for speed, thousands a second."""
    name = generation_id.encode()
    return _tiny_clip() + struct.pack(">I4s", 8 + len(name), b"free") + name


def tiny_size(generation_id: str) -> int:
    """The length of `tiny(generation_id)` in bytes."""
    return len(_tiny_clip()) + 8 + len(generation_id.encode())


@cache
def _tiny_clip() -> bytes:
    return render(Scene("tiny", "batchgen simulator", 2))


def _picture(scene: Scene) -> Image.Image | None:
    if scene.image is None:
        return None
    try:
        with Image.open(io.BytesIO(scene.image)) as opened:
            opened.draft("RGB", (2 * LONG_SIDE, 2 * LONG_SIDE))
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # what cannot be decoded is drawn as if there were no image
    picture.thumbnail((3 * LONG_SIDE // 2, 3 * LONG_SIDE // 2))
    return picture


def _card(scene: Scene, width: int, height: int) -> Image.Image:
    """A gradient half as large again as the frame, the prompt in its middle."""
    digest = sha256(scene.id.encode()).digest()
    grey = Image.linear_gradient("L").rotate(digest[0] * 360 / 256, resample=Image.Resampling.BILINEAR)
    light = Image.blend(grey, Image.radial_gradient("L"), digest[1] / 512)
    black, middle, white = ((digest[at], digest[at + 1], digest[at + 2]) for at in (2, 5, 8))
    card = ImageOps.colorize(light, black, white, middle).resize((width * 3 // 2, height * 3 // 2))
    line = " ".join(scene.prompt.split())
    line = line if len(line) <= CAPTION else line[: CAPTION - 1] + "…"
    brush = ImageDraw.Draw(card)
    font = ImageFont.load_default(min(width, height) // 11)
    lines = [""]
    for word in line.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and brush.textlength(longer, font=font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    middle_of = (card.width // 2, card.height // 2)
    brush.multiline_text(middle_of, "\n".join(lines), "white", font, anchor="mm", align="center", stroke_fill="black")
    return card


def _move(backdrop: Image.Image, scene: Scene, width: int, height: int) -> Iterator[Image.Image]:
    """Views of a slow zoom and pan over `backdrop`, not yet scaled to the frame; the id gives the direction."""
    direction = 2 * math.pi * sha256(scene.id.encode()).digest()[31] / 256
    frames = max(1, round(scene.seconds * FRAMES_PER_SECOND))
    scale = min(backdrop.width / width, backdrop.height / height)
    for at in range(frames):
        progress = at / max(1, frames - 1)
        zoom = scale * (0.95 - 0.15 * progress)
        left = (backdrop.width - width * zoom) * (0.5 + 0.4 * math.cos(direction) * (progress - 0.5))
        top = (backdrop.height - height * zoom) * (0.5 + 0.4 * math.sin(direction) * (progress - 0.5))
        yield backdrop.crop((round(left), round(top), round(left + width * zoom), round(top + height * zoom)))


def _encode(views: Iterator[Image.Image], width: int, height: int) -> bytes:
    # The index can only be moved to the front of a file that has a name.
    with tempfile.TemporaryDirectory(prefix="batchgen-simulator-") as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            container.flags |= BITEXACT
            stream = container.add_stream(
                "libx264", rate=FRAMES_PER_SECOND, options={"preset": "ultrafast", "crf": "30", "threads": "1"}
            )
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for view in views:
                frame: av.VideoFrame = av.VideoFrame.from_image(view)  # type: ignore[no-untyped-call]
                container.mux(stream.encode(frame.reformat(width, height, "yuv420p", interpolation="BILINEAR")))
            container.mux(stream.encode())
        return path.read_bytes()

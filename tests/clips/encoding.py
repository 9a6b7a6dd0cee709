"""Encodes frames as a service does: H.264 in MP4, with few key frames or many, well or badly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import av
from av.video.stream import VideoStream
from PIL import Image


@dataclass(frozen=True)
class Encoding:
    """The settings of an encoder. `bit_rate` in bits a second replaces `crf`."""

    crf: int = 23
    preset: str = "veryfast"
    key_frames: int = 250
    """Frames from one key frame to the next, at most: 250 is the one at the beginning of most clips."""
    b_frames: int = 3
    bit_rate: int = 0

    @property
    def options(self) -> dict[str, str]:
        options = {"preset": self.preset, "g": str(self.key_frames), "bf": str(self.b_frames), "threads": "1"}
        return options if self.bit_rate else {**options, "crf": str(self.crf)}


def draw_encoding(random: Random, width: int, height: int) -> Encoding:
    """Settings as services have them."""
    bit_rate = round(width * height * random.uniform(1, 6)) if random.random() < 0.2 else 0
    return Encoding(
        random.choice((17, 20, 23, 26, 30)),
        random.choice(("ultrafast", "veryfast", "medium")),
        random.choice((250, 250, 250, 60, 24, 12)),
        random.choice((0, 2, 3)),
        bit_rate,
    )


def encode(path: Path, frames: Iterable[Image.Image], fps: int, encoding: Encoding) -> None:
    """Write a clip with its index first."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=encoding.options)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = "yuv420p"
        if encoding.bit_rate:
            stream.bit_rate = encoding.bit_rate
        for number, image in enumerate(frames):
            if not number:
                stream.width, stream.height = image.size
            frame: av.VideoFrame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())


def decode(path: Path) -> Iterator[Image.Image]:
    """Every frame of a clip."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_image()  # type: ignore[no-untyped-call]

"""Samples of a video, taken in the child process of `video.py`: small pictures of some frames, and a poster.

Decoding a whole clip takes a second where its pictures are large, so only its beginning is decoded as a rule. Of the
rest, the sizes of the encoded frames are evidence: a stretch of large ones moves, a stretch of small ones is decoded as
well, and so is a video whose sizes go up and down. Nothing of the package is imported here. What the samples say is
judged in the run, by `measures.py`.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Collection
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

PICTURE = (32, 18)  # cells of a picture, across and down: what has a fiftieth of the width still shows
BLACK_LEVELS = 6  # of 255: no cell of a black picture is brighter; of a night scene one is, by its light
STILL_LEVELS = 8  # of 255: a bad encoder changes a cell of a still scene by 7 at most, nearly all motion by 10
DARK_STILL_LEVELS = 4  # the same in the dark, where motion changes cells by 5
DARK_LEVELS = 24  # of 255, the mean of a picture below which it is dark
STEP_SECONDS = 0.25  # from one picture to the next: a clip of 5 s has 20
WHOLE_STEP_SECONDS = 0.12  # the same of a video that is compared with another: nothing may pass between two pictures
PICTURES_MAX = 120  # of one video: a longer one than 30 s gets fewer in a second
PACKETS_MAX = 20_000  # encoded frames that are read: more than ten minutes, of which the rest is not sampled
HEAD_BYTES = 256  # of each encoded frame, which tell it from others of the same size
BUDGET_MS = 18  # of decoding, as `Sampler.cost` estimates it; the rest is judged by the sizes of its frames
LIMIT_MS = 3_000  # the same for a clip whose quiet stretches are decoded
ENTROPY_MS = 65e-6  # per byte of an encoded frame, as measured with H.264
PREDICTION_MS = 0.65e-3  # per macroblock of 16 by 16 pixels
COPYING_MS = 0.08e-3  # per macroblock of a frame with fewer bytes than macroblocks: most are copied from the one before
WINDOW_SECONDS = 0.5  # of encoded frames that are judged by their mean size: it evens out the kinds of frames
MOVING_LEVELS = 4  # of 255, by which pictures of frames differ that were seen to move: in one step, encoders err less
MOVING_SIZE = 0.5  # of the mean size of frames that were seen to move: frames of at least this size move as well
REGULAR_RATIO = 2  # of the sizes of two frames in a row: 1.4 at most where a large video moves, 3 where it stands still
MOVING_BYTES = 3  # per macroblock: no encoder spends so many for long on a picture that stands still
QUIET_SHARE = 0.3  # of a clip's frames that may stand still: with fewer there is nothing to see, and nothing is decoded
IMAGE_HEIGHT = 180  # pixels to which an image is reduced before it becomes a picture
IMAGES_KEPT = 256  # images whose pictures are kept, of 5 kB each
POSTER_SIDE = 256  # pixels of the longer side: a browser keeps a thousand posters decoded, of 4 bytes a pixel
POSTER_QUALITY, POSTER_METHOD = 70, 2  # some 12 kB in 4 ms
POSTER_LEVELS = 40  # of 255 between the darkest and the brightest cell: less is black, or a fade


def difference(one: bytes, other: bytes) -> int:
    """The largest difference of two pictures in any cell and colour, in levels of 255."""
    return max(abs(left - right) for left, right in zip(one, other, strict=True))


def stands_still(one: bytes, other: bytes) -> bool:
    """Whether two pictures show the same: no cell differs by more than an encoder changes it. The first one ends it."""
    is_dark = sum(one) < DARK_LEVELS * len(one)  # as of a night, in which everything differs by less
    levels = DARK_STILL_LEVELS if is_dark else STILL_LEVELS
    return all(abs(left - right) <= levels for left, right in zip(one, other, strict=True))


def is_black(picture: bytes) -> bool:
    """Whether no cell of a picture is brighter than black."""
    return max(picture) <= BLACK_LEVELS


def sample(
    container: InputContainer, stream: VideoStream, image: str | None = None, whole: bool = False
) -> dict[str, Any]:
    """Decode some frames of a video to pictures, and make its poster. Raises `ValueError` where no frame decodes.

    `image` is the path or the data URI of an image to compare it with; with `whole`, all of the video is decoded.
    Returns `pictures`, pairs of the time in seconds and a picture in base64 (RGB, row by row), or None where the video
    moves, as the sizes of its frames say; `seconds`, the time after the last frame; `is_whole`, whether that is all of
    it; `digest`, of its encoded frames; `image`, the image as pictures; and `poster`, a WebP in base64.
    """
    sampler = Sampler(container, stream, whole=whole)
    moving = sampler.run()
    if not sampler.poster_frame:
        raise ValueError("no frame in it")
    pictures = {time: to_text(picture) for time, picture in sampler.pictures.items()}
    return {
        "pictures": sorted((dict.fromkeys(moving) | pictures).items()),
        "seconds": sampler.seconds,
        "digest": sampler.digest(),
        "is_whole": not moving,
        "image": [
            to_text(picture) for picture in image_pictures(image, sampler.decoder.width / sampler.decoder.height)
        ],
        "poster": to_text(poster(sampler.poster_frame)),
    }


def to_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


class Sampler:
    """Decodes parts of a video. Times are in seconds from its first frame."""

    def __init__(self, container: InputContainer, stream: VideoStream, *, whole: bool) -> None:
        from av.video.reformatter import VideoReformatter

        self.decoder = stream.codec_context
        self.decoder.skip_frame = "NONREF"  # of the others, none may be left out: what refers to it would be wrong
        self.budget = LIMIT_MS if whole else BUDGET_MS
        self.macroblocks = self.decoder.width * self.decoder.height / 256
        self.reformatter = VideoReformatter()
        self.packets: list[Packet[VideoStream]] = [
            packet for packet in islice(container.demux(stream), PACKETS_MAX) if packet.size
        ]
        self.time_base = stream.time_base or Fraction(1)
        times = [float((packet.pts or 0) * self.time_base) for packet in self.packets]
        self.begin = min(times, default=0.0)
        self.times = [time - self.begin for time in times]
        """Of the packets, which are in the order of decoding."""
        last = max(self.times, default=0.0)
        self.seconds = last + last / max(1, len(times) - 1)
        self.step = max(WHOLE_STEP_SECONDS if whole else STEP_SECONDS, self.seconds / PICTURES_MAX)
        self.pictures: dict[float, bytes] = {}
        """By their times, in order."""
        self.poster_frame: VideoFrame | None = None
        self.poster_rank = (False, 0.0)

    def run(self) -> list[float]:
        """Decode the beginning, and what is quiet in the rest. Returns the times at which the rest moves."""
        end = self.decode(0, len(self.packets), self.budget)
        windows: dict[int, list[int]] = {}
        for number in range(end, len(self.packets)):
            windows.setdefault(int(self.times[number] / WINDOW_SECONDS), []).append(number)
        seen = self.moving_packets()
        size = math.inf if self.is_irregular(end) else self.moving_size(seen)
        quiet = [numbers for numbers in windows.values() if self.mean_size(numbers) < size]
        if end - len(seen) + sum(map(len, quiet)) < QUIET_SHARE * len(self.packets):
            quiet = []
        seen_again = range(0)
        if quiet:
            first, last = min(map(min, quiet)), max(map(max, quiet))
            key = next((number for number in range(first, end, -1) if self.packets[number].is_keyframe), 0)
            seen_again = range(key, self.decode(key, last + 1, LIMIT_MS))
        # What was decoded is judged by its pictures, whatever the sizes of its frames.
        return [window * WINDOW_SECONDS for window, numbers in windows.items() if numbers[-1] not in seen_again]

    def digest(self) -> str:
        """A hash of the encoded frames, by their sizes and their first bytes: the same video in another file."""
        frames = hashlib.sha256()
        for packet in self.packets:
            frames.update(packet.size.to_bytes(8, "big") + bytes(memoryview(packet)[:HEAD_BYTES]))
        return frames.hexdigest()[:16]

    def decode(self, start: int, stop: int, budget: float) -> int:
        """Decode from the key frame `start` to before `stop`, while `budget` lasts. Returns the first packet left."""
        spent = 0.0
        self.decoder.flush_buffers()
        for number in range(start, stop):
            if spent > budget:
                stop = number
                break
            frames = self.frames(self.packets[number])
            spent += self.cost(self.packets[number].size, len(frames))
            for frame in frames:
                self.keep(frame)
        for frame in self.frames(None):  # the decoder holds some back until it has seen later ones
            self.keep(frame)
        return stop

    def cost(self, size: int, frames: int) -> float:
        """The milliseconds that a packet took to decode, on a core of 2020."""
        prediction = COPYING_MS if size < self.macroblocks else PREDICTION_MS
        return size * ENTROPY_MS + frames * self.macroblocks * prediction

    def frames(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """What the decoder makes of a packet; None ends the video. A damaged packet brings nothing."""
        from av import FFmpegError

        try:
            return self.decoder.decode(packet)
        except FFmpegError:
            return []

    def keep(self, frame: VideoFrame) -> None:
        """Make a picture of a frame, where one is due."""
        time = float((frame.pts or 0) * self.time_base) - self.begin
        last = max(self.pictures, default=-self.step)
        if time < last + self.step - 1e-6:
            return
        self.pictures[time] = picture = self.picture_of(frame)
        # The frame in the middle tells more than the first one, with which every take of an image begins.
        rank = (max(picture) - min(picture) >= POSTER_LEVELS, -abs(time - self.seconds / 2))
        if self.poster_frame is None or rank > self.poster_rank:
            self.poster_frame, self.poster_rank = frame, rank

    def picture_of(self, frame: VideoFrame) -> bytes:
        """A frame in few cells, each the mean of its part: RGB, row by row."""
        width, height = PICTURE
        plane = self.reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA").planes[0]
        rows, length = memoryview(plane), plane.line_size
        return b"".join(bytes(rows[row * length : row * length + 3 * width]) for row in range(height))

    def moving_packets(self) -> list[int]:
        """Which packets lie between two pictures that differ."""
        spans = [
            (time, later)
            for (time, picture), (later, other) in pairwise(self.pictures.items())
            if difference(picture, other) > MOVING_LEVELS
        ]
        return [number for number, at in enumerate(self.times) if any(time <= at < later for time, later in spans)]

    def moving_size(self, seen: Collection[int]) -> float:
        """The mean size of frames from which on they move, given the packets that were seen to move."""
        if is_black(list(self.pictures.values() or [b"\0"])[-1]):  # noise may be large, and black all the same
            return math.inf
        size = MOVING_BYTES * self.macroblocks
        return min(size, MOVING_SIZE * self.mean_size(seen)) if seen else size

    def mean_size(self, numbers: Collection[int]) -> float:
        """Of packets, key frames aside, whose sizes say nothing about motion; 0 where there are no others."""
        sizes = [self.packets[number].size for number in numbers if not self.packets[number].is_keyframe]
        return sum(sizes) / len(sizes) if sizes else 0.0

    def is_irregular(self, start: int) -> bool:
        """Whether the sizes of packets from `start` on go up and down, B frames aside, which are small in any case.

        An encoder with a bit rate to keep spends it on a picture that stands still as well, but only now and then.
        """
        latest = list(accumulate(self.times, max))
        forward = [number for number in range(start, len(latest)) if latest[number] == self.times[number]]
        sizes = [max(1, self.packets[number].size) for number in forward]
        ratios = sorted(max(pair) / min(pair) for pair in pairwise(sizes))
        return bool(ratios) and ratios[len(ratios) // 2] > REGULAR_RATIO


def poster(frame: VideoFrame) -> bytes:
    """A frame as a small WebP."""
    from PIL import WebPImagePlugin  # noqa: F401  Pillow would load all of its forty formats: 30 ms.

    scale = POSTER_SIDE / max(frame.width, frame.height)
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    file = BytesIO()
    small = frame.reformat(width, height, "rgb24", interpolation="AREA")
    image = small.to_image()  # type: ignore[no-untyped-call]
    image.save(file, "WEBP", quality=POSTER_QUALITY, method=POSTER_METHOD)
    return file.getvalue()


def image_pictures(image: str | None, aspect: float) -> list[bytes]:
    """An image as pictures of a video's frame: stretched to it, cut to it, and fitted into it. None of an odd one."""
    if not image:
        return []
    try:
        if image.startswith("data:"):
            return framed(BytesIO(base64.b64decode(image.partition(",")[2])), aspect)
        return framed_file(image, Path(image).stat().st_mtime_ns, aspect)
    except Exception:  # A decoder of damaged bytes may raise anything.
        return []


@lru_cache(IMAGES_KEPT)
def framed_file(path: str, _modified_ns: int, aspect: float) -> list[bytes]:
    """`framed` of a file. Many jobs have the same one."""
    return framed(path, aspect)


def framed(source: str | BytesIO, aspect: float) -> list[bytes]:
    """Three pictures of an image. Raises whatever its decoder raises."""
    from PIL import Image, ImageOps

    frame = max(1, round(IMAGE_HEIGHT * aspect)), IMAGE_HEIGHT
    with Image.open(source) as file:
        file.draft("RGB", frame)
        upright = ImageOps.exif_transpose(file).convert("RGB")
    images = upright.resize(frame), ImageOps.fit(upright, frame), ImageOps.pad(upright, frame)
    return [image.resize(PICTURE, Image.Resampling.BOX).tobytes() for image in images]

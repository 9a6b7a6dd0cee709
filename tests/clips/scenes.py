"""Scenes to film: what a sound clip may show, drawn frame by frame. The same seed gives the same frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageEnhance

Draw = Callable[["Shot", Image.Image, Random], Iterator[Image.Image]]
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
MARGIN = 1.3  # a backdrop is so much larger than the frame, which moves over it


@dataclass(frozen=True)
class Shot:
    """How a clip is filmed. `image` seeds the first frame, `take` seeds what happens after it."""

    kind: str
    image: int
    take: int
    width: int
    height: int
    fps: int
    seconds: float

    @property
    def frames(self) -> int:
        return round(self.fps * self.seconds)


def film(shot: Shot) -> Iterator[Image.Image]:
    """The frames of a clip, in RGB."""
    picture = backdrop(shot)
    yield from SCENES[shot.kind](shot, picture, Random(f"{shot.kind} {shot.image} {shot.take}"))


def still(shot: Shot) -> bytes:
    """The image that a person gave: the first frame, as a JPEG of another size, in a slightly other light."""
    random = Random(f"still {shot.image} {shot.take}")
    fades = replace(shot, kind="pan") if shot.kind == "fade in" else shot
    image = next(film(fades))
    image = ImageEnhance.Brightness(image).enhance(random.uniform(0.9, 1.1))
    scale = random.uniform(0.8, 1.6)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    file = BytesIO()
    image.save(file, "JPEG", quality=random.choice((60, 85, 95)))
    return file.getvalue()


def backdrop(shot: Shot) -> Image.Image:
    """A picture larger than the frame, such as a photo or a drawing that a person gives a service."""
    random = Random(f"image {shot.image}")
    width, height = round(shot.width * MARGIN), round(shot.height * MARGIN)
    if shot.kind == "drawing":
        return drawing(random, width, height)
    picture = photo(random, width, height)
    return night(random, picture) if shot.kind == "night" else picture


def photo(random: Random, width: int, height: int) -> Image.Image:
    """Soft light, clouds, some objects with edges, and the texture of a photo."""
    colours = [tuple(random.randrange(30, 226) for _ in range(3)) for _ in range(4)]
    picture = Image.new("RGB", (2, 2))
    for place, colour in enumerate(colours):
        picture.putpixel((place % 2, place // 2), colour)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    for size, strength in ((6, 60), (24, 30), (96, 16)):
        picture = textured(random, picture, size, strength)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randrange(4, 14)):
        shape(random, draw, width, height)
    return textured(random, picture, 300, 10)


def textured(random: Random, picture: Image.Image, size: int, strength: int) -> Image.Image:
    """Add smooth noise with so many cells across."""
    width, height = picture.size
    cells = (size, max(2, round(size * height / width)))
    grey = Image.frombytes(
        "L", cells, bytes(128 + random.randint(-strength, strength) for _ in range(math.prod(cells)))
    )
    soft = grey.resize((width, height), Image.Resampling.BICUBIC)
    return ImageChops.add(picture, Image.merge("RGB", (soft,) * 3), 1, -128)


def shape(random: Random, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    left, top = random.uniform(-0.1, 1) * width, random.uniform(-0.1, 1) * height
    side = random.uniform(0.05, 0.3) * width
    box = (left, top, left + side, top + side * random.uniform(0.4, 1.6))
    fill = tuple(random.randrange(256) for _ in range(3))
    (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill)


def drawing(random: Random, width: int, height: int) -> Image.Image:
    """Flat colours, as in a cartoon: an encoder needs few bytes for it."""
    picture = Image.new("RGB", (width, height), tuple(random.randrange(80, 256) for _ in range(3)))
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randrange(3, 8)):
        shape(random, draw, width, height)
    return picture


def night(random: Random, picture: Image.Image) -> Image.Image:
    """The same place in the dark, with a few lights: nearly every pixel is close to black."""
    dark = ImageEnhance.Brightness(picture).enhance(random.uniform(0.03, 0.15))
    draw = ImageDraw.Draw(dark)
    width, height = dark.size
    for _ in range(random.randrange(1, 6)):
        left, top = random.uniform(0.3, 0.7) * width, random.uniform(0.3, 0.7) * height
        side = random.uniform(0.006, 0.02) * width
        draw.ellipse((left, top, left + side, top + side), (random.randrange(90, 256),) * 3)
    return dark


def window(picture: Image.Image, shot: Shot, x: float, y: float, zoom: float = 1.0) -> Image.Image:
    """What the camera sees of a picture: its centre moved by `x` and `y` pixels, closer by `zoom`."""
    width, height = shot.width / zoom, shot.height / zoom
    left, top = (picture.width - width) / 2 + x, (picture.height - height) / 2 + y
    corners = (width / shot.width, 0, left, 0, height / shot.height, top)
    return picture.transform((shot.width, shot.height), Image.Transform.AFFINE, corners, Image.Resampling.BILINEAR)


def heading(shot: Shot, random: Random, reach: float) -> tuple[float, float]:
    """A way in pixels, across and down, in a direction of each take's own (steps of the golden angle)."""
    angle = GOLDEN_ANGLE * shot.take + random.uniform(-0.2, 0.2)
    return reach * math.cos(angle), reach * math.sin(angle) * shot.height / shot.width


def noise(random: Random, width: int, height: int, strength: float) -> Image.Image:
    """Grey noise with the mean 128 and a standard deviation of `strength` levels."""
    even = Image.frombytes("L", (width, height), random.randbytes(width * height))
    return even.point([round(128 + (level - 127.5) * strength / 73.9) for level in range(256)])


def pan(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """The camera moves steadily, at times by a fiftieth of the frame in the whole clip."""
    x, y = heading(shot, random, (MARGIN - 1) / 2 * shot.width * random.choice((0.15, 0.3, 0.6, 0.9)))
    for frame in range(shot.frames):
        progress = frame / shot.frames
        yield window(picture, shot, x * progress, y * progress)


def zoom(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """A slow push in, or out, with a little sway."""
    change, sway = (-0.12, 0.08, 0.25)[shot.take % 3], random.uniform(0, 0.02) * shot.width
    for frame in range(shot.frames):
        progress = frame / shot.frames
        yield window(picture, shot, sway * math.sin(4 * progress), 0, 1 + change * progress)


def small_motion(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """The camera stands still; one small thing moves: a bird, a boat, a blinking lamp."""
    still = window(picture, shot, 0, 0)
    size = max(4, round(shot.width * random.uniform(0.02, 0.06)))
    x, y = random.uniform(0.1, 0.6) * shot.width, random.uniform(0.1, 0.8) * shot.height
    speed, swing = random.uniform(0.03, 0.08) * shot.width, random.uniform(0.01, 0.1) * shot.height
    colour = tuple(random.randrange(256) for _ in range(3))
    for frame in range(shot.frames):
        seconds = frame / shot.fps
        picture = still.copy()
        left, top = x + speed * seconds, y + swing * math.sin(2 * seconds)
        if frame:
            ImageDraw.Draw(picture).ellipse((left, top, left + size, top + size * 0.7), colour)
        yield picture


def swaying(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """Everything sways a little, as water, grass and cloth do, each band for itself, while the camera drifts."""
    bands, reach, pace = 16, random.uniform(0.002, 0.01) * shot.width, random.uniform(1, 3)
    x, y = heading(shot, random, 0.03 * shot.width)
    for frame in range(shot.frames):
        progress = frame / shot.frames
        image = window(picture, shot, x * progress, y * progress)
        mesh = []
        for band in range(bands):
            top, bottom = shot.height * band // bands, shot.height * (band + 1) // bands
            shift = reach * (math.sin(pace * frame / shot.fps + band) - math.sin(band))
            corners = (shift, top, shift, bottom, shift + shot.width, bottom, shift + shot.width, top)
            mesh.append(((0, top, shot.width, bottom), corners))
        yield image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def fade_in(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """Out of black, within a second and a half at most."""
    length = random.uniform(0.4, 1.5)
    for frame, image in enumerate(pan(shot, picture, random)):
        yield ImageEnhance.Brightness(image).enhance(min(1.0, frame / shot.fps / length))


def fade_out(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """Into black at the end, where it stays for some frames."""
    length, black = random.uniform(0.4, 1.2), random.uniform(0, 0.4)
    for frame, image in enumerate(zoom(shot, picture, random)):
        left = shot.seconds - black - frame / shot.fps
        yield ImageEnhance.Brightness(image).enhance(min(1.0, max(0.0, left / length)))


def letterbox(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """Black bars above and below, or beside: half of the frame is black."""
    share = random.uniform(0.1, 0.3)
    for image in pan(shot, picture, random):
        draw = ImageDraw.Draw(image)
        if shot.width > shot.height:
            bar = round(shot.height * share)
            boxes = ((0, 0, shot.width, bar), (0, shot.height - bar, shot.width, shot.height))
        else:
            bar = round(shot.width * share)
            boxes = ((0, 0, bar, shot.height), (shot.width - bar, 0, shot.width, shot.height))
        for box in boxes:
            draw.rectangle(box, 0)
        yield image


def grain(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """A static shot of something small that moves, with the grain of film."""
    strength = random.uniform(3, 14)
    grains = [noise(random, shot.width, shot.height, strength) for _ in range(4)]
    for frame, image in enumerate(small_motion(shot, picture, random)):
        grey = grains[frame % 4] if frame % 3 else grains[frame % 4].transpose(Image.Transpose.ROTATE_180)
        yield ImageChops.add(image, Image.merge("RGB", (grey,) * 3), 1, -128)


def television(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """Nothing but noise, as of a television without a signal, with another brightness from frame to frame."""
    for image in pan(shot, picture, random):
        grey = noise(random, shot.width // 4, shot.height // 4, 60).resize(image.size)
        yield Image.blend(image, Image.merge("RGB", (grey,) * 3), 0.6)


def cuts(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """Other places, each for a second or two."""
    until = 0.0
    for frame in range(shot.frames):
        if frame / shot.fps >= until:
            scene = photo(Random(f"{shot.image} {shot.take} {until}"), *picture.size) if until else picture
            until += random.uniform(0.8, 2)
            start = frame
        yield window(scene, shot, (frame - start) * 0.4, 0)


def late(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """The input image stands still for a moment, then it comes to life; at the end it comes to rest."""
    begin, end = random.uniform(0.2, 0.9), shot.seconds - random.uniform(0, 0.6)
    x, y = heading(shot, random, random.uniform(0.01, 0.02) * shot.width)
    for frame in range(shot.frames):
        moved = min(max(frame / shot.fps, begin), end) - begin
        yield window(picture, shot, x * moved, y * moved)


def morph(shot: Shot, picture: Image.Image, random: Random) -> Iterator[Image.Image]:
    """One picture dissolves into another, as when seasons change."""
    other = photo(random, *picture.size)
    for frame in range(shot.frames):
        yield window(Image.blend(picture, other, 0.9 * frame / shot.frames), shot, 0, 0)


SCENES: dict[str, Draw] = {
    "pan": pan,
    "zoom": zoom,
    "night": pan,
    "drawing": small_motion,
    "small motion": small_motion,
    "swaying": swaying,
    "fade in": fade_in,
    "fade out": fade_out,
    "letterbox": letterbox,
    "grain": grain,
    "noise": television,
    "cuts": cuts,
    "late": late,
    "morph": morph,
}

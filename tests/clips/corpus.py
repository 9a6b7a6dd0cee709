"""The corpus: which clips there are, sound ones and defects, and what is expected of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice
from pathlib import Path
from random import Random

from PIL import Image, ImageChops

from tests.clips.encoding import Encoding, decode, draw_encoding, encode
from tests.clips.scenes import SCENES, Shot, film, noise, still

SIZES = ((320, 180), (384, 216), (480, 270), (270, 480), (360, 360), (640, 360), (426, 240))
LARGE_SIZES = ((1280, 720), (720, 1280), (1920, 1080))
LARGE_EACH = 20  # of so many images, one is filmed in a large size
SMALL_SIZE, SMALL_FPS, SMALL_SECONDS = (192, 108), 10, 4  # of all clips of the slice in the test suite
TAKES = 2  # of each image
SEED_STEP = 100_003  # images from one seed to the next; a prime, so that the large sizes meet other scenes in each
UNUSABLE = {"noise", "fade in", "fade out", "cuts"}
"""Scenes that make no good defect: noise survives no second encoder, and a frozen beginning may be black."""
Frames = Iterator[Image.Image]


@dataclass(frozen=True)
class Case:
    """A clip of the corpus, as the job that ordered it."""

    id: str
    kind: str
    """What is planted: the name of a sound scene, or of a defect."""
    problems: frozenset[str]
    """What the view `problems` should say of it."""
    ordered_seconds: float
    image: bytes | None
    """The image of its request."""


@dataclass(frozen=True)
class Recipe:
    """How a clip is made: filmed, spoiled by a defect, encoded."""

    number: int
    shot: Shot
    encoding: Encoding
    defect: str = ""


def recipes(images: int, defects: int, seed: int = 1, *, is_small: bool = False) -> list[Recipe]:
    """Takes of so many images, and so many of each defect. Another seed has other images, motions and encodings."""
    sound: list[Recipe] = []
    first = SEED_STEP * (seed - 1)
    for image in range(first, first + images):
        random = Random(f"recipe {image}")
        sizes = LARGE_SIZES if image % LARGE_EACH == LARGE_EACH - 1 else SIZES
        width, height = SMALL_SIZE if is_small else random.choice(sizes)
        fps, seconds = random.choice((24, 24, 25, 30)), random.choice((5, 5, 5, 5, 6, 10))
        for take in range(TAKES):
            kind = list(SCENES)[image % len(SCENES)]
            shot = Shot(kind, image, TAKES * image + take, width, height, fps, seconds)
            shot = replace(shot, fps=SMALL_FPS, seconds=SMALL_SECONDS) if is_small else shot
            sound.append(Recipe(len(sound), shot, draw_encoding(random, width, height)))
    usable = [recipe for recipe in sound if recipe.shot.kind not in UNUSABLE]
    numbers = count(len(sound))
    spoiled = []
    for place, (name, defect) in enumerate(DEFECTS.items()):
        for round_ in range(defects):
            recipe = usable[(7 * round_ + 3 * place) % len(usable)]
            number = next(numbers)
            # A copy repeats a clip of the corpus; another defect spoils a take of its own.
            shot = recipe.shot if defect.encodes_again else replace(recipe.shot, take=number)
            spoiled.append(replace(recipe, number=number, shot=shot, defect=name))
    return sound + spoiled


def make(folder: Path, recipe: Recipe) -> Case:
    """Render a clip as `<id>.mp4`, unless it is there."""
    shot, random = recipe.shot, Random(f"{recipe.shot.image} {recipe.number} {recipe.defect}")
    defect = DEFECTS.get(recipe.defect)
    name = f"{recipe.number:04}-{(recipe.defect or shot.kind).replace(' ', '-')}"
    has_image = random.random() < 0.9 or (defect is not None and defect.problem == "unlike_input")
    image = still(shot)
    frames = film(shot)
    size, encoding = (shot.width, shot.height), recipe.encoding
    if defect:
        if defect.encodes_again:
            encoding = draw_encoding(random, *size)
            frames = film_again(folder, recipe)
        frames = defect.spoil(frames, shot, random)
        if defect.problem == "unlike_input":
            image = still(replace(shot, image=shot.image + 10_000))
    path, part = folder / f"{name}.mp4", folder / f"{name}.part.mp4"
    if not path.exists():
        encode(part, frames, shot.fps, encoding)
        part.rename(path)
    ordered = shot.seconds + (5 if recipe.defect == "too short" else 0)
    problems = frozenset({defect.problem} if defect else ())
    return Case(name, recipe.defect or shot.kind, problems, ordered, image if has_image else None)


def film_again(folder: Path, recipe: Recipe) -> Frames:
    """The frames of the sound clip that a defect repeats, after its first encoder."""
    path = folder / f"{recipe.number}.original.mp4"
    encode(path, film(recipe.shot), recipe.shot.fps, recipe.encoding)
    try:
        yield from decode(path)
    finally:
        path.unlink()


# --- defects ---


@dataclass(frozen=True)
class Defect:
    """What is planted, and which problem it is."""

    problem: str
    spoil: Callable[[Frames, Shot, Random], Frames]
    encodes_again: bool = False
    """Whether it is made from a clip that was encoded before, as a copy is."""


def black(frames: Frames, shot: Shot, random: Random) -> Frames:
    strength = random.choice((0, 0, 2))
    for frame in frames:
        dark = Image.new("RGB", frame.size)
        yield ImageChops.add(dark, noise(random, *frame.size, strength).convert("RGB"), 1, -128) if strength else dark


def black_end(frames: Frames, shot: Shot, random: Random) -> Frames:
    begin = random.uniform(0.1, 0.3) * shot.frames
    for number, frame in enumerate(frames):
        yield frame if number < begin else Image.new("RGB", frame.size)


def black_begin(frames: Frames, shot: Shot, random: Random) -> Frames:
    end = random.uniform(0.7, 0.9) * shot.frames
    for number, frame in enumerate(frames):
        yield frame if number > end else Image.new("RGB", frame.size)


def frozen(frames: Frames, shot: Shot, _random: Random | None = None, seconds: float = 0.0) -> Frames:
    last = next(frames)
    for number in range(shot.frames):
        if 0 < number <= seconds * shot.fps:
            last = next(frames)
        yield last


def unchanged(frames: Frames, shot: Shot, random: Random) -> Frames:
    return frames


def trimmed(frames: Frames, shot: Shot, random: Random) -> Frames:
    begin, end = random.randrange(1, shot.fps // 2), random.randrange(shot.fps // 2)
    return islice(frames, begin, shot.frames - end)


def scaled(frames: Frames, shot: Shot, random: Random) -> Frames:
    scale = random.choice((0.5, 0.75, 1.5)) if shot.width >= SIZES[0][1] else 0.75
    scale = 0.5 if shot.width * shot.height > 300_000 else scale
    size = round(shot.width * scale / 2) * 2, round(shot.height * scale / 2) * 2
    return (frame.resize(size) for frame in frames)


DEFECTS = {
    "black": Defect("black", black),
    "black to the end": Defect("black", black_end),
    "black at first": Defect("black", black_begin),
    "frozen": Defect("frozen", frozen),
    "frozen after 1 s": Defect("frozen", partial(frozen, seconds=1.0)),
    "another first frame": Defect("unlike_input", unchanged),
    "encoded again": Defect("near_copy", unchanged, encodes_again=True),
    "trimmed": Defect("near_copy", trimmed, encodes_again=True),
    "scaled": Defect("near_copy", scaled, encodes_again=True),
    "too short": Defect("length", unchanged),
}


def render(folder: Path, items: Sequence[Recipe], processes: int) -> list[Case]:
    """Render clips, in so many processes; 0: in this one."""
    if not processes:
        return [make(folder, recipe) for recipe in items]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(partial(make, folder), items, chunksize=4))

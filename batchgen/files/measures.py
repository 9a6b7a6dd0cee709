"""What a delivered clip shows, in numbers, and whether two clips show the same, although another encoder made them, in
another size, or one is a little trimmed. Each measure is defined here, once, over the samples of `sampling.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from operator import itemgetter, mul
from statistics import fmean
from typing import Annotated

from pydantic import AfterValidator, Base64Bytes, Field, Strict, TypeAdapter

from batchgen.files.posters import POSTER_BYTES_MAX
from batchgen.files.sampling import BLACK_LEVELS, PICTURE, PICTURES_MAX, difference, is_black, stands_still

ANSWER_BYTES = 1 << 20  # of one answer of the child process: a poster and 120 pictures have half of it
SECONDS_MAX = 1_000_000.0  # of a video
WINDOWS_MAX = 5_000  # times without a picture: of the longest video that is sampled
STILL_SECONDS = 2.0  # that a picture stands still before it counts as frozen: many clips begin or end at rest
SETTLED_LEVELS = 4.1  # of 255, by which some cell changes from picture to picture on average: by 3.6 in frozen clips
VISIBLE_LEVELS = 24  # of 255, the brightest cell of a picture below which it is too dark to show whether it moves
CONTRAST_LEVELS = 24  # of 255 between the darkest and the brightest cell: less is black, or a fade
DETAIL_CELLS = 2  # to each side, whose mean is taken from a cell: what is left are edges, not the light of the scene
DETAIL_LEVELS = 1.0  # of 255, the mean edge below which two pictures are too plain to be compared
SHIFTS = tuple((right, down) for right in (0, -1, 1) for down in (0, -1, 1))
"""Cells by which two pictures are moved against each other: a service may cut an image a little."""
ALIKE = 0.9  # a correlation at which no better one is looked for
HASH_CELLS = (8, 8)  # of the hash of a picture: one bit each
HASH_LEVELS = 1  # of 255, by which a cell is brighter than another: an encoder changes a plain picture by less
COPY_BITS = 12  # of 64, by which the hashes of two clips differ that are compared: copies differ by 6 at most
COPY_LEVELS = 4.6  # of 255, by which the worst cell of a picture differs on average: 4.2 in copies, 5.2 in other takes
OUTLIER_LEVELS = 20  # of 255, by which another encoder changes no cell
OUTLIERS_MAX = 6  # of the 576 cells of a picture, which may differ where only some pictures are compared: 1 %
TRIMMED_SECONDS = 1.2  # by which the lengths of two copies differ at most
ENDS_SECONDS = 0.6  # of a clip at both ends, which a trimmed copy may lack
COPY_SECONDS = 0.9  # by which a copy may be trimmed at its beginning, and its pictures lie apart


def as_webp(content: bytes) -> bytes:
    if not (content.startswith(b"RIFF") and content[8:12] == b"WEBP" and len(content) <= POSTER_BYTES_MAX):
        raise ValueError("this is no poster")
    return content


def by_time(pictures: Sequence[tuple[float, Picture | None]]) -> Sequence[tuple[float, Picture | None]]:
    return sorted(pictures, key=itemgetter(0))


PICTURE_BYTES = 3 * PICTURE[0] * PICTURE[1]
Picture = Annotated[Base64Bytes, Field(min_length=PICTURE_BYTES, max_length=PICTURE_BYTES)]
"""32 by 18 cells of three bytes each, RGB, row by row."""
Seconds = Annotated[float, Strict(), Field(ge=0, le=SECONDS_MAX)]
TimedPictures = Annotated[
    Sequence[tuple[Seconds, Picture | None]], Field(max_length=PICTURES_MAX + WINDOWS_MAX), AfterValidator(by_time)
]


@dataclass(frozen=True, slots=True)
class Samples:
    """What the child process has taken from a video. `read_samples` judges each value: a file may have made it."""

    seconds: Seconds
    pictures: TimedPictures
    """By their times; None where the video moves, as the sizes of its frames say."""
    digest: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    """Of its encoded frames."""
    poster: Annotated[Base64Bytes, AfterValidator(as_webp)]
    """A WebP."""
    image: Annotated[Sequence[Picture], Field(max_length=3)] = ()
    """The image of the job's request: stretched to the video's frame, cut to it, and fitted into it."""
    is_whole: Annotated[bool, Strict()] = True
    """Whether the whole video was decoded."""

    def spans(self) -> Iterator[tuple[float, Picture | None]]:
        """For how many seconds each picture stands."""
        ends = [time for time, _ in self.pictures[1:]] + [self.seconds]
        for (time, picture), end in zip(self.pictures, ends, strict=True):
            yield max(0.0, end - time), picture

    def first(self) -> Picture | None:
        """The first picture that shows something: a clip may fade in."""
        pictures = [picture for _, picture in self.pictures if picture]
        return next((picture for picture in pictures if max(picture) - min(picture) >= CONTRAST_LEVELS), None)


def read_samples(answer: object) -> Samples:
    """The answer of `sampling.sample`, judged. Raises `ValueError`."""
    return sample_type().validate_python(answer)


@cache
def sample_type() -> TypeAdapter[Samples]:
    """Made at the first clip: it takes 15 ms, and most commands measure none."""
    return TypeAdapter(Samples)


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures of a clip, which its row keeps."""

    black: float
    frozen: float
    unlike_input: float | None
    """None where the request has no image of the first frame that can be read here."""
    seconds_off: float | None
    """By how much it is longer than ordered, or shorter (negative)."""
    signature: str
    """The hash of its first picture, which is empty where that shows nothing, a dot, and the digest of its encoded
    frames: 16 hex digits each."""


def measure(samples: Samples, ordered_seconds: float | None) -> Measures:
    """All measures of a clip, of which so many seconds were ordered, where that is known."""
    first = samples.first()
    unlike = unlikeness(first, samples.image) if first and samples.image else None
    off = round(samples.seconds - ordered_seconds, 3) if ordered_seconds else None
    signature = f"{picture_hash(first) if first else ''}.{samples.digest}"
    return Measures(black_share(samples), frozen_share(samples), unlike, off, signature)


def black_share(samples: Samples) -> float:
    """The share of its time for which a clip is black: no cell of its picture is brighter than black."""
    black = sum(seconds for seconds, picture in samples.spans() if picture and is_black(picture))
    return share(black, samples)


def frozen_share(samples: Samples) -> float:
    """The share of its time for which a clip stands still, for two seconds at least. The dark does not count.

    Only the longest such time counts: a slow motion seems to stand still again and again. So does a motion of faint
    colours, but its pictures go on changing, where those of an encoder settle.
    """
    frozen = still = 0.0
    anchor: Picture | None = None
    steps: list[int] = []
    for (seconds, picture), before in zip(samples.spans(), [None, *samples.pictures], strict=False):
        if anchor and picture and before and before[1] and stands_still(anchor, picture):
            still += seconds
            steps.append(difference(before[1], picture))
        else:
            anchor, still = (picture, seconds) if picture and max(picture) >= VISIBLE_LEVELS else (None, 0.0)
            steps = []
        if not steps or fmean(steps) <= SETTLED_LEVELS:
            frozen = max(frozen, still)
    return share(frozen, samples) if frozen >= STILL_SECONDS else 0.0


def share(seconds: float, samples: Samples) -> float:
    return round(min(1.0, seconds / samples.seconds), 3) if samples.seconds else 0.0


def unlikeness(picture: Picture, images: Sequence[Picture]) -> float:
    """How little a picture has in common with the most similar image: 1 minus the correlation of their edges.

    0 is the same, 1 is unrelated. What a service may change does not count: light, colour, and a shift by one cell. Nor
    do black bars that both have.
    """
    best = 0.0
    for image in dict.fromkeys(images):
        inside = within_bars(picture, image)
        one, two = edges(picture, *inside), edges(image, *inside)
        if min(energy(one), energy(two)) < DETAIL_LEVELS**2 * len(one):
            return 0.0
        for shift in SHIFTS:
            best = max(best, correlation(one, shifted(two, *shift)))
            if best >= ALIKE:
                return round(1 - best, 3)
    return round(1 - best, 3)


def within_bars(one: Picture, other: Picture) -> tuple[range, range]:
    """The rows and the columns between the black bars that two pictures have in common."""
    width, height = PICTURE
    brightest = [max(levels) for levels in zip(one, other, strict=True)]
    rows = [max(brightest[3 * width * row : 3 * width * (row + 1)]) for row in range(height)]
    columns = [max(max(brightest[3 * column + colour :: 3 * width]) for colour in range(3)) for column in range(width)]
    return bright_range(rows), bright_range(columns)


def bright_range(levels: Sequence[int]) -> range:
    """Those from the first one to the last one that is not black. The one beside a bar may be partly black."""
    bright = [number for number, level in enumerate(levels) if level > BLACK_LEVELS]
    if not bright:
        return range(0)
    return range(bright[0] + (bright[0] > 0), bright[-1] + (bright[-1] == len(levels) - 1))


def energy(values: Sequence[float]) -> float:
    return math.fsum(map(mul, values, values))


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(map(mul, one, other)) / (math.sqrt(energy(one) * energy(other)) or 1.0)


def shifted(values: Sequence[float], right: int, down: int) -> list[float]:
    """The cells of a picture moved, with zeros where nothing comes from."""
    width, height = PICTURE
    moved = [0.0] * len(values)
    for row in range(max(0, down), height + min(0, down)):
        first, end = row * width + max(0, right), (row + 1) * width + min(0, right)
        by = down * width + right
        moved[first:end] = values[first - by : end - by]
    return moved


def luma(picture: Picture) -> list[float]:
    """The brightness of each cell (ITU-R BT.601)."""
    red, green, blue = picture[0::3], picture[1::3], picture[2::3]
    return [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in zip(red, green, blue, strict=True)]


def edges(picture: Picture, inner_rows: range, inner_columns: range) -> list[float]:
    """The brightness of each cell without the mean of those around it; 0 outside of the given rows and columns."""
    width = PICTURE[0]
    cells = luma(picture)
    values = [0.0] * len(cells)
    for row in inner_rows:
        rows = nearby(row, inner_rows)
        sums = [sum(cells[line * width + column] for line in rows) for column in range(width)]
        for column in inner_columns:
            around = nearby(column, inner_columns)
            mean = sum(sums[around.start : around.stop]) / (len(around) * len(rows))
            values[row * width + column] = cells[row * width + column] - mean
    return values


def nearby(place: int, places: range) -> range:
    return range(max(places.start, place - DETAIL_CELLS), min(places.stop, place + DETAIL_CELLS + 1))


def picture_hash(picture: Picture) -> str:
    """A difference hash (dHash) of a picture: whether the right neighbour of each cell is brighter. 16 hex digits."""
    width, height = PICTURE
    columns, rows = HASH_CELLS[0] + 1, HASH_CELLS[1]
    cells = luma(picture)
    means = [
        [
            fmean(
                cells[line * width + cell]
                for line in range(row * height // rows, (row + 1) * height // rows)
                for cell in range(column * width // columns, (column + 1) * width // columns)
            )
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    bits = "".join("01"[right > left + HASH_LEVELS] for line in means for left, right in pairwise(line))
    return f"{int(bits, 2):016x}"


def may_be_copies(one: Samples, other: Samples) -> bool:
    """Whether two clips may show the same, by a few pictures of each, between which something may have passed."""
    if abs(one.seconds - other.seconds) > TRIMMED_SECONDS:
        return False
    return all(sum(excess > OUTLIER_LEVELS for excess in cells) <= OUTLIERS_MAX for cells in excesses(one, other))


def are_copies(one: Samples, other: Samples) -> bool:
    """Whether two clips show the same at about the same times. One too large to be decoded whole is no copy.

    The mean of the worst cells of all pictures decides: an encoder may change a cell of one picture as much as another
    take does, but not of most.
    """
    if not (one.is_whole and other.is_whole):
        return False
    pictures = list(excesses(one, other))
    worst = accumulate(max(cells) for cells in pictures)
    return bool(pictures) and all(total <= COPY_LEVELS * len(pictures) for total in worst)


def excesses(one: Samples, other: Samples) -> Iterator[list[float]]:
    """For each picture of either clip, by how much its cells lie outside of the range of the other's pictures.

    The range is of those around the same time. Only brightness counts: another size moves the colours by a part of a
    cell. The last pictures come first, because takes of an image begin alike.
    """
    for clip, reference in ((one, other), (other, one)):
        references = [(at, luma(picture) if picture else None) for at, picture in reference.pictures]
        for time, picture in reversed(clip.pictures):
            if picture and ENDS_SECONDS <= time <= clip.seconds - ENDS_SECONDS:
                around = [cells for at, cells in references if abs(at - time) <= COPY_SECONDS]
                if around and None not in around:
                    yield outside(luma(picture), [cells for cells in around if cells])


def outside(cells: Sequence[float], others: Sequence[Sequence[float]]) -> list[float]:
    """By how much each cell of a picture lies outside of the range of the same cell in other pictures."""
    columns = list(zip(*others, strict=True))
    ranges = zip(cells, map(min, columns), map(max, columns), strict=True)
    return [max(0.0, least - level, level - most) for level, least, most in ranges]

"""Whether two clips show the same, although another encoder made them, in another size, or one is a little trimmed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from batchgen.files.measures import Samples, luma

COPY_BITS = 12  # of 64, by which the hashes of two clips differ that are compared: copies differ by 6 at most
COPY_LEVELS = 4.6  # of 255, by which the worst cell of a picture differs on average: 4.2 in copies, 5.2 in other takes
OUTLIER_LEVELS = 20  # of 255, by which another encoder changes no cell
OUTLIERS_MAX = 6  # of the 576 cells of a picture, which may differ where only some pictures are compared: 1 %
TRIMMED_SECONDS = 1.2  # by which the lengths of two copies differ at most
ENDS_SECONDS = 0.6  # of a clip at both ends, which a trimmed copy may lack
COPY_SECONDS = 0.9  # by which a copy may be trimmed at its beginning, and its pictures lie apart


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

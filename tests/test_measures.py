"""The definitions of the measures, over pictures that are made by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from batchgen.files.measures import Samples, are_copies, may_be_copies, measure, read_samples
from batchgen.files.sampling import BLACK_LEVELS, DARK_STILL_LEVELS, PICTURE, STILL_LEVELS

CELLS = PICTURE[0] * PICTURE[1]
BLACK = bytes(3 * CELLS)
SCENES = [Random(f"scene {number}").randbytes(3 * CELLS) for number in range(4)]
NIGHT = BLACK[:300] + b"\x80" * 30 + BLACK[330:]
BARS = bytes(4 * 3 * PICTURE[0])  # the upper four rows, or the lower ones
WEBP = base64.b64encode(b"RIFF\x08\0\0\0WEBPVP8 ").decode()


def samples(pictures: Sequence[bytes | None], *, seconds: float = 5.0, image: Sequence[bytes] = ()) -> Samples:
    step = seconds / len(pictures)
    timed = [(number * step, picture) for number, picture in enumerate(pictures)]
    return Samples(seconds, timed, "0" * 16, b"", image)


def changed(picture: bytes, levels: int, cell: int = 100) -> bytes:
    """A picture with one other value."""
    value = picture[cell]
    return picture[:cell] + bytes([value + levels if value < 128 else value - levels]) + picture[cell + 1 :]


@pytest.mark.parametrize(
    ("pictures", "black", "frozen"),
    [
        ([BLACK] * 20, 1.0, 0.0),
        ([bytes([BLACK_LEVELS]) * 3 * CELLS] * 20, 1.0, 0.0),
        ([changed(BLACK, BLACK_LEVELS + 1)] * 20, 0.0, 0.0),
        ([NIGHT] * 20, 0.0, 1.0),
        ([NIGHT, changed(NIGHT, DARK_STILL_LEVELS)] * 10, 0.0, 1.0),
        ([NIGHT, changed(NIGHT, DARK_STILL_LEVELS + 1)] * 10, 0.0, 0.0),
        ([changed(SCENES[0], step) for step in range(20)], 0.0, 0.45),
        ([SCENES[0]] * 20, 0.0, 1.0),
        ([SCENES[0]] * 5 + [SCENES[1]] * 15, 0.0, 0.75),
        ([SCENES[0]] * 7 + [SCENES[1]] * 7 + [SCENES[2]] * 6, 0.0, 0.0),
        ([SCENES[0], *[changed(SCENES[0], STILL_LEVELS)] * 19], 0.0, 1.0),
        ([SCENES[0], changed(SCENES[0], STILL_LEVELS)] * 10, 0.0, 0.0),
        ([SCENES[0], changed(SCENES[0], STILL_LEVELS + 1)] * 10, 0.0, 0.0),
        ([SCENES[0]] * 2 + [None] * 18, 0.0, 0.0),
        ([SCENES[0]] * 10 + [None] * 10, 0.0, 0.5),
        ([SCENES[0]] * 5 + [BLACK] * 15, 0.75, 0.0),
        ([None] * 20, 0.0, 0.0),
    ],
    ids=[
        *("black", "nearly black", "too dark", "night", "an encoder's changes at night", "a small change at night"),
        *("slow", "frozen", "frozen after a while", "cuts", "an encoder's changes", "a faint motion"),
        *(
            "a small change",
            "moving by its sizes",
            "frozen, then moving by its sizes",
            "black after a while",
            "unknown",
        ),
    ],
)
def test_black_and_frozen_are_shares_of_the_time(pictures: list[bytes | None], black: float, frozen: float) -> None:
    measures = measure(samples(pictures), None)
    assert (measures.black, measures.frozen) == (black, frozen)


def test_a_first_frame_is_compared_by_its_edges_and_not_by_its_light() -> None:
    darker = bytes(value // 2 for value in SCENES[0])
    assert measure(samples([SCENES[0]], image=[SCENES[1], darker]), None).unlike_input == pytest.approx(0, abs=0.01)
    unlike = measure(samples([SCENES[0]], image=[SCENES[1]]), None).unlike_input
    assert unlike
    assert unlike > 0.8
    assert measure(samples([SCENES[0]]), None).unlike_input is None, "there is no image"
    assert measure(samples([BLACK], image=[SCENES[0]]), None).unlike_input is None, "nothing can be seen"


def test_black_bars_that_a_first_frame_has_in_common_with_its_image_are_not_compared() -> None:
    one, other = (BARS + scene[len(BARS) : -len(BARS)] + BARS for scene in SCENES[:2])
    assert measure(samples([one], image=[one]), None).unlike_input == pytest.approx(0, abs=0.01)
    unlike = measure(samples([one], image=[other]), None).unlike_input
    assert unlike
    assert unlike > 0.8


def test_the_length_is_compared_with_the_one_that_was_ordered() -> None:
    assert measure(samples([SCENES[0]], seconds=4.5), 5.0).seconds_off == -0.5
    assert measure(samples([SCENES[0]]), None).seconds_off is None


def test_a_copy_is_one_that_shows_the_same_at_about_the_same_times() -> None:
    clip = samples([SCENES[0]] * 7 + [SCENES[1]] * 7 + [SCENES[2]] * 6)
    later = samples([SCENES[0]] * 8 + [SCENES[1]] * 7 + [SCENES[2]] * 5)
    take = samples([SCENES[0]] * 7 + [SCENES[3]] * 7 + [SCENES[2]] * 6)
    detail = samples([changed(picture, 60) for _, picture in clip.pictures if picture])
    once = samples([SCENES[0]] * 10 + [changed(SCENES[1], 60)] + [SCENES[1]] * 3 + [SCENES[2]] * 6)
    longer = samples([SCENES[0]] * 7 + [SCENES[1]] * 7 + [SCENES[2]] * 6, seconds=7)
    assert are_copies(clip, later)
    assert not are_copies(clip, replace(later, is_whole=False))
    assert are_copies(clip, once), "an encoder may change one picture much"
    assert may_be_copies(clip, detail)
    assert not are_copies(clip, detail)
    assert not may_be_copies(clip, take)
    assert not may_be_copies(clip, longer)


def answer(**changes: Any) -> Any:
    picture = base64.b64encode(SCENES[0]).decode()
    good = {"seconds": 5.0, "pictures": [[0.5, None], [0, picture]], "poster": WEBP, "image": [], "is_whole": True}
    return json.loads(json.dumps({**good, "digest": "ab" * 8, **changes}))


def test_what_the_decoder_says_of_a_video_is_read() -> None:
    read = read_samples(answer())
    assert [(time, picture) for time, picture in read.pictures] == [(0.0, SCENES[0]), (0.5, None)]


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": float("nan")},
        {"seconds": -1},
        {"seconds": "5"},
        {"pictures": [[0, "AAAA"]]},
        {"pictures": [[float("inf"), None]]},
        {"pictures": [[0, None, None]]},
        {"pictures": [[0, None]] * 10_000},
        {"pictures": None},
        {"poster": "<html>"},
        {"poster": base64.b64encode(b"<html>").decode()},
        {"image": [7]},
        {"digest": "../../etc/passwd"},
        {"is_whole": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_a_video_makes_the_decoder_say_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_samples(answer(**changes))

"""The measured clips of a batch in memory: the same file or frames first, then the most similar first pictures."""

from __future__ import annotations

from batchgen.files.delivered import DeliveredFile
from batchgen.jobtable.measuring import DeliveredClip
from batchgen.measurer import LOOK_ALIKES_MAX, MeasuredClips

DUSK, NEARLY_DUSK, NOON = "00000000000000ff", "00000000000000fc", "ffffffffffffff00"


def clip(number: int, picture: str, frames: str = "", content: str = "", job: int | None = None) -> DeliveredClip:
    file = DeliveredFile(f"clip-{number}", 1, f"{number}.mp4", 1000, content or f"{number:064x}")
    return DeliveredClip(number, number if job is None else job, f"{picture}.{frames or f'{number:016x}'}", file)


def test_the_same_file_or_frames_are_those_of_the_first_clip_of_another_job() -> None:
    clips = MeasuredClips([clip(1, DUSK, "f" * 16, job=9), clip(2, DUSK, "f" * 16), clip(3, NOON, content="c" * 64)])
    for sha256, digest, job, expected in (
        ("0" * 64, "f" * 16, 5, 1),
        ("0" * 64, "f" * 16, 9, 2),
        ("c" * 64, "0" * 16, 5, 3),
        ("c" * 64, "0" * 16, 3, None),
        ("0" * 64, "0" * 16, 5, None),
    ):
        same = clips.same(sha256, digest, job)
        assert (same and same.id) == expected


def test_look_alikes_are_the_most_similar_first_and_few() -> None:
    clips = MeasuredClips([clip(1, NEARLY_DUSK), clip(2, DUSK), clip(3, NOON), clip(4, ""), clip(5, DUSK)])
    assert [other.id for other in clips.look_alikes(DUSK, 5)] == [2, 1]
    assert clips.look_alikes("", 5) == []
    for number in range(10, 10 + 2 * LOOK_ALIKES_MAX):
        clips.add(clip(number, NOON))
    assert len(clips.look_alikes(NOON, 0)) == LOOK_ALIKES_MAX

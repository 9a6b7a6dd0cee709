"""How long the measures of one clip take, in CPU time: 5 s at 24 frames a second, with one key frame."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchgen.files import measures, video
from tests.clips.corpus import frozen
from tests.clips.encoding import Encoding, encode
from tests.clips.scenes import Shot, film, still

ROUNDS = 3
SIZES = ((1280, 720), (1920, 1080))
SCENES = {
    "a slow zoom, CRF 18": ("zoom", 18, None),
    "the same, frozen": ("zoom", 18, 0.0),
    "the same, frozen after 1 s": ("zoom", 18, 1.0),
    "film grain, CRF 23": ("grain", 23, None),
    "cuts, CRF 20": ("cuts", 20, None),
}


@dataclass(frozen=True)
class Timing:
    """What one clip took, in milliseconds, the best of some rounds."""

    scene: str
    height: int
    megabytes: float
    check: float
    measure: float
    whole: float
    """To decode all of it for a comparison."""


def timings(folder: Path) -> list[Timing]:
    return [time_clip(folder, scene, *size) for size in SIZES for scene in SCENES]


def time_clip(folder: Path, scene: str, width: int, height: int) -> Timing:
    kind, crf, frozen_after = SCENES[scene]
    shot, path, image = Shot(kind, 5, 5, width, height, 24, 5), folder / "clip.mp4", folder / "image.jpg"
    frames = film(shot)
    if frozen_after is not None:
        frames = frozen(frames, shot, seconds=frozen_after)
    encode(path, frames, shot.fps, Encoding(crf, "medium"))
    image.write_bytes(still(shot))

    def measure(*, whole: bool) -> None:
        answer = json.loads(json.dumps(video.sample(path, str(image), whole)))
        measures.measure(measures.read_samples(answer), 5.0)

    times = [cpu(lambda: video.check(path)), cpu(lambda: measure(whole=False)), cpu(lambda: measure(whole=True))]
    return Timing(scene, height, path.stat().st_size / 1e6, *times)


def cpu(function: Callable[[], object]) -> float:
    """Milliseconds of this process."""
    rounds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        function()
        rounds.append(1e3 * (time.process_time() - begin))
    return min(rounds)

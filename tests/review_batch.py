"""Batches to review, brought into every state by the functions of the job table, with clips that play."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from batchgen.files.posters import Posters
from batchgen.jobs import Job, JobSpec, State
from batchgen.jobtable import delivery, polling, submission
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.database import Database
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.submission import Sender
from batchgen.services.outcomes import Accepted, Failed, Finished
from batchgen.simulator.rendering import Scene, render
from tests.table import ACCOUNT, ENDPOINT, HOUR, LEASE, MODEL, RUN, SECOND, Table

MASTER = "klingai/v2.1-master-image-to-video"
STYLES = ("at dusk", "in the rain", "as an old film", "from above", "in slow motion")
SUBJECTS = ("A lighthouse", "Paper boats", "A night market", "Hot-air balloons", "A fox in the snow", "A tram", "Dunes")
IMAGES = ("images/hills-at-dusk.jpg", "images/lighthouse.jpg", "images/balloons.jpg", "images/paper-boats.png")


def clip_bytes(text: str, seconds: float = 1.0, aspect: float = 16 / 9) -> bytes:
    """A video that plays, and shows this text."""
    return render(Scene(text, text, seconds, aspect))


def poster_bytes(colour: str, text: str = "", *, noise: float = 0.05) -> bytes:
    """A WebP of the size of a poster; with noise of 0.15 it has the bytes of a real one."""
    from io import BytesIO

    from PIL import Image, ImageDraw

    image = Image.effect_noise((256, 144), 60).convert("RGB")
    image = Image.blend(image, Image.new("RGB", (256, 144), colour), 1 - noise)
    ImageDraw.Draw(image).text((12, 12), text, fill="white")
    stream = BytesIO()
    image.save(stream, "WEBP", quality=70)
    return stream.getvalue()


def job(key: str, *, prompt: str = "", model: str = MODEL, image: str = "", **fields: Any) -> JobSpec:
    """A job of a manifest; what is no field of a `JobSpec` is a parameter."""
    params = {name: fields.pop(name) for name in list(fields) if name not in JobSpec.__dataclass_fields__}
    pointers: tuple[str, ...] = ()
    if image:
        params["image_url"] = image
        pointers = () if image.startswith("http") else ("/image_url",)
    request = json.dumps({"model": model, "prompt": prompt, **params})
    spec = JobSpec(key, model, ENDPOINT, request, f"clips/{key}.mp4", pointers, clip_seconds=5.0)
    return replace(spec, **fields)


class ReviewBatch(Table):
    """A batch in the table beside `m.yaml`, whose clips lie in the folder."""

    @property
    def batch(self) -> Batch:
        return Batch("night", "aimlapi", self.manifest, "00")

    @property
    def manifest(self) -> Path:
        return self.folder / "m.yaml"

    def at_once(self, function: Callable[..., Any], jobs: Sequence[Job], *arguments: Callable[[Job], Any]) -> None:
        """Call a function of the job table for many jobs in one transaction."""

        def call(connection: Connection) -> None:
            for job_ in jobs:
                assert function(connection, job_, *(argument(job_) for argument in arguments))

        self.change(call)

    def send(self, specs: Sequence[JobSpec], cost: str = "0.2941") -> list[Job]:
        """Add jobs, and let the service accept them."""
        self.manifest.touch()
        self.sync(*specs) if not self.rows() else self.add(*specs)
        ready = self.change(submission.ready, self.batch_id, len(specs))
        sender = Sender(RUN, "aimlapi", ACCOUNT, self.origin)
        intents = self.change(submission.intend, self.batch_id, sender, self.now, self.now + LEASE, ready)
        self.at_once(
            submission.accepted,
            intents,
            lambda job_: Accepted(f"g-{job_.key}", Decimal(cost), 200, {"id": job_.key}),
            lambda _: self.now,
            lambda _: self.now + HOUR,
            lambda _: self.now,
        )
        return self.claim(State.GENERATING, capacity=len(specs))

    def deliver_all(self, jobs: Sequence[Job], content: Callable[[Job], tuple[bytes, str]], took: timedelta) -> None:
        """Finish and deliver jobs. `content` gives the bytes of a job's clip, and its digest."""
        self.now += took
        urls = Finished(("https://cdn.test/v.mp4",))
        self.at_once(polling.finished, jobs, lambda _: RUN, lambda _: urls, lambda _: self.now)
        self.now += SECOND
        downloads = self.claim(State.DOWNLOADING, capacity=len(jobs))
        for download in downloads:
            path = self.folder / download.output_path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(download)[0])
        self.at_once(
            delivery.placed,
            downloads,
            lambda _: RUN,
            lambda job_: job_.outputs[0],
            lambda job_: PlacedFile(len(content(job_)[0]), content(job_)[1], job_.output_path),
            lambda _: self.now,
        )

    def fail_all(self, jobs: Sequence[Job], words: str) -> None:
        self.at_once(polling.failed, jobs, lambda _: RUN, lambda _: Failed(words), lambda _: self.now)

    def keep_poster(self, digest: str, poster: bytes) -> None:
        Posters(self.folder).store(digest, poster)


def matrix_jobs(number: int) -> list[JobSpec]:
    """All takes of prompts with images, with two models and some tags."""
    specs = []
    for index in range(number):
        take, rest = index % 3 + 1, index // 3
        image, rest = IMAGES[rest % len(IMAGES)], rest // len(IMAGES)
        subject, style = SUBJECTS[rest % len(SUBJECTS)], STYLES[rest // len(SUBJECTS) % len(STYLES)]
        prompt = f"{subject} {style}, shot {rest}: mist, slow push-in."
        specs.append(
            job(
                f"study-{index:05}",
                prompt=prompt,
                image=image,
                take=take,
                seed=index,
                duration=5,
                model=MASTER if rest % 3 == 0 else MODEL,
                tags=("hero",) if rest % 4 == 0 else ("b-roll", "night") if rest % 5 == 0 else (),
            )
        )
    return specs


def make_large_batch(folder: Path, number: int, *, chunk: int = 1_000) -> ReviewBatch:
    """A batch of many jobs, most of them delivered, with a poster each; the clips are few, under many names."""
    database = Database(folder / "batchgen.db").__enter__()
    batch = ReviewBatch(database, folder)
    clip = clip_bytes("one of many", 2.0)
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    posters = [
        poster_bytes(colour, colour, noise=0.15) for colour in ("teal", "maroon", "indigo", "olive", "slategray")
    ]
    specs = matrix_jobs(number)
    for start in range(0, number, chunk):
        sent = batch.send(specs[start : start + chunk])
        batch.fail_all(sent[:20], "moderation: the prompt was refused by the content filter")
        batch.deliver_all(sent[20:-10], lambda job_: (clip, digest_of(job_)), timedelta(seconds=90 + start % 700))
        for place, job_ in enumerate(sent[20:-10]):
            batch.keep_poster(digest_of(job_), posters[place % len(posters)])
    return batch


def digest_of(job_: Job) -> str:
    """A digest for a clip whose bytes many jobs share: posters are kept by it."""
    return sha256(job_.key.encode()).hexdigest()

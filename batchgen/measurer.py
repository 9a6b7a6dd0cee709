"""The measurer: delivered clips → what they show, and their posters.

It works beside the other stages and holds up none: no job waits for it, and what a run leaves, the next one measures.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import compress

from batchgen import clock
from batchgen.context import RunContext
from batchgen.errors import os_reason
from batchgen.files import measures
from batchgen.files.checker import Checker
from batchgen.files.delivered import local_copy, loss_of
from batchgen.files.local_files import first_frame_of
from batchgen.files.measures import COPY_BITS, Measures, Samples
from batchgen.files.posters import Posters
from batchgen.files.safe_open import UnsafePath
from batchgen.files.video import NotVideo, Undecodable
from batchgen.jobtable import measuring
from batchgen.jobtable.measuring import DeliveredClip, UnmeasuredClip
from batchgen.stage import Stage

LAST_SECONDS = 30.0
"""How long a run that has nothing else to do measures what is left: some 500 clips. The next run measures the rest."""
SAMPLES_KEPT = 200
"""Clips whose samples are kept for comparing them, of some 40 kB each."""
LOOK_ALIKES_MAX = 20
"""Clips with the same first picture that one clip is compared with: the takes of one image."""
LOST_MAX = 50
"""Files that are not there as they were delivered, after which a run measures no more: it would look for all of them
again with each delivery."""


class NotThere(Undecodable):
    """A file is not there as it was delivered: nothing is known of what it shows."""


class Measurer(Stage):
    """Measures delivered clips one after another, and keeps their posters.

    The child process of `checker` decodes them. It is not that of the downloads: no delivery waits for it.
    """

    def __init__(self, context: RunContext, checker: Checker) -> None:
        super().__init__(context, 1)
        self.checker = checker
        self.posters: Posters | None = Posters(context.spec.folder)
        """None once one could not be stored: a full disk is reported once."""
        self.measured: MeasuredClips | None = None
        """The clips of the batch. None until one is measured."""
        self.samples: OrderedDict[tuple[int, bool], Samples] = OrderedDict()
        """Of the clips that were compared last, by row and by whether they were decoded as a whole."""
        self.lost: set[int] = set()
        """The rows of files that are not there as they were delivered. Another run, or another file, measures them."""
        self.remaining_since: datetime | None = None
        """Since when the run does nothing but wait for the measures of the last clips."""

    async def tick(self, _now: datetime) -> datetime | None:
        # While some are measured, each delivery wakes this stage: what waits is read afterwards, once.
        clips = await self.unmeasured() if self.capacity > 0 else ()
        if clips and self.capacity > 0:  # meanwhile the end of the run may have begun them
            self.begin(self.measure_clips(clips))
        return None

    async def close(self) -> None:
        await self.checker.close()

    async def measure_remaining(self) -> None:
        """Measure what is left, for at most `LAST_SECONDS`."""
        self.remaining_since = clock.utcnow()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while not self.stopping and not self.failure and (clips := await self.unmeasured()):
                    if self.capacity > 0:
                        self.begin(self.measure_clips(clips))
                    await asyncio.wait(self.tasks)
        self.remaining_since = None

    async def unmeasured(self) -> list[UnmeasuredClip]:
        capacity = measuring.CLIPS_AT_ONCE + len(self.lost)
        clips = await self.context.database.read(measuring.unmeasured, self.context.batch_id, capacity)
        return [clip for clip in clips if clip.id not in self.lost]

    async def measure_clips(self, clips: Sequence[UnmeasuredClip]) -> None:
        for clip in clips:
            if self.stopping:
                return
            await self.measure(clip)

    async def measure(self, clip: UnmeasuredClip) -> None:
        """Measure one clip. One that the decoder refuses has no measures; of one that is gone, nothing is recorded."""
        measured, copy_of = None, None
        try:
            image = await asyncio.to_thread(first_frame_of, self.context.spec.folder, clip.request, clip.input_digests)
            samples = await self.sample(clip, image)
            self.keep(samples, clip)
            measured = await asyncio.to_thread(measures.measure, samples, clip.clip_seconds)
            copy_of = await self.find_copy(clip, samples, measured)
        except (NotVideo, Undecodable) as error:
            self.log.debug("measure.failed", extra={"job": clip.file.key, "reason": str(error)})
            if isinstance(error, NotThere):
                self.lost.add(clip.id)
                self.stopping = self.stopping or len(self.lost) >= LOST_MAX
                return
        except OSError as error:  # The child cannot be started, or the disk cannot be read: no fault of the clip.
            self.stopping = True
            self.context.warn(f"clips are not measured in this run: {os_reason(error)}")
            return
        else:
            await self.store_poster(clip, samples.poster)
        await self.context.database.write(measuring.record, clip, measured, copy_of, clock.utcnow())

    async def sample(self, clip: DeliveredClip, image: str | None = None, *, whole: bool = False) -> Samples:
        """The samples of a clip. Raises `Undecodable`, `NotThere` and `OSError`."""
        folder = self.context.spec.folder
        if lost := await asyncio.to_thread(loss_of, folder, clip.file, verify=False):
            raise NotThere(lost.fault)
        async with local_copy(folder, clip.file.path, clip.file.bytes) as path:
            return await self.checker.sample(path, image, whole=whole)

    async def find_copy(self, clip: UnmeasuredClip, samples: Samples, measured: Measures) -> int | None:
        """The row of another job's clip that shows the same from beginning to end; None where there is none."""
        if self.measured is None:
            clips = await self.context.database.read(measuring.measured_clips, self.context.batch_id)
            self.measured = await asyncio.to_thread(MeasuredClips, clips)
        others, (picture, digest) = self.measured, measured.signature.split(".")
        try:
            if same := others.same(clip.file.sha256, digest, clip.job_id):
                return same.id
            for other in await asyncio.to_thread(others.look_alikes, picture, clip.job_id):
                with suppress(Undecodable):
                    if await self.are_copies(clip, samples, other):
                        return other.id
            return None
        finally:
            others.add(DeliveredClip(clip.id, clip.job_id, measured.signature, clip.file))

    async def are_copies(self, clip: DeliveredClip, samples: Samples, other: DeliveredClip) -> bool:
        """Whether two clips show the same. Some pictures tell most clips apart, so that few are decoded whole."""
        if not await asyncio.to_thread(measures.may_be_copies, samples, await self.samples_of(other)):
            return False
        whole = await self.samples_of(clip, whole=True), await self.samples_of(other, whole=True)
        return await asyncio.to_thread(measures.are_copies, *whole)

    async def samples_of(self, clip: DeliveredClip, *, whole: bool = False) -> Samples:
        if (samples := self.samples.get((clip.id, whole))) is None:
            samples = await self.sample(clip, whole=whole)
        self.keep(samples, clip, whole=whole)
        return samples

    def keep(self, samples: Samples, clip: DeliveredClip, *, whole: bool = False) -> None:
        self.samples[clip.id, whole] = replace(samples, poster=b"")
        self.samples.move_to_end((clip.id, whole))
        if len(self.samples) > SAMPLES_KEPT:
            self.samples.popitem(last=False)

    async def store_poster(self, clip: DeliveredClip, poster: bytes) -> None:
        if self.posters is None:
            return
        try:
            await asyncio.to_thread(self.posters.store, clip.file.sha256, poster)
        except (OSError, UnsafePath) as error:
            self.posters = None
            self.context.warn(f"posters of clips are not kept in this run: {os_reason(error)}")


class MeasuredClips:
    """The measured clips of a batch by what they show: a new clip is compared with few of them.

    They are in the order in which they were measured. Each takes some 300 bytes.
    """

    def __init__(self, clips: Iterable[DeliveredClip] = ()) -> None:
        self._with_picture: list[DeliveredClip] = []
        self._hashes: list[int] = []
        """Of their first pictures, in the same order."""
        self._by_content: dict[str, list[DeliveredClip]] = defaultdict(list)
        """By SHA-256 of the file, and by the digest of the encoded frames."""
        for clip in clips:
            self.add(clip)

    def add(self, clip: DeliveredClip) -> None:
        """Add a clip, which has a signature unless the decoder refused it."""
        picture, _, digest = (clip.signature or "").partition(".")
        for content in filter(None, (clip.file.sha256, digest)):
            self._by_content[content].append(clip)
        if picture:
            self._with_picture.append(clip)
            self._hashes.append(int(picture, 16))

    def same(self, sha256: str, digest: str, job_id: int) -> DeliveredClip | None:
        """The first clip of another job with the same file, or with the same encoded frames."""
        clips = (clip for content in (sha256, digest) for clip in self._by_content.get(content, ()))
        return min((clip for clip in clips if clip.job_id != job_id), key=lambda clip: clip.id, default=None)

    def look_alikes(self, picture: str, job_id: int) -> list[DeliveredClip]:
        """The clips of other jobs whose first picture is nearly the one with this hash, the most similar first.

        It takes some 15 ms for 100,000 clips.
        """
        if not picture:
            return []
        number = int(picture, 16)
        bits = [(other ^ number).bit_count() for other in self._hashes]
        similar = compress(zip(bits, self._with_picture, strict=True), (distance <= COPY_BITS for distance in bits))
        alike = [(distance, clip.id, clip) for distance, clip in similar if clip.job_id != job_id]
        return [clip for *_, clip in sorted(alike, key=lambda row: row[:2])[:LOOK_ALIKES_MAX]]

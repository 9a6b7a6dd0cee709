"""The measured clips of a batch in memory, by what they show: a new clip is compared with few of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import compress

from batchgen.files.copies import COPY_BITS
from batchgen.jobtable.measuring import DeliveredClip

LOOK_ALIKES_MAX = 20
"""Clips with the same first picture that one clip is compared with: the takes of one image."""


class MeasuredClips:
    """The clips of a batch, in the order in which they were measured. One of 100,000 takes some 300 bytes."""

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

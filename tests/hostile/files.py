"""Mutated videos and images, judged by the real checks: each is taken or refused, and nothing else happens."""

from __future__ import annotations

import asyncio
import io
import random
import traceback
from pathlib import Path

import av
from PIL import Image

from batchgen.files.checker import Checker
from batchgen.files.input_file import InputFault
from batchgen.files.media import FORMATS, inspect
from batchgen.files.video import NotVideo, Undecodable

LENGTHS = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\x00\x00\x00\x01"]
IMAGES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff", "AVIF": "avif"}


def video() -> bytes:
    """A small whole MP4."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in range(0, 240, 16):
            image = Image.new("RGB", (64, 64), (shade, 255 - shade, 90))
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target.getvalue()


def image(kind: str) -> bytes:
    target = io.BytesIO()
    Image.effect_mandelbrot((48, 48), (-2, -1, 1, 1), 50).convert("RGB").save(target, kind)
    return target.getvalue()


def mutate(chance: random.Random, content: bytes) -> bytes:
    """The content with bytes changed, cut out, repeated, or with a length field that lies."""
    changed = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 8, 64])):
        at = chance.randrange(len(changed)) if chance.random() < 0.6 else chance.randrange(min(len(changed), 64))
        match chance.randrange(6):
            case 0 | 1:
                changed[at] = chance.randrange(256)
            case 2:
                changed[at : at + 4] = chance.choice(LENGTHS)
            case 3:
                del changed[at : at + chance.randint(1, 64)]
            case 4:
                changed[at:at] = changed[at : at + chance.randint(1, 256)]
            case 5:
                del changed[max(at, 1) :]
        if not changed:
            changed = bytearray(b"\0")
    return bytes(changed)


def run_files(number: int, seed: int, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Judge so many files. Returns how many were refused by kind of file, and every problem."""
    chance = random.Random(seed)
    originals = {"video": video(), **{kind: image(kind) for kind in IMAGES if kind in FORMATS}}
    drawn = [(name := chance.choice(["video", *originals]), mutate(chance, originals[name])) for _ in range(number)]
    refused: dict[str, int] = {}
    problems: list[str] = []

    def judge_image(path: Path) -> bool:
        try:
            inspect(folder, path.name, "image")
        except InputFault:
            return True
        return False

    async def judge_all() -> None:
        checker = Checker()
        try:
            for kind, content in drawn:
                path = folder / f"file.{IMAGES.get(kind, 'mp4')}"
                path.write_bytes(content)
                try:
                    is_refused = await is_no_video(checker, path) if kind == "video" else judge_image(path)
                    refused[kind] = refused.get(kind, 0) + is_refused
                except Exception:
                    problems.append(f"{kind}: {traceback.format_exc(limit=-3)}\n    {content[:80]!r}")
        finally:
            await checker.close()

    asyncio.run(judge_all())
    return refused, problems


async def is_no_video(checker: Checker, path: Path) -> bool:
    try:
        await checker.check(path, 0)
    except (NotVideo, Undecodable):
        return True
    return False

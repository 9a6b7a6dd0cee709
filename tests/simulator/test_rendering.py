"""The videos: real, of the right shape and length."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import av
import pytest
from av.video.stream import VideoStream
from PIL import Image

from batchgen.simulator.rendering import Scene, frame_size, render, tiny

from .client import create, download, finish, simulated


def image_file(width: int, height: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file, kind)
    return file.getvalue()


def probe(content: bytes) -> tuple[int, int, float, int]:
    """Width, height, seconds, frames: decoded to the end."""
    with av.open(io.BytesIO(content), "r") as container:
        stream = container.streams.video[0]
        assert isinstance(stream, VideoStream)
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert container.duration
        return stream.width, stream.height, container.duration / 1e6, sum(1 for _ in container.decode(stream))


@pytest.mark.parametrize(
    ("aspect", "image", "expected"),
    [
        (16 / 9, None, (384, 216)),
        (9 / 16, None, (216, 384)),
        (1.0, None, (384, 384)),
        (None, None, (384, 216)),
        (None, image_file(300, 200), (384, 256)),
        (None, image_file(40, 80, "JPEG"), (192, 384)),
        (1.0, image_file(300, 200, "WEBP"), (384, 384)),
        (None, image_file(300, 200)[:200], (384, 216)),
        (None, b"not an image", (384, 216)),
        (100.0, None, (384, 128)),
        (None, image_file(1, 1), (384, 384)),
    ],
)
def test_a_video_has_the_requested_aspect_or_that_of_its_image(
    aspect: float | None, image: bytes | None, expected: tuple[int, int]
) -> None:
    width, height, seconds, frames = probe(render(Scene("id", "a prompt", 1, aspect, image)))
    assert (width, height) == expected
    assert (seconds, frames) == (1.0, 10)


@pytest.mark.parametrize("aspect", [0.1, 0.5, 9 / 21, 3 / 4, 1, 4 / 3, 21 / 9, 50])
def test_the_sides_of_a_frame_are_even(aspect: float) -> None:
    assert [side % 2 for side in frame_size(aspect)] == [0, 0]


def test_a_scene_has_the_same_bytes_every_time_and_its_index_first() -> None:
    scene = Scene("id", "Mona Lisa puts on glasses — 眼鏡 — with her hands, and then she smiles at all of us", 1)
    content = render(scene)
    assert render(scene) == content
    assert content.index(b"moov") < content.index(b"mdat")
    assert render(Scene("other", scene.prompt, 1)) != content


def test_tiny_clips_are_valid_and_different() -> None:
    one, two = tiny("a:b/c"), tiny("another")
    assert one != two
    assert 10_000 < len(one) < 30_000
    assert probe(one)[3] == probe(two)[3] == 20


async def test_the_video_of_an_image_has_its_shape_and_the_requested_length() -> None:
    uri = "data:image/png;base64," + base64.b64encode(image_file(200, 300)).decode()
    async with simulated(instant=False) as client:
        video = (await finish(client, await create(client, image_url=uri, duration="10")))["video"]
        response = await download(video["url"])
        assert probe(response.content) == (256, 384, 10.0, 100)
        assert len(response.content) == video["file_size"]


def test_importing_the_simulator_imports_no_library_that_renders() -> None:
    program = "import sys, batchgen.simulator; sys.exit(any(name in sys.modules for name in ('av', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

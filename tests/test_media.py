"""Local and inline media: what a manifest may send, judged by content, and what mangled files do."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import wave
import zlib
from pathlib import Path

import av
import pytest
from PIL import Image

from batchgen import manifest
from batchgen.errors import ManifestInvalid
from batchgen.files import local_files
from batchgen.files.input_file import InputFault
from batchgen.files.media import FORMATS, MEDIA_BYTES, inspect, inspect_content, media_type_of

STANDARD = "kling-video/v2.1/standard/image-to-video"
FABRIC = "veed/fabric-1.0"
SEEDANCE = "bytedance/seedance-2-0"
OMNI = "google/gemini-omni-flash-preview"
LIP_SYNC = "pixverse/lip-sync"


def picture(kind: str = "PNG", width: int = 640, height: int = 360) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 50).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(16_000))
    return buffer.getvalue()


def clip() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 36
        container.mux(stream.encode(av.VideoFrame(64, 36, "yuv420p")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


PNG, JPEG, WAV, MP4 = picture(), picture("JPEG"), sound(), clip()
FILES = {
    "i.png": PNG,
    "photo.jpg_large": JPEG,
    "png.jpg": PNG,
    "a.wav": WAV,
    "v.mp4": MP4,
    "half.jpg": JPEG[: len(JPEG) // 2],
    "text.png": b"no picture",
    "empty.png": b"",
    "small.png": picture("PNG", 200, 200),
    "long.png": picture("PNG", 1200, 320),
    "i.webp": picture("WEBP"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def check(folder: Path, **params: object) -> tuple[str, ...]:
    """The pointers of the local files of a job with these parameters. Raises ManifestInvalid."""
    path = folder / "m.yaml"
    path.write_text(json.dumps({"jobs": [{"id": "a", **params}]}))
    (job,) = manifest.read(path).jobs
    assert {name: value for name, value in json.loads(job.request).items() if name in params} == {
        name: value for name, value in params.items() if name not in ("service", "extra")
    }
    return job.input_pointers


LINK = "https://example.com/x"
TAKEN: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "a local sound": ({"model": FABRIC, "image_url": LINK, "audio_url": "a.wav"}, ("/audio_url",)),
    "a local video": ({"model": LIP_SYNC, "video_url": "v.mp4", "audio_url": LINK}, ("/video_url",)),
    "a video as a sound": ({"model": FABRIC, "image_url": LINK, "audio_url": "v.mp4"}, ("/audio_url",)),
    "videos in a list": ({"model": "alibaba/wan-2-6-r2v", "prompt": "x", "video_urls": ["v.mp4"]}, ("/video_urls/0",)),
    "a sound as a data URI": (
        {"model": FABRIC, "image_url": LINK, "audio_url": f"data:audio/wav;base64,{encoded(WAV)}"},
        (),
    ),
    "bare base64 of an image": ({"model": STANDARD, "image_url": encoded(PNG)}, ()),
    "bare base64 of a sound": ({"model": FABRIC, "image_url": LINK, "audio_url": encoded(WAV)}, ()),
    "a gs link": ({"model": OMNI, "prompt": "x", "image_url": "gs://bucket/i.png"}, ()),
    "an asset id": ({"model": SEEDANCE, "prompt": "x", "image_url": LINK, "audio_url": "asset://asset-2026"}, ()),
    "an image whose name says another format": ({"model": STANDARD, "image_url": "png.jpg"}, ("/image_url",)),
    "the other name of a model": (
        {"model": "kling-video/v2.1/master/image-to-video", "image_url": "i.png"},
        ("/image_url",),
    ),
    "a provider in capitals": ({"model": SEEDANCE, "prompt": "x", "provider": "ByteDance"}, ()),
    "a published name": ({"model": "sora-2-t2v", "prompt": "x"}, ()),
    "speech by text": (
        {"model": LIP_SYNC, "video_url": LINK, "lip_sync_tts_speaker": "Emily", "lip_sync_tts_content": "Hi"},
        (),
    ),
    "a last image with 8 seconds": (
        {"model": "google/veo-3-1-lite-generate-preview", "prompt": "x", "image_url": LINK, "last_image_url": LINK},
        (),
    ),
    "a mask with alpha_mode custom": (
        {"model": "beeble/switchx-video-to-video", "video_url": LINK, "alpha_mode": "custom", "alpha_url": LINK},
        (),
    ),
    "several prompts": (
        {"model": "klingai/video-v3-pro-text-to-video", "multi_prompt": ["x"]},
        (),
    ),
}


@pytest.mark.parametrize(("params", "pointers"), TAKEN.values(), ids=TAKEN)
def test_what_the_service_takes_is_valid(folder: Path, params: dict[str, object], pointers: tuple[str, ...]) -> None:
    assert check(folder, **params) == pointers


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "half an image": ({"model": STANDARD, "image_url": "half.jpg"}, "its end is missing"),
    "a text as an image": ({"model": STANDARD, "image_url": "text.png"}, "not an image"),
    "a sound as an image": ({"model": STANDARD, "image_url": "a.wav"}, "not an image"),
    "an image as a sound": ({"model": FABRIC, "image_url": LINK, "audio_url": "i.png"}, "not a sound"),
    "a sound as a video": ({"model": LIP_SYNC, "video_url": "a.wav", "audio_url": LINK}, "not a video"),
    "an empty file": ({"model": STANDARD, "image_url": "empty.png"}, "the file is empty"),
    "a data URI of text": ({"model": STANDARD, "image_url": "data:text/plain;base64,eA=="}, "is of text/plain"),
    "an empty data URI": ({"model": STANDARD, "image_url": "data:image/png;base64,"}, "the file is empty"),
    "a data URI that is not base64": ({"model": STANDARD, "image_url": "data:image/png,x"}, "must be in base64"),
    "damaged base64": ({"model": STANDARD, "image_url": "data:image/png;base64,iVBOR*"}, "is damaged"),
    "a cut image in base64": ({"model": STANDARD, "image_url": encoded(JPEG[:3_000])}, "its end is missing"),
    "a gs link elsewhere": ({"model": STANDARD, "image_url": "gs://bucket/i.png"}, "an image must be a link"),
    "an asset id elsewhere": ({"model": FABRIC, "image_url": LINK, "audio_url": "asset://x"}, "a sound must be"),
    "a gs link without a name": ({"model": OMNI, "prompt": "x", "image_url": "gs://"}, "names a host"),
    "an image too small for MiniMax": (
        {"model": "minimax/hailuo-2.3", "prompt": "x", "image_url": "small.png"},
        "at least 301 pixels a side, not 200 × 200",
    ),
    "an image too long for MiniMax": (
        {"model": "minimax/hailuo-2.3", "prompt": "x", "image_url": "long.png"},
        "at most 2.5 times as long as wide",
    ),
    "a WebP for a Kling turbo model": (
        {"model": "klingai/video-v3-turbo-pro-image-to-video", "prompt": "x", "image_url": "i.webp"},
        "takes JPEG or PNG, and this is WEBP",
    ),
    "two kinds of prompt": (
        {"model": "klingai/video-v3-pro-text-to-video", "prompt": "x", "multi_prompt": ["x"]},
        "takes either `prompt` or `multi_prompt`",
    ),
    "no prompt of two kinds": ({"model": "klingai/video-v3-pro-text-to-video", "duration": 5}, "one of both"),
    "neither a sound nor a speaker": ({"model": LIP_SYNC, "video_url": LINK}, "takes either `audio_url`, or"),
    "a speaker without a text": (
        {"model": LIP_SYNC, "video_url": LINK, "lip_sync_tts_speaker": "Emily"},
        "takes either `audio_url`, or",
    ),
    "a last image with 4 seconds": (
        {
            "model": "google/veo-3-1-lite-generate-preview",
            "prompt": "x",
            "image_url": LINK,
            "last_image_url": LINK,
            "duration": 4,
        },
        "only with a `duration` of 8",
    ),
    "a sound alone": ({"model": SEEDANCE, "prompt": "x", "audio_url": LINK}, "only together with an image or a video"),
    "no mask with alpha_mode select": (
        {"model": "beeble/switchx-video-to-video", "video_url": LINK, "alpha_mode": "select"},
        "needs `alpha_url`",
    ),
}


@pytest.mark.parametrize(("params", "message"), REFUSED.values(), ids=REFUSED)
def test_what_the_service_would_refuse_is_reported(folder: Path, params: dict[str, object], message: str) -> None:
    with pytest.raises(ManifestInvalid, match=message):
        check(folder, **params)


def test_a_style_in_which_a_model_is_not_served_is_an_error(folder: Path) -> None:
    path = folder / "m.yaml"
    path.write_text("service: {endpoint: legacy}\njobs: [{id: a, model: luma/ray-2, prompt: x}]\n")
    with pytest.raises(ManifestInvalid, match=r"m\.yaml:2:23: `luma/ray-2` has no legacy endpoint, only /v2/video"):
        manifest.read(path)


def test_a_retired_model_is_valid_with_a_warning(folder: Path) -> None:
    path = folder / "m.yaml"
    path.write_text("jobs: [{id: a, model: luma/ray-1-6, prompt: x}]\n")
    assert manifest.read(path).warnings == ("luma/ray-1-6: the service no longer supports this model",)


def test_extra_parameters_are_sent_as_they_are_and_others_are_still_checked(folder: Path) -> None:
    path = folder / "m.yaml"
    head = (
        f"defaults: {{model: {STANDARD}, image_url: i.png, extra: {{new: [1, '{{{{ id }}}}'], duration: 7}}}}\njobs:\n"
    )
    path.write_text(head + "- id: a\n- {id: b, extra: {audio_url: asset-1}}\n- {id: c, extra: null}\n")
    requests = [json.loads(job.request) for job in manifest.read(path).jobs]
    common = {"model": STANDARD, "image_url": "i.png"}
    assert requests == [common | {"new": [1, "a"], "duration": 7}, common | {"audio_url": "asset-1"}, common]
    for job, message in {
        "{id: a, extra: [1]}": "3:18: `extra` must be a mapping of parameters, not a list",
        "{id: a, cfg_scale: 1, extra: {cfg_scale: 2}}": "3:33: `cfg_scale` stands in the job and in its `extra`",
        "{id: a, extra: {model: x}}": "3:19: `model` stands in the job",
        "{id: a, extra: {new: 1}, newer: 2}": "3:28: .* does not take `newer`",
    }.items():
        path.write_text(f"{head}- {job}\n")
        with pytest.raises(ManifestInvalid, match=message):
            manifest.read(path)


@pytest.mark.hostile("mangled and exchanged media files", "refused before anything is sent; the job fails, not the run")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_mangled_image_is_a_fault_and_nothing_else(kind: str) -> None:
    content, draw = picture(kind, 64, 64), random.Random(kind)
    assert inspect_content(io.BytesIO(content), "image").width == 64
    for _ in range(150):
        mangled = bytearray(content)
        for _ in range(draw.randint(1, 12)):
            mangled[draw.randrange(min(len(mangled), 400))] = draw.choice((0, 255, draw.randrange(256)))
        cut = draw.choice((len(mangled), draw.randrange(1, len(mangled))))
        try:
            inspect_content(io.BytesIO(mangled[:cut]), "image")
        except InputFault as fault:
            assert str(fault).isprintable()


@pytest.mark.hostile("mangled and exchanged media files", "refused before anything is sent; the job fails, not the run")
def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    header = picture("PNG", 8, 8)
    bomb = header[:16] + (100_000).to_bytes(4, "big") * 2 + header[24:]
    bomb = bomb[:29] + zlib.crc32(bomb[12:29]).to_bytes(4, "big") + bomb[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(InputFault, match="too many pixels"):
        inspect(tmp_path, "bomb.png", "image")


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (JPEG, "image/jpeg"),
        (PNG, "image/png"),
        *((picture(kind), f"image/{kind.lower()}") for kind in FORMATS[2:]),
        (WAV, "audio/wav"),
        (MP4, "video/mp4"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"OggS\0", "audio/ogg"),
        (b"\0\0\0\x20ftypM4A ", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_the_first_bytes_show_the_media_type(content: bytes, media_type: str | None) -> None:
    assert media_type_of(content[:64]) == media_type


def grow(path: Path) -> None:
    os.truncate(path, MEDIA_BYTES + 1)


def become_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.hostile("mangled and exchanged media files", "refused before anything is sent; the job fails, not the run")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (grow, "at most 50 MB"),
        (become_a_fifo, "not a regular file"),
        (lambda path: os.truncate(path, 0), "the file has changed: it has 0 bytes"),
        (Path.unlink, "No such file"),
    ],
)
def test_a_file_that_changes_before_it_is_sent_fails_its_job_alone(
    tmp_path: Path, change: object, message: str
) -> None:
    (tmp_path / "i.png").write_bytes(PNG)
    files, digests = local_files.read(tmp_path, '{"image_url": "i.png"}', ["/image_url"])
    assert files["/image_url"].media_type == "image/png"
    change(tmp_path / "i.png")  # type: ignore[operator]
    with pytest.raises(local_files.InputMissing, match=message):
        local_files.read(tmp_path, '{"image_url": "i.png"}', ["/image_url"])
    assert local_files.changed(tmp_path, digests) == ([] if change is Path.unlink else ["i.png"])

"""Local and inline media: what a manifest may send, judged by content, and what mangled files do."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import subprocess
import sys
import unicodedata
import wave
import zlib
from pathlib import Path
from urllib.parse import quote

import av
import pytest
from PIL import Image

from batchgen.errors import ManifestInvalid
from batchgen.files import local_files
from batchgen.files.delivered import DeliveredFile, LostFile, loss_of
from batchgen.files.input_file import InputFault
from batchgen.files.media import FORMATS, MEDIA_BYTES, decode_fault, inspect, inspect_content, media_type_of
from batchgen.manifest import reader
from batchgen.manifest.source import read_bytes
from tests.test_http_failures import no_more_descriptors

STANDARD = "kling-video/v2.1/standard/image-to-video"
FABRIC = "veed/fabric-1.0"
SEEDANCE = "bytedance/seedance-2-0"
OMNI = "google/gemini-omni-flash-preview"
LIP_SYNC = "pixverse/lip-sync"


def picture(kind: str = "PNG", width: int = 640, height: int = 360) -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise((64, 36), 50).convert("RGB")
    noise.resize((width, height), Image.Resampling.NEAREST).save(buffer, kind)
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


PNG, JPEG, AVIF, WAV, MP4 = picture(), picture("JPEG"), picture("AVIF"), sound(), clip()
FILES = {
    "i.png": PNG,
    "photo.jpg_large": JPEG,
    "png.jpg": PNG,
    "a.wav": WAV,
    "v.mp4": MP4,
    "half.jpg": JPEG[: len(JPEG) // 2],
    "half.mp4": MP4[: len(MP4) // 2],
    "half.wav": WAV[: len(WAV) // 2],
    "piped.wav": WAV[:4] + b"\xff" * 4 + WAV[8:],
    "junk.mp4": MP4 + b"<html>the end</html>",
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
    (job,) = reader.read(path).jobs
    assert {name: value for name, value in json.loads(job.request).items() if name in params} == {
        name: value for name, value in params.items() if name not in ("service", "extra")
    }
    return job.input_pointers


LINK = "https://example.com/x"
TAKEN: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "a local sound": ({"model": FABRIC, "image_url": LINK, "audio_url": "a.wav"}, ("/audio_url",)),
    "a sound that was written into a pipe": (
        {"model": FABRIC, "image_url": LINK, "audio_url": "piped.wav"},
        ("/audio_url",),
    ),
    "a video with a text behind it": ({"model": LIP_SYNC, "video_url": "junk.mp4", "audio_url": LINK}, ("/video_url",)),
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
    "several prompts": ({"model": "klingai/video-v3-pro-text-to-video", "multi_prompt": ["x"]}, ()),
}


@pytest.mark.parametrize(("params", "pointers"), TAKEN.values(), ids=TAKEN)
def test_what_the_service_takes_is_valid(folder: Path, params: dict[str, object], pointers: tuple[str, ...]) -> None:
    assert check(folder, **params) == pointers


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "half an image": ({"model": STANDARD, "image_url": "half.jpg"}, "its end is missing"),
    "half a video": (
        {"model": LIP_SYNC, "video_url": "half.mp4", "audio_url": LINK},
        "the video is cut off: its end is missing",
    ),
    "half a sound": (
        {"model": FABRIC, "image_url": LINK, "audio_url": "half.wav"},
        "the sound is cut off: its end is missing",
    ),
    "half a sound as a data URI": (
        {"model": FABRIC, "image_url": LINK, "audio_url": f"data:audio/wav;base64,{encoded(WAV[: len(WAV) // 2])}"},
        "the sound is cut off",
    ),
    "a text as an image": ({"model": STANDARD, "image_url": "text.png"}, "not an image"),
    "a sound as an image": ({"model": STANDARD, "image_url": "a.wav"}, "not an image"),
    "an image as a sound": ({"model": FABRIC, "image_url": LINK, "audio_url": "i.png"}, "not a sound"),
    "a sound as a video": ({"model": LIP_SYNC, "video_url": "a.wav", "audio_url": LINK}, "not a video"),
    "an empty file": ({"model": STANDARD, "image_url": "empty.png"}, "the file is empty"),
    "a data URI of text": ({"model": STANDARD, "image_url": "data:text/plain;base64,eA=="}, "is of text/plain"),
    "an empty data URI": ({"model": STANDARD, "image_url": "data:image/png;base64,"}, "the data URI is empty"),
    "a data URI that is not base64": ({"model": STANDARD, "image_url": "data:image/png,x"}, "not an image"),
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


def sent_as(folder: Path, value: str) -> str:
    """What is sent for an image that a manifest names or holds so. Raises ManifestInvalid."""
    path = folder / "m.yaml"
    path.write_text(json.dumps({"jobs": [{"id": "a", "model": STANDARD, "image_url": value}]}), "utf-8")
    (job,) = reader.read(path).jobs
    return str(json.loads(job.request)["image_url"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images under names that people write otherwise, and files that are no whole images."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "sub").mkdir()
    cmyk, deep, moving, preview, flat = (io.BytesIO() for _ in range(5))
    frame = Image.effect_noise((64, 36), 50)
    frame.convert("CMYK").save(cmyk, "JPEG")
    Image.new("I;16", (64, 36)).save(deep, "PNG")
    frame.save(moving, "GIF", save_all=True, append_images=[frame.rotate(90)])
    frame.save(preview, "JPEG")
    letterbox = Image.new("RGB", (640, 360))
    letterbox.putpixel((0, 0), (255, 255, 255))
    letterbox.save(flat, "WEBP", lossless=True, method=0, quality=0)
    assert flat.getvalue().endswith(bytes(1_024))
    exif = b"\xff\xe1" + (len(preview.getvalue()) + 2).to_bytes(2, "big") + preview.getvalue()
    contents = {
        "sub/cat.png": PNG,
        unicodedata.normalize("NFD", "caf\u00e9.png"): PNG,
        "Photo.JPG": JPEG,
        "my cat.png": PNG,
        "a:b.png": PNG,
        "cmyk.jpg": cmyk.getvalue(),
        "16bit.png": deep.getvalue(),
        "moving.gif": moving.getvalue(),
        "trailing.jpg": JPEG + bytes(200_000),
        "frame.0001": JPEG,
        "half.png": PNG[: len(PNG) // 2],
        "no-end.png": PNG[:-12],
        "half.webp": FILES["i.webp"][:5_000],
        **{
            f"half-reserved.{name}": content[: len(content) // 2].ljust(max(len(content), 9_999), b"\0")
            for name, content in {"jpg": JPEG, "preview.jpg": JPEG[:2] + exif + JPEG[2:], "avif": AVIF}.items()
        },
        "flat.webp": flat.getvalue(),
        "film-behind.jpg": JPEG + MP4 + bytes(2_000),
        "block.avif": AVIF.ljust(len(AVIF) // 4_096 * 4_096 + 8_192, b"\0"),
        "half-with-preview.jpg": JPEG[:2] + exif + JPEG[2 : len(JPEG) // 2],
        "no-end.jpg": JPEG[:-2],
        "page.jpg": b"<!DOCTYPE html><html>",
        "drawing.svg": b'<svg xmlns="x">',
        "phone.jpg": b"\0\0\0\x20ftypheic\0\0\0\0mif1heic" + bytes(99),
        "pointer.png": b"version https://git-lfs.github.com/spec/v1",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


WHOLE = (
    *("cmyk.jpg", "16bit.png", "moving.gif", "trailing.jpg", "frame.0001"),
    *("flat.webp", "film-behind.jpg", "block.avif"),
)
SPELLINGS = {
    "backslashes": ("sub\\cat.png", "sub/cat.png"),
    "accents in one character": ("caf\u00e9.png", unicodedata.normalize("NFD", "caf\u00e9.png")),
    "an escaped blank": ("my%20cat.png", "my cat.png"),
    "blanks around it": (" sub/cat.png\u00a0\n", "sub/cat.png"),
    "a link to a file": ("file://FOLDER/my%20cat.png", "FOLDER/my cat.png"),
    "a colon": ("a:b.png", "a:b.png"),
    "a folded link": ("https://example.com/a.png\n", "https://example.com/a.png"),
    "base64 in lines": (f"data:image/png;base64,{encoded(PNG)[:76]}\n {encoded(PNG)[76:]}", "PNG"),
    "base64 without padding": (f"data:image/png;base64,{encoded(PNG).rstrip('=')}", "PNG"),
    "base64 escaped for a link": (f"data:image/png;base64,{quote(encoded(PNG), safe='')}", "PNG"),
    "another media type": (f"data:image/jpeg;base64,{encoded(PNG)}", "PNG"),
    "no media type": (f"data:;base64,{encoded(PNG)}", "PNG"),
    "bytes escaped for a link": (f"data:image/png,{quote(PNG)}", "PNG"),
    **{name: (name, name) for name in WHOLE},
}


@pytest.mark.parametrize(("written", "sent"), SPELLINGS.values(), ids=SPELLINGS)
def test_an_image_whose_meaning_is_plain_is_read(images: Path, written: str, sent: str) -> None:
    expected = f"data:image/png;base64,{encoded(PNG)}" if sent == "PNG" else sent.replace("FOLDER", str(images))
    assert sent_as(images, written.replace("FOLDER", str(images))) == expected


HINTED = {
    "photo.jpg": "did you mean Photo.JPG?",
    "www.example.com/a.png": "a link begins with https://",
    "\u201csub/cat.png\u201d": "take the quotes away",
    "C:\\Users\\me\\cat.png": "this is a path of Windows",
    "sub/C:\\Users\\me\\cat.png": "this is a path of Windows",
    "my\\ photos/cat.png": "take the backslash before each blank away",
    "$HOME/cat.png": "variables of the shell are not filled in",
    "file:///no/cat.png": "there is no such file: file:///no/cat.png",
    "<https://example.com/a.png>": "take the angle brackets away",
    "[a cat](https://example.com/a.png)": "write the link alone",
    "https:/example.com/a.png": "a link begins with https://",
    "half.png": "its end is missing",
    "no-end.png": "its end is missing",
    "half.webp": "the image is damaged",
    **{f"half-reserved.{name}": "its end is missing" for name in ("jpg", "preview.jpg", "avif")},
    "half-with-preview.jpg": "its end is missing",
    "no-end.jpg": "its end is missing",
    "page.jpg": "a web page, not an image",
    "drawing.svg": "save it as PNG",
    "phone.jpg": "HEIC, as phones make it",
    "pointer.png": "git lfs pull",
    f"data:text/plain;base64,{encoded(PNG)}": "the data URI is of text/plain",
    f"data:image/png;base64,{encoded(PNG)[:2_000]}": "its end is missing",
}


@pytest.mark.parametrize(("value", "message"), HINTED.items(), ids=HINTED.values())
def test_an_image_that_is_none_is_refused_with_the_hint_that_helps(images: Path, value: str, message: str) -> None:
    with pytest.raises(ManifestInvalid, match=re.escape(message)):
        sent_as(images, value)


def test_a_half_image_is_decoded_once_and_reported_for_all_its_jobs(images: Path) -> None:
    path = images / "many.yaml"
    job = "{id: 'a{{ n }}', matrix: {n: [1, 2, 3]}, image_url: half.png}"
    path.write_text(f"defaults: {{model: {STANDARD}}}\njobs:\n- {job}\n- {{id: b, image_url: half.png}}\n")
    with pytest.raises(ManifestInvalid) as caught:
        reader.read(path)
    assert [(problem.line, problem.message) for problem in caught.value.problems] == [
        (3, "the image is cut off: its end is missing (n=1 and 2 more jobs)"),
        (4, "the image is cut off: its end is missing"),
    ]
    sent = {"a1", "a2", "a3", "b"}
    assert len(reader.read(path, already_sent=lambda _batch, _service: sent).jobs) == 4


def test_the_kind_of_a_file_is_its_bytes_and_no_table_of_types_is_read(images: Path) -> None:
    code = (
        "import sys, mimetypes; mimetypes.guess_type = mimetypes.init = None\n"
        "from pathlib import Path\n"
        "from batchgen.files import local_files\n"
        "for name in sys.argv[2:]:\n"
        '    request = \'{"image_url": "%s"}\' % name\n'
        "    print(local_files.read(Path(sys.argv[1]), request, ['/image_url'])[0]['/image_url'].media_type)\n"
    )
    names = ["frame.0001", "Photo.JPG", "sub/cat.png", "moving.gif"]
    printed = subprocess.run(
        [sys.executable, "-c", code, str(images), *names], capture_output=True, text=True, check=True
    )
    assert printed.stdout.split() == ["image/jpeg", "image/jpeg", "image/png", "image/gif"]


def test_a_style_in_which_a_model_is_not_served_is_an_error(folder: Path) -> None:
    path = folder / "m.yaml"
    path.write_text("service: {endpoint: legacy}\njobs: [{id: a, model: luma/ray-2, prompt: x}]\n")
    with pytest.raises(ManifestInvalid, match=r"m\.yaml:2:23: `luma/ray-2` has no legacy endpoint, only /v2/video"):
        reader.read(path)


def test_a_retired_model_is_valid_with_a_warning(folder: Path) -> None:
    path = folder / "m.yaml"
    path.write_text("jobs: [{id: a, model: luma/ray-1-6, prompt: x}]\n")
    assert reader.read(path).warnings == ("luma/ray-1-6: the service no longer supports this model",)


def test_extra_parameters_are_sent_as_they_are_and_others_are_still_checked(folder: Path) -> None:
    path = folder / "m.yaml"
    head = (
        f"defaults: {{model: {STANDARD}, image_url: i.png, extra: {{new: [1, '{{{{ id }}}}'], duration: 7}}}}\njobs:\n"
    )
    path.write_text(head + "- id: a\n- {id: b, extra: {audio_url: asset-1}}\n- {id: c, extra: null}\n")
    requests = [json.loads(job.request) for job in reader.read(path).jobs]
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
            reader.read(path)


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
    with pytest.raises(InputFault, match=message):
        local_files.read(tmp_path, '{"image_url": "i.png"}', ["/image_url"])
    assert local_files.changed_files(tmp_path, digests) == ([] if change is Path.unlink else ["i.png"])


def test_too_many_open_files_are_told_with_what_to_do_where_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mona.jpg"
    path.write_bytes(b"x")
    file = DeliveredFile("mona", 1, path.name, 1, "")
    advice = "too many files are open here: raise the number that may be (ulimit -n)"
    with no_more_descriptors():
        assert decode_fault(path) == f"the file cannot be read: {advice}"
        unreadable = LostFile(file, f"cannot be read: {advice}", is_unreadable=True)
        assert loss_of(tmp_path, file, verify=True) == unreadable
        with pytest.raises(InputFault, match=re.escape(f"cannot be read: {advice}")):
            inspect(tmp_path, path.name, "image")
        with pytest.raises(InputFault, match=re.escape(f"cannot be read: {advice}")):
            read_bytes(path, "manifest", "", 1)

"""Which values of a request are images, videos or sounds. They are links; an image may also be a local file."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from batchgen.catalogue import register
from batchgen.catalogue.pointers import join

Medium = Literal["image", "video", "audio"]
NOUNS: dict[str, str] = {"image": "an image", "video": "a video", "audio": "a sound"}
"""What messages call each medium."""

IMAGES = {
    *("image_url", "image_urls", "image_list", "last_image_url", "tail_image_url", "first_frame_image"),
    *("reference_image_url", "reference_image_urls", "reference_images", "frontal_image_url", "static_mask", "mask"),
}
VIDEOS = {"video_url", "video_urls", "mask_video_url", "alpha_url"}
AUDIOS = {"audio_url", "audio_urls"}

FIRST_FRAMES = ("image_url", "first_frame_image")
"""The parameters whose image is the first frame of the clip."""
OTHER_SCENES = {"video_url", "video_urls", "effect_scene"}
"""Parameters beside which it is not: a person is put into a video, or into the scene of an effect."""


class Link(NamedTuple):
    """A value that is a link or a local file. `pointer` is its JSON pointer, `value` its text."""

    pointer: str
    medium: Medium
    value: str


def media(value: Any, pointer: str = "", own: Medium | None = None) -> Iterator[Link]:
    """The links and files in a request at any depth, in their order, by the parameter names that all models use.

    `own` is the medium of the value itself, by its name.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from media(item, join(pointer, name), medium(name, value.get("type")))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from media(item, join(pointer, index), own)
    elif isinstance(value, str) and own:
        yield Link(pointer, own, value)


def medium(name: str, kind: str | None) -> Medium | None:
    """The medium of a parameter called `name`, if any. A parameter `url` is of the `type` beside it, `kind`."""
    if name == "url":
        return "image" if kind == "image" else "video" if kind == "video" else None
    return "image" if name in IMAGES else "video" if name in VIDEOS else "audio" if name in AUDIOS else None


def first_frame(params: Mapping[str, Any]) -> str | None:
    """The image of a request with which its clip begins: a link, a path or a data URI."""
    images = [params[name] for name in FIRST_FRAMES if isinstance(params.get(name), str)]
    return images[0] if images and not OTHER_SCENES & params.keys() else None


@cache
def kinds(model: str) -> tuple[str, ...]:
    """image-to-video, text-to-video, video-to-video: by the media that the model requires.

    A model that requires none makes videos from text, and from every medium that it takes.
    """
    body = register.schema(model, register.endpoint(model))
    taken = {
        name: noun
        for name, parameter in body["properties"].items()
        for noun in ("image", "video")
        if f"'x-media': '{noun}'" in str(parameter)
    }
    required = {taken[name] for name in body["required"] if name in taken}
    if required:
        return ("video-to-video" if "video" in required else "image-to-video",)
    return ("text-to-video", *(f"{noun}-to-video" for noun in sorted(set(taken.values()))))

"""Which values of a request are images, videos or sounds. They are links; an image may also be a local file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from batchgen.catalogue import register
from batchgen.catalogue.pointers import join

Medium = Literal["image", "video", "audio"]

IMAGES = {
    *("image_url", "image_urls", "image_list", "last_image_url", "tail_image_url", "first_frame_image"),
    *("reference_image_url", "reference_image_urls", "reference_images", "frontal_image_url", "static_mask", "mask"),
}
VIDEOS = {"video_url", "video_urls", "mask_video_url", "alpha_url"}
AUDIOS = {"audio_url", "audio_urls"}


class Link(NamedTuple):
    """A value that is a link or a local file. `pointer` is its JSON pointer, `value` its text."""

    pointer: str
    medium: Medium
    value: str


def media(model: str, endpoint: str, params: Mapping[str, Any]) -> list[Link]:
    """The links and files in `params`, in their order, as the model's schema marks them.

    Raises KeyError for an unknown model or path.
    """
    schemas = _media_parameters(model, endpoint)
    links: list[Link] = []
    for name, value in params.items():
        if name in schemas:
            links.extend(_by_schema(schemas[name], value, join("", name)))
    return links


def likely_media(params: Mapping[str, Any]) -> list[Link]:
    """The same for a model that is not in the catalogue: by the parameter names that all models use."""
    return list(_by_name(params, "", None))


def medium(name: str, kind: str | None) -> Medium | None:
    """The medium of a parameter called `name`, if any. A parameter `url` is of the `type` beside it, `kind`."""
    if name == "url":
        return "image" if kind == "image" else "video" if kind == "video" else None
    return "image" if name in IMAGES else "video" if name in VIDEOS else "audio" if name in AUDIOS else None


@cache
def kinds(model: str) -> tuple[str, ...]:
    """image-to-video, text-to-video, video-to-video: by the media that the model requires.

    A model that requires none makes videos from text, and from every medium that it takes.
    """
    body = register.schema(model, register.endpoint(model))
    media = {
        name: medium
        for name, parameter in body["properties"].items()
        for medium in ("image", "video")
        if f"'x-media': '{medium}'" in str(parameter)
    }
    required = {media[name] for name in body["required"] if name in media}
    if required:
        return ("video-to-video" if "video" in required else "image-to-video",)
    return ("text-to-video", *(f"{medium}-to-video" for medium in sorted(set(media.values()))))


@cache
def _media_parameters(model: str, endpoint: str) -> dict[str, dict[str, Any]]:
    """The parameters that hold a link or a file at any depth."""
    properties = register.schema(model, endpoint)["properties"]
    return {name: schema for name, schema in properties.items() if "x-media" in str(schema)}


def _by_schema(schema: Mapping[str, Any], value: Any, pointer: str) -> Iterator[Link]:
    if isinstance(value, str):
        medium = next((branch["x-media"] for branch in _branches(schema) if "x-media" in branch), None)
        if medium:
            yield Link(pointer, medium, value)
    elif isinstance(value, list):
        for branch in _branches(schema):
            if "items" in branch:
                for index, item in enumerate(value):
                    yield from _by_schema(branch["items"], item, join(pointer, index))
    elif isinstance(value, dict):
        for branch in _branches(schema):
            properties = branch.get("properties", {})
            if value.get("type") in properties.get("type", {}).get("enum", [value.get("type")]):
                for name in (name for name in value if name in properties):
                    yield from _by_schema(properties[name], value[name], join(pointer, name))


def _by_name(value: Any, pointer: str, own: Medium | None) -> Iterator[Link]:
    """The links within `value`, whose own name says that it is the medium `own`."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _by_name(item, join(pointer, name), medium(name, value.get("type")))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _by_name(item, join(pointer, index), own)
    elif isinstance(value, str) and own:
        yield Link(pointer, own, value)


def _branches(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives that a schema offers; the schema itself where it offers none."""
    return schema.get("anyOf") or schema.get("oneOf") or [schema]

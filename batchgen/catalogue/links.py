"""Which values of a request are images, videos and sounds: these are links, and images may be local files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from batchgen.catalogue import register

Medium = Literal["image", "video", "audio"]

IMAGES = {
    *("image_url", "image_urls", "image_list", "last_image_url", "tail_image_url", "first_frame_image"),
    *("reference_image_url", "reference_image_urls", "reference_images", "frontal_image_url", "static_mask", "mask"),
}
VIDEOS = {"video_url", "video_urls", "mask_video_url", "alpha_url"}
AUDIOS = {"audio_url", "audio_urls"}


class Link(NamedTuple):
    """A value that is a link or a file: where it stands (a JSON pointer), what it is, and the text itself."""

    pointer: str
    medium: Medium
    value: str


def media(model: str, endpoint: str, params: Mapping[str, Any]) -> list[Link]:
    """The values in `params` that are links or files, in the order of `params`.

    Raises KeyError for an unknown model or path.
    """
    schemas = _parameters(model, endpoint)
    found: list[Link] = []
    for name, value in params.items():
        if name in schemas:
            found.extend(_walk(schemas[name], value, f"/{escape(name)}"))
    return found


def images(model: str, endpoint: str, params: Mapping[str, Any]) -> list[str]:
    """JSON pointers of the values in `params` that are images or masks."""
    return [link.pointer for link in media(model, endpoint, params) if link.medium == "image"]


def medium(name: str, kind: str | None) -> Medium | None:
    """What a value called `name` is, or None. `kind` is the `type` that stands beside a bare `url`."""
    if name == "url":
        return "image" if kind == "image" else "video" if kind == "video" else None
    return "image" if name in IMAGES else "video" if name in VIDEOS else "audio" if name in AUDIOS else None


def likely_media(params: Mapping[str, Any]) -> list[Link]:
    """As `media`, for a model that the catalogue does not know: by the names that all models use."""
    return list(_guess(params, "", None))


def escape(name: str) -> str:
    """`name` as one token of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def tokens(pointer: str) -> list[str]:
    """The names and positions on the way that a JSON pointer describes."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


@cache
def _parameters(model: str, endpoint: str) -> dict[str, dict[str, Any]]:
    """The parameters that hold a medium somewhere."""
    properties = register.schema(model, endpoint)["properties"]
    return {name: schema for name, schema in properties.items() if "x-media" in str(schema)}


def _walk(schema: Mapping[str, Any], value: Any, pointer: str) -> Iterator[Link]:
    if isinstance(value, str):
        medium = next((branch["x-media"] for branch in _branches(schema) if "x-media" in branch), None)
        if medium:
            yield Link(pointer, medium, value)
    elif isinstance(value, list):
        for branch in _branches(schema):
            if "items" in branch:
                for position, item in enumerate(value):
                    yield from _walk(branch["items"], item, f"{pointer}/{position}")
    elif isinstance(value, dict):
        for branch in _branches(schema):
            properties = branch.get("properties", {})
            if value.get("type") in properties.get("type", {}).get("enum", [value.get("type")]):
                for name in (name for name in value if name in properties):
                    yield from _walk(properties[name], value[name], f"{pointer}/{escape(name)}")


def _guess(value: Any, pointer: str, found: Medium | None) -> Iterator[Link]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _guess(item, f"{pointer}/{escape(name)}", medium(name, value.get("type")))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _guess(item, f"{pointer}/{position}", found)
    elif isinstance(value, str) and found:
        yield Link(pointer, found, value)


def _branches(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schema itself, or the alternatives it offers."""
    return schema.get("anyOf") or schema.get("oneOf") or [schema]

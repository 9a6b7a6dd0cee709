"""What a model makes videos of."""

from __future__ import annotations

from functools import cache

from batchgen.catalogue import register


@cache
def kinds(model: str) -> tuple[str, ...]:
    """image-to-video, text-to-video, video-to-video: of what the model needs, else of text and of all that it takes."""
    body = register.schema(model, register.endpoint(model))
    media = {
        name: medium
        for name, parameter in body["properties"].items()
        for medium in ("image", "video")
        if f"'x-media': '{medium}'" in str(parameter)
    }
    needed = {media[name] for name in body["required"] if name in media}
    if needed:
        return ("video-to-video" if "video" in needed else "image-to-video",)
    return ("text-to-video", *(f"{medium}-to-video" for medium in sorted(set(media.values()))))

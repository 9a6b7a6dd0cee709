"""JSON pointers (RFC 6901): the path to a value inside a request, such as "/image_urls/0"."""

from typing import Any


def join(pointer: str, name: str | int) -> str:
    """The pointer to the member or item `name` of the value at `pointer`."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def split(pointer: str) -> list[str]:
    """The names and positions in a pointer, from the outermost to the innermost."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def parent_of(document: Any, pointer: str) -> tuple[Any, str | int]:
    """The container of the value at `pointer`, and the key or index of the value in it."""
    *path, last = split(pointer)
    for token in path:
        document = document[int(token) if isinstance(document, list) else token]
    return document, int(last) if isinstance(document, list) else last

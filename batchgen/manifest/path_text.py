"""The parts of a text that is a path or a link, as templates use them: `{{ image.stem }}`."""

from __future__ import annotations

import re

PARTS = ("name", "stem", "suffix", "parent")


class PathText:
    """A text with parts. Of a link, what follows `?` or `#` belongs to no part.

    A template reaches the properties only: minijinja hides names that begin with an underscore.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    @property
    def name(self) -> PathText:
        """The last part: "frames/a.png" → "a.png"; empty for "."."""
        name = self._path.rpartition("/")[2]
        return PathText("" if name == "." else name)

    @property
    def stem(self) -> PathText:
        """The last part without its suffix: "frames/a.png" → "a"."""
        name = str(self.name)
        return PathText(name.removesuffix(_suffix(name)))

    @property
    def suffix(self) -> PathText:
        """The end of the last part: "frames/a.png" → ".png"."""
        return PathText(_suffix(str(self.name)))

    @property
    def parent(self) -> PathText:
        """All before the last part: "frames/a.png" → "frames", "a.png" → "."."""
        folder, slash, _ = self._path.rpartition("/")
        return PathText(folder or slash or ".")

    @property
    def _path(self) -> str:
        return re.split(r"[?#]", self._text, maxsplit=1)[0] if "://" in self._text[:12] else self._text


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}" if dot and suffix and stem.strip(".") else ""

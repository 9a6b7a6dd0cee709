"""The parts of a text that is a path or a link: `{{ image.stem }}`."""

from __future__ import annotations

import re

PARTS = ("name", "stem", "suffix", "parent")


class PathText:
    """A text that stands for itself in a template, and has parts. Of a link, what follows `?` or `#` is left out.

    Only the properties can be reached from a template: it sees no name that begins with an underscore.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    @property
    def name(self) -> PathText:
        """The last part: "frames/a.png" → "a.png"; nothing of "."."""
        name = self._bare.rpartition("/")[2]
        return PathText("" if name == "." else name)

    @property
    def stem(self) -> PathText:
        """The last part without its suffix: "frames/a.png" → "a"."""
        name = str(self.name)
        return PathText(name.removesuffix(_suffix(name)))

    @property
    def suffix(self) -> PathText:
        """What the last part ends in: "frames/a.png" → ".png"."""
        return PathText(_suffix(str(self.name)))

    @property
    def parent(self) -> PathText:
        """All before the last part: "frames/a.png" → "frames"; "." where there is nothing before it."""
        folder, slash, _ = self._bare.rpartition("/")
        return PathText(folder or slash or ".")

    @property
    def _bare(self) -> str:
        return re.split(r"[?#]", self._text, maxsplit=1)[0] if "://" in self._text[:12] else self._text


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix}" if dot and suffix and stem.strip(".") else ""

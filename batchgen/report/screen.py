"""Where lines go: a picture that is drawn over in place, and streams whose reader may leave."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


class Outlet:
    """A stream whose reader may go away (`| head`, a closed terminal, a full disk): the run goes on without it."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream: IO[str] | None = stream

    def say(self, line: str, end: str = "\n") -> None:
        """Write a line, or nothing if nobody can have it any more."""
        if self.stream is None:
            return
        try:
            self.stream.write(line + end)
            self.stream.flush()
        except (OSError, ValueError):
            # What stays in the buffer would fail again when the interpreter ends, and change the exit code.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
            self.stream = None


class Screen:
    """A few lines on a terminal, drawn over in place; closing takes them away."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self.console = Console(file=stream)
        self.outlet = Outlet(stream)
        self.widths: list[int] = []

    @property
    def usable(self) -> bool:
        """Whether the cursor can be moved."""
        return not (self.console.is_dumb_terminal or self.console.legacy_windows)

    def draw(self, picture: RenderableType) -> None:
        """Put `picture` where the last one was."""
        width = max(self.console.width - 1, 1)
        options = self.console.options.update(width=width, height=None)
        lines = self.console.render_lines(picture, options, pad=False)[: max(self.console.height - 1, 1)]
        with self.console.capture() as captured:
            for line in lines:
                for segment in line:
                    self.console.print(
                        segment.text, style=segment.style, end="", soft_wrap=True, markup=False, highlight=False
                    )
                self.console.print()
        self.outlet.say(self.erasure() + captured.get(), end="")
        self.widths = [sum(segment.cell_length for segment in line) for line in lines]

    def erasure(self) -> str:
        """What takes the last picture away. A terminal that has become narrower has folded its lines meanwhile."""
        rows = sum(max(1, -(-width // max(self.console.width, 1))) for width in self.widths)
        return f"\x1b[{rows}A\r\x1b[J" if rows else ""

    def close(self) -> None:
        self.outlet.say(self.erasure(), end="")
        self.widths = []

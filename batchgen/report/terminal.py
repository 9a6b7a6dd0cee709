"""Output streams: one whose reader may leave, JSON lines, and a few lines on a terminal that are redrawn in place."""

from __future__ import annotations

import io
import json
import os
import re
import select
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from batchgen.catalogue.amounts import json_default
from batchgen.catalogue.wording import plural
from batchgen.errors import StorageError
from batchgen.services.text import visible, visible_json

if TYPE_CHECKING:
    from rich.console import RenderableType


READER_SECONDS = 1.0  # in which a reader that reads at all takes something
PIECE_CHARS = 1_000  # that are written at once: an empty page of a pipe (4,096 bytes) takes them in any encoding
LINES_AND_TABS = re.compile(r"(\t|\r?\n)")
KEPT_STDOUT: list[IO[str]] = []
"""Standard output, while nothing but results may be written there (`keep_stdout`)."""


class OutputStream:
    """A stream that stops writing when its reader is gone (`| head`, a closed terminal, a full disk): a run goes on.

    None is a stream that nobody reads, as in a process without a console.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self.stream = stream
        self.failure: OSError | ValueError | None = None
        """Why nothing is written any more."""

    def is_read(self, seconds: float = 0) -> bool:
        """Whether a line can be written within `seconds`. A reader may stay and not read: `less`, or after Ctrl-S."""
        try:
            return self.stream is None or bool(select.select([], [self.stream.fileno()], [], seconds)[1])
        except (OSError, ValueError):  # no stream that a system can ask about
            return True

    def write(self, line: str) -> None:
        """Write and flush a line, whatever is in it. The first failure silences the stream for good."""
        self.write_raw(visible(line) + "\n")

    def write_text(self, text: str) -> None:
        """Write text for a program as it is. On a terminal, all but its lines and tabs is made harmless."""
        if self.stream is not None and self.stream.isatty():
            parts = LINES_AND_TABS.split(text)
            text = "".join(part if LINES_AND_TABS.fullmatch(part) else visible(part) for part in parts)
        self.write_raw(text)

    def write_raw(self, text: str) -> None:
        """Write and flush text which may control the terminal."""
        if self.stream is None:
            return
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.failure = error
            discard(self.stream)
            self.stream = None


def discard(stream: IO[str]) -> None:
    """Let nothing of a stream be written any more.

    Text left in its buffer would fail again when the interpreter exits, and change the exit code.
    """
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, stream.fileno())
        os.close(devnull)


def keep_stdout() -> None:
    """Keep standard output for results: what else writes to it, be it a plug-in, a thread or a child of one, or a
    library in C, writes to standard error from now on."""
    with suppress(OSError, ValueError):  # no stream of the system
        if sys.stdout.fileno() == 1:
            KEPT_STDOUT.append(os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace"))
            os.dup2(2, 1)
            sys.stdout = sys.stderr


def results() -> IO[str]:
    """The stream for results: standard output."""
    return KEPT_STDOUT[-1] if KEPT_STDOUT else sys.stdout


def drop_unread() -> None:
    """Write nothing more to a standard stream that nobody reads: whoever ends a run need not wait for a reader."""
    for stream in (results(), sys.stderr):
        if not OutputStream(stream).is_read(READER_SECONDS):
            discard(stream)


class UnawaitedLines:
    """Lines on standard error that hold up no run: what nobody reads within a moment is dropped."""

    def __init__(self) -> None:
        self.dropped = 0

    def write(self, *lines: str) -> None:
        output = OutputStream(sys.stderr)
        for line in lines:
            text = visible(line) + "\n"
            if self.dropped and output.is_read():
                text, self.dropped = f"… {plural(self.dropped, 'line')} left out, which nobody read\n{text}", 0
            for start in range(0, len(text), PIECE_CHARS):
                if self.dropped or not output.is_read(READER_SECONDS):
                    self.dropped += 1
                    break
                output.write_raw(text[start : start + PIECE_CHARS])


class LossyStream(io.TextIOWrapper):
    """Standard error, on which nothing depends: what cannot be written is dropped, whoever writes it."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return super().write(text)
        discard(self)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


def open_standard_streams() -> None:
    """Make the standard streams of this process safe to write to.

    The null device replaces one that is closed: otherwise the next file to be opened gets its number and its lines.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As standard error does by default: a name that the terminal cannot show must not end a run.
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        encoding = sys.stderr.encoding
        sys.stderr = LossyStream(sys.stderr.detach(), encoding, "backslashreplace", line_buffering=True)


def print_lines(*lines: str, err: bool = False) -> None:
    """Write lines to standard output or standard error. What came from a file or a service cannot harm a terminal.

    Raises `StorageError` where standard output cannot be written, `BrokenPipeError` where its reader has left.
    """
    output = OutputStream(sys.stderr if err else results())
    for line in lines:
        output.write(line)
    if not err:
        raise_failure(output)


def print_text(text: str) -> None:
    """Write text for a program to standard output: `OutputStream.write_text`. Raises what `print_lines` raises."""
    output = OutputStream(results())
    output.write_text(text)
    raise_failure(output)


def raise_failure(output: OutputStream) -> None:
    if isinstance(output.failure, BrokenPipeError):
        raise output.failure
    if output.failure:
        raise unwritable(output.failure)


def unwritable(failure: OSError | ValueError) -> StorageError:
    return StorageError(f"standard output cannot be written: {getattr(failure, 'strerror', None) or failure}")


def print_json(document: Mapping[str, Any], *, is_progress: bool = False) -> None:
    """Write a JSON line to standard output: times in ISO 8601, money as text, because it is exact.

    Raises `StorageError` where it cannot be written. A run goes on without its progress, and says so on standard error.
    """
    output = OutputStream(results())
    output.write_raw(visible_json(json.dumps(document, ensure_ascii=False, default=json_default)) + "\n")
    if output.failure is None or isinstance(output.failure, BrokenPipeError):
        return
    if not is_progress:
        raise unwritable(output.failure)
    print_lines(f"{unwritable(output.failure)}; the command goes on without it, and the job table has it all", err=True)


def show(event: Mapping[str, Any], *lines: str, notes: Sequence[str] = (), as_json: bool, err: bool = False) -> None:
    """Print an event for a program, or these lines for a person, with notes on standard error behind them.

    With `err`, the lines go there as well: they are progress.
    """
    if as_json:
        print_json(event, is_progress=err)
    else:
        print_lines(*lines, err=err)
        print_lines(*notes, err=True)


class RedrawnLines:
    """A few lines on a terminal, redrawn in place; `close` erases them.

    rich.live.Live would leave lines behind in a narrower terminal, hide the cursor after a killed run, and raise once
    the terminal is closed.
    """

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self.console = Console(file=stream)
        self.output = OutputStream(stream)
        self.widths: list[int] = []
        """The columns of each line that is drawn now."""

    @property
    def is_supported(self) -> bool:
        """Whether the terminal can move its cursor."""
        return not (self.console.is_dumb_terminal or self.console.legacy_windows)

    def draw(self, content: RenderableType) -> None:
        from rich.segment import Segment, SegmentLines

        width = max(self.console.width - 1, 1)
        options = self.console.options.update(width=width, height=None)
        lines = self.console.render_lines(content, options, pad=False)[: max(self.console.height - 1, 1)]
        lines = [[Segment(visible(text), style, control) for text, style, control in line] for line in lines]
        with self.console.capture() as captured:
            self.console.print(SegmentLines(lines, new_lines=True), end="")
        self.output.write_raw(self.erase_sequence() + captured.get())
        self.widths = [sum(segment.cell_length for segment in line) for line in lines]

    def erase_sequence(self) -> str:
        """The control sequence that erases the drawn lines. A narrower terminal has wrapped them onto more rows."""
        rows = sum(max(1, -(-width // max(self.console.width, 1))) for width in self.widths)
        return f"\x1b[{rows}A\r\x1b[J" if rows else ""

    def close(self) -> None:
        self.output.write_raw(self.erase_sequence())
        self.widths = []

"""The log on standard error: warnings that are sentences for a person; with `-v` what stages ask and are answered, with
`-vv` every request."""

import logging
from typing import Any

from batchgen.report.terminal import UnawaitedLines
from batchgen.services.text import visible

STANDARD = frozenset(vars(logging.makeLogRecord({})))
"""The attributes of every record. The others are fields."""


class FieldFormatter(logging.Formatter):
    """A line with the time, the logger, the event's name, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in STANDARD}
        shown = (f"{name}={visible(str(value))}" for name, value in fields.items() if value not in (None, ""))
        return " ".join((super().format(record), *shown))


class LineHandler(logging.Handler):
    """Writes records as lines that hold up no run."""

    def __init__(self, level: int, lines: UnawaitedLines) -> None:
        super().__init__(level)
        self.lines = lines
        self.is_silent = False
        """Set while a live display shows the same."""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.is_silent:
            self.lines.write(*self.format(record).split("\n"))


def is_sentence(record: logging.LogRecord) -> bool:
    return hasattr(record, "is_sentence")


def log_to_stderr(verbosity: int, lines: UnawaitedLines) -> LineHandler:
    """Show warnings that are sentences for a person, in the handler that is returned; with a verbosity of 1 the log of
    batchgen as well, and with 2 every request."""
    logger, sentences = logging.getLogger("batchgen"), LineHandler(logging.WARNING, lines)
    sentences.addFilter(is_sentence)
    logger.addHandler(sentences)
    if verbosity:
        handler = LineHandler(logging.NOTSET, lines)
        handler.setFormatter(FieldFormatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
        handler.addFilter(lambda record: not is_sentence(record))
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    if verbosity == 1:
        logging.getLogger("batchgen.http").setLevel(logging.INFO)
    return sentences

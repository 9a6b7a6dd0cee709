"""The log on standard error: warnings that are sentences for a person; with `-v` what stages ask and are answered, with
`-vv` every request."""

import logging
from typing import Any

from batchgen.report.terminal import print_lines
from batchgen.services.text import visible

STANDARD = frozenset(vars(logging.makeLogRecord({})))
"""The attributes of every record. The others are fields."""


class FieldFormatter(logging.Formatter):
    """A line with the time, the logger, the event's name, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in STANDARD}
        shown = (f"{name}={visible(str(value))}" for name, value in fields.items() if value not in (None, ""))
        return " ".join((super().format(record), *shown))


class SentenceHandler(logging.Handler):
    """Writes warnings that are sentences for a person, as lines of their own."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(is_sentence)
        self.is_silent = False
        """Set while a live display shows the same."""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.is_silent:
            print_lines(record.getMessage(), err=True)


def is_sentence(record: logging.LogRecord) -> bool:
    return hasattr(record, "is_sentence")


def log_to_stderr(verbosity: int) -> SentenceHandler:
    """Show the sentences; with a verbosity of 1 the log of batchgen, and with 2 every request as well."""
    logger, sentences = logging.getLogger("batchgen"), SentenceHandler()
    logger.addHandler(sentences)
    if verbosity:
        handler = logging.StreamHandler()
        handler.setFormatter(FieldFormatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
        handler.addFilter(lambda record: not is_sentence(record))
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    if verbosity == 1:
        logging.getLogger("batchgen.http").setLevel(logging.INFO)
    return sentences

"""The log on standard error, for `-v`: what stages ask and are answered, and with `-vv` every request."""

import logging
from typing import Any

from batchgen.services.text import visible

STANDARD = frozenset(vars(logging.makeLogRecord({})))
"""The attributes of every record. The others are fields."""


class FieldFormatter(logging.Formatter):
    """A line with the time, the logger, the event's name, and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {name: value for name, value in vars(record).items() if name not in STANDARD}
        shown = (f"{name}={visible(str(value))}" for name, value in fields.items() if value not in (None, ""))
        return " ".join((super().format(record), *shown))


def log_to_stderr(verbosity: int) -> None:
    """Show the log of batchgen; with a verbosity of 2, every request as well. Without verbosity, nothing."""
    if not verbosity:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter("%(asctime)s %(name)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("batchgen")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    if verbosity == 1:
        logging.getLogger("batchgen.http").setLevel(logging.INFO)

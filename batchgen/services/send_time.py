"""Fencing of requests by time: one that has not begun to leave by a moment is not sent at all.

No service refuses the request of a run whose lease has ended (Kleppmann, "How to do distributed locking", 2016), so the
run itself must not send it: it may have been stopped between its decision and the first byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

from batchgen import clock

SEND_BY: ContextVar[datetime | None] = ContextVar("SEND_BY", default=None)
"""Until when the requests of a task may begin to leave; None: always."""


@contextmanager
def sending_until(moment: datetime) -> Iterator[None]:
    """Requests in this block that have not begun to leave by `moment` fail, as not sent."""
    token = SEND_BY.set(moment)
    try:
        yield
    finally:
        SEND_BY.reset(token)


def is_too_late() -> bool:
    """Whether the time to send has passed; read at the last moment before a request leaves."""
    moment = SEND_BY.get()
    return moment is not None and clock.utcnow() > moment

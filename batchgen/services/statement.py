"""The account's statement: every page of its transactions, read to the end, each transaction counted once.

A service has the newest transactions first. While new ones arrive, those that were read already may move to a later
page and be listed again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import count

from batchgen.services.base import Service, Transaction, TransactionPage
from batchgen.services.outcomes import Throttled, Unavailable

PAUSE_FIRST, PAUSE_MAX = timedelta(seconds=1), timedelta(minutes=1)
"""Pauses between two requests for a page that does not come: they double from the first to the longest."""
TRIES = 6
"""How often a page is asked for: for about half a minute. A limit of requests a minute may need `PAUSE_MAX` once."""
RESTARTS = 3
"""How often the pages are read from the first again, because the service does not take a cursor of its own."""
FINAL = (HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
"""Answers of a service that shows this key no transactions: asked again, it says the same."""

Pause = Callable[[float], Awaitable[bool]]
"""Waits for so many seconds. True where nobody waits for the statement any more."""


class StatementRestarted(Exception):
    """The pages are read from the first again: what came so far does not count."""


class StatementBroken(Exception):
    """The statement cannot be read to its end. `answer` says why; None: the service lists no transactions."""

    def __init__(self, answer: Unavailable | Throttled | None) -> None:
        super().__init__(answer.reason if answer else "this service lists no charges")
        self.answer = answer


async def read_pages(
    service: Service, start: datetime, end: datetime, pause: Pause | None = None
) -> AsyncIterator[TransactionPage]:
    """The pages between two moments, newest first, without what is listed again. Without `pause` no page is retried.

    Raises `StatementBroken`, and `StatementRestarted` where a cursor is refused: the caller begins anew.
    """
    cursor: str | None = None
    before: tuple[str | None, Sequence[Transaction]] = (None, ())
    seen: set[int] = set()
    """Hashes of the transactions of all pages before: a set of them would need ten times the memory."""
    while True:
        page = await ask_page(service, start, end, cursor, pause)
        rows = [row for row in page.rows if hash(row) not in seen]
        if len(rows) < len(page.rows):
            # Nothing has moved if the page before is still the same: then equal rows are as many transactions.
            again = await ask_page(service, start, end, before[0], pause)
            rows = list(page.rows) if list(again.rows) == list(before[1]) else rows
        yield TransactionPage(rows, page.cursor, page.unreadable)
        if page.cursor is None:
            return
        seen.update(map(hash, rows))
        before, cursor = (cursor, page.rows), page.cursor


async def ask_page(
    service: Service, start: datetime, end: datetime, cursor: str | None, pause: Pause | None
) -> TransactionPage:
    """One page; a request without an answer is repeated after a pause."""
    wait = PAUSE_FIRST
    for number in count(1):
        answer = await service.transactions(start, end, cursor)
        if isinstance(answer, TransactionPage):
            return answer
        if answer is None or answer.http_status in FINAL:
            raise StatementBroken(answer)
        if answer.http_status == HTTPStatus.BAD_REQUEST and cursor is not None:
            raise StatementRestarted
        seconds = max(wait, answer.retry_after or wait).total_seconds()
        if pause is None or number == TRIES or await pause(seconds):
            raise StatementBroken(answer)
        wait = min(2 * wait, PAUSE_MAX)
    raise AssertionError("count() does not end")

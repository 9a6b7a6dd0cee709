"""The account's statement: every page of its transactions, read to the end, each transaction counted once.

A service has the newest first. New ones move those that were read to a later page, where they are listed again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TypeVar

from batchgen.services.base import Service, Transaction, TransactionPage
from batchgen.services.outcomes import NoAnswer, Unavailable

PAUSE_FIRST = timedelta(seconds=1)
"""The pauses between two requests without an answer double from one second."""
TRIES = 5
"""How often the same is asked, over about a quarter of a minute; a limit of requests a minute names its own pause."""
PAGES_MAX = 100_000
"""Of one statement, some ten million transactions: cursors that lead nowhere must end somewhere."""
FINAL = (400, 401, 402, 403, 404, 405, 501)
"""Answers of a service that shows this key no transactions: asked again, it says the same."""

T = TypeVar("T")
Pause = Callable[[float, str], Awaitable[None]]
"""Waits for so many seconds, for a reason that a person may read."""


class StatementRestarted(Exception):
    """The pages are read from the first again: what came so far does not count."""


class StatementBroken(Exception):
    """The statement cannot be read to its end. `answer` says why; None: the service lists no transactions."""

    def __init__(self, answer: NoAnswer | None) -> None:
        super().__init__(answer.reason if answer else "this service lists no charges")
        self.answer = answer


async def read_pages(
    service: Service, start: datetime, end: datetime, pause: Pause | None = None, pages_max: int = PAGES_MAX
) -> AsyncIterator[TransactionPage]:
    """The pages between two moments, newest first, without what is listed again. Without `pause` no page is retried.

    Raises `StatementBroken`, and `StatementRestarted` where a cursor is refused: the caller begins anew.
    """
    cursor: str | None = None
    cursor_before: str | None = None
    rows_before: Sequence[Transaction] = ()
    cursors: set[str] = set()
    seen: set[int] = set()
    """Hashes of the transactions of all pages before: a set of them would need ten times the memory."""
    for _ in range(pages_max):
        page = await ask_page(service, start, end, cursor, pause)
        # One id is one transaction, however often it is listed; without one, two equal ones of a page are two.
        listed = list({(row, not row.id and place): row for place, row in enumerate(page.rows)}.values())
        rows = [row for row in listed if hash(row) not in seen]
        if len(rows) < len(listed) and page.rows[0].at == rows_before[-1].at:
            # Equal transactions of one moment may stand on both sides of a page's end: if the page before is still the
            # same, nothing has moved, and they are as many as they are listed.
            again = await ask_page(service, start, end, cursor_before, pause)
            if list(again.rows) == list(rows_before):
                end = rows_before[-1].at
                rows = [row for row in listed if (not row.id and row.at == end) or hash(row) not in seen]
        yield TransactionPage(rows, page.cursor, page.unreadable)
        if page.cursor is None:
            return
        if page.cursor in cursors:
            raise StatementBroken(Unavailable("the pages of its transactions lead back to one that was read"))
        cursors.add(page.cursor)
        seen.update(map(hash, rows))
        cursor_before, cursor = cursor, page.cursor
        rows_before = page.rows or rows_before
    raise StatementBroken(Unavailable(f"it has more than {pages_max:,} pages"))


async def ask_page(
    service: Service, start: datetime, end: datetime, cursor: str | None, pause: Pause | None
) -> TransactionPage:
    """One page. Raises `StatementBroken`, `StatementRestarted`."""
    answer = await ask_patiently(lambda: service.transactions(start, end, cursor), pause)
    if isinstance(answer, TransactionPage):
        return answer
    if answer and answer.http_status == HTTPStatus.BAD_REQUEST and cursor is not None:
        raise StatementRestarted
    raise StatementBroken(answer)


async def ask_patiently(ask: Callable[[], Awaitable[T | NoAnswer]], pause: Pause | None) -> T | NoAnswer:
    """Ask until there is an answer, with growing pauses. Where none comes in time, what the service said instead."""
    wait = PAUSE_FIRST
    for number in range(1, TRIES + 1):
        answer = await ask()
        if not isinstance(answer, NoAnswer) or answer.http_status in FINAL or pause is None:
            return answer
        if number < TRIES:
            await pause(max(wait, answer.retry_after or wait).total_seconds(), answer.reason)
            wait *= 2
    return answer

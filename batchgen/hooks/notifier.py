"""Notifications by Apprise: mail, Slack, Telegram and many more, one address (URL) for each receiver.

A URL holds a password or a token. So it stays in this module: no row, message or log line has more of it than the word
before `://`. Each URL has a thread of its own, because Apprise blocks: a slow receiver delays neither the run nor the
other receivers.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from batchgen.errors import UsageError
from batchgen.services.text import one_line
from batchgen.stage import call_in

THREAD_NAME = "batchgen-notify"
QUEUED_MAX = 20  # messages that wait for a receiver: one that never answers must not collect a night of them
END_SECONDS = 20.0  # for which the end of a run waits for the last message
TITLE_CHARS = 120  # of a mail's subject or a chat's first line
LINE_CHARS = 300  # of a line of the text
LINES_MAX = 20  # of the text: a telephone shows fewer
MARKUP = str.maketrans({"<": "‹", ">": "›", "@": "＠", "`": "'"})
"""What chats and mail take for a tag, a mention or a quotation. A service's own words may stand in a message."""
SECRET_LOGGERS = ("apprise", "urllib3.connectionpool", "requests", "smtplib")
"""They log addresses with their tokens."""


@dataclass(frozen=True, slots=True)
class Message:
    """A notification: plain text, of bounded length, without markup."""

    title: str
    lines: Sequence[str] = ()

    @property
    def text(self) -> str:
        lines = [plain_text(line, LINE_CHARS) for line in self.lines[:LINES_MAX]]
        return "\n".join(filter(None, lines)) or plain_text(self.title, TITLE_CHARS)


def plain_text(text: str, most: int) -> str:
    """One printable line without markup and mentions."""
    return one_line(" ".join(text.split()), most).translate(MARKUP)


@dataclass(slots=True)
class Receiver:
    """One URL, and the thread that sends to it."""

    name: str
    """Its place among the URLs of the run, from 1, and the word before `://`."""
    deliver: Callable[..., Any] = field(repr=False)
    """Apprise's: takes text and title, and says whether the receiver took them."""
    queue: SimpleQueue[Message | None] = field(default_factory=SimpleQueue)
    thread: Thread | None = None


class Notifier:
    """Sends messages to every receiver, in order, beside the run. `on_failure` is called with a sentence.

    Raises `UsageError` where Apprise is not installed, or does not know a URL.
    """

    def __init__(self, urls: Collection[str]) -> None:
        self.receivers = receivers_of(urls)
        self.on_failure: Callable[[str], None] = lambda _reason: None

    def start(self) -> None:
        """Start the threads. They end with the process: a pool of threads, which `asset_of` keeps Apprise from making,
        would keep it alive."""
        loop = asyncio.get_running_loop()
        for receiver in self.receivers:
            receiver.thread = Thread(target=self.send_all, args=[receiver, loop], name=THREAD_NAME, daemon=True)
            receiver.thread.start()

    def notify(self, message: Message) -> None:
        for receiver in self.receivers:
            if receiver.queue.qsize() < QUEUED_MAX:
                receiver.queue.put(message)

    async def close(self) -> None:
        """Wait until everything is sent, for a bounded time."""
        for receiver in self.receivers:
            receiver.queue.put(None)
        await asyncio.gather(*map(self.wait_for, self.receivers))

    async def wait_for(self, receiver: Receiver) -> None:
        if receiver.thread:
            await asyncio.to_thread(receiver.thread.join, END_SECONDS)
            if receiver.thread.is_alive():
                self.on_failure(f"{receiver.name} does not answer: what was not sent within {END_SECONDS:g} s is lost")

    def send_all(self, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        """Send what comes, until `None` comes."""
        while message := receiver.queue.get():
            try:
                was_sent = receiver.deliver(message.text, plain_text(message.title, TITLE_CHARS))
            except Exception:  # whatever a library of a receiver raises: its text may have the URL
                was_sent = False
            if not was_sent:
                call_in(loop, self.on_failure, f"{receiver.name}: the receiver did not take “{message.title}”")


def receivers_of(urls: Collection[str]) -> list[Receiver]:
    """The receivers of these URLs. Raises `UsageError`; no message repeats a URL."""
    if not urls:
        return []
    try:
        import apprise  # Imported here: it takes longer than the start of batchgen, and only `--notify` needs it.
    except ImportError:
        raise UsageError('notifications need Apprise: pip install "batchgen[notify]". Nothing has been sent.') from None
    for name in SECRET_LOGGERS:
        logging.getLogger(name).addFilter(is_not_from_a_receiver)
    receivers = []
    for number, url in enumerate(urls, 1):
        if any("://" in word for word in url.split()[1:]):  # Apprise would read them as one address
            raise UsageError(f"--notify {number} holds several addresses: write --notify before each of them")
        with warnings.catch_warnings():  # Its first call imports its plug-ins, some of which warn of their libraries.
            warnings.simplefilter("ignore", DeprecationWarning)
            server = None if "://" not in url else apprise.Apprise.instantiate(url, asset_of(apprise))
        if server is None:
            raise UsageError(
                f"--notify {number} is no address that Apprise knows, such as mailto://user:password@example.com or"
                " json://localhost:8000. Its list: https://appriseit.com/services/. Nothing has been sent."
            )
        receiver = apprise.Apprise(asset=asset_of(apprise))
        receiver.add(server)
        deliver = partial(receiver.notify, body_format=apprise.NotifyFormat.TEXT)
        kind = plain_text(url.partition("://")[0], 20)
        receivers.append(Receiver(f"--notify {number} ({kind}://…)", deliver))
    return receivers


def asset_of(apprise: Any) -> Any:
    """An Apprise asset that sends in the thread that calls it.

    With a limit on its time, which newer ones of Apprise set, it would be called in a pool of threads. The interpreter
    waits for those at its end.
    """
    try:
        return apprise.AppriseAsset(async_mode=False, service_timeout=0)
    except AttributeError:  # an older one, which knows no such limit
        return apprise.AppriseAsset(async_mode=False)


def is_not_from_a_receiver(record: logging.LogRecord) -> bool:
    return not (record.threadName or "").startswith(THREAD_NAME)

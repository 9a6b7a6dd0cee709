"""batchgen with a crash at a chosen point: `python -m tests.campaign.crashing run batch.yaml`.

The hooks are installed from outside, before batchgen's own `main()` is called. The orders are JSON in the environment
variable CAMPAIGN_ORDERS:

    die     [point, n]: crash by os._exit(137) when `point` is reached for the n-th time
    count   a file to which the name of every point is appended when it is reached
    set     constants of batchgen by full name, with other values
    clock   seconds by which the system's clock is wrong
    defect  a defect to add on purpose, which the campaign must find
"""

from __future__ import annotations

import importlib
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Pool, event

from batchgen import clock
from batchgen.cli import main
from batchgen.services import aimlapi, http
from batchgen.services.base import Submission
from batchgen.services.outcomes import NotSent, Rejected, SubmitOutcome, Unknown

COMMIT_BEFORE = "crash point: before a commit"
COMMIT_AFTER = "crash point: after a commit"
REQUEST_BEFORE = "crash point: before a request"
REQUEST_SENT = "crash point: a request sent, no answer read"
REQUEST_ANSWERED = "crash point: an answer read"
POINTS = (COMMIT_BEFORE, COMMIT_AFTER, REQUEST_BEFORE, REQUEST_SENT, REQUEST_ANSWERED)

TRACE_EVENTS = {
    "http11.send_request_headers.started": REQUEST_BEFORE,
    "http11.receive_response_headers.started": REQUEST_SENT,
    "http11.receive_response_body.complete": REQUEST_ANSWERED,
}
"""The events of a request by which the HTTP client reports that it reaches each point."""

KILLED = 137


class Death:
    """Counts the crash points that the process reaches, and crashes it at one of them."""

    def __init__(self, die: list[Any] | None, count: str | None) -> None:
        self.die = (die[0], die[1]) if die else None
        self.count_file = Path(count) if count else None
        self.reached: Counter[str] = Counter()
        self.lock = threading.Lock()

    def pass_by(self, point: str) -> None:
        with self.lock:
            self.reached[point] += 1
            if (point, self.reached[point]) == self.die:
                os._exit(KILLED)
            if self.count_file:
                with self.count_file.open("a") as file:
                    file.write(f"{point}\n")


def watch_commits(death: Death) -> None:
    """Both sides of every transaction that changes something: before it is durable, and before its writer is told."""
    thread = threading.local()

    @event.listens_for(Engine, "begin")
    def begun(connection: Connection) -> None:
        connection.info["changes"] = changes(connection)

    @event.listens_for(Engine, "commit")
    def ending(connection: Connection) -> None:
        if changes(connection) != connection.info["changes"]:
            death.pass_by(COMMIT_BEFORE)
            thread.changed = True

    @event.listens_for(Pool, "checkin")
    def ended(_connection: object, _record: object) -> None:
        """The writer gives its connection back before it gives results to its callers."""
        if getattr(thread, "changed", False):
            thread.changed = False
            death.pass_by(COMMIT_AFTER)


def changes(connection: Connection) -> int:
    found: int = connection.connection.driver_connection.total_changes  # type: ignore[union-attr]
    return found


def watch_requests(death: Death) -> None:
    """Around every request: `http.RequestProgress` receives the trace events of all of them."""
    follow = http.RequestProgress.__call__

    async def watched(progress: http.RequestProgress, event: str, info: Mapping[str, Any]) -> None:
        if event in TRACE_EVENTS:
            death.pass_by(TRACE_EVENTS[event])
        await follow(progress, event, info)

    http.RequestProgress.__call__ = watched  # type: ignore[method-assign, assignment]


def replace(constants: dict[str, Any]) -> None:
    """Set constants to other values. A number of seconds becomes a timedelta where the constant is one."""
    for name, value in constants.items():
        module, _, constant = name.rpartition(".")
        kind = type(getattr(importlib.import_module(module), constant))
        setattr(importlib.import_module(module), constant, kind(0, value) if kind.__name__ == "timedelta" else value)


def shift_clock(seconds: float) -> None:
    """Let the system's clock be wrong by so many seconds, for batchgen alone."""

    class WrongClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    vars(clock)["datetime"] = WrongClock


def add_defect(defect: str) -> None:
    """Add a defect: treat a create whose answer was lost as not sent, or as rejected."""
    submit = aimlapi.AimlApi.submit
    outcomes: dict[str, Any] = {
        "retries blindly": lambda unknown: NotSent(unknown.reason),
        "gives up": lambda unknown: Rejected(unknown.reason),
    }

    async def submit_with_defect(self: aimlapi.AimlApi, submission: Submission) -> SubmitOutcome:
        outcome = await submit(self, submission)
        reported: SubmitOutcome = outcomes[defect](outcome) if isinstance(outcome, Unknown) else outcome
        return reported

    aimlapi.AimlApi.submit = submit_with_defect  # type: ignore[method-assign]


def install(orders: dict[str, Any]) -> None:
    """Install the hooks that the orders name."""
    if "die" in orders or "count" in orders:
        death = Death(orders.get("die"), orders.get("count"))
        watch_commits(death)
        watch_requests(death)
    replace(orders.get("set", {}))
    if "clock" in orders:
        shift_clock(orders["clock"])
    if "defect" in orders:
        add_defect(orders["defect"])


if __name__ == "__main__":
    install(json.loads(os.environ["CAMPAIGN_ORDERS"]))
    main()

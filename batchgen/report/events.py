"""The JSON lines that commands write with `--json`: `event_schema.py` makes the JSON Schema of them.

A line is one of these types; its `event` says which. Names and meanings stay; lines may gain fields.
"""

from __future__ import annotations

from batchgen.report.command_events import (
    Changed,
    Copied,
    Discrepancy,
    Error,
    Examined,
    GivenBack,
    Held,
    Reconciled,
    Settings,
    Status,
)
from batchgen.report.run_events import (
    Done,
    Elsewhere,
    Enrolled,
    Hooked,
    Moved,
    Notice,
    NotificationFailed,
    Steered,
    Waiting,
    Warned,
    Worked,
)

Event = (
    Enrolled
    | Warned
    | Elsewhere
    | Moved
    | Waiting
    | Notice
    | Hooked
    | NotificationFailed
    | Done
    | Status
    | Changed
    | Held
    | Settings
    | Steered
    | Worked
    | Discrepancy
    | Reconciled
    | Examined
    | Copied
    | GivenBack
    | Error
)

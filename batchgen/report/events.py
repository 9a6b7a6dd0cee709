"""The JSON lines that commands write with `--json`: `event_schema.py` makes the JSON Schema of them.

A line is one of these types; its `event` says which. Names and meanings stay; lines may gain fields. The rows of `sql`
and the records of `export` are no events: they have the columns that were asked for.
"""

from __future__ import annotations

from batchgen.report.command_events import (
    Changed,
    Checked,
    Copied,
    Discrepancy,
    Error,
    Examined,
    GivenBack,
    Held,
    Model,
    Planned,
    Reconciled,
    Settings,
    Status,
    VerdictsImported,
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
    | Checked
    | Planned
    | Model
    | VerdictsImported
    | Copied
    | GivenBack
    | Error
)

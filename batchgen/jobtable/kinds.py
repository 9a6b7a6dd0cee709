"""What the rows of `limits`, of `settings` and of `runs` are about."""

from __future__ import annotations

from enum import StrEnum


class LimitKind(StrEnum):
    SUBMITS = "submits"  #: create requests a minute
    POLLS = "polls"  #: polls a minute
    IN_FLIGHT = "in_flight"  #: generations at one time


class Hold(StrEnum):
    """Why a pending job is not submitted although the limits would allow it."""

    BUDGET = "budget"  #: it would exceed the cap
    PRICE = "price"  #: a request of an unknown price is in flight: no more until its charge is known
    TIME = "time"  #: it would not be done in time


class SettingName(StrEnum):
    """What a row of `settings` is about: a value that runs heed, or a command of a person that runs notice."""

    MANIFEST = "manifest"  #: what the manifest says beyond its jobs, as it was last enrolled, as JSON
    PAUSED = "paused"  #: nothing is submitted
    IN_FLIGHT = "in_flight"
    SUBMITS_PER_MINUTE = "submits_per_minute"
    POLLS_PER_MINUTE = "polls_per_minute"
    DOWNLOADS = "downloads"
    MAX_COST = "max_cost"
    UNTIL = "until"  #: a time, in ISO 8601
    PRIORITIZED = "prioritized"  #: jobs were given another place in the order
    RETRIED = "retried"
    CANCELLED = "cancelled"
    RESOLVED = "resolved"

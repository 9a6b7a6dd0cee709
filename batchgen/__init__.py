"""batchgen: a batch job runner for AI video generation.

A manifest of jobs becomes rows in a job table, and four small stages — scheduler, poller, downloader, reconciler — move
each row forward with guarded updates until its video lies on disk. The table alone is the truth; the process may die at
any instant, and the same command goes on.

    result = batchgen.run("m.yaml", max_cost=50, on_event=print)

The names below are the public Python API. They are imported when they are first used, so that a program which only asks
for the version waits for nothing.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchgen.api.checking import Check, check
    from batchgen.api.options import RunOptions
    from batchgen.api.running import RunEvent, Synced, arun, plan, run
    from batchgen.api.standing import BatchStatus, status
    from batchgen.dry_run import Plan
    from batchgen.errors import (
        AccountError,
        BatchgenError,
        ExitCode,
        ManifestChanged,
        ManifestInvalid,
        ServiceUnreachable,
        StorageError,
        UsageError,
    )
    from batchgen.jobs import State
    from batchgen.jobtable.statistics import Event, JobResult
    from batchgen.runs.ending import RunResult

__version__ = "0.1.0"
__all__ = [
    "AccountError",
    "BatchStatus",
    "BatchgenError",
    "Check",
    "Event",
    "ExitCode",
    "JobResult",
    "ManifestChanged",
    "ManifestInvalid",
    "Plan",
    "RunEvent",
    "RunOptions",
    "RunResult",
    "ServiceUnreachable",
    "State",
    "StorageError",
    "Synced",
    "UsageError",
    "arun",
    "check",
    "plan",
    "run",
    "status",
]

_MODULES = {
    "api.checking": {"Check", "check"},
    "api.options": {"RunOptions"},
    "api.running": {"RunEvent", "Synced", "arun", "plan", "run"},
    "api.standing": {"BatchStatus", "status"},
    "errors": {name for name in __all__ if name.endswith(("Error", "Invalid", "Changed", "Unreachable", "Code"))},
    "jobs": {"State"},
    "dry_run": {"Plan"},
    "runs.ending": {"RunResult"},
    "jobtable.statistics": {"Event", "JobResult"},
}

# A library leaves it to the program where its log goes.
logging.getLogger("batchgen").addHandler(logging.NullHandler())


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next(module for module, names in _MODULES.items() if name in names)
    return getattr(importlib.import_module(f"batchgen.{module}"), name)

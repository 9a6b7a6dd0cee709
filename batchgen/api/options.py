"""The options of a run: what they are, which values are refused, and what the run makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypedDict

from batchgen.advice.command_line import command_line
from batchgen.errors import UsageError
from batchgen.hooks.delivery_hook import DeliveryHook
from batchgen.hooks.notifier import Notifier
from batchgen.hooks.run_hooks import RunHooks
from batchgen.jobtable.selection import Selection
from batchgen.jobtable.sync import OnChanged
from batchgen.limits.steering import setting_text
from batchgen.manifest.header import read_limit
from batchgen.manifest.key_errors import NO_LIMIT
from batchgen.manifest.limits import NAMES, Limits


class RunOptions(TypedDict, total=False):
    """The options of `run`, `arun` and `plan`, as on the command line. None is the same as to leave one out."""

    db: str | Path | None
    """The job table: a file or an SQLAlchemy URL. Default: BATCHGEN_DB, else batchgen.db beside the manifest."""
    simulate: bool
    validate: bool
    changed: OnChanged | None
    """What to do with jobs that were edited after they were sent, or that were paid for before under another name."""
    only: Collection[str]
    """Shell patterns of ids."""
    where: str | None
    sample: int | None
    limit: int | None
    until: datetime | None
    submits_per_minute: float | Literal["auto"] | None
    in_flight: int | Literal["auto"] | None
    downloads: int | None
    max_cost: float | str | Decimal | None
    """USD. A float means what it shows: 0.1 is exactly 0.1."""
    notify: Collection[str]
    """Apprise URLs, which are notified at the end, of what stops the run, and when nothing has moved for 30 minutes."""
    exec: str | Sequence[str] | None
    """A command for each delivered file, as it would be typed, or its arguments. See `batchgen run --help`."""
    metrics: int | None
    """A port on loopback for Prometheus; 0 is any that is free."""
    wait_for_credits: bool
    """Whether the run waits for a top-up where the account has no credits left."""
    verify: bool
    """Whether the delivered files are compared with their SHA-256 at the end; otherwise, with their sizes."""


def is_text_or_texts(value: object) -> bool:
    return isinstance(value, Collection) and all(isinstance(text, str) for text in value)


CHECKS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "changed": ("neither refuse, keep nor redo", lambda value: value in ("refuse", "keep", "redo")),
    **dict.fromkeys(
        ("sample", "limit"),
        ("not a number of at least 1", lambda value: isinstance(value, int) and value is not True and value > 0),
    ),
    # Nothing chosen, as by a list that a program has worked out, means no job, and not every job.
    "only": (
        "neither a pattern nor a list of some; without `only`, all jobs are sent",
        lambda texts: is_text_or_texts(texts) and len(texts) > 0,
    ),
    **dict.fromkeys(("notify", "exec"), ("neither a text nor a list of texts", is_text_or_texts)),
    **dict.fromkeys(
        ("simulate", "validate", "wait_for_credits", "verify"),
        ("neither True nor False", lambda value: isinstance(value, bool)),
    ),
    "where": ("not a text", lambda value: isinstance(value, str)),
    "until": ("not a datetime", lambda value: isinstance(value, datetime)),
    "metrics": ("not a port", lambda value: type(value) is int and 0 <= value < 65_536),
}
"""What is wrong with a value of an option, and whether it is right; those of limits are read as the manifest's are."""


def refuse_wrong(options: RunOptions) -> None:
    """Raises `TypeError` for an option that does not exist (it may be a cap), `UsageError` for an impossible value."""
    if unknown := options.keys() - RunOptions.__annotations__.keys():
        raise TypeError(f"there is no option {' and '.join(sorted(unknown))}")
    for name, (fault, is_right) in CHECKS.items():
        if (value := options.get(name)) is not None and not is_right(value):
            raise UsageError(f"{name}: {repr(value)[:100]} is {fault}")
    typed_limits(options)


def until_of(options: RunOptions) -> datetime | None:
    """The time that the options name, in this machine's time zone unless it has one."""
    until = options.get("until")
    return until.astimezone() if until else None


def limits_of(manifest_limits: Limits, options: RunOptions) -> Limits:
    """The manifest's limits, with those of the options instead. Raises `UsageError` for a value that is none."""
    return replace(manifest_limits, **typed_limits(options))


def typed_limits(options: RunOptions) -> dict[str, Any]:
    """The limits that the options name, read as the manifest's are. Raises `UsageError`."""
    texts = {name: str(value) for name, value in options.items() if name in NAMES and value is not None}
    if texts.get("max_cost", "").lower() in NO_LIMIT:
        raise UsageError("`max_cost` is an amount in USD; left out, the manifest's is in force, and without one no cap")
    return {name: read_limit(name, text) for name, text in texts.items()}


def typed_json(options: RunOptions) -> str | None:
    """The typed limits and `until`, as JSON for the row of the run; None where there is none."""
    typed = {**typed_limits(options), "until": until_of(options)}
    texts = {name: setting_text(value) for name, value in typed.items() if value is not None}
    return json.dumps(texts) if texts else None


def selection_of(options: RunOptions) -> Selection:
    only = options.get("only")
    patterns = (only,) if isinstance(only, str) else tuple(() if only is None else only)
    return Selection(patterns, options.get("where"), options.get("sample"), options.get("limit"))


def hooks_of(options: RunOptions, manifest: Path) -> RunHooks:
    """What the options let a run of a manifest call outside. Raises `UsageError`."""
    urls, command, port = options.get("notify") or (), options.get("exec"), options.get("metrics")
    notifier = Notifier((urls,) if isinstance(urls, str) else urls)
    hook = DeliveryHook(command, manifest.parent) if command is not None else None
    server = None
    if port is not None:
        from batchgen.hooks.metrics import MetricsServer  # Imported here: only `--metrics` needs it.

        server = MetricsServer(port)
    simulate, db = options.get("simulate", False), options.get("db")
    db = Path(db).absolute() if db and "://" not in str(db) else db  # it is read on another machine, in another folder
    return RunHooks(
        notifier, hook, server, lambda name: command_line(name, manifest.absolute(), simulate=simulate, db=db)
    )

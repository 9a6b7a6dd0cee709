"""The file of verdicts that the review page saves: judged entry by entry, since it comes from a browser, or by mail.

JSON: {"format": "batchgen verdicts", "version": 1, "batch": …, "verdicts": [{"id", "clip", "verdict", "stars", "at"}]}.
`clip` is the beginning of the SHA-256 of the job's first file: a verdict is about a clip, not about an id. Of `verdict`
and `stars`, one that an entry leaves out stays as it is, since several people judge.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from batchgen.errors import UsageError, os_reason
from batchgen.files.input_file import InputFault, read_input
from batchgen.jobs import Verdict
from batchgen.services.text import character_fault

FORMAT = "batchgen verdicts"
VERSION = 1
FILE_BYTES_MAX = 50_000_000
"""Verdicts on some 300,000 clips."""
CLIP_DIGITS = 16
"""Of the SHA-256 of a job's first file, which name a clip: 64 bits, too many to coincide by chance."""
CLIP = re.compile(rf"[0-9a-f]{{{CLIP_DIGITS}}}")
ID_CHARS_MAX = 200
TIME_CHARS_MAX = 40  # ISO-8601 with microseconds and a zone has 32
STARS = range(1, 6)
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
"""There was no batchgen before."""
CLOCK_AHEAD_MAX = timedelta(minutes=10)
"""How far the clock of a reviewer's machine may be ahead."""


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What a person said of one clip."""

    id: str
    clip: str
    changes: Mapping[str, Any]
    """Its `verdict`, its `stars`, or both: fields of a judgement. None takes back what was said before."""
    at: datetime
    source: Path
    """The file that it comes from."""


@dataclass(slots=True)
class VerdictsFile:
    """A file of verdicts, and what is wrong in it: a sentence each, with its entry."""

    batch: str
    verdicts: list[FileVerdict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_verdicts(path: Path, now: datetime) -> VerdictsFile:
    """Read a file of verdicts. Raises `UsageError` where it is not one as a whole."""
    document = _read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UsageError(f"{path}: this is no file of verdicts; the review page saves one")
    if document.get("version") != VERSION:
        raise UsageError(f"{path}: a newer batchgen has written this file of verdicts; import it with that one")
    batch, entries = document.get("batch"), document.get("verdicts")
    if not isinstance(batch, str) or not isinstance(entries, list):
        raise UsageError(f"{path}: the file of verdicts is damaged: it names no batch, or has no list of verdicts")
    file = VerdictsFile(batch)
    for number, entry in enumerate(entries, 1):
        try:
            file.verdicts.append(_verdict_of(entry, path, now))
        except ValueError as error:
            name = entry.get("id") if isinstance(entry, dict) else None
            label = name[:ID_CHARS_MAX] if isinstance(name, str) and name else f"verdict {number}"
            file.problems.append(f"{path}: {label}: {error}")
    return file


def _read_json(path: Path) -> Any:
    try:
        return json.loads(read_input(path, FILE_BYTES_MAX).decode("utf-8-sig"))
    except (InputFault, OSError) as error:
        raise UsageError(f"{path}: {os_reason(error)}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested without end
        place = f" ({error})" if isinstance(error, json.JSONDecodeError) and error.pos else ""
        message = f"the file cannot be read as JSON{place}; save it in the review page once more"
        raise UsageError(f"{path}: {message}") from None


def _verdict_of(entry: Any, path: Path, now: datetime) -> FileVerdict:
    """One entry. Raises `ValueError`, which says what is wrong with it."""
    key, clip, changes = judged_clip(entry)
    if not changes:
        raise ValueError("has neither `verdict` nor `stars`")
    return FileVerdict(key, clip, changes, _time_of(entry.get("at"), now), path)


def judged_clip(entry: Any) -> tuple[str, str, dict[str, Any]]:
    """The job and the clip of an entry, and what it says of them: fields of a judgement. Raises `ValueError`."""
    if not isinstance(entry, Mapping):
        raise ValueError("is no verdict: it must be an object with id, clip, verdict, stars and at")
    key, clip = entry.get("id"), entry.get("clip")
    changes = {name: entry[name] for name in ("verdict", "stars") if name in entry}
    if not isinstance(key, str) or not 0 < len(key) <= ID_CHARS_MAX or character_fault(key):
        raise ValueError("has no id that a job could have")
    if not isinstance(clip, str) or not CLIP.fullmatch(clip):
        raise ValueError(f"`clip` must be {CLIP_DIGITS} hex digits: the beginning of the clip's SHA-256")
    if changes.get("verdict") is not None and changes["verdict"] not in list(Verdict):
        raise ValueError(f"`verdict` must be {' or '.join(Verdict)}, or null")
    if (stars := changes.get("stars")) is not None and (type(stars) is not int or stars not in STARS):
        raise ValueError(f"`stars` must be {STARS.start} to {STARS.stop - 1}, or null")
    return key, clip, changes


def _time_of(text: Any, now: datetime) -> datetime:
    """When a verdict was given. Raises `ValueError`."""
    try:
        local = datetime.fromisoformat(str(text)[:TIME_CHARS_MAX])
        at = local.astimezone(UTC) if local.tzinfo else None
    except (ValueError, OverflowError):
        at = None
    if at is None:
        raise ValueError("`at` must be a time with its zone, such as 2026-03-01T12:00:00Z")
    if at < EARLIEST:
        raise ValueError("`at` is before there was any batchgen")
    if at > now + CLOCK_AHEAD_MAX:
        raise ValueError("`at` is in the future; set the clock of the machine with the review page, and judge it again")
    return at

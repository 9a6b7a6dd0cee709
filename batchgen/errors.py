"""What can go wrong, as one tree; each class knows the exit code its user sees.

BatchgenError              1  a defect in batchgen itself, unless a subclass says otherwise
├── UsageError             2  the command cannot be carried out as typed
│   ├── ManifestInvalid    2  problems in a manifest, all of them at once
│   ├── DatabaseNewer      2  the job table was written by a newer batchgen
│   └── ManifestChanged    2  jobs already paid for were edited; a person must say keep or redo
├── AccountError           4  no key, a key that is refused, or no credits
├── ServiceUnreachable     6  the service never answered
└── StorageError           8  disk, output folder or database file cannot be used
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class BatchgenError(Exception):
    """The root. `str(error)` is the whole message for a person: what happened, where, what to do next."""

    exit_code = 1


class UsageError(BatchgenError):
    """The command cannot be carried out as typed."""

    exit_code = 2


SHOWN_PROBLEMS = 50
"""More than anybody reads at once; `problems` holds them all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a manifest, and where: `line` and `column` count from 1."""

    message: str
    path: Path
    line: int = 1
    column: int = 1
    hint: str = ""

    def __str__(self) -> str:
        told = f"{self.path}:{self.line}:{self.column}: {self.message}"
        return f"{told}\n{self.hint}" if self.hint else told


class ManifestInvalid(UsageError):
    """The manifest holds `problems`, in the order in which they stand in the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (str(problem.path), problem.line, problem.column))
        shown = [str(problem) for problem in self.problems[:SHOWN_PROBLEMS]]
        if more := len(self.problems) - len(shown):
            shown.append(f"… and {more} more")
        super().__init__("\n".join(shown))


class DatabaseNewer(UsageError):
    """The job table was written by a newer batchgen and has been left untouched."""


class ManifestChanged(UsageError):
    """Jobs that were already sent to the service read otherwise in the manifest now."""


class AccountError(BatchgenError):
    """No API key, a key that the service refuses, or no credits."""

    exit_code = 4


class ServiceUnreachable(BatchgenError):
    """The service never answered."""

    exit_code = 6


class StorageError(BatchgenError):
    """The disk, the output folder or the database file cannot be used."""

    exit_code = 8

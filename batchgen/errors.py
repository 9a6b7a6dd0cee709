"""The exit codes, and everything that can go wrong as one tree of exceptions.

BatchgenError              a defect in batchgen itself, unless a subclass says otherwise
├── UsageError             the command cannot be carried out as typed
│   ├── ManifestInvalid    problems in a manifest, all of them at once
│   ├── DatabaseNewer      the job table was written by a newer batchgen
│   └── ManifestChanged    jobs already paid for were edited; a person must say keep or redo
├── AccountError           no key, a key that is refused, or no credits
├── ServiceUnreachable     the service never answered
└── StorageError           disk, output folder or database file cannot be used
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path


class ExitCode(IntEnum):
    """How a command ends, with what it means to a person. The only list of exit codes; `--help` is made from it."""

    meaning: str

    DELIVERED = 0, "all delivered"
    INTERNAL_ERROR = 1, "internal error"
    USAGE = 2, "usage or invalid manifest"  # click ends with 2 for a wrong option, too
    INCOMPLETE = 3, "ended, but not every job delivered"
    ACCOUNT = 4, "key or credits"
    LIMIT_REACHED = 5, "budget or time cap"
    UNREACHABLE = 6, "service unreachable"
    STORAGE = 8, "disk or output"
    INTERRUPTED = 130, "interrupted"  # 128 + SIGINT, as shells count
    TERMINATED = 143, "interrupted"  # 128 + SIGTERM

    def __new__(cls, code: int, meaning: str = "") -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    @classmethod
    def legend(cls) -> list[str]:
        """The codes with their meanings, such as "0 all delivered"; codes of one meaning stand together."""
        meanings = dict.fromkeys(code.meaning for code in cls)
        return [f"{', '.join(str(int(code)) for code in cls if code.meaning == text)} {text}" for text in meanings]


class BatchgenError(Exception):
    """The root. `str(error)` is the whole message for a person: what happened, where, what to do next."""

    exit_code = ExitCode.INTERNAL_ERROR


class UsageError(BatchgenError):
    """The command cannot be carried out as typed."""

    exit_code = ExitCode.USAGE


SHOWN_PROBLEMS = 50
"""Bounds the message of `ManifestInvalid`: more than anybody reads at once. `problems` holds them all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a manifest, and where: `line` and `column` count from 1."""

    message: str
    path: Path
    line: int = 1
    column: int = 1
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.path}:{self.line}:{self.column}: {self.message}"
        return f"{text}\n{self.hint}" if self.hint else text


class ManifestInvalid(UsageError):
    """The manifest has `problems`, in the order in which they stand in the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda problem: (str(problem.path), problem.line, problem.column))
        shown = [str(problem) for problem in self.problems[:SHOWN_PROBLEMS]]
        if more := len(self.problems) - len(shown):
            shown.append(f"… and {more} more")
        super().__init__("\n".join(shown))


class DatabaseNewer(UsageError):
    """The job table was written by a newer batchgen and has been left untouched."""


class ManifestChanged(UsageError):
    """Jobs that were already sent to the service have been edited in the manifest."""


class AccountError(BatchgenError):
    """No API key, a key that the service refuses, or no credits."""

    exit_code = ExitCode.ACCOUNT


class ServiceUnreachable(BatchgenError):
    """The service never answered."""

    exit_code = ExitCode.UNREACHABLE


class StorageError(BatchgenError):
    """The disk, the output folder or the database file cannot be used."""

    exit_code = ExitCode.STORAGE

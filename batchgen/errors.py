"""The exit codes, and the tree of exceptions that lead to them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

DECIDE = "decide: --changed keep takes over what was paid for, --changed redo pays once more"
RAISE = "with a higher --max-cost or a later --until, the same command goes on"
MEND = "mend the disk, the folder, the store or the job table as the message says; then the same command goes on"
GOES_ON = "the same command goes on where this one stopped"
INIT_WRITES = "`batchgen init` writes one"
"""The advice for a missing manifest."""


class ExitCode(IntEnum):
    """How a command ends, what that means to a person, and what one does after a run that ended so.

    The only list of exit codes: `--help`, the README and the advice of `run` and `status` are made from it.
    """

    meaning: str
    hint: str
    """What to do next; "" where that depends on the jobs."""
    command: str
    """The command of batchgen for it, without its arguments."""

    DELIVERED = 0, "all delivered", "look at the clips, and pick the good ones", "review"
    INTERNAL_ERROR = 1, "internal error", "this is a defect of batchgen: please report the message"
    USAGE = 2, "usage or invalid manifest", DECIDE, "run --changed keep"  # click ends with 2 for a wrong option, too
    INCOMPLETE = 3, "ended, but not every job delivered"
    ACCOUNT = 4, "key or credits", "top up the account or set a valid key; then the same command goes on", "run"
    LIMIT_REACHED = 5, "budget or time cap", RAISE  # the same command as it stands would end so again
    UNREACHABLE = 6, "service unreachable", "once the service answers, the same command goes on", "run"
    STORAGE = 8, "disk or output", MEND, "run"  # 7 stands for nothing: programs know 8
    INTERRUPTED = 130, "interrupted", GOES_ON, "run"  # 128 + SIGINT, as shells count
    TERMINATED = 143, "interrupted", GOES_ON, "run"  # 128 + SIGTERM

    def __new__(cls, code: int, meaning: str = "", hint: str = "", command: str = "") -> Self:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning, member.hint, member.command = meaning, hint, command
        return member

    @property
    def recurs(self) -> bool:
        """Whether the next run would end so as well, until a person has done what the hint says."""
        waits = (ExitCode.USAGE, ExitCode.ACCOUNT, ExitCode.LIMIT_REACHED, ExitCode.UNREACHABLE, ExitCode.STORAGE)
        return self in waits

    @property
    def is_repeatable(self) -> bool:
        """The same command goes on, once the reason is gone."""
        return self.command == "run"

    @classmethod
    def legend(cls) -> dict[str, str]:
        """Codes and meanings, for `--help` and the README. Codes with the same meaning are one entry: "130, 143"."""
        codes: dict[str, list[str]] = {}
        for code in cls:
            codes.setdefault(code.meaning, []).append(str(int(code)))
        return {", ".join(numbers): meaning for meaning, numbers in codes.items()}


NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})  # of a process, or a machine


def os_reason(error: BaseException) -> str:
    """An error of the system, in its words; in ours where those do not say what a person does."""
    if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS:
        return "too many files are open here: raise the number that may be (ulimit -n)"
    return getattr(error, "strerror", None) or str(error)


class BatchgenError(Exception):
    """The root: a defect of batchgen, unless it is a subclass.

    `str(error)` is the whole message for a person: what happened, where, what to do next.
    """

    exit_code = ExitCode.INTERNAL_ERROR


class UsageError(BatchgenError):
    """The command cannot be carried out as typed."""

    exit_code = ExitCode.USAGE


SHOWN_PROBLEMS = 50  # in the message of `ManifestInvalid`: more than anybody reads at once


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
        self.service: str | None = None
        """The service that the manifest names, as far as it could be read."""
        self.problems = sorted(problems, key=lambda problem: (str(problem.path), problem.line, problem.column))
        shown = [str(problem) for problem in self.problems[:SHOWN_PROBLEMS]]
        if more := len(self.problems) - len(shown):
            shown.append(f"… and {more} more")
        super().__init__("\n".join(shown))


class DatabaseNewer(UsageError):
    """The job table was written by a newer batchgen and has been left untouched."""


class ManifestChanged(UsageError):
    """Jobs that were sent have been edited, or a request was paid for before; a person must say keep or redo."""


class Interrupted(BatchgenError):
    """Ctrl-C ended a command, before a run handled it or after one ended."""

    exit_code = ExitCode.INTERRUPTED


class AccountError(BatchgenError):
    """No API key, a key that the service refuses, or no credits."""

    exit_code = ExitCode.ACCOUNT


class ServiceUnreachable(BatchgenError):
    """The service has not answered at all, or not for hours."""

    exit_code = ExitCode.UNREACHABLE


class StorageError(BatchgenError):
    """The disk, the output folder or the database file cannot be used."""

    exit_code = ExitCode.STORAGE


class TableLocked(StorageError):
    """Another program has locked the job table for longer than the command waits."""

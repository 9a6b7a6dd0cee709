"""Findings of an examination: a sentence on each trouble and, where there is one, the command that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batchgen.errors import ExitCode
from batchgen.services.text import shell_word


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's. `exit_code` is how a run would end for it: 0 where nothing is wrong."""

    check: str
    """What was examined, in a word: key, table, files, …"""
    message: str
    mend: str = ""
    """A command of the shell; "" where none does it."""
    exit_code: ExitCode = ExitCode.DELIVERED

    @property
    def is_ok(self) -> bool:
        return self.exit_code is ExitCode.DELIVERED


def ok(check: str, message: str) -> Finding:
    return Finding(check, message)


def problem(check: str, message: str, mend: str = "", exit_code: ExitCode = ExitCode.INCOMPLETE) -> Finding:
    return Finding(check, message, mend, exit_code)


def shell(*words: str | Path) -> str:
    """A command with its words quoted."""
    return " ".join(shell_word(str(word)) for word in words)


def move_aside(paths: Iterable[Path]) -> str:
    """The command that gives files another name, which keeps them: clip.mp4 → clip.mp4.aside."""
    return " && ".join(shell("mv", "-n", "--", path, path.with_name(f"{path.name}.aside")) for path in paths)

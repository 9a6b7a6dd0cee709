"""What a person or a program does about what jobs wait for, and about an error: `hint` and `next` of the JSON lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from batchgen.advice.command_line import MANIFEST_SUFFIXES, typed_again, with_keep
from batchgen.errors import (
    AccountError,
    BatchgenError,
    DatabaseNewer,
    ExitCode,
    ManifestChanged,
    ManifestInvalid,
    TableLocked,
    UsageError,
)
from batchgen.report.command_events import Error, ProblemAt
from batchgen.report.run_events import Advice
from batchgen.services.text import shell_word

ToType = Callable[[str], str]
"""From the name of a command to its text for the same batch."""
PROBLEMS_SHOWN = 1_000  # of a manifest, in one line of JSON
HINTS: dict[type[BatchgenError], str] = {
    ManifestInvalid: "correct the manifest at these places; `check` reads it again and sends nothing",
    ManifestChanged: ExitCode.USAGE.hint,
    DatabaseNewer: "install the batchgen that wrote this job table, or a newer one",
    UsageError: "correct the command as the message says; --help shows its options",
    AccountError: "set a valid key; then the same command goes on",  # no command is refused for the lack of credits
    TableLocked: "end the other program, or wait for it; then the same command goes on",
}
"""Of errors that need another hint than their exit code has, the most special one first."""


def error_json(error: BatchgenError, arguments: Sequence[str]) -> Error:
    """An error for programs; `arguments` are those of the command that failed."""
    hint = next((text for kind, text in HINTS.items() if isinstance(error, kind)), error.exit_code.hint)
    if is_missing(error):
        hint = "name a manifest that is there, or let `batchgen init` write one"
    problems = error.problems[:PROBLEMS_SHOWN] if isinstance(error, ManifestInvalid) else []
    return {
        "event": "error",
        "exit_code": error.exit_code,
        "message": str(error),
        "hint": hint,
        "next": next_after(error, arguments),
        "problems": [
            ProblemAt(message=at.message, path=str(at.path), line=at.line, column=at.column, hint=at.hint)
            for at in problems
        ],
    }


def usage_json(message: str, arguments: Sequence[str]) -> Error:
    """A wrong option or argument, as it is typed, for programs."""
    error = error_json(UsageError(message), arguments)
    error["next"] = " ".join(["batchgen", *arguments[:1], "--help"])
    return error


def next_after(error: BatchgenError, arguments: Sequence[str]) -> str | None:
    if is_missing(error):
        return None
    if isinstance(error, ManifestInvalid) and error.problems:
        manifest = next((word for word in arguments[1:] if word.endswith(MANIFEST_SUFFIXES)), None)
        return f"batchgen check {shell_word(manifest or str(error.problems[0].path))}"
    if isinstance(error, ManifestChanged):
        return with_keep(arguments)
    return typed_again(arguments) if error.exit_code.is_repeatable else None


def is_missing(error: BatchgenError) -> bool:
    """Whether the manifest itself is not there."""
    return isinstance(error, ManifestInvalid) and any(not os.path.lexists(problem.path) for problem in error.problems)


def next_line(hint: str, command: str | None = None) -> str:
    """`hint` and `next` as text; without a hint, the command alone."""
    return f"Next: {': '.join(filter(None, (hint, command and f'`{command}`')))}"


def advice(hint: str, command: str | None = None) -> Advice:
    """`hint` and `next` of a JSON line."""
    return {"hint": hint, "next": command or None}

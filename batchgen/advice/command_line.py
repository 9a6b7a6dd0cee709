"""The text of a command that a person may type next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from batchgen.services.text import shell_word

MANIFEST_SUFFIXES = (".yaml", ".yml")
"""A word that ends so is taken for a manifest."""
OPTIONS_WITH_SECRETS = ("--notify", "--db")
TAKE_SIMULATE = (
    *("cancel", "export", "next", "pause", "plan", "prioritize", "reconcile", "report", "resolve", "resume", "retry"),
    *("review", "run", "set", "status", "verdicts"),
)
"""Commands that take --simulate."""
GROUPS = ("verdicts",)
"""Commands that have commands of their own, which come before the manifest."""


def command_line(
    name: str, manifest: str | Path | None, *, simulate: bool = False, db: str | Path | None = None
) -> str:
    """A command of batchgen on a batch, to type: `batchgen retry m.yaml`. It has no URL, which may hold a password."""
    words = name.split()
    size = 2 if words[0] in GROUPS else 1
    path = f"./{manifest}" if str(manifest).startswith("-") else str(manifest)  # it is no option
    words = ["batchgen", *words[:size], *([shell_word(path)] if manifest else []), *words[size:]]
    if simulate and words[1] in TAKE_SIMULATE:
        words.append("--simulate")
    if db:
        words += ["--db", "URL" if "://" in str(db) else shell_word(str(db))]
    return " ".join(words)


def with_ids(command: str, keys: Sequence[str]) -> str:
    """A command on some jobs. An id that begins as an option does must not be read as one: `--new` pays again."""
    dashes = ["--"] if any(key.startswith("-") for key in keys) else []
    return " ".join([command, *dashes, *map(shell_word, keys)])


def options_of(*texts: str | None, reached: str | None = None) -> str:
    """Options from the row of a run (JSON), to type after another command: " --max-cost 20".

    Without `until`, which may have passed. `reached` is the limit that has ended the run: a person fills in its value.
    """
    words = []
    for text in filter(None, texts):
        try:
            values = dict(json.loads(text))
        except (ValueError, TypeError, RecursionError):  # a row that somebody else has written
            continue
        for name, value in values.items():
            option = f"--{name.replace('_', '-')}"
            if name == reached:
                words += [option, "…"]
            elif name != "until":
                for one in value if isinstance(value, list) else [value]:
                    words += [option, shell_word(str(one))]
    return "".join(f" {word}" for word in words)


def with_keep(arguments: Sequence[str]) -> str:
    """The same command with --changed keep, whatever it said before."""
    return typed_again([*without(arguments, "--changed"), "--changed", "keep"])


def without_redo(arguments: Sequence[str]) -> str:
    """The command that goes on with a run. What was to be paid for again is in the job table: said once more, it would
    be said of what nobody has been shown."""
    is_redo = "--changed=redo" in arguments or "--changed redo" in " ".join(arguments)
    return typed_again(without(arguments, "--changed") if is_redo else arguments)


def without(arguments: Sequence[str], option: str) -> list[str]:
    """The arguments without an option and its value."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [word for before, word in pairs if option not in (before, word.partition("=")[0])]


def typed_again(arguments: Sequence[str]) -> str:
    """The same command, to type. `URL` stands for an address in it, which may hold a password."""
    words = ["batchgen"]
    for before, word in zip(["", *arguments], arguments, strict=False):
        name, sign, value = word.partition("=")
        if name in OPTIONS_WITH_SECRETS and sign and ("://" in value or name == "--notify"):
            words.append(f"{name}=URL")
        else:
            is_secret = before == "--notify" or ("://" in word and (before == "--db" or arguments[0] == "db"))
            words.append("URL" if is_secret else shell_word(word))
    return " ".join(words)

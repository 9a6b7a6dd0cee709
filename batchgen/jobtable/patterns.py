"""Jobs by shell patterns, as commands take them: 'hero-*'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from batchgen.catalogue.wording import nearest_hint
from batchgen.errors import UsageError

COMPARED = 1_000  # ids that one without a match is compared with, to suggest another: a million would take a minute


def is_pattern(text: str) -> bool:
    """Whether a shell would take the text for a pattern."""
    return re.search(r"[*?\[]", text) is not None


def matching(keys: Iterable[str], patterns: Sequence[str], option: str = "") -> list[list[str]]:
    """The keys that each id or shell pattern fits, each key once. Raises `UsageError` for one that fits none.

    `option` stands before a pattern in that message.
    """
    groups: list[list[str]] = []
    unmatched = dict.fromkeys(keys)
    all_keys = dict(unmatched)
    for pattern in patterns:
        fitting = [pattern] if pattern in all_keys else [key for key in all_keys if fnmatchcase(key, pattern)]
        if not fitting:
            hint = nearest_hint(pattern.strip("*?"), list(all_keys)[:COMPARED])
            raise UsageError(f"{option}{pattern}: fits the id of no job of this batch{f'; {hint}' if hint else ''}")
        groups.append([key for key in fitting if key in unmatched])
        for key in fitting:
            unmatched.pop(key, None)
    return groups

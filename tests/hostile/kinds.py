"""The table of the hostile variants that were written by hand, made from the tests that have the marker `hostile`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADS = ("kind", "variants", "what is seen")


class Tally:
    """A pytest plug-in that counts the variants by kind, and those that fail."""

    def __init__(self) -> None:
        self.kinds: dict[str, tuple[str, str]] = {}
        """The kind and what is seen, by the id of a test."""
        self.failed: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            marker = item.get_closest_marker("hostile")
            assert marker
            kind, seen = marker.args
            self.kinds[item.nodeid] = kind, seen

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def run_variants() -> Tally:
    """Run every marked test, in this process."""
    tally = Tally()
    pytest.main([str(ROOT / "tests"), "-m", "hostile", "-n", "0", "-p", "no:cacheprovider"], plugins=[tally])
    return tally


def table(tally: Tally) -> str:
    """A Markdown table: a row for each kind, and the sum."""
    counts = Counter(tally.kinds.values())
    rows = [(kind, f"{number:,}", seen) for (kind, seen), number in sorted(counts.items())]
    rows.append(("**all**", f"{counts.total():,}", f"{len(tally.failed)} fail"))
    lines = [HEADS, ("---", "---:", "---"), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)

"""The table of the hostile variants that were written by hand, made from the tests that have the marker `hostile`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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


def table_of_variants() -> str | None:
    """Run every marked test, in a process of its own, as pytest needs; None where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.md"
        code = subprocess.run([sys.executable, "-m", "tests.hostile.kinds", path], cwd=ROOT).returncode
        return None if code else path.read_text("utf-8")


def table(tally: Tally) -> str:
    """A Markdown table: a row for each kind, and the sum."""
    counts = Counter(tally.kinds.values())
    rows = [(kind, f"{number:,}", seen) for (kind, seen), number in sorted(counts.items())]
    rows.append(("**all**", f"{counts.total():,}", f"{len(tally.failed)} fail"))
    lines = [HEADS, ("---", "---:", "---"), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def main(path: Path) -> int:
    """Write the table to a file. Returns pytest's exit code."""
    tally = Tally()
    code = pytest.main(["-m", "hostile", "-n", "0", "-p", "no:cacheprovider"], plugins=[tally])
    path.write_text(table(tally), "utf-8")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""Where a job is written: the file, the place in it, and the row or cell that it was made from."""

from __future__ import annotations

from typing import NamedTuple

from batchgen.manifest.source import Findings, Origin, Place


class Spot(NamedTuple):
    """Where a job, or something of it, is written."""

    findings: Findings
    place: Place
    origin: Origin | None = None

    def add(self, message: str, label: str = "") -> None:
        self.findings.add(self.place, message, label, self.origin)

    def told(self, beside: Spot) -> str:
        """This place in words, for a message that stands at another."""
        source = self.findings.source
        elsewhere = source is not beside.findings.source
        line = f"at {source.path}:{self.place.line}" if elsewhere else f"on line {self.place.line}"
        return f"{line} ({self.origin})" if self.origin and str(self.origin) else line

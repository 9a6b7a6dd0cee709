"""The folder that a manifest's paths are relative to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Folder:
    path: Path
    """Absolute."""
    prefix: str = ""
    """The prefix that makes a path in this folder relative to the main manifest's folder."""
    shown: Path = field(default_factory=Path)
    """The folder as the user would write it."""
    files_read: dict[str, str] = field(default_factory=dict)
    """The files that the manifests name, other than media: path → "include" or "rows". All folders share it."""

    def add_file(self, path: str, kind: str) -> None:
        self.files_read[self.join(path)] = kind

    def of_included(self, path: str) -> Folder:
        """The folder of the manifest at `path`, which a manifest in this folder includes."""
        parent = Path(path).parent.as_posix()
        prefix = "" if parent == "." else parent.rstrip("/") + "/"
        return Folder(self.path / parent, self.join(prefix), self.shown / parent, self.files_read)

    def join(self, path: str) -> str:
        """A path in this folder, made relative to the main manifest's folder."""
        return path if not self.prefix or not path or Path(path).is_absolute() else f"{self.prefix}{path}"

"""The outputs of a manifest's jobs: no two share one, and none lies over a file that is read."""

from collections.abc import Iterable
from posixpath import normpath

from batchgen.files.output_paths import folded
from batchgen.manifest.diagnostics import Location


class Outputs:
    """The output paths of all jobs, to find two that collide."""

    def __init__(self) -> None:
        self.files: dict[str, Location] = {}
        self.folders: dict[str, Location] = {}

    def add(self, path: str, location: Location) -> bool:
        """Add the path of the job at `location`. Reports a collision and returns False."""
        key = folded(path)
        first = self.files.setdefault(key, location)
        if first is not location:
            location.report(f"two jobs would be written to {path}", f"the other is {first.seen_from(location)}")
            return False
        while (key := key.rpartition("/")[0]) and key not in self.folders:
            self.folders[key] = location
        return True

    def report_overwrites(self, manifests: Iterable[str], rows: Iterable[str], images: Iterable[str]) -> None:
        """Report videos that would replace a folder or a file that is read. Paths are relative to the main manifest."""
        for key in self.files.keys() & self.folders.keys():
            location = self.files[key]
            location.report(f"a video would be written to {key}, a folder {self.folders[key].seen_from(location)}")
        for owner, paths in (
            ("the manifest", manifests),
            ("a file of rows", rows),
            ("an image that the jobs use", images),
        ):
            for path in paths:
                if overwriting := self.files.get(folded(normpath(path))):
                    overwriting.report(f"the video would be written over {owner}: {path}")

"""Text → validated jobs, with the place of everything that is wrong. Pure: no database, no network."""

from batchgen.manifest.limits import AUTO, Limits
from batchgen.manifest.reading import Manifest, read

__all__ = ["AUTO", "Limits", "Manifest", "read"]

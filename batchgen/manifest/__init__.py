"""Text → validated jobs, with the place of everything that is wrong. Pure: no database, no network."""

from batchgen.manifest.limits import Limits
from batchgen.manifest.reading import Manifest, digest, read

__all__ = ["Limits", "Manifest", "digest", "read"]

"""The local images that a manifest names: there, readable, and images."""

from __future__ import annotations

import stat
import warnings
from pathlib import Path

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


class Images:
    """Looks at each file once, however many jobs share it. Paths are relative to `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, str | None] = {}

    def fault(self, path: str) -> str | None:
        """What is wrong with the image at `path`, or None."""
        if path not in self.faults:
            self.faults[path] = _fault(self.folder, path)
        return self.faults[path]


def _fault(folder: Path, path: str) -> str | None:
    from PIL import Image, UnidentifiedImageError

    if not path.strip() or not path.isprintable():
        return "this is not a path"
    try:
        found = (folder / path).stat()
        if stat.S_ISDIR(found.st_mode):
            return "this is a folder, not an image"
        if not stat.S_ISREG(found.st_mode):
            return "this is not a regular file"
        if found.st_size == 0:
            return "the file is empty"
        with warnings.catch_warnings():
            # Large pictures and odd metadata are the service's to judge; only the header is read here.
            warnings.simplefilter("ignore")
            with Image.open(folder / path, formats=FORMATS) as image:
                image.size  # noqa: B018  the header must hold a size
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no such file beside the manifest: {path[:200]}"
    except PermissionError:
        return "the file may not be read"
    except UnidentifiedImageError:
        return f"the file is not an image ({', '.join(FORMATS)})"
    except Image.DecompressionBombError:
        return "the image has too many pixels"
    except OSError as error:
        return f"the file cannot be read: {error.strerror or 'it is damaged'}"
    except (ValueError, SyntaxError, EOFError, OverflowError):
        return "the image is damaged"
    return None

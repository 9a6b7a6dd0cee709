"""The folder that a manifest's paths are relative to, and the checks of the local images in it."""

from __future__ import annotations

import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@dataclass(slots=True)
class Folder:
    """The folder of one manifest file."""

    path: Path
    """Absolute."""
    prefix: str = ""
    """The prefix that makes a path in this folder relative to the main manifest's folder."""
    shown: Path = field(default_factory=Path)
    """The folder as the user would write it."""
    files_read: dict[str, str] = field(default_factory=dict)
    """The files that the manifests name, other than images: path → "include" or "rows". All folders share it."""

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


def image_fault(folder: Path, path: str) -> str | None:
    """Why the image cannot be sent, or None. Only its header is decoded."""
    from PIL import Image, UnidentifiedImageError

    if not path.strip() or not path.isprintable():
        return "this is not a path"
    try:
        status = (folder / path).stat()
        if stat.S_ISDIR(status.st_mode):
            return "this is a folder, not an image"
        if not stat.S_ISREG(status.st_mode):
            return "this is not a regular file"
        if status.st_size == 0:
            return "the file is empty"
        with warnings.catch_warnings():
            # Pillow warns of large images and odd metadata; the service decides about them.
            warnings.simplefilter("ignore")
            with Image.open(folder / path, formats=FORMATS) as image:
                image.size  # noqa: B018  Reading the size raises for a damaged header.
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

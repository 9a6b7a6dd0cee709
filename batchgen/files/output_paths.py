"""Rules for output paths: they stay in the manifest's folder and work on every system.

An output may be an object in a store instead, a URL such as s3://bucket/spring/mona.mp4, which stands where a path
would. Its key is judged by the same rules.
"""

import re
import unicodedata
from typing import NamedTuple

from batchgen.services.text import character_fault

PART = ".part"
"""The suffix of an unfinished download."""
LONGEST_NAME = 255 - len(".0123456789ab") - len(PART)
"""Bytes of one name in a path: most file systems take 255, and the unfinished download adds its attempt and suffix."""
LONGEST_PATH = 1_000
"""Bytes of a path: macOS takes 1,024, with the manifest's folder; S3 takes 1,024 for a key."""
FILE_NUMBER_MARK = "+"
"""Stands before the number of a generation's further file: clip+2.mp4. The second take of a job is clip-2.mp4."""
BYTES_ADDED_LATER = len(f"{FILE_NUMBER_MARK}999") + len("~99") + len(".unplayable")
"""Bytes that a manifest must leave free in a name and in a path: they are for the number of a further file, the mark of
a taken name (`~1`), and `.unplayable`."""
JOB_TABLE_NAME = re.compile(r"\.db(-wal|-shm|-journal|\..*)?$", re.IGNORECASE)
"""Names of a job table and of what lies beside it. SQLite removes a journal that it cannot read."""
UNSAFE = re.compile(r'[<>:"|?*\\]')
RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)

SAFE_NAME = r"(?!con|prn|aux|nul|com|lpt)[a-z0-9_][a-z0-9_-]{0,99}"
SAFE = re.compile(rf"({SAFE_NAME}/){{0,5}}{SAFE_NAME}\.mp4", re.IGNORECASE | re.ASCII)
"""Paths that are safe for sure. The slower checks are for all others."""
SCHEMES = ("s3", "gs", "az", "file")
"""Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, a folder of this machine."""
URL_MARK = "://"
"""No path has it: a colon is not allowed there."""
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
"""Names of buckets and containers, of all stores; each store has narrower rules, and refuses what breaks them."""


def path_fault(path: str, spare: int = 0) -> str | None:
    """Why no video may be written to `path`, or None. Single dots in it are harmless: `tidy` removes them.

    `spare` is how many bytes shorter than the longest its names must be.
    """
    if SAFE.fullmatch(path):
        return None
    if is_url(path):
        return url_fault(path) or key_fault(split_url(path).key, spare)
    if not path.strip():
        return "the output path is empty"
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "the output path must be relative to the manifest"
    return path_parts_fault(path, spare)


def key_fault(key: str, spare: int) -> str | None:
    """Why no video may be stored under a key, or None."""
    if not key or key.endswith("/"):
        return "the output URL has no name in it"
    if ".." in key.split("/"):
        return "the output URL has a part that is .."
    fault = None if SAFE.fullmatch(key) else path_parts_fault(key, spare)
    return fault and fault.replace("the output path", "the output URL")


def path_parts_fault(path: str, spare: int) -> str | None:
    """What is wrong with the parts of a path, or None."""
    if len(path.encode("utf-8", "replace")) > LONGEST_PATH - spare:
        return f"the output path is longer than {LONGEST_PATH - spare} bytes"
    for name in path.split("/"):
        if name != "." and (fault := path_part_fault(name, spare)):
            return fault
    if path.endswith("/.") or not tidy(path):
        return "the output path has no name in it"
    if path.casefold().endswith(PART):
        return f"a name that ends in {PART} is that of an unfinished download"
    if JOB_TABLE_NAME.search(path.rpartition("/")[2]):
        return "a name with .db is that of a job table, or of a file that belongs to one"
    return None


def path_part_fault(name: str, spare: int) -> str | None:
    """Why `name` cannot be a part of an output path, or None."""
    if not name:
        return "the output path has an empty part"
    if name == "..":
        return "the output path leaves the manifest's folder"
    if name.startswith("."):
        return f"a part of the output path begins with a dot: {name}"
    if name[-1] in ". " or name[0] == " ":
        return f"a part of the output path begins or ends with a space, or ends with a dot: {name}"
    if fault := character_fault(name):
        return f"the output path {fault}; write another name"
    if unsafe := UNSAFE.search(name):
        return f"the output path holds {unsafe[0]}, which not every system allows in a file name"
    if RESERVED.match(name):
        return f"{name} is the name of a device on Windows"
    if len(name.encode("utf-8", "replace")) > LONGEST_NAME - spare:
        return f"a part of the output path is longer than {LONGEST_NAME - spare} bytes"
    return None


def tidy(path: str) -> str:
    """`path` without single dots."""
    return "/".join(name for name in path.split("/") if name != ".")


def folded(path: str) -> str:
    """The same text for all paths that are one file on some system: macOS and Windows fold case and accents."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class OutputUrl(NamedTuple):
    """A URL in its parts. A folder of this machine has no bucket, and its key is the path without the first slash."""

    scheme: str
    bucket: str
    key: str

    @property
    def root(self) -> str:
        """The URL of the store: s3://bucket, or file://."""
        return f"{self.scheme}{URL_MARK}{self.bucket}"


def is_url(output: str) -> bool:
    """Whether an output lies in an object store."""
    return URL_MARK in output


def split_url(output: str) -> OutputUrl:
    """The parts of a URL, valid or not."""
    scheme, _, rest = output.partition(URL_MARK)
    bucket, _, key = rest.partition("/")
    return OutputUrl(scheme, bucket, key)


def url_fault(output: str) -> str | None:
    """Why a URL names no store, or None. Its key is judged as a path is."""
    scheme, bucket, _ = split_url(output)
    if scheme not in SCHEMES:
        return f"an output is a path, or a URL that begins with {', '.join(f'{name}{URL_MARK}' for name in SCHEMES)}"
    if scheme == "file":
        if re.search(r"#\d+$", output):
            return "a name in a file:// store does not end with # and a number"
        return "file:// is followed by a whole path: file:///mnt/clips/…" if bucket else None
    if not BUCKET.fullmatch(bucket):
        bucket_name = "the name of a bucket, of 3 or more lowercase letters, digits, dots and hyphens"
        return f"{scheme}{URL_MARK} is followed by {bucket_name}"
    return None


def simulated_output(output: str, folder: str) -> str:
    """The output of a job's simulation: a path below `folder`, or an object in a folder of this name beside its own."""
    if not is_url(output):
        return f"{folder}/{output}"
    parent, _, name = output.rpartition("/")
    return f"{parent}/{folder}/{name}"

"""Outputs in an object store: URLs such as s3://bucket/spring/mona.mp4, which stand where a path would."""

import re
from typing import NamedTuple

SCHEMES = ("s3", "gs", "az", "file")
"""Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage, a folder of this machine."""
MARK = "://"
"""No path has it: a colon is not allowed there."""
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
"""Names of buckets and containers, of all stores; each store has narrower rules, and refuses what breaks them."""


class OutputUrl(NamedTuple):
    """A URL in its parts. A folder of this machine has no bucket, and its key is the path without the first slash."""

    scheme: str
    bucket: str
    key: str

    @property
    def root(self) -> str:
        """The URL of the store: s3://bucket, or file://."""
        return f"{self.scheme}{MARK}{self.bucket}"


def is_url(output: str) -> bool:
    """Whether an output lies in an object store."""
    return MARK in output


def split_url(output: str) -> OutputUrl:
    """The parts of a URL, valid or not."""
    scheme, _, rest = output.partition(MARK)
    bucket, _, key = rest.partition("/")
    return OutputUrl(scheme, bucket, key)


def url_fault(output: str) -> str | None:
    """Why a URL names no store, or None. Its key is judged as a path is."""
    scheme, bucket, _ = split_url(output)
    if scheme not in SCHEMES:
        return f"an output is a path, or a URL that begins with {', '.join(f'{name}{MARK}' for name in SCHEMES)}"
    if scheme == "file":
        if re.search(r"#\d+$", output):
            return "a name in a file:// store does not end with # and a number"
        return "file:// is followed by a whole path: file:///mnt/clips/…" if bucket else None
    if not BUCKET.fullmatch(bucket):
        bucket_name = "the name of a bucket, of 3 or more lowercase letters, digits, dots and hyphens"
        return f"{scheme}{MARK} is followed by {bucket_name}"
    return None


def simulated_output(output: str, folder: str) -> str:
    """The output of a job's simulation: a path below `folder`, or an object in a folder of this name beside its own."""
    if not is_url(output):
        return f"{folder}/{output}"
    parent, _, name = output.rpartition("/")
    return f"{parent}/{folder}/{name}"

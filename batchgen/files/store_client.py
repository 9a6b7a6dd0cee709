"""The client of an object store, and what it raises. Credentials come from the environment, and are kept nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from batchgen.errors import UsageError
from batchgen.files.output_urls import OutputUrl
from batchgen.files.store_errors import fault_of_store

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CONNECT_SECONDS = 5
ANSWER_SECONDS = 20  # for a question about one object
RETRIES = 3  # within a call; the downloader's own tries follow, with longer pauses
RETRY_SECONDS = 20
PROVIDERS = ("AWS_", "AZURE_", "GOOGLE_")
"""Prefixes of the variables that obstore reads: a changed environment needs another client."""
NO_LIBRARY = "outputs in an object store need obstore: pip install 'batchgen[cloud]'"
NO_BOTO3 = "AWS_PROFILE is set, and profiles are read by boto3: pip install boto3, or set AWS_ACCESS_KEY_ID instead"


@contextmanager
def errors_of(parts: OutputUrl, *faults: type[Exception]) -> Iterator[None]:
    """Turn what the library raises, and `faults`, into `OSError`s for a person. Any other `FileNotFoundError` passes.

    Raises `UsageError` where the library is not installed.
    """
    try:
        from obstore.exceptions import BaseError
    except ModuleNotFoundError:
        raise UsageError(NO_LIBRARY) from None
    caught: tuple[type[Exception], ...] = (BaseError, NotImplementedError, PermissionError, ValueError, *faults)
    try:
        yield
    except caught as error:
        if isinstance(error, OSError) and error.filename == parts.root:
            raise  # it is for a person already
        raise fault_of_store(error, parts) from None


def client_for(parts: OutputUrl, seconds: int = ANSWER_SECONDS, *, reads: bool = False) -> ObjectStore:
    """A client for the store of a URL, which waits for an answer at most so long. Raises `UsageError`, `StoreError`.

    With `reads`, it waits for each piece of a long answer no longer than for a short one.
    """
    settings = tuple(sorted(item for item in os.environ.items() if item[0].startswith(PROVIDERS)))
    with errors_of(parts):
        return open_client(parts.root, seconds, reads, settings)


@lru_cache(maxsize=16)
def open_client(root: str, seconds: int, reads: bool, _settings: tuple[tuple[str, str], ...]) -> ObjectStore:
    from obstore.store import from_url

    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=seconds),
            "allow_http": any(os.environ.get(f"{name}ALLOW_HTTP", "").lower() in ("true", "1") for name in PROVIDERS),
        },
        "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }
    if reads:
        options["client_options"]["read_timeout"] = timedelta(seconds=ANSWER_SECONDS)
    if root.startswith("file:"):
        return from_url("file:///")
    if root.startswith("s3:"):
        options["config"] = {"checksum_algorithm": "sha256"}  # the store compares it with what has arrived
        if os.environ.get("AWS_PROFILE"):
            try:
                from obstore.auth.boto3 import Boto3CredentialProvider
            except ModuleNotFoundError:
                raise UsageError(NO_BOTO3) from None
            options["credential_provider"] = Boto3CredentialProvider()
    return from_url(root, **options)

"""Objects in S3, Google Cloud Storage, Azure or a folder: written once, never replaced, read in pieces.

The library is obstore, of the extra `cloud`. It reads credentials, endpoint and region from the environment, as the
provider's own tools do; nothing of them is kept or shown. Everything here waits for the network, and raises
`StoreError`.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batchgen.errors import StorageError, UsageError
from batchgen.files.safe_open import UnsafePath
from batchgen.files.store_errors import StoreError, fault_of_store, is_without_bucket
from batchgen.manifest.output_urls import OutputUrl, is_url, split_url
from batchgen.manifest.outputs import path_fault

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ONE_PUT_BYTES = 5 << 30
"""The largest object that S3 takes in one request. Only one request can be create-only there, so larger ones are not
stored."""
CONNECT_SECONDS = 5
ANSWER_SECONDS = 20  # for a question about one object
TRANSFER_SECONDS = 3_600  # for the bytes of one object, at the most
UPLOAD_SECONDS = 60  # for an upload of no size; a larger one gets more time
UPLOAD_BYTES_PER_SECOND = 500_000  # so fast at least is an uplink over which videos are uploaded
RETRIES = 3  # within a call; the downloader's own tries follow, with longer pauses
RETRY_SECONDS = 20
PIECE_BYTES = 1 << 20  # of an object that is read
PROVIDERS = ("AWS_", "AZURE_", "GOOGLE_")
"""Prefixes of the variables that obstore reads: a changed environment needs another client."""
NO_LIBRARY = "outputs in an object store need obstore: pip install 'batchgen[cloud]'"
NO_BOTO3 = "AWS_PROFILE is set, and profiles are read by boto3: pip install boto3, or set AWS_ACCESS_KEY_ID instead"
SHA256 = "sha256"
"""The name of the metadata in which an object has its checksum."""
PROBE = ".batchgen-probe"
PROBE_TEXT = b"batchgen tests here whether the store refuses to replace an object. This may be deleted."
PROBE_TRIES = 4
"""To make an object under a name under which nothing lies."""


NO_FILE = -1


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store describes it. `sha256` is None where the object has no such metadata.

    The size is `NO_FILE` where something else lies in its place.
    """

    size: int
    sha256: str | None


def describe(url: str) -> StoredObject | None:
    """What lies under a URL; None where nothing does."""
    return look_up(judged(url))


def look_up(parts: OutputUrl) -> StoredObject | None:
    with errors_of(parts):
        import obstore

        if is_no_file(parts):
            return StoredObject(NO_FILE, "")
        try:
            answer = obstore.get(client_for(parts), parts.key, options={"head": True})
        except FileNotFoundError:
            return None
        return StoredObject(answer.meta["size"], answer.attributes.get(SHA256))


@lru_cache(maxsize=16)
def check_bucket(root: str) -> None:
    """Raise `StoreError` where the bucket itself is not there: an object without it is not known to be lost.

    Nobody needs the right to list objects: where that is refused, the bucket counts as there.
    """
    parts = split_url(f"{root}/any")
    with errors_of(parts):
        import obstore
        from obstore.exceptions import BaseError

        try:
            obstore.list_with_delimiter(client_for(parts), PROBE)
        except BaseError as error:
            if is_without_bucket(error):
                raise


def holds(url: str, size: int, sha256: str) -> bool | None:
    """Whether an object has exactly this content; None where there is no object.

    Its metadata says so, or, where it has none, its bytes, which are read.
    """
    if (stored := describe(url)) is None:
        return None
    return stored.size == size and (stored.sha256 or digest_of(url)) == sha256


def digest_of(url: str) -> str:
    """The SHA-256 of an object's bytes."""
    digest = hashlib.sha256()
    for piece in read(url):
        digest.update(piece)
    return digest.hexdigest()


def read(url: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of an object from `start` up to `end`, in pieces. Raises `FileNotFoundError` where there is none."""
    parts = judged(url)
    with errors_of(parts):
        import obstore

        if is_no_file(parts):
            raise StoreError(f"/{parts.key} is no file", parts.root, is_file=True)
        answer = obstore.get(client_for(parts, TRANSFER_SECONDS, reads=True), parts.key, options=range_of(start, end))
        for piece in answer.stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)


def is_no_file(parts: OutputUrl) -> bool:
    """Whether a folder, or a pipe, is in the place of an object of a `file://` store: the library would open it."""
    path = Path(f"/{parts.key}")
    return parts.scheme == "file" and path.exists() and not path.is_file()


def range_of(start: int, end: int | None) -> Any:
    if end is not None:
        return {"range": (start, end)}
    return {"range": {"offset": start}} if start else None


def names_in(folder: str) -> set[str]:
    """The names of the objects in a folder, which is a URL without a name at its end.

    Empty where the store does not let them be listed: to upload, nobody needs that right.
    """
    parts = split_url(f"{folder}/")
    with suppress(StoreError, FileNotFoundError), errors_of(parts):
        import obstore

        page = obstore.list_with_delimiter(client_for(parts), parts.key.rstrip("/") or None)
        return {entry["path"].rpartition("/")[2] for entry in page["objects"]}
    return set()


async def upload(url: str, file: BinaryIO, sha256: str, content_type: str = "video/mp4") -> bool:
    """Store a file under a URL, whole or not at all. False where an object has this name already; it stays.

    One request that the store accepts only for a new name: a process that dies leaves nothing behind. The file is
    mapped, not read, so its size costs no memory.
    """
    parts = judged(url)
    size = os.fstat(file.fileno()).st_size
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    if len(content) > ONE_PUT_BYTES:
        raise StoreError(
            "a store takes at most 5 GB in one upload, and only one upload replaces nothing", parts.root, is_file=True
        )
    attributes = {"Content-Type": content_type, SHA256: sha256}
    client = await asyncio.to_thread(client_for, parts, TRANSFER_SECONDS)
    try:
        async with asyncio.timeout(UPLOAD_SECONDS + len(content) / UPLOAD_BYTES_PER_SECOND):
            is_new = await create(client, parts, content, attributes)
    except TimeoutError:
        raise StoreError("the store does not take the file in time", parts.root) from None
    if is_new and parts.scheme == "file":
        await asyncio.to_thread(sync_file, Path(f"/{parts.key}"))
    return is_new


async def create(client: ObjectStore, parts: OutputUrl, content: Any, attributes: Any = None) -> bool:
    """Store a new object; False where one has its name."""
    with errors_of(parts, FileNotFoundError):  # that would be the bucket
        import obstore
        from obstore.exceptions import AlreadyExistsError

        if parts.scheme == "file":  # files of a folder have no metadata
            attributes = None
        try:
            await obstore.put_async(client, parts.key, content, mode="create", attributes=attributes)
        except AlreadyExistsError:
            return False
    return True


async def probe(outputs: Iterable[str]) -> None:
    """Raise `StorageError` where files could not be stored: no bucket, no rights, or a store that replaces objects.

    In the folder of the first output of each store, a small object is made, made again, which must be refused, and
    deleted.
    """
    first: dict[str, str] = {}
    for output in outputs:
        if is_url(output):
            first.setdefault(split_url(output).root, output)
    for root, output in first.items():
        parts = split_url(f"{output.rpartition('/')[0]}/{PROBE}")
        try:
            client = await asyncio.to_thread(client_for, parts)
            if not await create_probe(client, parts):
                continue  # another run is probing, or may not delete
            is_replaced = await create(client, parts, PROBE_TEXT)
            await delete(client, parts)
        except OSError as error:
            raise StorageError(f"{root}: {error.strerror}. Nothing has been sent.") from None
        if is_replaced:
            raise StorageError(
                f"{root} replaces objects although it is asked not to (If-None-Match). Another run, or a second try,"
                " could replace a video. Use a store that supports this. Nothing has been sent."
            )


async def create_probe(client: ObjectStore, parts: OutputUrl) -> bool:
    """Make the small object; False where there is one. Raises `OSError` where the store refuses it for no reason."""
    for _ in range(PROBE_TRIES):
        if await create(client, parts, PROBE_TEXT):
            return True
        if await asyncio.to_thread(look_up, parts):
            return False
        # Another run has deleted it since, perhaps.
    raise StoreError("the store refuses a new name, and has nothing under it", parts.root)


async def delete(client: ObjectStore, parts: OutputUrl) -> None:
    """Delete an object, where that is allowed."""
    with suppress(OSError), errors_of(parts):
        import obstore

        await obstore.delete_async(client, parts.key)


def sync_file(path: Path) -> None:
    """fsync a file and its folder, which the library does not do. Raises `OSError`."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def judged(url: str) -> OutputUrl:
    """The parts of a URL, which may come from a row that somebody else has written. Raises `UnsafePath`."""
    if fault := path_fault(url):
        raise UnsafePath(f"{url!a}: {fault}. Give its job another `output:`")
    return split_url(url)


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
            options["credential_provider"] = profile_credentials()
    return from_url(root, **options)


def profile_credentials() -> Any:
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError:
        raise UsageError(NO_BOTO3) from None
    return Boto3CredentialProvider()

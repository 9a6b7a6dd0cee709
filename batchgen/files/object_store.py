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
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from batchgen.errors import StorageError, os_reason
from batchgen.files.output_paths import OutputUrl, is_url, path_fault, split_url
from batchgen.files.safe_open import UnsafePath
from batchgen.files.store_client import StoreError, client_for, errors_of, is_without_bucket

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ONE_PUT_BYTES = 5 << 30
"""The largest object that S3 takes in one request. Only one request can be create-only there, so larger ones are not
stored."""
TRANSFER_SECONDS = 3_600  # for the bytes of one object, at the most
UPLOAD_SECONDS = 60  # for an upload of no size; a larger one gets more time
UPLOAD_BYTES_PER_SECOND = 500_000  # so fast at least is an uplink over which videos are uploaded
PIECE_BYTES = 1 << 20  # of an object that is read
SHA256 = "sha256"
"""The name of the metadata in which an object has its checksum."""
TRIAL = ".batchgen-probe"
TRIAL_TEXT = b"batchgen tests here whether the store refuses to replace an object. This may be deleted."
TRIAL_TRIES = 4
"""To make an object under a name under which nothing lies."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store describes it. `sha256` is None where the object has no such metadata."""

    size: int
    sha256: str | None
    is_file: bool = True
    """False where something else lies in its place."""


def describe(url: str) -> StoredObject | None:
    """What lies under a URL; None where nothing does."""
    return look_up(parts_of_url(url))


def look_up(parts: OutputUrl) -> StoredObject | None:
    with errors_of(parts):
        import obstore

        if is_no_file(parts):
            return StoredObject(0, None, is_file=False)
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
            obstore.list_with_delimiter(client_for(parts), TRIAL)
        except BaseError as error:
            if is_without_bucket(error):
                raise


def holds(url: str, size: int, sha256: str) -> bool | None:
    """Whether an object has exactly this content, by its metadata or else its bytes; None where there is none."""
    if (stored := describe(url)) is None:
        return None
    return stored.is_file and stored.size == size and (stored.sha256 or digest_of(url)) == sha256


def digest_of(url: str) -> str:
    """The SHA-256 of an object, all of which is read."""
    digest = hashlib.sha256()
    for piece in read(url):
        digest.update(piece)
    return digest.hexdigest()


def read(url: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes of an object, all or those from `start` to `end`, in pieces. Raises `FileNotFoundError`."""
    parts = parts_of_url(url)
    with errors_of(parts):
        import obstore

        if is_no_file(parts):
            raise StoreError(f"/{parts.key} is no file", parts.root, is_file=True)
        client = client_for(parts, TRANSFER_SECONDS, reads=True)
        answer = obstore.get(client, parts.key, options=None if end is None else {"range": (start, end)})
        for piece in answer.stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)


def is_no_file(parts: OutputUrl) -> bool:
    """Whether a folder, or a pipe, is in the place of an object of a `file://` store: the library would open it."""
    path = Path(f"/{parts.key}")
    return parts.scheme == "file" and path.exists() and not path.is_file()


def names_in(folder: str) -> set[str]:
    """The names of the objects in a folder, a URL; none where the store lists none: no upload needs that right."""
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
    parts = parts_of_url(url)
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


async def check_stores(outputs: Iterable[str]) -> None:
    """Raise `StorageError` where files could not be stored: no bucket, no rights, or a store that replaces objects.

    In the folder of each store's first output, a small object is made, refused a second time, and deleted.
    """
    first: dict[str, str] = {}
    for output in outputs:
        if is_url(output):
            first.setdefault(split_url(output).root, output)
    for root, output in first.items():
        parts = split_url(f"{output.rpartition('/')[0]}/{TRIAL}")
        try:
            client = await asyncio.to_thread(client_for, parts)
            if not await create_trial(client, parts):
                continue  # another run is trying the same, or may not delete
            is_replaced = await create(client, parts, TRIAL_TEXT)
            with suppress(OSError), errors_of(parts):  # it stays where deleting is not allowed
                await client.delete_async(parts.key)
        except OSError as error:
            raise StorageError(f"{root}: {os_reason(error)}. Nothing has been sent.") from None
        if is_replaced:
            raise StorageError(
                f"{root} replaces objects although it is asked not to (If-None-Match). Another run, or a second try,"
                " could replace a video. Use a store that supports this. Nothing has been sent."
            )


async def create_trial(client: ObjectStore, parts: OutputUrl) -> bool:
    """Make the small object; False where there is one. Raises `OSError` where the store refuses it for no reason."""
    for _ in range(TRIAL_TRIES):
        if await create(client, parts, TRIAL_TEXT):
            return True
        if await asyncio.to_thread(look_up, parts):
            return False
        # Another run has deleted it since, perhaps.
    raise StoreError("the store refuses a new name, and has nothing under it", parts.root)


def sync_file(path: Path) -> None:
    """fsync a file and its folder, which the library does not do. Raises `OSError`."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def parts_of_url(url: str) -> OutputUrl:
    """The parts of a URL, which may come from a row that somebody else has written. Raises `UnsafePath`."""
    if fault := path_fault(url):
        raise UnsafePath(f"{url!a}: {fault}. Give its job another `output:`")
    return split_url(url)

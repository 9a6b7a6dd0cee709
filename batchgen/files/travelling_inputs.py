"""Local files of requests in the object store of the outputs: a machine without a file can send its job all the same.

They lie in a folder beside the outputs, each under the SHA-256 of its content: one image of many jobs is stored once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from batchgen.files import local_files, object_store
from batchgen.files.input_file import InputFault, open_input
from batchgen.files.media import MEDIA_BYTES
from batchgen.files.output_urls import is_url
from batchgen.jobs import Job
from batchgen.services.base import LocalFile

FOLDER = "inputs"
UPLOADS_AT_ONCE = 8
CONTENT_TYPE = "application/octet-stream"


def url_of(output: str, sha256: str) -> str:
    """Where a file is stored for the job of this output."""
    return f"{output.rpartition('/')[0]}/{FOLDER}/{sha256}"


async def store(folder: Path, names: Mapping[str, str]) -> None:
    """Upload the files that are not there yet. `names` has the name of each below `folder`, by its URL.

    A file that is gone is left out: whoever sends its job says so. Raises `OSError` where the store refuses.
    """
    stored: set[str] = set()
    for place in {url.rpartition("/")[0] for url in names}:
        stored |= {f"{place}/{name}" for name in await asyncio.to_thread(object_store.names_in, place)}
    free_places = asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def upload(url: str, name: str) -> None:
        async with free_places:
            try:
                file = await asyncio.to_thread(open_input, folder / name, MEDIA_BYTES)
            except (OSError, InputFault):
                return
            with file:
                await object_store.upload(url, file, url.rpartition("/")[2], CONTENT_TYPE)

    async with asyncio.TaskGroup() as uploads:
        for url, name in names.items():
            if url not in stored:
                uploads.create_task(upload(url, name))


async def read_files(folder: Path, job: Job) -> tuple[Mapping[str, LocalFile], str | None]:
    """The local files of a job, and their digests; what this machine lacks comes from the store of its output.

    Raises `InputFault`, and `OSError` for a fault of the machine.
    """
    if not job.input_pointers:
        return {}, None
    fetch_stored = partial(fetch, job.output_path, job.input_files)
    return await asyncio.to_thread(local_files.read, folder, job.request, job.input_pointers, fetch_stored)


def fetch(output: str, input_files: str | None, name: str) -> bytes | None:
    """The content of a file that the job's row has a digest of; None where it is not stored, or is another.

    Raises `OSError` where the store cannot be read.
    """
    sha256 = json.loads(input_files or "{}").get(name)
    if not sha256 or not is_url(output):
        return None
    try:
        content = b"".join(object_store.read(url_of(output, sha256), 0, MEDIA_BYTES))
    except FileNotFoundError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None

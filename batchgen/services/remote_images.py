"""Checks before anything is paid whether the remote images of a manifest can be fetched, and are images."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from batchgen.catalogue import links
from batchgen.catalogue.wording import plural
from batchgen.errors import Problem
from batchgen.jobs import JobSpec
from batchgen.manifest.reader import Manifest
from batchgen.services import failures, file_server, http
from batchgen.services.base import AT_ONCE
from batchgen.services.text import one_line

ANSWER_SECONDS = 10.0  # an image server that takes longer would time out for the video service, too
LINK_CHARS_MAX = 200  # of a link in a message; signed links are longer than a line

REQUESTS: dict[str, dict[str, str]] = {"HEAD": {}, "GET": {"Range": "bytes=0-0"}}
"""The methods to try in turn, and their headers. The GET asks for one byte, and none is read.

A refusal of HEAD proves nothing: a link may be signed for GET alone, and a server may know no HEAD.
"""
FILE = (200, 206)  # what a server answers that has the file; 204, or 302 without an address, is none
NOT_AN_IMAGE = (
    *("text/html", "text/xml", "video/", "audio/"),
    *("application/json", "application/problem+json", "application/xml", "application/xhtml+xml", "application/pdf"),
)
"""Content types that no image is served with. A server that sends none, or a general one, may still have an image."""
UNFIT = ("image/svg+xml", "image/heic", "image/heif")  # which are refused as local files, too


async def problems(manifest: Manifest, base_url: str) -> list[Problem]:
    """What is wrong with the remote images of `manifest`: one problem a link, placed at the first job that uses it.

    `base_url` is of the service that will fetch them.
    """
    users: dict[str, list[JobSpec]] = {}
    for job in manifest.jobs:
        for link in dict.fromkeys(remote_images(job)):
            users.setdefault(link, []).append(job)
    async with file_server.client(AT_ONCE) as client:
        faults = await asyncio.gather(*(check(client, link, base_url) for link in users))
    return [
        Problem(describe_fault(link, fault, jobs), jobs[0].source or manifest.path, jobs[0].line)
        for (link, jobs), fault in zip(users.items(), faults, strict=True)
        if fault
    ]


def remote_images(job: JobSpec) -> Iterator[str]:
    """The links to images in a job's request."""
    params = json.loads(job.request)
    del params["model"]
    for link in links.media(params):
        if link.medium == "image" and link.value.lower().startswith(("http://", "https://")):
            yield link.value


async def check(client: http.Client, link: str, base_url: str) -> str | None:
    """What is wrong with the image at `link`, or None. Downloads no image."""
    try:
        for method, headers in REQUESTS.items():
            async with (
                client.free_connections,
                asyncio.timeout(ANSWER_SECONDS),
                file_server.open_file(client, link, headers, base_url, method) as response,
            ):
                status = response.status_code
                content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                is_empty = response.headers.get("content-length") == "0"
            if status in FILE and not is_empty:
                break
    except TimeoutError:
        return "cannot be reached: no answer in time"
    except failures.BAD_ADDRESS:
        return "cannot be reached: the address, or the one it redirects to, is not valid"
    except failures.FAILURES as error:
        return f"cannot be reached: {failures.describe(error)}"
    if status not in FILE:
        return f"cannot be fetched: its server answers {status}"
    if is_empty:
        return "is empty"
    if content_type.startswith(NOT_AN_IMAGE):
        return f"is not an image: its server says {one_line(content_type, LINK_CHARS_MAX)}"
    return f"must be saved as JPEG or PNG: its server says {content_type}" if content_type in UNFIT else None


def describe_fault(link: str, fault: str, jobs: list[JobSpec]) -> str:
    shown = link if len(link) <= LINK_CHARS_MAX else f"{link[:LINK_CHARS_MAX]}…"
    more = len(jobs) - 1
    others = f" and {plural(more, 'more job')}" if more else ""
    row = f" ({jobs[0].origin})" if jobs[0].origin else ""
    return f"the image {shown} of the job `{jobs[0].key}`{row}{others} {fault}"

"""The remote images of a manifest, asked for before anything is paid: do they answer, and as images?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from batchgen import catalogue
from batchgen.errors import Problem
from batchgen.jobs import JobSpec
from batchgen.manifest import Manifest
from batchgen.services import http
from batchgen.services.base import AT_ONCE

ANSWER_SECONDS = 10.0
LONGEST_SHOWN = 200
"""Characters of a link."""

NOT_TO_HEAD = {403, 405, 501}
"""Answers that may be about HEAD only: 403 is what a link signed for GET says to it."""
NO_IMAGE = (
    *("text/html", "text/xml", "video/", "audio/"),
    *("application/json", "application/problem+json", "application/xml", "application/xhtml+xml", "application/pdf"),
)
"""Content types that no image is served as. A server that says nothing, or "bytes", may still serve one."""


async def problems(manifest: Manifest) -> list[Problem]:
    """What is wrong with the remote images of `manifest`: one problem a link, at the first job that uses it."""
    used: dict[str, list[JobSpec]] = {}
    for job in manifest.jobs:
        for link in dict.fromkeys(remote_images(job)):
            used.setdefault(link, []).append(job)
    lines = http.download_lines(AT_ONCE)
    try:
        faults = await asyncio.gather(*(fault(lines, link) for link in used))
    finally:
        await lines.close()
    return [
        Problem(told(link, found, jobs), jobs[0].source or manifest.path, jobs[0].line)
        for (link, jobs), found in zip(used.items(), faults, strict=True)
        if found
    ]


def remote_images(job: JobSpec) -> Iterator[str]:
    """The links to images in a job's request."""
    params = json.loads(job.request)
    del params["model"]
    found, unknown = [], params
    if catalogue.known(job.model):
        found = catalogue.media(job.model, job.endpoint, params)
        taken = catalogue.parameters(job.model, job.endpoint)
        unknown = {name: value for name, value in params.items() if name not in taken}
    for link in (*found, *catalogue.likely_media(unknown)):
        if link.medium == "image" and link.value.lower().startswith(("http://", "https://")):
            yield link.value


async def fault(lines: http.Lines, link: str) -> str | None:
    """What is wrong with the image at `link`, or None. Its bytes are not fetched."""
    try:
        status, kind = await ask(lines, "HEAD", link)
        if status in NOT_TO_HEAD:
            status, kind = await ask(lines, "GET", link)
    except http.FAILURES as error:
        return f"cannot be reached: {http.reason_of(error)}"
    except http.BAD_ADDRESS:
        return "cannot be reached: this, or where it leads, is no address"
    if status >= 400:
        return f"cannot be fetched: its server answers {status}"
    if kind.startswith(NO_IMAGE):
        return f"is not an image: its server says {kind}"
    return None


async def ask(lines: http.Lines, method: str, link: str) -> tuple[int, str]:
    """The status and the content type of an answer, of which a GET wants one byte and reads none."""
    headers = {"Range": "bytes=0-0"} if method == "GET" else {}
    async with lines.stream(method, link, headers, seconds=ANSWER_SECONDS) as response:
        return response.status_code, response.headers.get("content-type", "").partition(";")[0].strip().lower()


def told(link: str, found: str, jobs: list[JobSpec]) -> str:
    """A problem in words: which link, whose, and what is wrong with it."""
    shown = link if len(link) <= LONGEST_SHOWN else f"{link[:LONGEST_SHOWN]}…"
    more = len(jobs) - 1
    others = f" and {more} more job{'' if more == 1 else 's'}" if more else ""
    row = f" ({jobs[0].origin})" if jobs[0].origin else ""
    return f"the image {shown} of the job `{jobs[0].key}`{row}{others} {found}"

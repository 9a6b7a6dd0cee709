"""From the address of a video into the `.part`: cut connections are resumed, expired addresses replaced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from batchgen.download.task import Abandoned, DownloadTask, GenerationEnded, TryFailed
from batchgen.download.transfer import receive
from batchgen.jobs import ErrorClass
from batchgen.jobtable import delivery
from batchgen.services import failures, http
from batchgen.services.file_server import Expired, VersionChanged
from batchgen.services.outcomes import Failed, Finished, NoAnswer, Throttled, Unavailable

CONNECTIONS_PER_TRY = 6  # a cut connection that brought something is followed by another at once
TRIES_PER_ADDRESS = 2  # then the service is asked whether the address has changed


async def fetch(task: DownloadTask, client: http.Client, is_stopping: Callable[[], bool]) -> str:
    """Fill the `.part` to its end. A cut connection is resumed, and an expired address is replaced.

    Returns how the server ended too early, where it has sent the same bytes so often that they may be the whole
    file all the same; else "".
    """
    part = task.part
    url, is_fresh = task.output.url if task.job.failures < TRIES_PER_ADDRESS else None, False
    fault = "ended the connection"
    if part.recorded_etag:
        await task.on_disk(part.resume)
    for _ in range(CONNECTIONS_PER_TRY):
        if is_stopping():
            raise Abandoned
        if not url:
            url, is_fresh = await ask_address(task), True
        size_before = part.size
        try:
            await receive(task, client, url, is_stopping)
            return ""
        except Expired as error:
            if is_fresh:
                raise task.gone_or_late(f"the video's address does not work: {error}") from error
            url = None
        except VersionChanged:
            part.restart()
            fault = "sent another part of the file, or more, than it was asked for,"
        except failures.BAD_ADDRESS as error:
            reason = f"the service gave an unusable address: {failures.describe(error)}"
            raise task.gone_or_late(reason) from error
        except failures.FAILURES as error:
            has_grown = part.size > size_before
            if not (is_stopping() or has_grown):
                return await judge_cut(task, url, error)
    raise TryFailed(f"the file server {fault} {CONNECTIONS_PER_TRY} times")


async def judge_cut(task: DownloadTask, url: str, error: Exception) -> str:
    """How a connection ended that brought nothing, where what came before it may be the whole file all the same.

    Raises `TryFailed` where more is to be expected.
    """
    reason = f"the file server {http.destination_of(url)[1]}: {failures.describe(error)}"
    if task.part.size and isinstance(error, failures.IncompleteBody) and await task.count_bytes():
        return reason
    raise TryFailed(reason) from error


async def ask_address(task: DownloadTask) -> str:
    """A fresh address for the same file, from the service's free fetch endpoint.

    Raises `GenerationEnded` where the service says that it has the file no more.
    """
    outcome = await task.context.fetch(task.job)
    if isinstance(outcome, Failed) and outcome.kind is ErrorClass.EXPIRED:
        raise GenerationEnded(replace(outcome, cost_usd=None))  # What it cost stays as it is known.
    if not isinstance(outcome, Finished) or len(outcome.files) < task.output.number:
        reason = outcome.reason if isinstance(outcome, NoAnswer) else "the service names no video"
        reason = f"the video needs a new address, and the service gives none now ({reason})"
        is_answer = outcome.is_unknown_id if isinstance(outcome, Unavailable) else not isinstance(outcome, Throttled)
        raise task.gone_or_late(reason) if is_answer and task.context.owns(task.job) else TryFailed(reason)
    url = outcome.files[task.output.number - 1]
    await task.write(delivery.relocated, url)
    return url

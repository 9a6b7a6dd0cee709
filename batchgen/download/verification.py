"""From the whole `.part` to the delivered file: check, place, row; and what becomes of a file that does not play."""

from __future__ import annotations

from batchgen.download.task import SAME_BYTES, DownloadTask, TryFailed
from batchgen.files.checker import Checker, Media
from batchgen.files.unpacking import differences, unpack
from batchgen.files.video import NotVideo, Undecodable
from batchgen.jobs import ErrorClass
from batchgen.jobtable import delivery


async def verify_and_place(task: DownloadTask, checker: Checker, cut: str) -> None:
    """Check the file and give it its name. The row comes last, so it never names a file that a power cut could take.

    `cut` says how the server ended too early: then only a file without a fault is whole.
    """
    video, media = task.part, Media()
    remarks = [f"whole, although {cut}" if cut else ""]
    try:
        try:
            video, head, remark = await task.on_disk(unpack, task.part)
            remarks.append(remark)
            media = await checker.check(video.path, video.size)
        except (NotVideo, Undecodable) as error:
            remarks.append(await judge_fault(task, error, cut))
        # Before it gets its name: after a crash between name and row, the next run recognises the file by this.
        output_path = await task.write(delivery.verified, video.size, video.sha256, media)
        path = await task.placing.place(video, task.target_in(output_path))
    finally:
        if video is not task.part:
            await task.on_disk(video.discard)
    if video is not task.part:
        await task.on_disk(task.part.discard)
    remarks += differences(task.output, video, path, head)
    await task.record(video.size, video.sha256, path, "; ".join(filter(None, remarks)) or None)


async def judge_fault(task: DownloadTask, error: NotVideo | Undecodable, cut: str) -> str:
    """The remark with which a file that has a fault is delivered, once it is sure that the service has no other.

    Raises `TryFailed` or `error` before that, and `GenerationEnded` where nothing in the file plays: then it is kept
    aside.
    """
    if cut:
        raise TryFailed(cut) from error  # The `.part` stays: the rest may come.
    if not await task.count_bytes():
        await task.on_disk(task.part.discard)
        raise error
    if isinstance(error, Undecodable):
        return f"delivered as the service has it, the same {SAME_BYTES} times: {error}"
    kept = ""
    if task.part.size:
        path = await task.placing.place(task.part, f"{task.target}.unplayable")
        kept = f". What came is kept as {path}"
    message = f"the file server has no video, {SAME_BYTES} times the same: {error}{kept}"
    raise task.ended(message, ErrorClass.NO_FILE) from error


async def deliver_placed(task: DownloadTask) -> bool:
    """Deliver a file that a run has placed, or verified, before it died; False if there is none."""
    size, sha256 = task.output.bytes, task.output.sha256
    if not sha256 or not size:
        return False
    path = await task.placing.find(task.part, task.target, size, sha256)
    if path:
        await task.record(size, sha256, path)
    return path is not None

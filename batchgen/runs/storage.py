"""Whether the videos that a run is about to buy could be stored."""

from __future__ import annotations

from batchgen.context import RunContext
from batchgen.errors import StorageError
from batchgen.files.disk_space import SCARCE
from batchgen.files.outputs import judge_outputs
from batchgen.jobs import State
from batchgen.jobtable import selection, statistics


async def check_storage(context: RunContext) -> None:
    """Let the run send nothing where a video could not be stored: each new start would buy more.

    A paid video that is not here yet may wait for free disk, so more of it is asked for then.
    """
    read = context.database.read
    waiting = await read(statistics.count, context.batch_id, State.DOWNLOADING)
    outputs = await read(selection.pending_outputs, context.batch_id, context.terms.selected)
    try:
        await judge_outputs(context.folder, outputs, reserves=SCARCE if waiting else 1)
    except StorageError as error:
        context.refuse(error)

"""The earlier version of a job that is made again: it keeps generation, money and file, under another name."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from batchgen.files.output_paths import is_url
from batchgen.files.outputs import OutputFolder, numbered
from batchgen.jobs import State
from batchgen.jobtable import commands, delivery, lineage
from batchgen.jobtable.schema import jobs, outputs
from batchgen.jobtable.transition import record_event
from batchgen.manifest.job_keys import LONGEST_NAME

KEY_CHARS = LONGEST_NAME - 6
"""Of the key of an earlier version, before its mark: a manifest that `next` writes may have it as an id."""


def archive_version(connection: Connection, row: Any, folder: Path, now: datetime, taken: Collection[str]) -> None:
    """Rename a job and its file to a free `key~N`, so that a new version takes its key. `taken`: keys of the manifest.

    Only a file that was delivered for it is its own: whatever else lies at its output, or at the new name, stays there.
    """
    place, old = OutputFolder(folder), row.output_path
    first = delivery.first_file(row.attempt_id)
    file = connection.execute(select(outputs.c.path, outputs.c.bytes, outputs.c.sha256).where(*first)).one_or_none()
    is_delivered = file is not None and file.path == old
    is_here = is_delivered and place.exists(old)
    # A delivered file that is not here may have been moved by an earlier redo, whose transaction was lost.
    moved = (file.bytes, file.sha256) if file and is_delivered and not is_here else None
    names = ((f"{row.key[:KEY_CHARS]}~{number}", numbered(old, number)) for number in count(1))
    key, new = next(
        (key, path)
        for key, path in names
        if key not in taken
        and not commands.states_of(connection, row.batch_id, [key])
        and (not place.exists(path) or (moved and place.measure(path) == moved))
    )
    if is_url(old) and row.state == State.DONE:
        new = old  # An object keeps its name; the new version gets another one.
    elif is_here:
        # The file first: if the transaction is lost, the next redo finds the file moved.
        with suppress(FileNotFoundError):
            place.rename(old, new)
    connection.execute(update(jobs).where(jobs.c.id == row.id).values(key=key, output_path=new))
    lineage.rename_parent(connection, row.id, (row.batch_id, row.key), (row.batch_id, key))
    connection.execute(update(outputs).where(*first).values(path=new))
    record_event(connection, row, now, State(row.state), State(row.state), f"archived as {key}")

"""Jobs that were sent and differ from their manifest now: how, in words, and how one is kept when it is made again."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from batchgen.catalogue.wording import plural
from batchgen.files import local_files
from batchgen.files.output_paths import is_url
from batchgen.files.outputs import OutputFolder, numbered
from batchgen.jobs import JobSpec, State
from batchgen.jobtable import commands, delivery, lineage
from batchgen.jobtable.schema import jobs, outputs
from batchgen.jobtable.transition import record_event
from batchgen.manifest.job_keys import LONGEST_NAME

VALUE_CHARS = 60  # of a value in a message
LEAD_CHARS = 20  # of these, before the place where two long values begin to differ
KEY_CHARS = LONGEST_NAME - 6
"""Of the key of an earlier version, before its mark: a manifest that `next` writes may have it as an id."""
SHOWN = 20  # changed jobs, as many as a screen holds with what to do about them


@dataclass(frozen=True, slots=True)
class Change:
    key: str
    state: State
    place: str
    differences: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {self.key} ({self.state}): " + "; ".join(self.differences)


def describe_change(connection: Connection, row: Any, spec: JobSpec, manifest: Path) -> Change:
    """What changed in a job since it was sent, a phrase for each difference."""
    sent = connection.execute(select(jobs.c.endpoint, jobs.c.request, jobs.c.take).where(jobs.c.id == row.id)).one()
    before: dict[str, Any] = json.loads(sent.request)
    after: dict[str, Any] = json.loads(spec.request)
    phrases = [
        f"{name}: {difference(before.get(name), after.get(name))}"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    if sent.endpoint != spec.endpoint:
        phrases.append(f"endpoint: {sent.endpoint} → {spec.endpoint}")
    if sent.take != spec.take:
        phrases.append(f"take: {sent.take} → {spec.take}")
    phrases += [f"the content of {name}" for name in local_files.changed_files(manifest.parent, row.input_digests)]
    return Change(row.key, row.state, spec.place, tuple(phrases) or ("the content of its files",))


def difference(before: Any, after: Any) -> str:
    """Both values, each cut so that the place is shown where they begin to differ."""
    texts = ["(none)" if value is None else json.dumps(value, ensure_ascii=False) for value in (before, after)]
    begin = len(os.path.commonprefix(texts)) - LEAD_CHARS  # noqa: RUF071  These are no paths.
    return " → ".join(shorten(text, begin if begin > VALUE_CHARS - 2 * LEAD_CHARS else 0) for text in texts)


def shorten(text: str, begin: int) -> str:
    text = f"…{text[begin:]}" if begin else text
    return text if len(text) <= VALUE_CHARS else text[: VALUE_CHARS - 1] + "…"


def refusal(manifest: Path, changes: Sequence[Change], moved: int, cost: str) -> str:
    """Why nothing is sent.

    `moved` is how many jobs ask now for what a changed job was sent for, `cost` that of a redo of all, in words.
    """
    ask = "job asks" if moved == 1 else "jobs ask"
    hint = (
        f"\n{moved} {ask} for what one of these was sent for: with redo, and then keep, it is taken over under its new"
        "\nid, and only what is new is paid for."
    )
    return (
        f"{manifest}: {plural(len(changes), 'job')} changed after being sent, which may be paid for:\n"
        + "\n".join(f"  {change}" for change in changes[:SHOWN])
        + (f"\n  and {len(changes) - SHOWN:,} more" if len(changes) > SHOWN else "")
        + "\nNothing has been sent. Run again with --changed keep (collect what was paid for, as it was requested then)"
        f"\nor --changed redo (collect it under another name and pay for a new one; all of them: {cost})."
        + (hint if moved else "")
    )


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
        and (not place.exists(path) or (moved and place.size_and_digest(path) == moved))
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
    record_event(connection, row, now, row.state, row.state, f"archived as {key}")

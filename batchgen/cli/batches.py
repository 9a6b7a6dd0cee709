"""The batch and the jobs of a manifest, as commands name them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from batchgen.advice.command_line import command_line
from batchgen.catalogue.wording import listed, nearest_hint, plural
from batchgen.cli.options import db_option_as_typed, name_simulation, quoted_command
from batchgen.errors import UsageError
from batchgen.jobs import State
from batchgen.jobtable import commands
from batchgen.jobtable.batches import StoredBatch, chosen_batches, is_moved, made_by, open_table
from batchgen.jobtable.database import Database
from batchgen.jobtable.moves import refuse_moved
from batchgen.jobtable.selection import is_pattern, matching
from batchgen.report.hints import ToType
from batchgen.services.registry import SIMULATOR


@contextmanager
def open_batch(
    db: str | None, manifest: Path, simulate: bool, *, steers: bool = False
) -> Iterator[tuple[Database, StoredBatch]]:
    """The job table and the batch that a manifest made last, for every command on one batch.

    A manifest may name the simulator as its service: then its batch is meant without --simulate, too, and the commands
    to type next have it. Raises `UsageError` where the manifest was never run so, or its batch was moved; and for a
    command that steers a copy, of which the runs of the original would not know.
    """
    with open_table(db, manifest, quoted_command("run")) as database:
        candidates = chosen_batches(database, manifest, simulate=simulate)
        if steers:
            with_copies, candidates = candidates, made_by(candidates, manifest)
            if not candidates:
                raise UsageError(
                    f"{manifest}: its job table is a copy, and the batch runs where it was copied from: name"
                    f" {with_copies[0].manifest_path}. Nothing has been changed."
                )
        fitting = [batch for batch in candidates if (batch.service == SIMULATOR) == simulate] or candidates
        batch = max(fitting, key=lambda batch: (batch.synced_at, batch.id))
        others = {other.manifest_path for other in fitting if is_moved(other, manifest)} - {batch.manifest_path}
        if others:
            raise UsageError(
                f"{manifest}: files of this name have made several batches, elsewhere or before they were moved."
                f" Name one of them by its path: {', '.join(sorted({batch.manifest_path, *others}))}"
            )
        if batch.service == SIMULATOR:
            name_simulation()
        database.read_now(refuse_moved, batch.id)
        yield database, batch


def job_keys(
    database: Database,
    batch_id: int,
    ids: Sequence[str],
    *,
    default: set[State],
    by_pattern: set[State],
    allowed: set[State],
    verb: str,
) -> dict[str, State]:
    """The jobs that a command is about, with their states: those that `ids` name, else all in the `default` states.

    A shell pattern stands for the jobs that it fits, if they are in one of the states `by_pattern`. Raises `UsageError`
    for a pattern without jobs, an id that is not in the batch, and a job in none of the `allowed` states.
    """
    state_of = states_among(database, batch_id, ids)
    if not ids:
        return {key: state for key, state in state_of.items() if state in default}
    typed = dict.fromkeys(ids)
    states = {key: state for key, state in state_of.items() if key in typed}
    others = [id_ for id_ in ids if id_ not in states]
    patterns = [id_ for id_ in others if is_pattern(id_)]
    problems = [unknown_id(id_, state_of) for id_ in others if not is_pattern(id_)]
    if refused := [f"{key}: it is {state}" for key, state in states.items() if state not in allowed]:
        problems += [*refused, f"Only {state_words(allowed, 'and')} jobs can be {verb}."]
    keys = list(states)
    for pattern in patterns:
        try:
            (fitting,) = matching(state_of, [pattern])
        except UsageError as error:
            problems.append(str(error))
            continue
        chosen = [key for key in fitting if state_of[key] in by_pattern]
        if not chosen:
            problems.append(
                f"{pattern}: fits {plural(len(fitting), 'job')}, of which none is {state_words(by_pattern, 'or')}:"
                f" a pattern names only such jobs"
            )
        keys += chosen
    gone = database.read_now(commands.gone, batch_id, keys)
    problems += [f"{key}: it left the manifest, or goes on under another name" for key in ids if key in gone]
    if problems:
        raise UsageError("\n".join([*problems, "Nothing has been changed."]))
    return {key: state_of[key] for key in keys if key not in gone}


def states_among(database: Database, batch_id: int, ids: Sequence[str]) -> dict[str, State]:
    """The states of the jobs that are typed; of every job where that is no id, but a pattern or a slip."""
    texts = [id_ for id_ in ids if id_.encode("utf-8", "ignore").decode() == id_]  # no table has an id that is none
    states = database.read_now(commands.states_of, batch_id, texts)
    return states if ids and len(states) == len(set(ids)) else database.read_now(commands.all_states, batch_id)


def unknown_id(id_: str, keys: Collection[str]) -> str:
    hint = nearest_hint(id_, keys)
    return f"{id_}: there is no such job in this batch{f'; {hint}' if hint else ''}"


def state_words(states: Collection[State], conjunction: str) -> str:
    """The states as a sentence lists them, in the order of a job's life."""
    return listed([state for state in State if state in states], conjunction)


def commands_on(batch: StoredBatch, manifest: Path | None) -> ToType:
    """A function from the name of a command to its text for a batch of the job table, which `manifest` made."""
    db = db_option_as_typed()
    if manifest is None:
        manifest = Path(batch.manifest_path)
        if manifest.parent != Path.cwd() and not os.environ.get("BATCHGEN_DB"):
            db = db or "batchgen.db"  # where a command without a manifest looks, and others do not
    return partial(command_line, manifest=manifest, simulate=batch.service == SIMULATOR, db=db)

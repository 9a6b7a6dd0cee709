"""How a batch stands: its counts, sizes and events, without those of other batches."""

from __future__ import annotations

from dataclasses import replace

from batchgen.jobs import State
from batchgen.jobtable import delivery, statistics
from tests.table import RUN, Table


def events_since(table: Table, batch_id: int, after: int, capacity: int = 500) -> tuple[list[str], int]:
    events, upto = table.change(statistics.events_since, batch_id, after, capacity)
    return [f"{event.key} {event.to_state}" for event in events], upto


def test_every_event_is_returned_once_and_those_of_other_batches_are_skipped(table: Table) -> None:
    mine = table.batch_id
    table.sync("a", "b")
    theirs = table.sync("x", "y", "z", batch=replace(table.batch, name="other", manifest=table.folder / "o.yaml"))
    assert events_since(table, mine, 0) == (["a pending", "b pending"], 2)
    assert events_since(table, theirs.batch_id, 0) == (["x pending", "y pending", "z pending"], 5)
    assert events_since(table, mine, 2) == ([], 2)


def test_many_events_come_in_chunks(table: Table) -> None:
    table.sync("a", "b", "c")
    seen, after = [], 0
    while (piece := events_since(table, table.batch_id, after, capacity=2))[1] != after:
        seen.append(piece[0])
        after = piece[1]
    assert seen == [["a pending", "b pending"], ["c pending"]]


def test_an_empty_table_has_no_events(table: Table) -> None:
    assert events_since(table, table.batch_id, 0) == ([], 0)


def test_a_summary_counts_every_state_and_the_bytes_of_delivered_videos_only(table: Table) -> None:
    mine = table.batch_id
    for state in (State.DONE, State.DOWNLOADING, State.GENERATING, State.FAILED, State.UNCONFIRMED, State.SUBMITTING):
        table.bring(state, f"is-{state}")
    table.bring(State.CANCELLED, "is-cancelled")
    table.bring(State.PENDING, "is-pending")
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.verified, job, RUN, job.outputs[0], 5, "ab")
    table.sync("x", batch=replace(table.batch, name="other", manifest=table.folder / "o.yaml"))
    summary = table.database.read_now(statistics.batch_summary, mine, table.now)
    assert summary.counts == dict.fromkeys(State, 1)
    assert (summary.total, summary.bytes) == (len(State), 9)

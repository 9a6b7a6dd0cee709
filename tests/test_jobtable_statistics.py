"""How a batch stands: its counts, sizes and events, without those of other batches."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from batchgen.jobs import State
from batchgen.jobtable import delivery, polling, statistics
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.transition import guarded_update
from batchgen.limits import blockers
from batchgen.services.outcomes import Finished
from tests.conftest import NOON
from tests.table import HOUR, RUN, Table


def events_since(table: Table, batch_id: int, after: int) -> tuple[list[str], list[int]]:
    events = table.change(statistics.events_since, batch_id, after)
    return [f"{event.key} {event.to_state}" for event in events], [event.id for event in events]


def test_every_event_is_returned_once_and_those_of_other_batches_are_skipped(table: Table) -> None:
    mine = table.batch_id
    table.sync("a", "b")
    theirs = table.sync("x", "y", "z", batch=replace(table.batch, name="other", manifest=table.folder / "o.yaml"))
    assert events_since(table, mine, 0) == (["a pending", "b pending"], [1, 2])
    assert events_since(table, theirs.batch_id, 0) == (["x pending", "y pending", "z pending"], [3, 4, 5])
    assert events_since(table, mine, 2) == ([], [])
    table.batch_id = mine
    table.cancel("a")
    assert events_since(table, mine, 2) == (["a cancelled"], [6])
    assert {event.batch_id for event in table.events()} == {mine, theirs.batch_id}


def test_many_events_come_in_chunks(table: Table) -> None:
    table.sync("a", "b", "c")
    seen, after = [], 0
    while events := table.change(statistics.events_since, table.batch_id, after, 2):
        seen.append([event.key for event in events])
        after = events[-1].id
    assert seen == [["a", "b"], ["c"]]


def test_an_empty_table_has_no_events(table: Table) -> None:
    assert events_since(table, table.batch_id, 0) == ([], [])


def test_a_summary_counts_every_state_and_the_bytes_of_delivered_videos_only(table: Table) -> None:
    mine = table.batch_id
    table.bring_one_of_each()
    (job,) = table.claim(State.DOWNLOADING)
    table.change(delivery.verified, job, RUN, job.outputs[0], 5, "ab")
    table.sync("x", batch=replace(table.batch, name="other", manifest=table.folder / "o.yaml"))
    summary = table.database.read_now(statistics.batch_summary, mine, table.now)
    assert summary.counts == dict.fromkeys(State, 1)
    assert (summary.total, summary.bytes) == (len(State), 9)
    delivered = sum(output.bytes for output in table.outputs() if output.delivered_at)
    assert summary.bytes == delivered, "the batch's row keeps the sum"


def test_what_the_service_deletes_first_says_until_when_the_downloads_must_be_done(table: Table) -> None:
    for key, hours in (("a", 9), ("b", 2), ("c", None)):
        table.bring(State.GENERATING, key)
        (job,) = table.claim(State.GENERATING)
        collect_by = NOON + hours * HOUR if hours else None
        table.change(polling.finished, job, RUN, Finished(("https://cdn.test/v.mp4",)), table.now, collect_by)
    (blocker,) = table.database.read_now(blockers.blockers, table.batch_id, table.now)
    assert (blocker.reason, blocker.jobs, blocker.collect_by) == ("downloads", 3, NOON + 2 * HOUR)


def test_generations_of_another_batch_that_no_run_collects_are_named_since_they_hold_places(table: Table) -> None:
    """A run of the other batch was stopped."""
    own = table.batch_id
    table.sync("left", batch=Batch("autumn", "aimlapi", table.folder / "autumn.yaml", "00"))
    (left,) = table.intend()
    table.accept(left)
    table.change(guarded_update, jobs, {"id": left.id}, {"next_at": NOON})
    table.batch_id = own
    table.sync("mona")

    def reasons(now: datetime) -> list[str]:
        return [blocker.reason for blocker in table.database.read_now(blockers.blockers, own, now)]

    assert reasons(NOON) == ["a free place within the limits"]
    assert reasons(NOON + HOUR) == [
        "a free place within the limits; no run collects 1 of batch autumn, which holds a place:"
        f" run {table.folder / 'autumn.yaml'}"
    ]

"""What has happened to a batch since one last looked, without what happened to others."""

from __future__ import annotations

from dataclasses import replace

from batchgen.jobtable import statistics
from tests.table import Table


def told(table: Table, batch_id: int, after: int, capacity: int = 500) -> tuple[list[str], int]:
    events, upto = table.change(statistics.events_since, batch_id, after, capacity)
    return [f"{event.key} {event.to_state}" for event in events], upto


def test_every_event_is_told_once_and_those_of_others_are_passed_over(table: Table) -> None:
    mine = table.batch_id
    table.sync("a", "b")
    theirs = table.sync("x", "y", "z", batch=replace(table.batch, name="other", manifest=table.folder / "o.yaml"))
    assert told(table, mine, 0) == (["a pending", "b pending"], 5)
    assert told(table, theirs.batch_id, 0) == (["x pending", "y pending", "z pending"], 5)
    assert told(table, mine, 5) == ([], 5)


def test_much_news_comes_in_pieces(table: Table) -> None:
    table.sync("a", "b", "c")
    seen, after = [], 0
    while (piece := told(table, table.batch_id, after, capacity=2))[1] != after:
        seen.append(piece[0])
        after = piece[1]
    assert seen == [["a pending", "b pending"], ["c pending"]]


def test_an_empty_table_has_none(table: Table) -> None:
    assert told(table, table.batch_id, 0) == ([], 0)

"""A job keeps the name of the job that it was made from, whatever becomes of either's own name."""

from __future__ import annotations

from pathlib import Path

from batchgen.jobs import Parent, State
from batchgen.jobtable import lineage, repeats, takeover
from batchgen.jobtable.batches import Batch
from batchgen.jobtable.repeats import RepeatSearch
from batchgen.jobtable.submission import Sender
from batchgen.jobtable.takeover import Adopter
from tests.table import HOUR, RUN, Table, spec

PILOT = Parent("pilot", "mona")


def parent(table: Table, key: str) -> tuple[str | None, str | None]:
    row = table.row(key)
    return row.parent_batch, row.parent_key


def keep_repeats(table: Table, orphans: frozenset[int] = frozenset()) -> None:
    """What a run with `--changed keep` does."""
    search = RepeatSearch(table.batch_id, "aimlapi", table.folder, orphans)
    found_repeats = table.database.read_now(repeats.compare, search).repeats
    assert found_repeats
    adopter = Adopter(Sender(RUN, "aimlapi", "0badcafe"), lambda *_: {}, table.now, table.now + HOUR)
    table.change(takeover.settle, found_repeats, table.folder, adopter, "keep")


def test_an_unsent_job_follows_the_manifest_to_another_parent(table: Table) -> None:
    table.sync(spec(parent=PILOT))
    assert parent(table, "mona") == PILOT
    assert table.sync(spec(parent=Parent("pilot", "lisa"))).edited == 1
    assert parent(table, "mona") == ("pilot", "lisa")
    assert table.sync(spec()).edited == 1
    assert parent(table, "mona") == (None, None)


def test_a_paid_job_that_is_renamed_keeps_its_parent(table: Table) -> None:
    table.sync(spec(parent=PILOT))
    table.bring(State.DONE)
    for renamed in (spec("lisa", parent=PILOT), spec("gioconda")):  # by hand, the manifest may lose the parent
        keep_repeats(table, table.sync(renamed).orphans)
        assert table.row(renamed.key).state == State.DONE
        assert parent(table, renamed.key) == PILOT


def test_the_children_of_a_job_follow_its_new_name(table: Table) -> None:
    table.bring(State.DONE)
    other = Batch("promoted", "aimlapi", Path("/elsewhere/promoted.yaml"), "00")
    table.sync(spec("child", prompt="Closer.", parent=Parent("spring", "mona")), batch=other)
    table.sync(spec("mona", prompt="Another."), changed="redo")
    assert parent(table, "child") == ("spring", "mona~1")


def test_a_job_that_takes_its_parents_place_is_not_its_own_parent(table: Table) -> None:
    """The request is the parent's, unchanged, and a person keeps what was paid for."""
    table.bring(State.DONE)
    table.sync(
        spec("mona", parent=Parent("spring", "mona")), batch=Batch("next", "aimlapi", table.folder / "n.yaml", "")
    )
    keep_repeats(table)
    assert {row.state: row.parent_batch for row in table.rows()} == {State.DONE: None, State.CANCELLED: None}


def test_the_ancestors_of_a_batch_go_back_to_the_first_and_end_in_a_circle(table: Table) -> None:
    for name, parent_batch in (("second", "spring"), ("third", "second"), ("spring", "third"), ("other", "lost")):
        batch = Batch(name, "aimlapi", Path(f"/elsewhere/{name}.yaml"), "00")
        table.sync(spec(name, parent=Parent(parent_batch, "mona")), batch=batch if name != "spring" else None)
    assert table.database.read_now(lineage.reachable, "third", lineage.PARENTS) == {"spring", "second", "third"}
    assert table.database.read_now(lineage.reachable, "other", lineage.PARENTS) == {"other", "lost"}
    assert table.database.read_now(lineage.reachable, "second", lineage.CHILDREN) == {"second", "third", "spring"}


def test_the_takes_of_a_batch_are_behind_those_of_what_was_made_from_it(table: Table) -> None:
    table.sync(spec("mona"))
    batch = Batch("second", "aimlapi", Path("/elsewhere/second.yaml"), "00")
    table.sync(spec("mona", parent=Parent("spring", "mona"), take=2), batch=batch)
    (last,) = table.database.read_now(lineage.used_seeds, "spring").last_takes.values()
    assert last == 2

"""A sync makes rows of a manifest: a sent job never changes silently, and a job that has gone is not sent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from batchgen.errors import ManifestChanged, UsageError
from batchgen.files import local_files
from batchgen.files.local_files import FileDigests
from batchgen.jobs import ErrorClass, JobSpec, Parent, State
from batchgen.jobtable import polling, pricelist, submission, sync
from batchgen.jobtable.batches import sent_keys
from batchgen.jobtable.changes import SHOWN
from batchgen.jobtable.fingerprint import fingerprint_of
from batchgen.jobtable.schema import batches, jobs, outputs
from batchgen.jobtable.sync import OnChanged
from batchgen.manifest.job_keys import LONGEST_NAME, name_fault
from batchgen.services.base import Listing
from batchgen.services.outcomes import Accepted, Failed
from tests.table import HOUR, MODEL, RUN, Table, spec

SENT = [state for state in State if not state.is_unsent]
PAID = [state for state in SENT if state != State.FAILED]  # a failed generation costs nothing


def counted(result: sync.SyncResult) -> dict[str, int]:
    names = ("new", "edited", "unchanged", "gone", "redone")
    return {name: getattr(result, name) for name in names if getattr(result, name)}


def test_a_new_job_is_pending_in_the_manifest_s_order(table: Table) -> None:
    assert counted(table.sync("b", "a", "c")) == {"new": 3}
    assert [(row.key, row.state) for row in table.rows()] == [("b", "pending"), ("a", "pending"), ("c", "pending")]
    assert [(event.from_state, event.to_state, event.detail) for event in table.events()] == [
        (None, "pending", "added")
    ] * 3


def test_a_row_holds_what_the_manifest_says(table: Table) -> None:
    table.sync(
        spec(clip_seconds=5.0, tags=("noir", "été"), priority=3, input_pointers=("/image_url",), output="out/mona.mp4")
    )
    row = table.row()
    assert json.loads(row.request)["prompt"] == "She puts on glasses."
    assert (row.priority, json.loads(row.tags), json.loads(row.input_pointers)) == (3, ["noir", "été"], ["/image_url"])
    assert (row.output_path, row.service, row.created_at) == ("out/mona.mp4", "aimlapi", table.now)
    assert row.clip_seconds == 5.0


EDITS: dict[str, Any] = {
    "model": "another/model",
    "endpoint": "/v2/another",
    "request": '{"model": "m", "prompt": "Another."}',
    "output": "another.mp4",
    "input_pointers": ("/image_url",),
    "clip_seconds": 10.0,
    "priority": 7,
    "tags": ("noir",),
    "take": 2,
    "parent": Parent("pilot", "mona"),
}
"""Another value of each field of a job that the table keeps."""
NOT_KEPT = {"source", "line", "origin"}
"""The fields that say where a job is written: messages need them while the manifest is read."""


@pytest.mark.sqlite
@pytest.mark.parametrize("name", [field.name for field in fields(JobSpec) if field.name != "key"])
def test_every_value_of_a_job_is_stored_or_left_out_by_decision(tmp_path: Path, name: str) -> None:
    if name in NOT_KEPT:
        return
    assert name in EDITS, f"add a value to EDITS (`manifest_columns` in sync.py stores it), or to NOT_KEPT: {name}"
    digests = FileDigests(tmp_path)
    job = spec()
    edited = replace(job, **{name: EDITS[name]})
    assert sync.manifest_columns(job, digests) != sync.manifest_columns(edited, digests)


@pytest.mark.parametrize("state", SENT)
def test_labels_of_a_sent_job_follow_the_manifest(table: Table, state: State) -> None:
    table.sync(spec())
    table.bring(state)
    edited = spec(tags=("noir", "approved"), priority=3)
    assert counted(table.sync(edited)) == {"unchanged": 1}
    row = table.row()
    assert (row.priority, json.loads(row.tags), row.state) == (3, ["noir", "approved"], state)


@pytest.mark.slow
@pytest.mark.sqlite
def test_more_jobs_than_one_chunk_are_inserted(table: Table) -> None:
    specs = [spec(f"j{number:05}") for number in range(2 * sync.CHUNK_ROWS + 1)]
    assert counted(table.sync(*specs)) == {"new": len(specs)}
    assert len(table.events()) == len(specs)
    assert counted(table.sync(*specs)) == {"unchanged": len(specs)}


def test_the_same_manifest_again_changes_nothing(table: Table) -> None:
    table.sync("mona", "lisa")
    before = table.everything()
    table.now += HOUR
    assert counted(table.sync("mona", "lisa")) == {"unchanged": 2}
    assert table.everything() == before


@pytest.mark.parametrize(
    "edited",
    [
        pytest.param(spec(prompt="She smiles."), id="another prompt"),
        pytest.param(spec(output="other.mp4"), id="another output"),
        pytest.param(spec(priority=9), id="another priority"),
        pytest.param(spec(tags=("noir",)), id="other tags"),
        pytest.param(spec(endpoint="/v2/generate/video/kling/generation"), id="another endpoint"),
        pytest.param(spec(image="mona.png", input_pointers=("/image_url",)), id="a local image"),
    ],
)
def test_an_unsent_job_follows_the_manifest(table: Table, edited: JobSpec) -> None:
    table.sync("mona")
    events = table.events()
    assert counted(table.sync(edited)) == {"edited": 1}
    row = table.row()
    stored = (row.request, row.endpoint, row.output_path, row.priority, tuple(json.loads(row.tags)))
    assert stored == (edited.request, edited.endpoint, edited.output, edited.priority, edited.tags)
    assert tuple(json.loads(row.input_pointers)) == edited.input_pointers
    assert row.fingerprint == fingerprint_of(edited, FileDigests(table.folder))
    assert table.events() == events  # no state was left


def test_a_job_that_is_gone_before_it_was_sent_is_cancelled_and_comes_back(table: Table) -> None:
    table.sync("mona", "lisa")
    assert counted(table.sync("lisa")) == {"unchanged": 1, "gone": 1}
    assert table.states() == {"mona": "cancelled", "lisa": "pending"}
    assert counted(table.sync(spec("mona", prompt="She smiles."), "lisa")) == {"unchanged": 1, "edited": 1}
    assert table.states() == {"mona": "pending", "lisa": "pending"}
    assert json.loads(table.row().request)["prompt"] == "She smiles."
    assert table.story() == ["pending", "cancelled", "pending"]
    assert (table.row().error, table.row().cancelled_at) == (None, None)


def test_a_job_that_a_person_cancelled_stays_cancelled(table: Table) -> None:
    table.bring(State.CANCELLED)
    table.sync("mona")
    table.sync(spec(prompt="She smiles."))
    table.sync()
    table.sync("mona")
    assert table.states() == {"mona": "cancelled"}


def test_a_job_that_failed_for_nothing_and_left_the_manifest_is_cancelled(table: Table) -> None:
    """No run and no retry could do anything about it."""
    table.bring(State.FAILED)
    synced = table.sync()
    assert (counted(synced), list(synced.orphans), table.states()) == ({"gone": 1}, [], {"mona": "cancelled"})
    assert counted(table.sync("mona")) == {"edited": 1}
    assert table.states() == {"mona": "pending"}


@pytest.mark.parametrize("state", PAID)
def test_a_sent_job_is_kept_although_it_has_gone_from_the_manifest(table: Table, state: State) -> None:
    table.bring(state)
    before = table.everything()
    assert counted(table.sync()) == {}
    assert table.everything() == before


@pytest.mark.parametrize("state", PAID)
def test_a_manifest_with_an_edited_sent_job_is_refused_as_a_whole(table: Table, state: State) -> None:
    table.bring(state)
    before = table.everything()
    with pytest.raises(ManifestChanged) as refusal:
        table.sync("new", spec(prompt="She smiles.", source=Path("m.yaml"), line=7, origin="people.csv:3"))
    message = str(refusal.value)
    assert f'm.yaml:7, people.csv:3: mona ({state}): prompt: "She puts on glasses." → "She smiles."' in message
    assert "--changed keep" in message
    assert "--changed redo" in message
    assert table.everything() == before  # the new job has not been added either


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("A slow dolly shot.", "A fast dolly shot.", '"A slow dolly shot." → "A fast dolly shot."'),
        (
            f"{'A mug turns slowly on a table. ' * 3}2026-05-01",
            f"{'A mug turns slowly on a table. ' * 3}01.05.2026",
            '… slowly on a table. 2026-05-01" → … slowly on a table. 01.05.2026"',
        ),
    ],
    ids=["short", "long"],
)
def test_a_refusal_shows_of_a_long_value_the_place_that_was_edited(
    table: Table, before: str, after: str, said: str
) -> None:
    table.add(spec(prompt=before))
    table.bring(State.GENERATING)
    with pytest.raises(ManifestChanged) as refusal:
        table.sync(spec(prompt=after))
    assert f"mona (generating): prompt: {said}\n" in str(refusal.value)


@pytest.mark.parametrize(
    ("listed", "models", "said"),
    [
        ({MODEL: "0.25"}, [MODEL], "1 clip for about 0.25 USD"),
        ({MODEL: "0.25", "other": "0.5"}, [MODEL, "other"], "2 clips for about 0.75 USD"),
        ({MODEL: "0.25"}, [MODEL, "other"], "2 clips for about 0.25 USD, without 1 at an unknown price"),
        ({}, [MODEL, MODEL], "2 clips at an unknown price"),
    ],
)
def test_a_refusal_says_what_a_redo_would_cost(
    table: Table, listed: dict[str, str], models: list[str], said: str
) -> None:
    def edition(prompt: str) -> list[JobSpec]:
        return [spec(f"clip-{number}", model=model, prompt=prompt) for number, model in enumerate(models)]

    fixed = {
        model: json.dumps({"kind": "fixed", "units": [{"name": "video", "price": price, "per": 1}]})
        for model, price in listed.items()
    }
    table.change(pricelist.store, "aimlapi", Listing(None, fixed), table.now)
    table.sync(*edition("A mug."))
    for intent in table.intend(RUN):
        table.lose(intent)
    with pytest.raises(ManifestChanged) as refusal:
        table.sync("new", *edition("A cup."))
    assert f"pay for a new one; all of them: {said})" in str(refusal.value)


def test_a_refusal_of_very_many_edited_jobs_fits_on_a_screen(table: Table) -> None:
    keys = [f"clip-{number}" for number in range(SHOWN + 3)]
    table.sync(*keys)
    for intent in table.intend(RUN):
        table.lose(intent)
    with pytest.raises(ManifestChanged) as refusal:
        table.sync(*(spec(key, prompt="She smiles.") for key in keys))
    message = str(refusal.value)
    assert message.count("She smiles.") == SHOWN
    assert f"{SHOWN + 3} jobs changed" in message
    assert "\n  and 3 more\nNothing has been sent." in message


@pytest.mark.parametrize(
    ("delivered", "wanted", "is_said"),
    [("mona.mp4", "mona.mp4", False), ("mona~1.mp4", "mona.mp4", False), ("a/mona.mp4", "b/mona.mp4", True)],
)
def test_a_delivered_clip_stays_where_it_is_and_that_is_said(
    table: Table, delivered: str, wanted: str, is_said: bool
) -> None:
    table.bring(State.DONE)
    table.change(lambda connection: connection.execute(update(jobs).values(output_path=delivered)) and None)
    result = table.sync(replace(spec(), output=wanted))
    assert (table.row().output_path, counted(result)) == (delivered, {"unchanged": 1})
    said = f"mona: its clip stays {delivered}, although `output` is {wanted} now"
    assert result.warnings == ((said,) if is_said else ())


def test_a_sent_job_that_becomes_another_take_is_said_to_be_one(table: Table) -> None:
    table.bring(State.GENERATING)
    with pytest.raises(ManifestChanged, match=r"mona \(generating\): take: 1 → 2\n"):
        table.sync(replace(spec(), take=2))


@pytest.mark.parametrize("state", SENT)
def test_changed_keep_collects_the_video_as_it_was_requested(table: Table, state: State) -> None:
    table.bring(state)
    before = table.everything()
    result = table.sync(spec(prompt="She smiles."), changed="keep")
    assert [change.key for change in result.changed] == ["mona"]
    assert counted(result) == {"unchanged": 1}
    assert table.everything() == before


@pytest.mark.parametrize("state", PAID)
def test_changed_redo_archives_the_old_row_under_another_key(table: Table, state: State) -> None:
    table.bring(state)
    old = table.row()
    attempts, outputs = table.attempts(), table.outputs()
    assert counted(table.sync(spec(prompt="She smiles."), changed="redo")) == {"redone": 1}
    assert table.states() == {"mona~1": state, "mona": "pending"}
    aside = table.row("mona~1")
    assert (aside.id, aside.attempt_id, aside.request) == (old.id, old.attempt_id, old.request)
    assert aside.output_path == "mona~1.mp4"
    assert table.row().output_path == "mona.mp4"
    assert table.attempts() == attempts
    assert [output.path for output in table.outputs()] == ["mona~1.mp4" if state is State.DONE else None] * len(outputs)
    event = next(event for event in table.events() if event.detail == "archived as mona~1")
    assert (event.job_id, event.batch_id, event.from_state, event.to_state) == (old.id, old.batch_id, state, state)
    assert counted(table.sync(spec(prompt="She smiles."))) == {"unchanged": 1}, "a redo happens once"


def test_a_redo_of_chosen_jobs_leaves_the_others_as_they_are(table: Table) -> None:
    table.bring(State.DONE, "mona")
    before = table.everything()
    edited = [spec("mona", prompt="She smiles.")]
    synced = table.change(partial(sync.sync_manifest, chosen=["lisa"]), table.batch, edited, table.now, "redo")
    assert (synced.redone, list(synced.orphans)) == (0, [table.row().id])
    assert table.everything() == before


@pytest.mark.parametrize(
    ("kind", "cost", "is_kept"),
    [
        (ErrorClass.NO_FILE, None, True),
        (ErrorClass.EXPIRED, None, True),
        (ErrorClass.EXPIRED, "0", True),
        (ErrorClass.MODERATION, "0.29", True),
        (ErrorClass.MODERATION, None, True),
        (ErrorClass.MODERATION, "0", False),
    ],
)
def test_a_redo_keeps_the_row_of_a_failure_that_may_be_charged(
    table: Table, kind: ErrorClass, cost: str | None, is_kept: bool
) -> None:
    table.bring(State.GENERATING)
    failure = Failed("no video", kind=kind, cost_usd=None if cost is None else Decimal(cost))
    (job,) = table.claim(State.GENERATING)
    assert table.change(polling.failed, job, RUN, failure, table.now)
    edited = [spec(prompt="She smiles.")]
    if is_kept:
        before = table.everything()
        table.change(partial(sync.sync_manifest, chosen=["lisa"]), table.batch, edited, table.now, "redo")
        assert table.everything() == before, "nothing is bought that was not shown to a person"
    table.sync(*edited, changed="redo")
    assert table.states() == ({"mona~1": "failed"} if is_kept else {}) | {"mona": "pending"}


@pytest.mark.parametrize("changed", ["refuse", "redo"])
def test_a_job_that_failed_at_no_cost_and_was_corrected_is_pending_again(table: Table, changed: OnChanged) -> None:
    table.bring(State.FAILED)
    attempts = len(table.attempts())
    assert counted(table.sync(spec(prompt="She smiles."), changed=changed)) == {"edited": 1}
    assert table.states() == {"mona": "pending"}
    assert json.loads(table.row().request)["prompt"] == "She smiles."
    assert len(table.attempts()) == attempts


def test_a_second_redo_finds_another_key(table: Table) -> None:
    table.bring(State.DONE)
    table.sync(spec(prompt="2"), changed="redo")
    (job,) = table.intend()
    table.accept(job, "g-2")
    table.sync(spec(prompt="3"), changed="redo")
    assert table.states() == {"mona~1": "done", "mona~2": "generating", "mona": "pending"}


def test_the_key_of_an_earlier_version_is_one_that_a_manifest_may_have(table: Table) -> None:
    longest = "m" * LONGEST_NAME
    table.sync(spec(longest, output="mona.mp4"))
    for number in (1, 2):
        table.accept(table.intend()[0], f"g-{number}")
        table.sync(spec(longest, output="mona.mp4", prompt=str(number)), changed="redo")
    assert len(table.states()) == 3
    assert [name_fault(key) for key in table.states()] == [None] * 3


def test_redo_moves_the_delivered_file_and_overwrites_no_other_file(table: Table) -> None:
    table.bring(State.DONE)
    (table.folder / "mona.mp4").write_text("ours")
    (table.folder / "mona~1.mp4").write_text("somebody's")
    table.sync(spec(prompt="She smiles."), changed="redo")
    assert (table.folder / "mona~1.mp4").read_text() == "somebody's"
    aside = next(row for row in table.rows() if row.state == "done")
    assert (table.folder / aside.output_path).read_text() == "ours"
    assert not (table.folder / "mona.mp4").exists()


@pytest.mark.parametrize("state", [state for state in PAID if state != State.DONE])
def test_redo_leaves_a_file_where_it_is_that_was_not_delivered_for_the_job(table: Table, state: State) -> None:
    table.bring(state)
    (table.folder / "mona.mp4").write_text("the cut that the client approved")
    table.sync(spec(prompt="She smiles."), changed="redo")
    assert [path.name for path in table.folder.glob("*.mp4")] == ["mona.mp4"]
    assert table.row("mona~1").output_path == "mona~1.mp4"


@pytest.mark.parametrize(("content", "aside"), [("ours", "mona~1"), ("the client's", "mona~2")])
def test_redo_after_a_crash_takes_only_its_own_file_for_the_one_that_was_moved(
    table: Table, content: str, aside: str
) -> None:
    table.bring(State.DONE)
    digest = hashlib.sha256(b"ours").hexdigest()
    table.change(lambda connection: connection.execute(update(outputs).values(bytes=4, sha256=digest)))
    (table.folder / "mona~1.mp4").write_text(content)  # moved, and then the transaction was lost; or somebody's
    table.sync(spec(prompt="She smiles."), changed="redo")
    assert table.row(aside).output_path == f"{aside}.mp4"


def test_redo_leaves_a_new_job_the_id_that_the_manifest_gives_it(table: Table) -> None:
    table.bring(State.DONE)
    table.sync(spec(prompt="She smiles."), spec("mona~1", prompt="She waves."), changed="redo")
    assert table.states() == {"mona~2": "done", "mona": "pending", "mona~1": "pending"}


@pytest.mark.parametrize("keys", [("mona~1", "mona"), ("mona", "mona~1")])
def test_redo_of_two_jobs_gives_no_old_version_the_id_of_a_new_one(table: Table, keys: tuple[str, ...]) -> None:
    for key in keys:
        table.bring(State.DONE, key)
    table.sync(*(spec(key, prompt="She smiles.") for key in keys), changed="redo")
    assert table.states() == {"mona~1~1": "done", "mona~2": "done", "mona": "pending", "mona~1": "pending"}


def test_another_output_path_is_taken_over_until_the_file_is_delivered(table: Table) -> None:
    table.bring(State.DONE, "done")
    table.bring(State.GENERATING, "going")
    table.bring(State.SUBMITTING, "held")
    table.sync(*(spec(key, output=f"new/{key}.mp4") for key in ("done", "going", "held")))
    assert {row.key: row.output_path for row in table.rows()} == {
        "done": "done.mp4",  # the file is there
        "going": "new/going.mp4",
        "held": "held.mp4",  # a run has leased it; the next sync moves it
    }


# --- local files -----------------------------------------------------------------------------------------------------


def sent_with_image(table: Table) -> JobSpec:
    job = spec(image="mona.png", input_pointers=("/image_url",))
    (table.folder / "mona.png").write_bytes(b"a portrait")
    table.sync(job)
    (sent,) = table.intend()
    _, digests = local_files.read(table.folder, sent.request, sent.input_pointers)
    table.change(submission.accepted, sent, Accepted("g-1"), table.now, table.now + HOUR, table.now, digests)
    assert table.attempt().input_digests == digests
    return job


def test_a_local_image_that_was_changed_after_it_was_sent_is_refused(table: Table) -> None:
    job = sent_with_image(table)
    (table.folder / "mona.png").write_bytes(b"a landscape")
    with pytest.raises(ManifestChanged, match=r"the content of mona\.png"):
        table.sync(job)


def test_a_local_image_with_a_new_time_or_deleted_is_no_change(table: Table) -> None:
    job = sent_with_image(table)
    image = table.folder / "mona.png"
    image.touch()
    assert counted(table.sync(job)) == {"unchanged": 1}
    image.unlink()
    assert counted(table.sync(job)) == {"unchanged": 1}


# --- the batch -------------------------------------------------------------------------------------------------------


def test_a_batch_cannot_change_its_service(table: Table) -> None:
    with pytest.raises(UsageError, match="begun with service aimlapi"):
        table.sync(batch=replace(table.batch, service="simulator"))


def test_another_manifest_cannot_take_a_batch_s_name(table: Table) -> None:
    table.batch.manifest.touch()
    other = table.folder / "other.yaml"
    other.touch()
    with pytest.raises(UsageError, match=r"already holds a batch 'spring', from .*spring\.yaml"):
        table.sync(batch=replace(table.batch, manifest=other))


def test_the_same_manifest_by_another_path_is_the_same(table: Table, tmp_path: Path) -> None:
    table.batch.manifest.touch()
    link = tmp_path / "link.yaml"
    link.symlink_to(table.batch.manifest)
    assert table.sync(batch=replace(table.batch, manifest=link)).batch_id == table.batch_id


def test_a_manifest_that_was_moved_keeps_its_batch(table: Table, tmp_path: Path) -> None:
    moved = tmp_path / "moved.yaml"
    moved.touch()
    assert table.sync(batch=replace(table.batch, manifest=moved, sha256="11")).batch_id == table.batch_id
    row = table.database.read_now(lambda connection: connection.execute(batches.select()).one())
    assert (row.manifest_path, row.manifest_sha256) == (str(moved), "11")


def test_another_machine_s_manifest_of_the_same_batch_name_takes_no_job_away(table: Table, tmp_path: Path) -> None:
    """Nobody can look at the manifest that made the batch: what tells is whether the other asks for one of its jobs."""
    elsewhere = replace(table.batch, manifest=tmp_path / "elsewhere" / "spring.yaml")
    table.sync("mona", "lisa")
    with pytest.raises(UsageError, match=r"already holds a batch 'spring', from .*spring\.yaml"):
        table.sync(spec("mona", prompt="Somebody else's."), batch=elsewhere)
    assert table.states() == {"mona": "pending", "lisa": "pending"}
    assert counted(table.sync(spec("mona", prompt="Edited."), spec("renamed"), batch=elsewhere)) == {
        "new": 1,
        "edited": 1,
        "gone": 1,
    }


@pytest.mark.sqlite
def test_a_manifest_that_was_moved_with_its_table_keeps_its_batch_though_every_job_is_edited(table: Table) -> None:
    table.sync("mona")
    assert table.database.path
    moved = replace(table.batch, manifest=table.database.path.with_name("moved.yaml"))
    assert counted(table.sync(spec("mona", prompt="Edited."), batch=moved)) == {"edited": 1}


def test_a_moved_manifest_whose_images_are_gone_keeps_its_batch(table: Table, tmp_path: Path) -> None:
    job = sent_with_image(table)
    elsewhere = replace(table.batch, manifest=tmp_path / "elsewhere" / "spring.yaml")
    assert counted(table.sync(job, batch=elsewhere)) == {"unchanged": 1}


def test_a_batch_remembers_when_it_was_synced_last(table: Table) -> None:
    made = table.now
    table.now += HOUR
    table.sync("mona")
    row = table.database.read_now(lambda connection: connection.execute(batches.select()).one())
    assert (row.created_at, row.synced_at) == (made, made + HOUR)
    assert (row.spent_nanousd, row.reserved_nanousd, row.unpriced, row.delivered_bytes) == (0, 0, 0, 0)


def test_batches_in_one_table_are_independent(table: Table) -> None:
    table.sync("mona")
    other = replace(table.batch, name="autumn", manifest=table.folder / "autumn.yaml")
    assert counted(table.sync("mona", batch=other)) == {"new": 1}
    assert [row.state for row in table.rows()] == ["pending", "pending"]


def test_only_unsent_jobs_need_their_manifest_s_files(table: Table) -> None:
    for state in reversed(State):  # pending comes last, or the next would be sent with it
        table.bring(state, state)
    assert table.database.read_now(sent_keys, "spring") == set(SENT)

"""An unchanged manifest is not read again; whatever leaves a doubt has it read as before."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from batchgen.cli import asked
from batchgen.cli.asked import Asked
from batchgen.errors import ManifestChanged
from batchgen.jobs import State
from batchgen.jobtable import memory
from batchgen.jobtable.database import Database
from batchgen.jobtable.sync import OnChanged, SyncResult
from batchgen.manifest import Limits
from batchgen.manifest.expansion import Folder
from tests.batches import MASTER, STANDARD, TEXT_MODEL, write_image
from tests.table import MINUTE, Table

MANIFEST = f"""
limits: {{max_cost: 0.10, in_flight: 3, unconfirmed_minutes: 2.5, on_unconfirmed: resubmit}}
include: more.yaml
defaults: {{model: {STANDARD}}}
jobs:
  - {{id: "row-{{{{ sku }}}}", rows: products.csv, prompt: p, image_url: photo.png}}
  - {{id: "frame-{{{{ f.stem }}}}", matrix: {{f: {{glob: "frames/*.png"}}}}, prompt: p, image_url: "{{{{ f }}}}"}}
"""
MORE = f"jobs: [{{id: mona, model: {TEXT_MODEL}, prompt: p}}]"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A manifest that names all that a manifest can name."""
    write_image(tmp_path / "photo.png", 300, 300)
    write_image(tmp_path / "frames" / "one.png", 300, 300)
    (tmp_path / "products.csv").write_text("sku\na\nb\n")
    (tmp_path / "more.yaml").write_text(MORE)
    (tmp_path / "m.yaml").write_text(MANIFEST)
    return tmp_path / "m.yaml"


@pytest.fixture
def known(table: Table, place: Path) -> Table:
    """The same, enrolled."""
    table.batch_id = sync(table, place).batch_id
    return table


def read(table: Table, place: Path, simulate: bool = False, validate: bool = True) -> Asked:
    assert table.database.path
    return asked.read(place, table.database.path, simulate, validate)


def sync(
    table: Table, place: Path, on_changed: OnChanged = "refuse", simulate: bool = False, validate: bool = True
) -> SyncResult:
    """Read it and make rows of it."""
    found = read(table, place, simulate, validate)
    return table.change(memory.sync_manifest, found.known, found.specs, table.now, on_changed)


def recalled(table: Table, place: Path, simulate: bool = False, validate: bool = True) -> Asked | None:
    return asked.recalled(table.database, place, simulate, validate)


def by_hand(table: Table, *orders: str, **given: str) -> None:
    with table.database.engine.begin() as connection:
        for order in orders:
            connection.execute(text(order), given)


def test_what_is_recalled_is_what_was_read(known: Table, place: Path) -> None:
    found, before = recalled(known, place), read(known, place)
    assert found
    assert found.known == replace(before.known, steady=True)
    assert found.limits == before.limits
    assert found.limits == Limits(
        max_cost=Decimal("0.10"), in_flight=3, unconfirmed_minutes=2.5, on_unconfirmed="resubmit"
    )
    assert found.known.models == (STANDARD, TEXT_MODEL)
    again = sync(known, place)
    assert found.enrolled == replace(again, settled=False) == SyncResult(known.batch_id, unchanged=4)


def test_a_manifest_that_was_never_enrolled_is_read(table: Table, place: Path) -> None:
    assert recalled(table, place) is None


def rewrite(name: str, content: str) -> Callable[[Table, Path], object]:
    return lambda table, place: place.with_name(name).write_text(content)


def sent_otherwise(table: Table, place: Path) -> None:
    """A job was sent while its image was another, which has its old stamp back now."""
    stamp = (place.parent / "photo.png").stat()
    then = {"photo.png": {"size": stamp.st_size, "mtime_ns": stamp.st_mtime_ns + 1, "sha256": "00"}}
    by_hand(table, "UPDATE jobs SET input_digests = :then WHERE key = 'row-a'", then=json.dumps(then))


ADD_BY_HAND = (
    "INSERT INTO jobs (batch_id, key, state, priority, service, endpoint, model, request, input_pointers, fingerprint,"
    " tags,"
    " attempts, failures, output_path, created_at) SELECT batch_id, 'other', state, priority, service, endpoint, model,"
    " request, input_pointers, fingerprint, tags, 0, 0, 'other.mp4', created_at FROM jobs WHERE key = 'mona'"
)
DELETE_BY_HAND = (
    "DELETE FROM events WHERE job_id = (SELECT id FROM jobs WHERE key = 'mona')",
    "DELETE FROM jobs WHERE key = 'mona'",
)
DOUBTS: dict[str, Callable[[Table, Path], object]] = {
    "the manifest was edited": rewrite("m.yaml", MANIFEST + "\n"),
    "a row was added": rewrite("products.csv", "sku\na\nb\nc\n"),
    "an included manifest was edited": rewrite("more.yaml", MORE + "\n"),
    "an included manifest is gone": lambda table, place: place.with_name("more.yaml").unlink(),
    "a glob finds another file": lambda table, place: write_image(place.parent / "frames" / "two.png", 300, 300),
    "an image was replaced": lambda table, place: write_image(place.parent / "photo.png", 400, 300),
    "an image is gone": lambda table, place: (place.parent / "photo.png").unlink(),
    "a job was sent with another image": sent_otherwise,
    "a row was deleted by hand": lambda table, place: by_hand(table, *DELETE_BY_HAND),
    "a row was added by hand": lambda table, place: by_hand(table, ADD_BY_HAND),
    "a job was retried": lambda table, place: table.cancel("mona") and table.retry("mona"),
    "it was enrolled by another version": lambda table, place: by_hand(table, "UPDATE manifests SET batchgen = '0'"),
}


@pytest.mark.parametrize("change", DOUBTS.values(), ids=DOUBTS)
def test_whatever_leaves_a_doubt_has_it_read(
    known: Table, place: Path, change: Callable[[Table, Path], object]
) -> None:
    assert recalled(known, place)
    change(known, place)
    assert recalled(known, place) is None


def test_what_happens_to_jobs_leaves_none(known: Table, place: Path) -> None:
    intent, *others = known.intend()
    known.accept(intent)
    known.reject(others[0])
    known.lose(others[1])
    (job,) = known.claim(State.GENERATING)
    known.finish(job)
    assert len({row.state for row in known.rows()}) == 4
    assert known.change(lambda connection: memory.rows_held(connection, known.batch_id)) == 4
    assert recalled(known, place)


def test_a_job_that_a_person_cancelled_stays_cancelled(known: Table, place: Path) -> None:
    known.cancel("mona")
    found = recalled(known, place)
    assert found
    assert found.enrolled
    assert sync(known, place).unchanged == found.enrolled.unchanged == 4
    assert known.states()["mona"] == "cancelled"


def test_a_manifest_that_was_merely_touched_is_not_read(known: Table, place: Path) -> None:
    for path in (place, place.with_name("products.csv"), place.with_name("more.yaml")):
        os.utime(path, (1, 1))
    assert recalled(known, place)


def test_a_job_changed_after_it_was_sent_is_asked_about_at_every_run(known: Table, place: Path) -> None:
    known.accept(known.intend()[0])
    place.with_name("more.yaml").write_text(MORE.replace("prompt: p", "prompt: q"))
    place.write_text(MANIFEST.replace("prompt: p", "prompt: q"))
    with pytest.raises(ManifestChanged):
        sync(known, place)
    assert recalled(known, place) is None
    assert sync(known, place, "keep").changed
    assert recalled(known, place) is None


def test_while_a_job_that_left_the_manifest_may_yet_become_pending_it_is_read(known: Table, place: Path) -> None:
    doubtful = known.intend()
    for intent in doubtful:
        known.lose(intent)
    place.write_text(f"include: more.yaml\ndefaults: {{model: {MASTER}}}")
    assert not sync(known, place).settled
    assert recalled(known, place) is None
    known.now += MINUTE
    for doubt in known.unconfirmed():
        known.refute(doubt)
    assert sync(known, place).gone == 3
    assert recalled(known, place)


def test_without_validation_it_is_known_only_to_those_who_ask_for_none(table: Table, place: Path) -> None:
    sync(table, place, validate=False)
    assert recalled(table, place) is None
    assert recalled(table, place, validate=False)
    sync(table, place)
    assert recalled(table, place, validate=False)


def test_a_batch_for_the_simulator_is_known_beside_the_real_one(table: Table, place: Path) -> None:
    sync(table, place, simulate=True)
    assert recalled(table, place) is None
    simulated = recalled(table, place, simulate=True)
    assert simulated
    assert (simulated.batch.name, simulated.batch.service) == ("m-simulated", "simulator")
    sync(table, place)
    real = recalled(table, place)
    assert real
    assert (real.batch.name, real.batch.service) == ("m", "aimlapi")


def test_a_manifest_of_the_simulator_s_own_is_the_same_with_and_without_simulate(table: Table, place: Path) -> None:
    place.write_text(f"service: simulator{MANIFEST}")
    sync(table, place)
    assert recalled(table, place)
    assert recalled(table, place, simulate=True)


def test_a_copy_elsewhere_is_read(known: Table, place: Path) -> None:
    copy = place.with_name("copy.yaml")
    copy.write_bytes(place.read_bytes())
    assert recalled(known, copy) is None


def test_what_changed_while_it_was_read_is_read_again(table: Table, place: Path) -> None:
    folder = Folder(place.parent)
    folder.name("products.csv", "rows")
    assert folder.steady
    place.with_name("products.csv").write_text("sku\nabc\n")
    assert not folder.steady
    found = read(table, place)
    table.change(memory.sync_manifest, replace(found.known, steady=False), found.specs, table.now)
    assert recalled(table, place) is None


def test_a_run_lets_go_of_the_jobs_once_they_are_rows(database: Database, place: Path) -> None:
    assert database.path
    found = asked.read(place, database.path, simulate=False, validate=True)
    asyncio.run(found.sync(database, "refuse"))
    assert found.specs == []
    assert found.enrolled
    assert found.enrolled.new == 4

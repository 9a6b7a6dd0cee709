"""A hostile folder: whatever lies where batchgen writes, no file of a person is changed, nothing hangs, and a message
says which path and what to do. Once it is away, the same command goes on."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock
from sqlalchemy import update

from batchgen.cli.init import command as init
from batchgen.errors import StorageError, UsageError
from batchgen.files import liveness, safe_open
from batchgen.files.outputs import OutputFolder
from batchgen.files.part import Part
from batchgen.files.safe_open import UnsafePath
from batchgen.jobtable import leases
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import jobs
from batchgen.simulator.ledger import Ledger
from tests.batches import write_manifest
from tests.conftest import Command
from tests.fileserver import (
    CLIP,
    HALF,
    OTHER,
    V1,
    V2,
    cut_off,
    download,
    downloading,
    finished_generation,
    full_answer,
    part_of,
    partial_answer,
)
from tests.planted import A_FEW, FOLDERS, LINKS, PLANTS, SPECIAL, Home, Plant, name_of_plant, remove
from tests.scripted import ScriptedService, context_of, turn
from tests.table import Table, spec
from tests.wire import serving

pytestmark = pytest.mark.hostile(
    "the disk: links, pipes, devices, folders and others' files where batchgen writes",
    "nothing is written through them; the message names the path and what to do, and the same command goes on after",
)
RUN = "0123456789ab"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("person") / "home")


def set_output(table: Table, output: str) -> None:
    table.change(lambda connection: connection.execute(update(jobs).values(output_path=output)) and None)


async def check_waits_then_arrives(table: Table, planted: Path | None, words: str) -> None:
    """A run leaves the job with a reason, `words`; the next one, after `planted` is away, delivers it."""
    context = context_of(table, ScriptedService())
    async with downloading(context) as stage:
        await turn(stage)
    row = table.row()
    assert (row.state, row.leased_by, context.disk_fault) == ("downloading", None, None)
    assert words in row.error
    assert context.obstacles == {"mona": row.error}
    if planted:
        assert str(planted) in row.error
        assert "Move it away, then run the same command" in row.error
        remove(planted)
    else:
        set_output(table, "mona.mp4")
    table.change(leases.wake_waiting, table.batch_id, table.now)
    async with downloading(context_of(table, ScriptedService())) as stage:
        await turn(stage)
    assert table.row().state == "done", table.row().error
    assert (table.folder / table.row().output_path).read_bytes() == CLIP


@pytest.mark.parametrize(("plant", "etag"), [*((plant, None) for plant in PLANTS), (PLANTS[0], V1)], ids=name_of_plant)
async def test_nothing_is_written_through_what_lies_at_the_name_of_a_part(
    table: Table, clock: Clock, home: Home, plant: Plant, etag: str | None
) -> None:
    async with serving(full_answer()) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4", etag=etag)
        plant(part_of(table), home)
        await check_waits_then_arrives(table, part_of(table), "batchgen writes only a file of its own")
    home.check_untouched()


@pytest.mark.parametrize("plant", PLANTS, ids=name_of_plant)
async def test_a_video_never_replaces_what_has_its_name(table: Table, clock: Clock, home: Home, plant: Plant) -> None:
    async with serving(full_answer()) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        plant(target, home)
        before = target.lstat()
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert (table.row().state, table.row().output_path) == ("done", "mona~1.mp4")
    assert (table.folder / "mona~1.mp4").read_bytes() == CLIP
    assert (target.lstat().st_ino, target.lstat().st_size) == (before.st_ino, before.st_size)
    home.check_untouched()


@pytest.mark.parametrize(
    ("plant", "depth"), [*((plant, "out") for plant in (*LINKS, *SPECIAL)), (LINKS[2], "out/deep")], ids=name_of_plant
)
async def test_no_folder_of_a_video_is_reached_through_a_link(
    table: Table, clock: Clock, home: Home, plant: Plant, depth: str
) -> None:
    async with serving(full_answer()) as wire:
        table.sync(spec(output=f"{depth}/mona.mp4"))
        finished_generation(table, f"{wire.base_url}/v.mp4")
        plant(table.folder / "out", home)
        await check_waits_then_arrives(table, table.folder / "out", "a folder belongs there")
    home.check_untouched()


async def test_the_manifests_own_folder_may_be_reached_through_a_link(table: Table, clock: Clock) -> None:
    real = table.folder / "real"
    real.mkdir()
    table.folder = table.folder / "link"
    table.folder.symlink_to(real)
    async with serving(full_answer()) as wire:
        await download(table, wire)
    assert (real / "mona.mp4").read_bytes() == CLIP


@pytest.mark.parametrize(
    "path",
    # Others are refused by the same function, in test_manifest_outputs; there, the longest leave room for a mark.
    ["../out.mp4", "/tmp/out.mp4", "a/./out.mp4", "a\0.mp4", "x" * 250, "d/" * 500 + "out.mp4"],
    ids=lambda path: ascii(path[:20]),
)
def test_no_path_of_a_row_leaves_the_folder_or_is_no_name(tmp_path: Path, path: str) -> None:
    outputs = OutputFolder(tmp_path / "manifest")
    outputs.root.mkdir()
    part = Part(outputs, path, "batchgen-1")
    for use in (lambda: part.append([b"x"]), lambda: outputs.exists(path), lambda: outputs.rename(path, "new.mp4")):
        with pytest.raises(UnsafePath, match="Give its job another `output:`"):
            use()
    assert sorted(tmp_path.rglob("*")) == [outputs.root]


@pytest.mark.parametrize("path", ["../out.mp4", "a\0.mp4"], ids=ascii)
async def test_a_row_whose_path_is_not_safe_waits_for_another(table: Table, clock: Clock, path: str) -> None:
    async with serving(full_answer()) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4")
        set_output(table, path)
        outside = os.listdir(table.folder.parent)  # noqa: PTH208
        await check_waits_then_arrives(table, None, "Give its job another `output:`")
    assert os.listdir(table.folder.parent) == outside  # noqa: PTH208


# --- two job tables of one folder ---


async def test_two_tables_whose_outputs_meet_share_nothing_and_each_row_has_the_hash_of_its_file(
    table: Table, clock: Clock, tmp_path: Path
) -> None:
    def in_two_parts(content: bytes, etag: str) -> tuple[bytes, bytes]:
        return cut_off(full_answer(content, etag), HALF), partial_answer(HALF, content, etag)

    with Database(tmp_path / "other.db") as database:
        tables = [table, Table(database, tmp_path)]
        tables[1].sync()
        async with serving(*in_two_parts(CLIP, V1)) as first, serving(*in_two_parts(OTHER, V2)) as second:
            for owner, wire in zip(tables, (first, second), strict=True):
                finished_generation(owner, f"{wire.base_url}/v.mp4")
            async with (
                downloading(context_of(tables[0], ScriptedService())) as one,
                downloading(context_of(tables[1], ScriptedService())) as two,
            ):
                for stage, owner in ((one, tables[0]), (two, tables[1])):
                    await stage.tick(owner.now)
                await turn(one)
                await turn(two)
        assert {owner.row().output_path for owner in tables} == {"mona.mp4", "mona~1.mp4"}
        for owner, content in zip(tables, (CLIP, OTHER), strict=True):
            file = owner.output()
            assert file.path == owner.row().output_path
            assert (tmp_path / file.path).read_bytes() == content
            assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".part")]  # noqa: PTH208


# --- the job table, locks, the log ---


@pytest.mark.parametrize("suffix", safe_open.DATABASE_SUFFIXES, ids=["the table", "its -wal", "its -shm", "a journal"])
@pytest.mark.parametrize("plant", A_FEW, ids=name_of_plant)
def test_no_job_table_is_opened_whose_files_are_not_its_own(
    tmp_path: Path, home: Home, empty_table: Path, plant: Plant, suffix: str
) -> None:
    path = tmp_path / "batchgen.db"
    if suffix:
        path.write_bytes(empty_table.read_bytes())
    planted = path.with_name(path.name + suffix)
    plant(planted, home)
    with pytest.raises(StorageError, match=planted.name), Database(path):
        pass
    home.check_untouched()


@pytest.mark.parametrize("plant", A_FEW, ids=name_of_plant)
def test_the_simulator_keeps_its_ledger_in_no_file_but_its_own(tmp_path: Path, home: Home, plant: Plant) -> None:
    plant(tmp_path / "batchgen.db.simulator", home)
    with pytest.raises(StorageError, match=r"batchgen\.db\.simulator: .*Move it away"):
        Ledger(tmp_path / "batchgen.db.simulator")
    home.check_untouched()


@pytest.mark.parametrize("plant", A_FEW, ids=name_of_plant)
def test_a_log_is_appended_to_nothing_but_a_log(tmp_path: Path, home: Home, plant: Plant) -> None:
    plant(tmp_path / "run.log", home)
    with pytest.raises(UnsafePath, match=r"run\.log: .*Move it away"):
        safe_open.open_log(tmp_path / "run.log")
    home.check_untouched()


@pytest.mark.parametrize("name", ["m.yaml", "products.csv", "clip.mp4", "batchgen.db", ".env"])
def test_no_log_is_appended_to_a_file_of_another_kind(tmp_path: Path, batchgen: Command, name: str) -> None:
    write_manifest(tmp_path / "m.yaml", 1)
    with Database(tmp_path / "batchgen.db"):
        pass
    if not (tmp_path / name).exists():
        (tmp_path / name).write_bytes(b"sku,title\na,a cat\n")
    before = (tmp_path / name).read_bytes()
    ended = batchgen("run", "m.yaml", "--simulate", "--log-file", name)
    assert (ended.returncode, ended.stderr.strip()) == (
        8,
        f"{name}: this is no log, and stays as it is. Name another one with --log-file",
    )
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize(("name", "content"), [("run.log", "Sat Nov 28\n"), ("run", "2026-11-28 02:59:02  a  done\n")])
def test_a_log_goes_on(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with os.fdopen(safe_open.open_log(tmp_path / name), "a") as log:
        log.write("more\n")
    assert (tmp_path / name).read_text() == f"{content}more\n"


@pytest.mark.parametrize("plant", A_FEW, ids=name_of_plant)
def test_what_has_the_name_of_a_lock_stays_and_a_run_that_would_need_it_says_so(
    tmp_path: Path, home: Home, plant: Plant
) -> None:
    database = tmp_path / "batchgen.db"
    planted = tmp_path / f"batchgen.db.run-{RUN}"
    plant(planted, home)
    before = planted.lstat()
    liveness.remove_leftover_locks(database)
    assert planted.lstat().st_ino == before.st_ino
    assert liveness.recorded_runs(database) == []
    with pytest.raises(UnsafePath, match=rf"run-{RUN}: .*Move it away"):
        liveness.remove_dead_runs(database, {RUN: liveness.host_name()})
    with liveness.file_lock_held(database, "ba9876543210"):
        pass
    home.check_untouched()


def test_a_file_of_a_person_with_the_name_of_a_lock_is_neither_emptied_nor_removed(tmp_path: Path) -> None:
    database, file = tmp_path / "batchgen.db", tmp_path / f"batchgen.db.run-{RUN}"
    file.write_text("notes on that run")
    liveness.remove_leftover_locks(database)
    assert liveness.remove_dead_runs(database, {RUN: liveness.host_name()}) == [RUN]
    assert file.read_text() == "notes on that run"


@pytest.mark.parametrize("run", ["../../x", "x/../../y", "", ".", "a" * 300, "\0"], ids=ascii)
def test_the_id_of_a_run_in_the_table_leads_to_no_file_elsewhere(tmp_path: Path, run: str) -> None:
    assert liveness.remove_dead_runs(tmp_path / "batchgen.db", {run: liveness.host_name()}) == [run]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_of_a_dead_run_is_removed_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    database = tmp_path / "batchgen.db"
    (tmp_path / "batchgen.db.run-ba9876543210").touch()
    with liveness.file_lock_held(database, RUN) as lock:
        lock.record()
        liveness.remove_leftover_locks(database)
        assert [path.name for path in tmp_path.iterdir()] == [f"batchgen.db.run-{RUN}"]
        assert liveness.remove_dead_runs(database, {RUN: liveness.host_name()}) == []
        assert liveness.recorded_runs(database) == [RUN]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant not in FOLDERS], ids=name_of_plant)
def test_init_writes_no_manifest_over_what_has_its_name(tmp_path: Path, home: Home, plant: Plant) -> None:
    path = tmp_path / "manifest.yaml"
    plant(path, home)
    before = path.lstat()
    with pytest.raises(UsageError, match="already exists"):
        init(path)
    assert path.lstat().st_ino == before.st_ino
    home.check_untouched()


@pytest.mark.parametrize("plant", PLANTS, ids=name_of_plant)
def test_init_writes_no_schema_over_what_has_its_name(tmp_path: Path, home: Home, plant: Plant) -> None:
    path = tmp_path / "manifest.schema.json"
    plant(path, home)
    before = path.lstat()
    init(tmp_path / "manifest.yaml")
    assert (tmp_path / "manifest.yaml").read_text("utf-8").startswith("#")
    assert path.lstat().st_ino == before.st_ino
    home.check_untouched()


@pytest.mark.slow
def test_what_batchgen_makes_is_private_and_videos_are_not(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 1, output="out/{{ id }}.mp4")
    ended = batchgen("run", "m.yaml", "--simulate", "--log-file", "run.log")
    assert ended.returncode == 0, ended.stderr
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    umask = os.umask(0)
    os.umask(umask)
    assert modes.pop("simulated/out/clip-0.mp4") == 0o666 & ~umask
    assert modes.pop("simulated/out") == modes.pop("simulated") == 0o777 & ~umask
    modes.pop("m.yaml")
    posters = [name for name in modes if name.startswith(".batchgen")]
    assert {modes.pop(name) for name in posters if not name.endswith(".webp")} == {0o700}
    assert modes == dict.fromkeys(modes, 0o600)
    assert {"batchgen.db", "run.log"} <= modes.keys()


def test_the_journals_of_a_table_and_the_lock_of_a_run_are_private(tmp_path: Path) -> None:
    path = tmp_path / "batchgen.db"
    with Database(path), liveness.file_lock_held(path, RUN):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    names = ("batchgen.db", "batchgen.db-wal", "batchgen.db-shm", f"batchgen.db.run-{RUN}")
    assert modes == dict.fromkeys(names, 0o600)


@pytest.mark.slow
def test_a_linked_output_folder_is_refused_before_anything_is_paid(
    tmp_path: Path, home: Home, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml", 2, output="out/{{ id }}.mp4")
    (tmp_path / "simulated").mkdir()
    (tmp_path / "simulated/out").symlink_to(home.folder)
    ended = batchgen("run", "m.yaml", "--simulate")
    assert ended.returncode == 8
    assert "simulated/out: is a symbolic link to" in ended.stderr
    assert "Traceback" not in ended.stderr
    home.check_untouched()
    (tmp_path / "simulated/out").unlink()
    assert batchgen("run", "m.yaml", "--simulate").returncode == 0

"""A disk that is full, cannot be written, or is filled by one file: nothing is lost, and the other files arrive."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from freezegun.api import FrozenDateTimeFactory as Clock

from batchgen.advice.next_step import stop_of
from batchgen.download import transfer
from batchgen.files.disk_space import FILE_BYTES_MAX, free_and_reserve
from batchgen.files.outputs import OutputFolder
from batchgen.jobs import State
from batchgen.jobtable import delivery
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import jobs
from batchgen.jobtable.statistics import STUCK_FAILURES
from batchgen.jobtable.transition import guarded_update
from batchgen.runs.ending import judge_run
from batchgen.services.outcomes import Finished
from tests.batches import Bill, write_manifest
from tests.conftest import NOON, Command, Launch, Simulate
from tests.disks import small_disk
from tests.fileserver import (
    CLIP,
    HALF,
    NO_RANGE,
    V1,
    download,
    downloading,
    finished_generation,
    full_answer,
    part_of,
    range_from,
    requested_ranges,
)
from tests.scripted import ScriptedService, context_of, turn, turn_when_due
from tests.table import RUN, Table
from tests.waiting import until
from tests.wire import answer, serving

pytestmark = pytest.mark.hostile(
    "bodies larger than told, than the disk or than any video; a full disk",
    "the file's space is given back, the other files arrive, and the job table can be written",
)
MB = 1 << 20
ENDLESS = CLIP + b"\0" * (10 * MB)  # more than the disk of these tests holds


@pytest.fixture
def table(tmp_path: Path, empty_table: Path) -> Iterator[Table]:
    """A job table in a folder of its own, on a disk of 8 MB that the videos share."""
    with small_disk(tmp_path / "disk", 8 * MB) as disk:
        shutil.copyfile(empty_table, disk / "batchgen.db")
        with Database(disk / "batchgen.db") as database:
            table = Table(database, disk)
            table.sync()
            yield table


def another_finished_generation(table: Table, key: str, url: str) -> None:
    table.bring(State.DOWNLOADING, key)
    for job in table.claim(State.DOWNLOADING):
        if job.key == key:
            table.change(delivery.relocated, job, RUN, job.outputs[0], url)
    table.bury()


def move_output(table: Table, key: str, folder: str = "out") -> None:
    """Give a job an output in a folder."""
    table.change(guarded_update, jobs, {"id": table.row(key).id}, {"output_path": f"{folder}/{key}.mp4"})


async def check_stops_downloads_and_loses_nothing(
    table: Table, clock: Clock, spoil: Callable[[], AbstractContextManager[object]], advice: str
) -> None:
    """A run stops its downloads while `spoil` lasts, with this advice; the next one goes on."""
    async with serving(full_answer()) as wire:
        service = ScriptedService(fetches=[Finished((f"{wire.base_url}/v.mp4",))])
        target = finished_generation(table, f"{wire.base_url}/v.mp4")
        context = context_of(table, service)
        with spoil():
            async with downloading(context) as stage:
                await turn(stage)
                assert context.disk_fault
                assert context.disk_fault.startswith("mona.mp4: ")
                assert context.disk_advice == f"{advice}, then run the same command: what is paid waits"
                row = table.row()
                assert (row.state, row.failures, row.leased_by) == ("downloading", 1, None)
                assert table.attempt().generation_id == "g-mona"
                assert row.error == context.disk_fault
                assert stage.capacity == 0
                requests = len(wire.requests)
                await turn_when_due(stage, table, clock, 3)
                assert len(wire.requests) == requests, "no more downloads in this run"
                assert not part_of(table).exists()
        async with downloading(context_of(table, service)) as stage:
            await turn_when_due(stage, table, clock, 1)
    assert table.row().state == "done"
    assert target.read_bytes() == CLIP


async def test_a_full_disk_stops_downloads_and_the_job_table_can_still_be_written(table: Table, clock: Clock) -> None:
    @contextmanager
    def fill() -> Iterator[None]:
        ballast = table.folder / "ballast"
        free = shutil.disk_usage(table.folder).free
        ballast.write_bytes(b"\0" * (free - free_and_reserve(table.folder)[1]))
        yield
        ballast.unlink()

    await check_stops_downloads_and_loses_nothing(table, clock, fill, "free some disk")


async def test_what_to_do_about_a_disk_goes_by_its_fault_and_not_by_the_names_on_it(table: Table, clock: Clock) -> None:
    with small_disk(table.folder / "space", MB, read_only=True):
        async with serving(full_answer()) as wire:
            finished_generation(table, f"{wire.base_url}/v.mp4")
            move_output(table, "mona", "space")
            context = context_of(table, ScriptedService())
            async with downloading(context) as stage:
                await turn(stage)
    stop, ending = stop_of(context, NOON), table.database.read_now(judge_run, context, None, NOON)
    assert stop
    assert f"{stop.message}: {stop.hint}" == (
        "space/mona.mp4: Read-only file system: let it be written, then run the same command: what is paid waits"
    )
    assert ending.message == (
        "space/mona.mp4: Read-only file system. Let it be written, then run the same command: what is paid waits"
    )


async def test_a_full_disk_that_is_mounted_below_the_manifest_s_folder_stops_the_sending(
    table: Table, clock: Clock
) -> None:
    with small_disk(table.folder / "out", 1 << 20) as disk:
        (disk / "ballast").write_bytes(b"\0" * (1 << 20))
        async with serving(full_answer()) as wire:
            finished_generation(table, f"{wire.base_url}/v.mp4")
            move_output(table, "mona")
            context = context_of(table, ScriptedService())
            async with downloading(context) as stage:
                await turn(stage)
    assert context.disk_fault is None, "other outputs are on another disk"
    assert "the disk is full" in str(context.refused)
    assert context.decision is None, "the job says it"


async def test_after_two_files_without_space_nothing_more_is_bought(table: Table) -> None:
    """One alone may be odd, as the next test shows."""
    claims_much = full_answer(CLIP, Content_Length=str(15 << 30))
    context = context_of(table, ScriptedService())
    with small_disk(table.folder / "out", 64 << 20):
        async with serving(claims_much) as wire, downloading(context) as stage:
            for key, is_refused in (("mona", False), ("lisa", True)):
                another_finished_generation(table, key, f"{wire.base_url}/{key}.mp4")
                move_output(table, key)
                await turn(stage)
                assert context.disk_fault is None
                assert bool(context.refused) == is_refused
    assert State.PENDING not in context.advanceable_states()


async def test_a_disk_that_may_only_be_read_stops_downloads(database: Database, tmp_path: Path, clock: Clock) -> None:
    table = Table(database, tmp_path / "videos")
    table.sync()
    table.folder.mkdir()

    def spoil() -> AbstractContextManager[object]:
        return small_disk(table.folder, MB, read_only=True)

    await check_stops_downloads_and_loses_nothing(table, clock, spoil, "let it be written")


@pytest.mark.parametrize(
    "hostile",
    [
        full_answer(ENDLESS, Content_Length=None),
        full_answer(ENDLESS),
        full_answer(CLIP, Content_Length=str(10**17)),
        answer(206, CLIP, {"ETag": V1, "Content-Length": None, "Content-Range": f"bytes {HALF}-9/{10**17}"}),
        answer(206, ENDLESS, {"ETag": V1, "Content-Length": None, "Content-Range": f"bytes {HALF}-9/{9 * MB}"}),
    ],
    ids=[
        "no length, and no end",
        "larger than the disk",
        "claims 100 PB",
        "claims 100 PB in its range",
        "more than is free",
    ],
)
async def test_one_file_that_fills_the_disk_gives_its_space_back_and_the_others_arrive(
    table: Table, clock: Clock, hostile: bytes
) -> None:
    async with serving(lambda request: hostile if request.path == "/hostile" else full_answer()) as wire:
        is_range = hostile.startswith(b"HTTP/1.1 206")
        finished_generation(
            table, f"{wire.base_url}/hostile", CLIP[:HALF] if is_range else None, V1 if is_range else None
        )
        context = context_of(table, ScriptedService())
        async with downloading(context) as stage:
            await turn(stage)
            assert context.disk_fault is None, "the disk is not full"
            assert table.row().state == "downloading"
            assert table.row().failures >= STUCK_FAILURES, "the run would wait for it"
            assert not [name for name in os.listdir(table.folder) if "mona" in name]  # noqa: PTH208
            another_finished_generation(table, "lisa", f"{wire.base_url}/lisa.mp4")
            await turn(stage)
    assert table.row("lisa").state == "done"
    assert context.obstacles == {"mona": table.row("mona").error}


@pytest.mark.parametrize(
    ("large", "reason"),
    [(full_answer(CLIP, Content_Length=None), "sends more than"), (full_answer(CLIP), "no video has more than")],
    ids=["no length", "its length"],
)
async def test_a_file_larger_than_any_video_is_refused_and_leaves_nothing(
    table: Table, clock: Clock, monkeypatch: pytest.MonkeyPatch, large: bytes, reason: str
) -> None:
    monkeypatch.setattr(transfer, "FILE_BYTES_MAX", len(CLIP) - 1)
    async with serving(large) as wire:
        finished_generation(table, f"{wire.base_url}/v.mp4")
        context = context_of(table, ScriptedService())
        async with downloading(context) as stage:
            await turn(stage)
    assert reason in table.row().error
    assert (table.row().state, context.disk_fault, len(wire.requests)) == ("downloading", None, 1)
    assert not part_of(table).exists()


async def test_a_body_that_is_longer_than_the_range_says_is_not_appended(table: Table, clock: Clock) -> None:
    span = f"bytes {HALF}-{len(CLIP) - 1}/{len(CLIP)}"
    too_long = answer(206, CLIP[HALF:] + b"more", {"ETag": V1, "Content-Length": None, "Content-Range": span})
    async with serving(too_long, full_answer()) as wire:
        target = await download(table, wire, CLIP[:HALF], V1)
    assert requested_ranges(wire) == [range_from(HALF), NO_RANGE]
    assert target.read_bytes() == CLIP


async def test_a_part_larger_than_any_video_is_not_read_but_replaced(table: Table, clock: Clock) -> None:
    async with serving(full_answer()) as wire:
        target = finished_generation(table, f"{wire.base_url}/v.mp4", b"", V1)
        os.truncate(part_of(table), FILE_BYTES_MAX + 1)  # a sparse file: reading it would take minutes
        async with downloading(context_of(table, ScriptedService())) as stage:
            await turn(stage)
    assert requested_ranges(wire) == [NO_RANGE]
    assert target.read_bytes() == CLIP


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    with small_disk(folder, 8 * MB) as disk:
        (disk / "film.mp4").write_bytes(b"\0" * (8 * MB - MB // 4))
        yield


@contextmanager
def read_only_disk(folder: Path) -> Iterator[None]:
    with small_disk(folder, MB, read_only=True):
        yield


@contextmanager
def link(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(exist_ok=True)
    folder.symlink_to(folder.parent)
    yield
    folder.unlink()


@pytest.mark.parametrize(
    ("obstacle", "words"),
    [(full_disk, "its disk is full"), (read_only_disk, "may not be written"), (link, "is a symbolic link")],
)
def test_where_no_video_can_be_written_nothing_is_sent_by_a_run_and_by_a_worker(
    tmp_path: Path,
    obstacle: Callable[[Path], AbstractContextManager[None]],
    words: str,
    simulate: Simulate,
    batchgen: Command,
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2, output="out/{{ id }}/v.mp4")
    enrolled = batchgen("run", "m.yaml", "--enroll", **simulator.environment)
    assert enrolled.returncode == 0, enrolled.stderr
    with obstacle(tmp_path / "out"):
        for command in (["run", "m.yaml"], ["worker"]):
            ended = batchgen(*command, **simulator.environment)
            assert (ended.returncode, f"out: {words}" in ended.stderr) == (8, True), ended.stderr
        assert Bill(simulator.ledger).accepted == []
    assert batchgen("worker", **simulator.environment).returncode == 0


def test_a_folder_that_a_run_does_not_touch_holds_up_nothing_and_what_is_paid_is_collected_first(
    tmp_path: Path, simulate: Simulate, launch: Launch, batchgen: Command
) -> None:
    simulator = simulate("--lag", "0", speed=400)
    jobs = [{"id": f"clip-{n}", "prompt": f"A {n}.", "output": f"{folder}/{n}.mp4"} for n, folder in enumerate("aab")]
    write_manifest(tmp_path / "m.yaml", jobs)
    with small_disk(tmp_path / "b", MB, read_only=True):
        ended = batchgen("run", "m.yaml", "--only", "clip-0", **simulator.environment)
        assert ended.returncode == 0, ended.stderr
        running = launch("run", "m.yaml", "--only", "clip-1", **simulator.environment)
        until(lambda: len(Bill(simulator.ledger).accepted) == 2)
        running.signal(signal.SIGKILL)
        running.end()
        ended = batchgen("run", "m.yaml", **simulator.environment)
    assert (ended.returncode, "b: may not be written" in ended.stderr) == (8, True), ended.stderr
    assert sorted(path.name for path in (tmp_path / "a").glob("*.mp4")) == ["0.mp4", "1.mp4"]
    assert len(Bill(simulator.ledger).accepted) == 2


def test_runs_that_begin_together_try_one_folder_at_once(tmp_path: Path) -> None:
    async def begin() -> None:
        await asyncio.gather(
            *(asyncio.to_thread(OutputFolder(tmp_path).judge_folders, ["a/clip.mp4"], 0) for _ in range(8))
        )

    for _ in range(20):
        asyncio.run(begin())
    assert not list(tmp_path.iterdir())

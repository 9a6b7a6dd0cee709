"""Delivered clips are measured beside the run: what they show, and their posters. No job waits for it."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from batchgen.files import posters as posters_module
from batchgen.files.checker import Checker
from batchgen.files.local_files import first_frame_of
from batchgen.files.posters import Posters
from batchgen.files.safe_open import UnsafePath
from batchgen.jobs import State
from batchgen.jobtable import delivery, measuring
from batchgen.jobtable.clips import ClipFile
from batchgen.jobtable.delivery import PlacedFile
from batchgen.jobtable.measuring import ClipProblem
from batchgen.jobtable.schema import outputs
from batchgen.jobtable.transition import guarded_update
from batchgen.measurer import Measurer
from batchgen.report.words import suspect_lines
from batchgen.review.posters import PosterSource
from batchgen.simulator.rendering import Scene, render
from tests.conftest import MANIFESTS, NOON, Command
from tests.fileserver import CLIP, OTHER, undecodable_clip
from tests.scripted import ScriptedService, context_of, turn
from tests.table import RUN, Table, spec

WEBP = b"RIFF\x08\0\0\0WEBPVP8 "


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    checker = Checker()
    yield checker
    await checker.close()


def deliver(table: Table, key: str = "mona", content: bytes = CLIP) -> str:
    """Bring a job to its delivered file. Returns the SHA-256 of the file."""
    digest = sha256(content).hexdigest()
    if key not in table.states() or table.states()[key] != State.DOWNLOADING:
        table.bring(State.DOWNLOADING, key)
    (job,) = table.claim(State.DOWNLOADING)
    (table.folder / job.output_path).write_bytes(content)
    (output,) = job.outputs
    assert table.change(delivery.placed, job, RUN, output, PlacedFile(len(content), digest, job.output_path), table.now)
    return digest


def measurer_of(table: Table, checker: Checker) -> Measurer:
    return Measurer(context_of(table, ScriptedService()), checker)


def unmeasured(table: Table) -> list[str]:
    clips = table.database.read_now(measuring.unmeasured, table.batch_id)
    return [clip.file.key for clip in clips]


async def test_a_delivered_clip_is_measured_once_and_has_a_poster(table: Table, checker: Checker) -> None:
    digest = deliver(table)
    await turn(measurer_of(table, checker))
    row = table.output()
    assert row.measured_at
    assert (Posters(table.folder).read(digest) or b"")[8:12] == b"WEBP"
    table.now = row.measured_at
    assert unmeasured(table) == []


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda path: path.unlink(), []),
        (lambda path: path.write_bytes(OTHER + b"x"), []),
        (lambda path: (path.unlink(), path.mkdir()), []),
        (lambda path: path.write_bytes(b"\x55" * path.stat().st_size), ["unreadable"]),
    ],
    ids=["deleted", "another file", "a folder", "damaged"],
)
async def test_a_file_that_changed_after_its_delivery_has_no_measures_and_ends_nothing(
    table: Table, checker: Checker, change: Callable[[Path], Any], problems: list[str]
) -> None:
    digest = deliver(table)
    change(table.folder / "mona.mp4")
    whole = deliver(table, "whole", OTHER)
    stage = measurer_of(table, checker)
    await turn(stage)
    assert await stage.unmeasured() == [], "it is looked for once in a run"
    assert table.output().black is None
    assert Posters(table.folder).read(digest) is None
    assert Posters(table.folder).read(whole)
    suspects = table.database.read_now(measuring.suspect_clips, table.batch_id).problems
    assert [suspect.problem for suspect in suspects if suspect.id == "mona"] == problems, (
        "of frames only where some were"
    )


async def test_a_file_that_is_put_back_is_measured_by_the_next_run(table: Table, checker: Checker) -> None:
    deliver(table)
    path = table.folder / "mona.mp4"
    path.rename(path.with_suffix(".away"))
    await turn(measurer_of(table, checker))
    path.with_suffix(".away").rename(path)
    await turn(measurer_of(table, checker))
    assert table.output().black is not None


async def test_a_run_whose_files_are_all_gone_does_not_look_for_them_without_end(
    table: Table, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.measurer.LOST_MAX", 2)
    for number in range(3):
        deliver(table, str(number))
        (table.folder / f"{number}.mp4").unlink()
    stage = measurer_of(table, checker)
    await turn(stage)
    assert (len(stage.lost), stage.stopping) == (2, True)


async def test_a_clip_that_does_not_decode_is_recorded_and_the_next_one_is_measured(
    table: Table, checker: Checker
) -> None:
    deliver(table, "broken", undecodable_clip())
    digest = deliver(table, "whole")
    await turn(measurer_of(table, checker))
    assert unmeasured(table) == []
    assert Posters(table.folder).read(digest)


async def test_a_file_that_is_delivered_again_is_measured_again(table: Table, checker: Checker) -> None:
    deliver(table)
    await turn(measurer_of(table, checker))
    table.fetch_again("mona")
    assert unmeasured(table) == []
    digest = deliver(table, content=OTHER)
    assert unmeasured(table) == ["mona"]
    await turn(measurer_of(table, checker))
    assert Posters(table.folder).read(digest)


async def test_a_clip_that_was_delivered_again_meanwhile_keeps_no_measures_of_the_old_file(table: Table) -> None:
    deliver(table)
    (clip,) = table.database.read_now(measuring.unmeasured, table.batch_id)
    table.fetch_again("mona")
    deliver(table, content=OTHER)
    assert not table.change(measuring.record, clip, None, None, table.now)
    assert unmeasured(table) == ["mona"]


async def test_of_two_runs_that_measure_one_clip_the_second_changes_nothing(table: Table) -> None:
    deliver(table)
    (clip,) = table.database.read_now(measuring.unmeasured, table.batch_id)
    assert table.change(measuring.record, clip, None, None, table.now)
    assert not table.change(measuring.record, clip, None, None, table.now)


async def test_a_full_disk_for_posters_is_reported_once_and_holds_up_no_measure(
    table: Table, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(table, "a")
    deliver(table, "b", OTHER)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(posters_module.Posters, "store", refuse)
    measurer = measurer_of(table, checker)
    await turn(measurer)
    assert unmeasured(table) == []
    assert measurer.context.warning.count("No space left on device") == 1
    assert not measurer.context.disk_fault, "a run goes on without posters"


async def test_where_no_decoder_starts_the_run_goes_on_and_the_next_one_measures(
    table: Table, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(table)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", "/bin/false")
        measurer = measurer_of(table, checker)
        await turn(measurer)
        await measurer.measure_remaining()
    assert "clips are not measured in this run" in measurer.context.warning
    assert unmeasured(table) == ["mona"]
    await turn(measurer_of(table, checker))
    assert unmeasured(table) == []


async def test_one_task_measures_although_the_last_delivery_and_the_end_of_the_run_come_at_once(
    table: Table, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them would write the same poster at once, and one of them would fail: the run kept none any more."""
    digest, stage, begun = deliver(table), measurer_of(table, checker), list[Any]()

    def begin(work: Coroutine[Any, Any, None]) -> None:
        begun.append(work)
        Measurer.begin(stage, work)

    monkeypatch.setattr(stage, "begin", begin)
    await asyncio.gather(stage.measure_remaining(), stage.tick(NOON))
    await stage.finish()
    assert len(begun) == 1
    assert Posters(table.folder).read(digest)


async def test_a_run_measures_what_is_left_before_it_ends(table: Table, checker: Checker) -> None:
    for key in ("a", "b", "c"):
        deliver(table, key)
    await measurer_of(table, checker).measure_remaining()
    assert unmeasured(table) == []


async def test_a_run_that_ends_waits_for_its_measures_only_so_long(
    table: Table, checker: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(table)
    monkeypatch.setattr("batchgen.measurer.LAST_SECONDS", 0)
    measurer = measurer_of(table, checker)
    await measurer.measure_remaining()
    await measurer.finish()
    assert not measurer.tasks


# --- copies ---


async def test_the_same_video_in_two_files_is_a_copy_and_two_takes_of_one_image_are_none(
    table: Table, checker: Checker
) -> None:
    """`CLIP` and `OTHER` differ in a box behind the video."""
    for key, content in (("a", CLIP), ("b", OTHER), ("c", render(Scene("c", "", 2)))):
        deliver(table, key, content)
    await turn(measurer_of(table, checker))
    first, second, third = table.outputs()
    assert (first.copy_of, second.copy_of, third.copy_of) == (None, first.id, None)


async def test_a_later_run_knows_the_clips_that_an_earlier_one_has_measured(table: Table, checker: Checker) -> None:
    deliver(table, "a")
    await turn(measurer_of(table, checker))
    deliver(table, "b", OTHER)
    await turn(measurer_of(table, checker))
    first, second = table.outputs()
    assert second.copy_of == first.id


# --- what is shown ---


async def measure_all(table: Table) -> None:
    checker = Checker()
    await turn(measurer_of(table, checker))
    await checker.close()


def test_status_warns_of_clips_that_look_wrong(table: Table, batchgen: Command) -> None:
    for key, seconds, content in (("a", 5.0, CLIP), ("b", 2.0, OTHER), ("c", 2.0, undecodable_clip())):
        table.add(spec(key, clip_seconds=seconds))
        deliver(table, key, content)
    asyncio.run(measure_all(table))
    suspects = table.database.read_now(measuring.suspect_clips, table.batch_id)
    assert [(problem.id, problem.problem) for problem in suspects.problems] == [
        *(("a", "length"), ("b", "near_copy"), ("c", "unreadable"))
    ]
    shown = batchgen("status")
    assert "3 clips look wrong: a: 2 s instead of 5 s; b: nearly the same video as a; c: " in shown.stdout
    assert "`batchgen review" in shown.stdout
    document = json.loads(batchgen("status", "--json").stdout)
    assert document["suspect"] == 3
    assert document["problems"][0] == {"id": "a", "path": "a.mp4", "problem": "length", "detail": "2 s instead of 5 s"}


def test_a_clip_with_two_problems_is_one_clip_that_looks_wrong() -> None:
    of_b = [ClipProblem("b", "b.mp4", "length", "2 s instead of 5 s"), ClipProblem("b", "b.mp4", "near_copy", "a")]
    of_b.append(ClipProblem("b", "b_1.mp4", "near_copy", "a"))  # the same of its second file, which is not said twice
    suspects = measuring.SuspectClips(7, [*of_b, *(ClipProblem(key, "", "unreadable", "odd") for key in "cdefg")])
    assert suspect_lines(suspects, "batchgen review")[0] == (
        "7 clips look wrong: b: 2 s instead of 5 s, nearly the same video as a; c: odd; d: odd; e: odd; f: odd;"
        " and 2 more"
    )


def test_an_unmeasured_batch_looks_right(table: Table) -> None:
    deliver(table)
    assert table.database.read_now(measuring.suspect_clips, table.batch_id) == measuring.SuspectClips(0, [])


# --- the image of the first frame ---

PIXELS = "data:image/png;base64,AAAA"


@pytest.mark.parametrize(
    ("params", "image"),
    [
        ({"image_url": "a.png"}, "a.png"),
        ({"image_url": PIXELS}, PIXELS),
        ({"first_frame_image": PIXELS}, PIXELS),
        ({"image_url": "https://example.com/a.png"}, None),
        ({"image_url": "b.png"}, None),
        ({"image_url": "missing.png"}, None),
        ({"image_url": "a.png", "video_url": "https://example.com/v.mp4"}, None),
        ({"image_url": "a.png", "effect_scene": "hug"}, None),
        ({"image_urls": ["a.png"]}, None),
        ({"prompt": "a.png"}, None),
        ({"image_url": f"data:image/png;base64,{'A' * 13_000_000}"}, None),
    ],
    ids=[
        *("a file", "a data URI", "another name", "remote", "changed", "gone", "put into a video", "an effect"),
        *("references", "none", "too large"),
    ],
)
def test_the_image_of_the_first_frame_is_a_local_one_as_it_was_sent(
    tmp_path: Path, params: dict[str, Any], image: str | None
) -> None:
    digests = {}
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
        status = (tmp_path / name).stat()
        digests[name] = {"size": status.st_size, "mtime_ns": status.st_mtime_ns + (name == "b.png"), "sha256": ""}
    digests["missing.png"] = digests["a.png"]
    expected = str(tmp_path / image) if image == "a.png" else image
    assert first_frame_of(tmp_path, json.dumps(params), digests) == expected


async def test_a_first_frame_unlike_the_image_is_noticed(table: Table, checker: Checker) -> None:
    for key, name in (("same", "balloons"), ("other", "hills-at-dusk")):
        image = base64.b64encode((MANIFESTS / f"images/{name}.jpg").read_bytes()).decode()
        table.add(spec(key, image=f"data:image/jpeg;base64,{image}"))
        deliver(table, key, render(Scene(key, "", 1, image=(MANIFESTS / "images/balloons.jpg").read_bytes())))
    await turn(measurer_of(table, checker))
    same, other = (output.unlike_input for output in table.outputs())
    assert same < 0.4 < 0.7 < other


# --- posters ---


def test_a_poster_is_kept_by_the_digest_of_its_clip_for_its_user_only(tmp_path: Path) -> None:
    posters = Posters(tmp_path)
    assert posters.read("ab" * 32) is None
    posters.store("ab" * 32, WEBP)
    posters.store("ab" * 32, WEBP + b"newer")
    assert posters.read("ab" * 32) == WEBP + b"newer"
    (path,) = (tmp_path / ".batchgen/posters/ab").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_poster_is_neither_written_nor_read_through_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".batchgen").symlink_to(elsewhere)
    with pytest.raises(UnsafePath):
        Posters(tmp_path).store("ab" * 32, WEBP)
    assert Posters(tmp_path).read("ab" * 32) is None
    assert not list(elsewhere.iterdir())


async def test_a_poster_is_made_on_demand_and_kept(tmp_path: Path) -> None:
    path, source = tmp_path / "clip.mp4", PosterSource(tmp_path)
    path.write_bytes(CLIP)
    file = ClipFile(1, path.name, "ab" * 32, len(CLIP), None, None, None, None)
    made = await source.poster(file)
    assert made
    assert source.posters.read(file.sha256) == made
    path.unlink()
    assert await source.poster(file) == made, "a stored one needs no file"
    assert await source.poster(replace(file, sha256="cd" * 32)) is None
    await source.close()


def test_the_index_of_suspect_clips_and_the_view_of_problems_have_the_same_bounds(table: Table) -> None:
    """A clip at each bound is a problem in the view exactly where `status` finds it."""
    bounds: list[tuple[str, float | None]] = [
        *[("black", 0.499), ("black", 0.5), ("frozen", 0.499), ("frozen", 0.5), ("seconds_off", 0.5)],
        *[("unlike_input", 0.549), ("unlike_input", 0.55), ("seconds_off", -0.51), ("black", None)],
    ]
    for number, (name, value) in enumerate(bounds):
        deliver(table, str(number))
        measured = {"measured_at": NOON, "black": 0.0, "frozen": 0.0, name: value}
        table.change(guarded_update, outputs, {"id": table.output(str(number)).id}, measured)
    suspects = table.database.read_now(measuring.suspect_clips, table.batch_id)
    assert suspects.number == 5
    assert [problem.id for problem in suspects.problems] == ["1", "3", "6", "7", "8"]
    (everything,) = table.database.read_now(
        lambda connection: list(connection.execute(text("SELECT count(*) FROM problems")).scalars())
    )
    assert everything == 5

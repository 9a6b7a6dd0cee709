"""The Python API: the same as the command line, in a script, in a running event loop, and when it goes wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import traceback
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import batchgen
from batchgen import Event, RunResult, State, Synced
from tests.batches import TEXT_MODEL, write_manifest
from tests.conftest import QUICK_SPEED, Launch, Simulate
from tests.forks import ROOT
from tests.waiting import rows, until

KEY = "test-key-never-to-be-seen"


@pytest.fixture
def manifest(tmp_path: Path, simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two jobs for a simulated service, whose account is in the environment."""
    for name, value in simulate().environment.items():
        monkeypatch.setenv(name, value)
    return write_manifest(tmp_path / "m.yaml", 2)


def check_result(result: RunResult, folder: Path) -> None:
    assert (result.ok, result.exit_code, result.message) == (True, 0, "every job is delivered")
    assert result.summary.counts[State.DONE] == 2
    assert [job.id for job in result.jobs] == ["clip-0", "clip-1"]
    for job in result.jobs:
        assert (job.state, job.error, job.path) == (State.DONE, None, folder / f"m/{job.id}.mp4")
        assert job.path
        assert job.path.stat().st_size > 0
        assert isinstance(job.cost_usd, Decimal)


@pytest.mark.slow
def test_a_run_returns_its_result_and_tells_every_event(manifest: Path) -> None:
    told: list[Synced | Event] = []
    result = batchgen.run(manifest, on_event=told.append)
    check_result(result, manifest.parent)
    first, *moved = told
    assert isinstance(first, Synced)
    assert (first.batch, first.jobs, first.result.new) == ("m", 2, 2)
    assert [event.to_state for event in moved if isinstance(event, Event) and event.key == "clip-0"] == [
        State.SUBMITTING,
        State.GENERATING,
        State.DOWNLOADING,
        State.DONE,
    ]
    assert batchgen.run(manifest).summary.cost_usd == result.summary.cost_usd, "nothing is bought twice"


@pytest.mark.slow
async def test_a_run_works_where_an_event_loop_is_running(manifest: Path) -> None:
    """As in a notebook: the call blocks, and its events come from another thread."""
    check_result(batchgen.run(str(manifest)), manifest.parent)


@pytest.mark.slow
async def test_a_run_in_the_caller_s_loop(manifest: Path) -> None:
    check_result(await batchgen.arun(manifest), manifest.parent)


@pytest.mark.slow
async def test_a_cancelled_run_ends_in_good_order_and_goes_on_later(manifest: Path) -> None:
    begun = asyncio.Event()
    running = asyncio.create_task(batchgen.arun(manifest, on_event=lambda _event: begun.set()))
    await begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (run,) = rows(manifest.parent / "batchgen.db", "SELECT exit_code FROM runs")
    assert run["exit_code"] == 130
    check_result(await batchgen.arun(manifest), manifest.parent)


@pytest.mark.slow
def test_an_error_in_on_event_ends_the_run_in_good_order_and_is_raised(manifest: Path) -> None:
    def fail(event: Synced | Event) -> None:
        if isinstance(event, Event):
            raise LookupError("a defect of the caller")

    with pytest.raises(LookupError):
        batchgen.run(manifest, on_event=fail)
    (run,) = rows(manifest.parent / "batchgen.db", "SELECT exit_code, ended_at FROM runs")
    assert run["ended_at"]
    check_result(batchgen.run(manifest), manifest.parent)


@pytest.mark.slow
def test_options_mean_what_they_mean_on_the_command_line(manifest: Path) -> None:
    limited = batchgen.run(manifest, limit=1, in_flight=1)
    assert [job.state for job in limited.jobs] == [State.DONE, State.PENDING]
    planned = batchgen.plan(manifest, max_cost=0.1, only="clip-1")
    assert (planned.to_send, planned.affordable) == (1, 0)
    assert len(repr(planned)) < 1_000, "a notebook shows it"
    capped = batchgen.run(manifest, max_cost=0.1)
    assert (capped.ok, capped.exit_code) == (False, 5)
    (status,) = batchgen.status(manifest)
    assert (status.batch.name, status.summary.counts[State.PENDING], status.runs) == ("m", 1, 0)


@pytest.mark.parametrize("amount", [0, -1, "much", float("nan"), float("inf")])
def test_an_amount_that_is_none_is_refused(manifest: Path, amount: Any) -> None:
    with pytest.raises(batchgen.UsageError, match="max_cost"):
        batchgen.run(manifest, max_cost=amount)


def test_the_traceback_of_an_error_shows_no_other_one(manifest: Path) -> None:
    with pytest.raises(batchgen.UsageError) as raised:
        batchgen.run(manifest, sample=-1)
    assert "During handling" not in "".join(traceback.format_exception(raised.value))


def test_a_check_names_the_batch_as_a_run_does(manifest: Path) -> None:
    assert batchgen.check(manifest).batch == "m"
    manifest.write_text(f"service: simulator\n{manifest.read_text()}")
    assert batchgen.check(manifest).batch == "m-simulated"


def test_a_misspelt_option_is_refused(manifest: Path) -> None:
    """A cap that is not heeded would cost money."""
    misspelt: Any = {"max_csot": 5}
    for function in (batchgen.run, batchgen.plan):
        with pytest.raises(TypeError, match="max_csot"):
            function(manifest, **misspelt)
    assert "run" in dir(batchgen)


IMPOSSIBLE: list[dict[str, Any]] = [
    *({"changed": "kep"}, {"sample": -1}, {"limit": 0}, {"in_flight": 0}, {"in_flight": 5000}, {"in_flight": 2.5}),
    *(
        {"downloads": 99},
        {"submits_per_minute": -1},
        {"submits_per_minute": True},
        {"max_cost": 1e12},
        {"max_cost": ""},
    ),
    *({"sample": True}, {"limit": "3"}, {"only": 5}, {"only": [None]}, {"only": b"clip-0"}, {"where": 5}),
    *({"only": []}, {"only": ""}, {"only": {}}, {"only": set()}, {"where": ""}, {"sample": 0}, {"max_cost": 0}),
    *({"until": "08:00"}, {"until": date(2026, 3, 1)}, {"simulate": "no"}, {"validate": "false"}, {"verify": 1}),
    *({"notify": 5}, {"exec": 5}, {"metrics": 99_999}),
]


@pytest.mark.parametrize("option", IMPOSSIBLE, ids=str)
def test_an_impossible_value_is_refused(manifest: Path, option: Any) -> None:
    with pytest.raises(batchgen.UsageError, match=next(iter(option))):
        batchgen.run(manifest, **option)


class Count(int): ...


class Frame(list[str]):
    """Texts whose truth is not asked, as of an array of NumPy or a column of pandas."""

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")


def test_only_is_any_collection_of_patterns(manifest: Path) -> None:
    assert batchgen.plan(manifest, only=Frame(["clip-1"]), sample=Count(1)).to_send == 1


def test_none_is_the_same_as_to_leave_an_option_out(manifest: Path) -> None:
    nothing: dict[str, Any] = dict.fromkeys(batchgen.RunOptions.__annotations__)
    assert batchgen.plan(manifest, **nothing).to_send == 2
    manifest.write_text(manifest.read_text().replace("duration: 5", "duration: 4"))
    with pytest.raises(batchgen.ManifestInvalid, match="duration"):
        batchgen.plan(manifest, **nothing)


async def ignore(_event: object) -> None: ...


@pytest.mark.parametrize("on_event", [5, ignore], ids=["a number", "a coroutine function"])
def test_what_cannot_be_called_with_an_event_is_refused_before_anything_is_sent(manifest: Path, on_event: Any) -> None:
    with pytest.raises(TypeError, match="on_event"):
        batchgen.run(manifest, on_event=on_event)
    assert not (manifest.parent / "batchgen.db").exists()


def test_a_time_without_a_zone_is_local(manifest: Path) -> None:
    assert batchgen.plan(manifest, until=datetime.now() + timedelta(days=1)).in_time == 2  # noqa: DTZ005


async def test_a_run_that_is_cancelled_twice_ends_before_its_table_is_closed(manifest: Path) -> None:
    begun = asyncio.Event()
    running = asyncio.create_task(batchgen.arun(manifest, on_event=lambda _event: begun.set()))
    await begun.wait()
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    (run,) = rows(manifest.parent / "batchgen.db", "SELECT exit_code, ended_at FROM runs")
    assert run["ended_at"]


def test_errors_are_those_of_the_tree(tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("jobs: [{id: a}]")
    with pytest.raises(batchgen.ManifestInvalid) as invalid:
        batchgen.check(bad)
    assert invalid.value.problems[0].line == 1
    assert isinstance(invalid.value, batchgen.BatchgenError)
    with pytest.raises(batchgen.UsageError, match="no job table yet"):
        batchgen.status(db=tmp_path / "nowhere.db")
    monkeypatch.delenv("AIMLAPI_API_KEY")
    with pytest.raises(batchgen.AccountError, match="no API key"):
        batchgen.run(manifest)
    assert batchgen.check(manifest).models == {TEXT_MODEL: 2}


NOTEBOOK = """
import asyncio, signal, sys, batchgen

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job may have been told to ignore it

async def cell():
    batchgen.run(sys.argv[1], on_event=lambda event: print(event, flush=True))

asyncio.run(cell())
"""


@pytest.mark.slow
def test_ctrl_c_in_a_notebook_ends_the_run_in_good_order(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(speed=1)
    manifest = write_manifest(tmp_path / "m.yaml", 2)
    command = [sys.executable, "-c", NOTEBOOK, str(manifest)]
    environment = {**os.environ, **simulator.environment}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: rows(tmp_path / "batchgen.db", "SELECT * FROM jobs WHERE state = 'generating'"))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    (run,) = rows(tmp_path / "batchgen.db", "SELECT exit_code FROM runs")
    assert run["exit_code"] == 130


def test_the_import_is_cheap_and_every_public_name_is_there() -> None:
    code = "import sys, batchgen; print(any(name in sys.modules for name in ('sqlalchemy', 'httpx2', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    assert all(getattr(batchgen, name).__doc__ for name in batchgen.__all__ if name != "RunEvent")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        batchgen.nothing  # noqa: B018


@pytest.mark.slow
def test_the_example_of_the_readme_runs(manifests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    monkeypatch.setattr("batchgen.simulator.plugin.SPEED", QUICK_SPEED)
    monkeypatch.chdir(manifests.parent)
    (manifests.parent / "manifests").symlink_to(manifests)
    namespace: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), namespace)
    assert namespace["result"].ok


# --- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_logs_events_by_stable_names_and_never_the_key(manifest: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    batchgen.run(manifest)
    names = {record.name: {r.message for r in caplog.records if r.name == record.name} for record in caplog.records}
    assert {"run.started", "run.ended"} == names["batchgen.run"]
    assert {"job.submitting", "job.generating", "job.downloading", "job.done"} == names["batchgen.jobs"]
    assert names["batchgen.scheduler"] == {"create.accepted"}
    assert names["batchgen.poller"] <= {"poll.working", "poll.finished"}
    accepted = next(record for record in caplog.records if record.message == "create.accepted")
    assert vars(accepted)["job"] in ("clip-0", "clip-1")
    assert KEY not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.slow
def test_v_shows_the_log_and_vv_every_request(manifest: Path, launch: Launch) -> None:
    shown = launch("run", manifest, "-vv").end().stderr
    assert re.search(r"batchgen\.scheduler create\.accepted job=clip-[01]", shown)
    assert re.search(r"batchgen\.http http\.20[01] method=POST url=http://127", shown)
    assert KEY not in shown
    assert "batchgen.http" not in launch("run", manifest, "-v").end().stderr

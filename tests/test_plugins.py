"""An invented service, installed by an entry point of its own: its manifest runs from `check` to `done`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import getcontext
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import UsageError
from batchgen.services import registry
from batchgen.services.account import Account, Variables
from batchgen.services.base import Service
from batchgen.services.boundary import BoundedService
from batchgen.testing import Imitation
from tests.batches import write_manifest
from tests.conftest import Command
from tests.events import check_events
from tests.imitations import queueworks
from tests.waiting import JOBS, rows

pytestmark = pytest.mark.usefixtures("plugins")

KEY = "sk-0123456789abcdef"
CLIPS = [
    {"id": "lighthouse", "model": "shortfilm", "prompt": "A lighthouse."},
    {"id": "refused", "model": "shortfilm", "prompt": "Something forbidden."},
    {"id": "balloon", "model": "shortfilm", "prompt": "A balloon."},
]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Imitation]:
    with queueworks(tmp_path) as served:
        yield served


def test_a_manifest_runs_from_check_to_done_on_a_service_that_batchgen_does_not_know(
    tmp_path: Path, batchgen: Command, service: Imitation
) -> None:
    write_manifest(tmp_path / "m.yaml", CLIPS, service="queueworks", defaults={})
    account = {"QUEUEWORKS_URL": service.base_url, "QUEUEWORKS_KEY": "any"}
    assert batchgen("check", "m.yaml").returncode == 0
    planned = batchgen("plan", "m.yaml", **account)
    assert "3  shortfilm  $0.25 each, $0.75" in planned.stdout
    assert "the service keeps a finished file for 2 h" in planned.stdout

    ended = batchgen("run", "m.yaml", **account)
    assert ended.returncode == 3, ended.stderr
    assert "refused failed: prompt: refused by moderation: this prompt breaks our rules" in ended.stderr
    jobs = rows(tmp_path / "batchgen.db", f"{JOBS} ORDER BY jobs.id, outputs.number")
    assert [(job["key"], job["state"], job["path"]) for job in jobs] == [
        ("lighthouse", "done", "m/lighthouse.mp4"),
        ("lighthouse", "done", "m/lighthouse+2.mp4"),
        ("refused", "failed", None),
        ("balloon", "done", "m/balloon.mp4"),
        ("balloon", "done", "m/balloon+2.mp4"),
    ]
    assert all((tmp_path / job["path"]).stat().st_size == job["bytes"] for job in jobs if job["path"])
    attempts = rows(tmp_path / "batchgen.db", "SELECT * FROM attempts WHERE generation_id IS NOT NULL")
    # The two creates are on the wire at once, so the service may take them in either order.
    assert sorted(attempt["generation_id"] for attempt in attempts) == sorted(service.accepted())
    assert {(attempt["cost_usd"], attempt["charge_source"]) for attempt in attempts} == {("0.25", "poll")}
    assert all(attempt["collect_by"] > attempt["finished_at"] for attempt in attempts)
    assert "0.5" in json.loads(batchgen("status", "m.yaml", "--json").stdout)["cost_usd"]

    missing = batchgen("run", "m.yaml")
    assert missing.returncode == 4
    assert "Set QUEUEWORKS_KEY" in missing.stderr


def test_a_service_that_is_not_installed_is_refused_with_those_that_are(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", CLIPS, service="queuework", defaults={})
    refused = batchgen("check", "m.yaml")
    assert refused.returncode == 2
    assert "there is no service `queuework`" in refused.stderr
    assert "did you mean queueworks?" in refused.stderr


def install(folder: Path, package: str, target: str, name: str = "") -> None:
    """Put the entry point of a service, named as its package or otherwise, into a folder as an installer does."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name or package} = {target}\n")


LOUD = """
import os, subprocess, sys, threading
from contextlib import asynccontextmanager
import queueworks
print("loud: an import")
sys.stdout.write("loud: a write\\n")

class Loud(queueworks.Queueworks):
    name = "loud"

    async def submit(self, submission):
        threading.Thread(target=print, args=["loud: a thread"]).start()
        subprocess.run(["echo", "loud: a child"])
        return await super().submit(submission)

@asynccontextmanager
async def connect(account, _state):
    os.write(1, b"loud: a descriptor\\n")
    service = Loud(account)
    yield service
    await service.close()

PLUGIN = queueworks.Plugin(queueworks.VARIABLES, connect, queueworks.PLUGIN.handle_of)
"""


@pytest.mark.slow
def test_what_a_plug_in_prints_is_not_among_the_lines_of_json(
    tmp_path: Path, batchgen_interpreter: Command, service: Imitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "loud", "loud_service:PLUGIN")
    (tmp_path / "loud_service.py").write_text(LOUD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    write_manifest(tmp_path / "m.yaml", CLIPS, service="loud", defaults={})
    account = {"QUEUEWORKS_URL": service.base_url, "QUEUEWORKS_KEY": "any"}
    shown = ""
    for command in ("check", "plan", "run", "status"):
        ended = batchgen_interpreter(command, "m.yaml", "--json", **account)
        check_events(ended.stdout)
        assert ended.stdout
        shown += ended.stderr
    sources = "an import", "a write", "a thread", "a child", "a descriptor"
    assert [source for source in sources if f"loud: {source}\n" not in shown] == []
    assert "loud: an import" in batchgen_interpreter("plan", "m.yaml", **account).stdout
    assert "Usage" in batchgen_interpreter("run", "--json", "--help").stdout


def test_an_entry_point_that_leads_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, target in (("gone", "no_such_module:PLUGIN"), ("odd", "json:dumps")):
        install(tmp_path, name, target)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="'gone' cannot be loaded: ModuleNotFoundError: No module named"):
        registry.plugin("gone")
    with pytest.raises(UsageError, match="'odd' cannot be used"):
        registry.plugin("odd")
    with pytest.raises(UsageError, match="no service 'other' here; installed: aimlapi"):
        registry.plugin("other")


def test_a_name_that_several_packages_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of them is found first is chance, and the key of one is not meant for the other."""
    for name in ("queueworks", "simulator"):
        (tmp_path / name).mkdir()
        install(tmp_path / name, "another", "another:PLUGIN", name)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(tmp_path / name))
            with pytest.raises(UsageError, match=f"several packages have a service '{name}': another, "):
                registry.plugin(name)


BROKEN = {
    "class Odd(BaseException): pass\nraise Odd('no use')": "cannot be loaded: Odd: no use",
    "raise BaseExceptionGroup('no use', [SystemExit(2)])": "cannot be loaded: BaseExceptionGroup: no use",
    "from queueworks import *\nPLUGIN = Plugin(Variables('KEY', None), connect, None)": "its `Variables` are no texts",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_plug_in_that_cannot_be_used_is_told_in_a_sentence(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken", f"{tmp_path.name}:PLUGIN")
    (tmp_path / f"{tmp_path.name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=BROKEN[source]):
        registry.plugin("broken")


async def test_a_plug_in_changes_the_precision_of_its_own_decimals_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money is added up in the same thread."""
    install(tmp_path, "exact", f"{tmp_path.name}:PLUGIN")
    source = "import decimal\nfrom queueworks import *\ndecimal.getcontext().prec = 2\nPLUGIN = PLUGIN"
    (tmp_path / f"{tmp_path.name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = getcontext().prec
    registry.plugin("exact")
    assert getcontext().prec == before

    async def set_precision(_models: Any) -> None:
        getcontext().prec = 2

    async with registry.plugin("queueworks").connect(Account("http://127.0.0.1:9", KEY), None) as service:
        vars(service).update(typical_seconds=set_precision)
        await BoundedService(service, KEY).typical_seconds([])
    assert getcontext().prec == before


FAILURES = [ValueError(f"no use of {KEY}"), SystemExit(0), asyncio.CancelledError()]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_plug_in_that_does_not_connect_is_told_and_one_that_does_not_close_changes_nothing(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def connect(account: Account, _state: Path | None) -> AsyncIterator[Service]:
        async with registry.plugin("queueworks").connect(account, None) as service:
            if account.base_url:
                yield service
            raise failure

    plugin = registry.Plugin(Variables(), connect, lambda *_: {})
    with pytest.raises(UsageError, match="the plug-in of the service does not connect") as refused:
        async with plugin.open(Account("", KEY), None):
            pass
    async with plugin.open(Account("http://127.0.0.1:9", KEY), None) as service:
        assert service.name == "queueworks"
    assert "service.not_closed" in caplog.text
    assert KEY not in caplog.text + str(refused.value)
    with pytest.raises(ZeroDivisionError):
        async with plugin.open(Account("http://127.0.0.1:9", KEY), None):
            raise ZeroDivisionError


async def test_a_task_group_of_a_plug_in_that_breaks_does_not_cancel_the_run(caplog: pytest.LogCaptureFixture) -> None:
    broken = asyncio.Event()

    async def refresh() -> None:
        broken.set()
        raise ConnectionError("no token")

    @asynccontextmanager
    async def connect(account: Account, _state: Path | None) -> AsyncIterator[Service]:
        async with registry.plugin("queueworks").connect(account, None) as service, asyncio.TaskGroup() as group:
            group.create_task(refresh())
            yield service

    async with registry.Plugin(Variables(), connect, lambda *_: {}).open(Account("http://127.0.0.1:9", KEY), None):
        await broken.wait()
        await asyncio.sleep(0)
    assert "service.not_closed" in caplog.text


@pytest.mark.parametrize("handle", [None, {"url": b""}, "a text", SystemExit(0)], ids=repr)
def test_a_handle_that_cannot_be_stored_is_refused_where_a_person_names_a_generation(handle: Any) -> None:
    assert registry.plugin("queueworks").handle_of("g-1", "/create") == {"url": "/requests/g-1"}

    def make(*_: str) -> Any:
        if isinstance(handle, BaseException):
            raise handle
        return handle

    odd = registry.Plugin(Variables(), registry.plugin("queueworks").connect, make)
    with pytest.raises(UsageError, match="the plug-in of the service makes no handle of g-1"):
        registry.handle_of(odd, "g-1", "/create")


async def test_a_service_of_another_name_than_its_entry_point_is_refused() -> None:
    """Its rows would have both names, and what was paid for would not be found by either."""
    misnamed = replace(registry.plugin("instantworks"), connect=registry.plugin("queueworks").connect)
    with pytest.raises(UsageError, match="the plug-in of the service 'instantworks' calls it 'queueworks'"):
        async with misnamed.open(Account("http://127.0.0.1:9", KEY), None):
            pass

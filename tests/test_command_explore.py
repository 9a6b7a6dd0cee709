"""`batchgen explore`: Datasette on the job table, which it cannot change."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from batchgen.jobs import State
from batchgen.jobtable.database import Database
from batchgen.jobtable.views import EXAMPLES, VIEWS
from tests.conftest import Command, Launch
from tests.table import Table


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def status(url: str, **headers: str) -> int:
    try:
        with urlopen(Request(url, headers=headers)) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.mark.slow
def test_the_views_and_queries_are_served_and_nothing_is_written(tmp_path: Path, launch: Launch) -> None:
    name = "100% mine?.db"
    pytest.importorskip("datasette", reason="batchgen[explore] is not installed")
    with Database(tmp_path / name) as database:
        Table(database, tmp_path).bring(State.DONE, "mona")
    before = files(tmp_path)
    running = launch("explore", "--db", name, "--port", "0")
    assert running.process.stdout
    url = running.process.stdout.readline().strip()
    with urlopen(f"{url}.json") as answer:
        assert {view["name"] for view in json.load(answer)["views"]} == set(VIEWS)
    with urlopen(f"{url}/job_overview") as answer:
        page = answer.read().decode()
    assert VIEWS["job_overview"].rows in page
    for example in EXAMPLES:
        with urlopen(f"{url}/{example}.json?_shape=array") as answer:
            assert json.load(answer) or example == "failed"
    assert status(f"{url}?sql={quote('select count(*) from ledger')}") == 200
    assert status(f"{url}?sql={quote('delete from jobs')}") == 400
    assert status(f"{url}?sql={quote('select * from legder')}") == 400
    assert status(f"{url.replace('batchgen', '')}-/databases.json", Host="evil.example") == 400
    assert status(f"{url}.db") == 403
    running.signal(signal.SIGINT)
    ended = running.end()
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == f"{tmp_path / name} is shown at this address, read-only, until Ctrl-C\n"
    assert files(tmp_path) == before


def test_without_datasette_the_command_that_installs_it_is_named(
    batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasette.app", None)
    shown = batchgen("explore")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "explore needs Datasette: pip install 'batchgen[explore]'\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--db", "postgresql://u:geheim@127.0.0.1:1/b"), "explore reads SQLite files only; `batchgen sql` reads"),
        ((), "there is no job table yet"),
        (("nowhere.yaml",), "nowhere.yaml: there is no such manifest"),
    ],
)
def test_a_table_that_cannot_be_shown_is_named(batchgen: Command, words: tuple[str, ...], message: str) -> None:
    pytest.importorskip("datasette", reason="batchgen[explore] is not installed")
    shown = batchgen("explore", *words)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert message in shown.stderr
    assert "geheim" not in shown.stderr

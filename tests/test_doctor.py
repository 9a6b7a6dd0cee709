"""`batchgen doctor`: troubles are planted; each is named with a command, and that command alone mends it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import inspect

from batchgen import run
from batchgen.doctor import machine
from batchgen.doctor.findings import ok
from batchgen.doctor.machine import examine_rights
from batchgen.files.liveness import RECORDED
from batchgen.files.safe_open import create_database
from batchgen.jobtable.engine import database_url, make_engine
from batchgen.jobtable.migrations import migrate
from batchgen.services import http
from batchgen.simulator.service import Simulation
from tests.batches import write_manifest
from tests.conftest import Command, Simulate
from tests.disks import small_disk
from tests.serving import served
from tests.table import Table
from tests.waiting import rows

RUN_ID = "0123456789ab"
KEY = "test-key-never-to-be-seen"


@dataclass
class Patient:
    """A folder in which something is wrong."""

    folder: Path
    batchgen: Command
    monkeypatch: pytest.MonkeyPatch

    @property
    def table(self) -> Path:
        return self.folder / "batchgen.db"

    @property
    def video(self) -> Path:
        return self.folder / "clip-0" / "v.mp4"

    def execute(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.table, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def add_pending_job(self) -> None:
        write_batch(self.folder, jobs=2)
        assert self.batchgen("run", "spring.yaml", "--only", "clip-0").returncode == 0

    def move_key_to_dotenv(self) -> None:
        pair = {name: os.environ[name] for name in ("AIMLAPI_API_KEY", "AIMLAPI_BASE_URL")}
        dotenv = self.folder / ".env"
        dotenv.write_text("".join(f"{name}={value}\n" for name, value in pair.items()))
        dotenv.chmod(0o600)
        for name in pair:
            self.monkeypatch.delenv(name)


def write_batch(folder: Path, jobs: int) -> Path:
    entries: list[dict[str, Any]] = [{"id": f"clip-{n}", "prompt": f"Number {n}."} for n in range(jobs)]
    return write_manifest(folder / "spring.yaml", entries, output="{{ id }}/v.mp4")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One simulator for all tests, so that its address stays."""
    with served(
        Simulation(ledger=tmp_path_factory.mktemp("service") / "ledger", speed=1000, instant=True)
    ) as environment:
        yield environment


def test_a_command_on_a_simulated_batch_says_simulate_as_all_others_do(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 1, service="simulator")
    assert batchgen("run", "m.yaml").returncode == 0
    (tmp_path / "simulated" / "m" / "clip-0.mp4").unlink()
    (fetch,) = [line for line in batchgen("doctor", "m.yaml").stdout.splitlines() if "batchgen retry" in line]
    assert fetch.strip() == "batchgen retry m.yaml --download --simulate clip-0 && batchgen run m.yaml --simulate"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, service: dict[str, str]) -> Path:
    """A folder with a batch whose only job is delivered."""
    folder = tmp_path_factory.mktemp("finished")
    manifest = write_batch(folder, jobs=1)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in service.items():
            patch.setenv(name, value)
        assert run(manifest).ok
    manifest.unlink()  # a copy elsewhere is the same batch once it is gone here
    return folder


@pytest.fixture
def patient(
    tmp_path: Path, finished: Path, service: dict[str, str], batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> Patient:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    write_batch(tmp_path, jobs=1)
    for name, value in service.items():
        monkeypatch.setenv(name, value)
    # Starting the decoder takes longer than all else; tests of its own do.
    monkeypatch.setattr(machine, "examine_decoder", lambda: ok("decoder", "starts"))
    return Patient(tmp_path, batchgen, monkeypatch)


def readable_table(patient: Patient) -> None:
    patient.table.chmod(0o644)


def older_table(patient: Patient) -> None:
    """The same rows in a table of the first version, which lacks whatever later migrations add."""
    first = patient.folder / "first.db"
    create_database(first)
    engine = make_engine(database_url(first), writing=True, foreign_keys=False)
    with engine.begin() as connection:
        migrate(connection, "v001")
        tables = set(inspect(connection).get_table_names()) - {"alembic_version"}
    engine.dispose()
    with closing(sqlite3.connect(first, isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS newer", (str(patient.table),))
        for table in tables:
            columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")
    first.replace(patient.table)


def dropped_index(patient: Patient) -> None:
    patient.execute("DROP INDEX ux_attempts_one_open")


def dropped_view(patient: Patient) -> None:
    patient.execute("DROP VIEW spend")


def dropped_table(patient: Patient) -> None:
    patient.execute("DROP TABLE settings")


def lost_version(patient: Patient) -> None:
    patient.execute("DELETE FROM alembic_version")


def damaged_index(patient: Patient) -> None:
    patient.execute(
        "PRAGMA writable_schema = ON",
        "CREATE TABLE kept AS SELECT * FROM sqlite_master WHERE name = 'ix_attempts_fingerprint'",
        "DELETE FROM sqlite_master WHERE name = 'ix_attempts_fingerprint'",
    )
    patient.execute("UPDATE attempts SET fingerprint = 'another'")
    patient.execute("PRAGMA writable_schema = ON", "INSERT INTO sqlite_master SELECT * FROM kept", "DROP TABLE kept")


def damaged_table(patient: Patient) -> None:
    with patient.table.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xa5" * 60_000)


def lost_table(patient: Patient) -> None:
    patient.table.rename(patient.folder.parent / "elsewhere.db")
    (patient.folder / "batchgen.db-wal").write_bytes(b"what a killed run has written")


def lost_table_of_a_run(patient: Patient) -> None:
    patient.table.unlink()
    dead_lock(patient)


def dead_lock(patient: Patient) -> None:
    path = patient.folder / f"batchgen.db.run-{RUN_ID}"
    path.write_bytes(RECORDED)
    path.chmod(0o600)


def dead_run(patient: Patient) -> None:
    patient.execute(
        f"INSERT INTO runs (id, batch_id, host, pid, holds_lock, started_at, seen_at) SELECT '{RUN_ID}', batch_id,"
        " host, 1, holds_lock, started_at, seen_at FROM runs"
    )
    dead_lock(patient)


def leftover_part(patient: Patient) -> None:
    patient.video.with_name("v.mp4.0123456789ab.part").write_bytes(b"half")
    patient.video.with_name("mine.part").write_bytes(b"of somebody else")


def deleted_video(patient: Patient) -> None:
    patient.video.unlink()


def emptied_video(patient: Patient) -> None:
    patient.video.write_bytes(b"")


def file_for_a_folder(patient: Patient) -> None:
    patient.add_pending_job()
    (patient.folder / "clip-1").write_text("mine")


def link_for_a_folder(patient: Patient) -> None:
    patient.add_pending_job()
    (patient.folder / "clip-1").symlink_to(patient.folder.parent)


def missing_folder(patient: Patient) -> None:
    patient.monkeypatch.setenv("BATCHGEN_DB", str(patient.folder / "a b" / "batchgen.db"))


def readable_key(patient: Patient) -> None:
    patient.move_key_to_dotenv()
    (patient.folder / ".env").chmod(0o644)


def latin_dotenv(patient: Patient) -> None:
    (patient.folder / ".env").write_bytes(b"# M\xe4rz\n")


def folder_as_dotenv(patient: Patient) -> None:
    (patient.folder / ".env").mkdir()


def wrong_proxy(patient: Patient) -> None:
    patient.monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy")


def lost_certificates(patient: Patient) -> None:
    patient.monkeypatch.setenv("SSL_CERT_FILE", str(patient.folder / "gone.pem"))
    http.trusted_certificates.cache_clear()


TROUBLES: dict[Callable[[Patient], None], tuple[str, str, int]] = {
    # how it is planted: the check that finds it, its words, the exit code
    readable_table: ("table", "other users of this machine may read the job table", 3),
    older_table: ("table", "is of version v001; any command brings it to", 3),
    dropped_index: ("table", "it is damaged (the index ux_attempts_one_open is missing)", 8),
    dropped_view: ("table", "it is damaged (the view spend is missing)", 8),
    dropped_table: ("table", "the table settings is missing", 8),
    lost_version: ("table", "it is damaged (`alembic_version` is empty)", 8),
    damaged_index: ("table", "its indexes are damaged, its rows are whole", 8),
    damaged_table: ("table", "it is damaged", 8),
    lost_table: ("table", "the job table is gone, but batchgen.db-wal beside it", 8),
    lost_table_of_a_run: ("table", f"the job table is gone, but batchgen.db.run-{RUN_ID} beside it", 8),
    dead_run: ("leftovers", "1 dead run left locks or leases", 3),
    leftover_part: ("leftovers", "1 unfinished download (4 bytes) that no job goes on with", 3),
    deleted_video: ("files", "1 delivered file not there as delivered: clip-0/v.mp4", 3),
    emptied_video: ("files", "(job clip-0) is empty", 3),
    file_for_a_folder: ("outputs", "a file stands where a folder for videos belongs", 8),
    link_for_a_folder: ("outputs", "a symbolic link stands where a folder for videos belongs", 8),
    missing_folder: ("table", "its folder does not exist", 8),
    readable_key: ("key", ".env holds the key, and other users of this machine may read it", 4),
    latin_dotenv: ("key", "byte 0xe4 in line 1 is not UTF-8", 2),
    folder_as_dotenv: ("key", ".env: this is a folder, not a file", 2),
    wrong_proxy: ("network", "the environment names a proxy that cannot be used", 2),
    lost_certificates: ("network", "gone.pem cannot be read", 2),
}


def problems(batchgen: Command, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what is wrong."""
    examined = batchgen("doctor", *(words or ("spring.yaml",)), "--json")
    assert not examined.stderr and KEY not in examined.stdout
    return examined.returncode, [found for found in map(json.loads, examined.stdout.splitlines()) if not found["ok"]]


def enter(command: str, patient: Patient, batchgen: Command) -> None:
    """Type a command, as into a shell; batchgen's own run in this process."""
    for part in command.split(" && "):
        words = shlex.split(part)
        match words:
            case ["batchgen", *arguments]:
                batchgen(*arguments)
            case ["unset", *names]:
                for name in names:
                    patient.monkeypatch.delenv(name)
            case _:
                subprocess.run(["bash", "-c", part], cwd=patient.folder, check=True)


def snapshot(folder: Path) -> dict[str, Any]:
    """Every file with its content and its permissions."""
    paths = sorted(path for path in folder.rglob("*"))
    return {str(path): (path.stat().st_mode, path.is_file() and path.read_bytes()) for path in paths}


@pytest.mark.parametrize("plant", TROUBLES, ids=lambda plant: plant.__name__)
def test_each_trouble_is_named_and_mended_by_its_command_alone(
    plant: Callable[[Patient], None], patient: Patient, batchgen: Command
) -> None:
    plant(patient)
    before = snapshot(patient.folder)
    code, found = problems(batchgen)
    assert snapshot(patient.folder) == before, "the doctor changes nothing"
    check, words, expected = TROUBLES[plant]
    (trouble,) = found
    assert (trouble["check"], trouble["exit_code"], code) == (check, expected, expected)
    assert words in trouble["message"]
    enter(trouble["next"], patient, batchgen)
    assert problems(batchgen) == (0, [])


def test_a_healthy_batch_has_nothing_to_mend(patient: Patient, batchgen: Command) -> None:
    for words in (["spring.yaml"], ["--db", "batchgen.db"], []):
        healthy = batchgen("doctor", *words)
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert healthy.stdout.endswith("\nall is well\n") and "PROBLEM" not in healthy.stdout
        assert re.search(r": \d+\.\d [kMGTPE]B free\n", healthy.stdout)
    assert len(TROUBLES) >= 12


def test_a_job_that_is_held_for_a_person_is_a_problem_with_its_command(patient: Patient, batchgen: Command) -> None:
    patient.execute("UPDATE jobs SET state = 'unconfirmed', delivered_at = NULL, next_at = NULL")
    code, (problem,) = problems(batchgen, "spring.yaml")
    assert (code, problem["check"], problem["next"]) == (3, "jobs", "batchgen resolve spring.yaml")
    assert problem["message"] == "spring: 1 job held for a person: whether it was accepted is unknown"


def test_the_service_is_asked_for_key_clock_and_balance_and_for_nothing_that_costs(
    patient: Patient, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    patient.monkeypatch.setenv("AIMLAPI_BASE_URL", simulator.base_url)
    shown = batchgen("doctor", "spring.yaml").stdout
    assert "answers and takes the key" in shown and "USD left" in shown
    assert {request["kind"] for request in rows(simulator.ledger, "SELECT kind FROM requests")} == {"log", "billing"}


NAMED: dict[str, tuple[dict[str, str], str, str, str, int]] = {
    "no key": ({"AIMLAPI_API_KEY": ""}, "key", "no API key", "export AIMLAPI_API_KEY=YOUR-KEY", 4),
    "nothing listens": ({"AIMLAPI_BASE_URL": "http://127.0.0.1:9"}, "service", "does not answer", "unset AIMLAPI", 6),
    "no address": ({"AIMLAPI_BASE_URL": "api"}, "key", "is not an address", "unset AIMLAPI_BASE_URL", 2),
    "a wrong key": ({"AIMLAPI_API_KEY": "a b"}, "key", "characters that no key has", "export AIMLAPI_API_KEY=", 4),
}


@pytest.mark.parametrize(("environment", "check", "words", "mend", "code"), NAMED.values(), ids=NAMED)
def test_what_only_a_person_can_mend_is_named(
    environment: dict[str, str], check: str, words: str, mend: str, code: int, patient: Patient, batchgen: Command
) -> None:
    for name, value in environment.items():
        patient.monkeypatch.setenv(name, value)
    ended, (trouble,) = problems(batchgen)
    assert (trouble["check"], ended) == (check, code)
    assert words in trouble["message"] and trouble["next"].startswith(mend)


def test_the_table_of_a_manifest_that_is_gone_is_examined(patient: Patient, batchgen: Command) -> None:
    (patient.folder / "spring.yaml").unlink()
    deleted_video(patient)
    code, found = problems(batchgen)
    assert (code, [trouble["check"] for trouble in found]) == (2, ["manifest", "files"])
    assert "it is gone. Its batch is in the job table" in found[0]["message"]


def test_an_address_from_a_folder_is_never_proposed_for_a_key(patient: Patient, batchgen: Command) -> None:
    patient.monkeypatch.delenv("AIMLAPI_BASE_URL")
    (patient.folder / ".env").write_text("# mine\nAIMLAPI_BASE_URL=https://evil.test\nX=1\n")
    _, (trouble,) = problems(batchgen)
    assert "evil.test" not in trouble["next"]
    enter(trouble["next"], patient, batchgen)
    assert (patient.folder / ".env").read_text() == "# mine\nX=1\n"


def test_a_key_that_the_service_refuses_and_an_empty_account_are_named(
    patient: Patient, simulate: Simulate, batchgen: Command
) -> None:
    poor = simulate("--limits", '{"balance_usd": 0}')
    patient.monkeypatch.setenv("AIMLAPI_BASE_URL", poor.base_url)
    code, (trouble,) = problems(batchgen)
    assert (trouble["check"], code) == ("balance", 4)


@pytest.mark.parametrize("is_enrolled", [False, True], ids=["by the manifest", "by the table"])
def test_a_balance_that_does_not_pay_the_next_job_is_named(
    is_enrolled: bool, patient: Patient, simulate: Simulate, batchgen: Command
) -> None:
    poor = simulate("--limits", '{"balance_usd": 0.1}')
    patient.monkeypatch.setenv("AIMLAPI_BASE_URL", poor.base_url)
    assert "ok       balance: 0.1 USD left" in batchgen("doctor", "spring.yaml").stdout, "nothing is to be sent"
    write_manifest(patient.folder / "new.yaml", [{"id": "new", "prompt": "A new one."}], batch="new")
    if is_enrolled:
        assert batchgen("run", "new.yaml").returncode == 4
    code, (trouble,) = problems(batchgen, "new.yaml")
    assert (trouble["check"], code) == ("balance", 4)
    assert trouble["message"].startswith("0.1 USD are left, and the next job costs 1.47")
    assert trouble["message"].endswith(": top up the account on the service's site")


def test_a_clock_that_differs_from_the_services_is_named(patient: Patient, batchgen: Command) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(time.time() + 7_200)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        patient.monkeypatch.setenv("AIMLAPI_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        _, found = problems(batchgen)
        server.shutdown()
    clock = next(trouble for trouble in found if trouble["check"] == "clock")
    assert clock["message"] == "this machine's clock is 120 minutes behind the service's"
    assert clock["next"] == "sudo timedatectl set-ntp true"


def test_the_decoder_is_started(table: Table, batchgen: Command) -> None:
    shown = batchgen("doctor").stdout
    assert "ok       decoder: the check of videos works" in shown


def test_a_decoder_that_does_not_start_is_named(
    table: Table, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table.folder / "av.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(table.folder))
    _, found = problems(batchgen, "--db", "batchgen.db")
    decoder = next(trouble for trouble in found if trouble["check"] == "decoder")
    assert "does not start" in decoder["message"] and "pip install --force-reinstall" in decoder["next"]


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no such manifest": (["gone.yaml"], 2, "gone.yaml: there is no such manifest"),
    "an invalid manifest": (["wrong.yaml"], 2, "batchgen check wrong.yaml"),
    "an invalid manifest of another table": (["wrong.yaml", "--db", "none.db"], 2, "batchgen check wrong.yaml\n"),
    "a table of something else": (["--db", "other.db"], 2, "this is no job table"),
    "an empty database": (["--db", "empty.db"], 0, "empty.db: there is none yet; a run makes it"),
    "no table at all": (
        ["--db", "wrong.yaml"],
        2,
        "this is no job table (file is not a database); name another one with --db",
    ),
    "a folder as the table": (["--db", "."], 8, "this is a folder"),
    "a pipe as the table": (["--db", "pipe.db"], 8, "is a named pipe"),
    "no database": (["--db", "mysql://x/y"], 2, "mysql"),
}


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_explained(words: list[str], code: int, message: str, patient: Patient, batchgen: Command) -> None:
    (patient.folder / "wrong.yaml").write_text("jobs: 1\n" * 2_000)
    with closing(sqlite3.connect(patient.folder / "other.db")) as other:
        other.execute("CREATE TABLE x (y)")
    (patient.folder / "empty.db").touch()
    os.mkfifo(patient.folder / "pipe.db")
    refused = batchgen("doctor", *words)
    assert refused.returncode == code
    assert message in refused.stdout + refused.stderr and "Traceback" not in refused.stderr


def test_the_service_of_an_invalid_manifest_is_examined_as_far_as_it_is_named(
    patient: Patient, batchgen: Command
) -> None:
    patient.monkeypatch.delenv("AIMLAPI_API_KEY", raising=False)
    (patient.folder / "new.yaml").write_text("service: simulator\nbatch: new\njobs:\n- {id: a}\n")
    wrong = batchgen("doctor", "new.yaml")
    assert (wrong.returncode, "the built-in simulator" in wrong.stdout, "API_KEY" in wrong.stdout) == (2, True, False)


def test_a_manifest_that_was_never_enrolled_is_examined_where_its_videos_will_go(
    patient: Patient, batchgen: Command
) -> None:
    write_manifest(patient.folder / "new.yaml", 1, output="vids/{{ id }}.mp4", batch="new")
    assert batchgen("doctor", "new.yaml").returncode == 0
    (patient.folder / "vids").write_text("in the way")
    found = batchgen("doctor", "new.yaml")
    assert found.returncode == 8
    assert f"outputs: {patient.folder}/vids: a file stands where a folder for videos belongs" in found.stdout
    with small_disk(patient.folder / "ro", 1 << 20, read_only=True):
        write_manifest(patient.folder / "new.yaml", 1, output="ro/{{ id }}.mp4", batch="new")
        assert f"outputs: {patient.folder}/ro: it may not be written" in batchgen("doctor", "new.yaml").stdout


def test_a_table_on_a_full_disk_is_not_called_damaged_and_nothing_is_to_be_moved(patient: Patient) -> None:
    with small_disk(patient.folder / "small", 1 << 20) as disk:
        table = Path(shutil.copy(patient.table, disk))
        (disk / "batchgen.db-wal").touch()  # as a run leaves it that finds no place
        with suppress(OSError), (disk / "filled").open("wb", buffering=0) as filled:
            while filled.write(bytes(4_096)):
                pass
        exit_code, found = problems(patient.batchgen, "spring.yaml", "--db", str(table))
    (said,) = [problem for problem in found if problem["check"] == "table"]
    assert (exit_code, said["next"]) == (8, None)
    assert "it cannot be read: its disk is full, or fails. Free some space" in said["message"]


def test_a_folder_that_may_not_be_written_is_a_problem_for_a_video_that_is_to_come(tmp_path: Path) -> None:
    with small_disk(tmp_path / "out", 1 << 20, read_only=True):
        (finding,) = examine_rights(tmp_path, ["out/new/v.mp4", "elsewhere/v.mp4"])
    assert (finding.message, finding.mend) == (f"{tmp_path}/out: it may not be written", f"chmod u+rwx {tmp_path}/out")
    assert not list(examine_rights(tmp_path, ["out/new/v.mp4"]))

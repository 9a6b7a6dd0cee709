"""What a program can act on: the schema of JSON lines, errors with a hint and the next command, `status --watch`."""

from __future__ import annotations

import json
import signal
from itertools import cycle
from pathlib import Path
from select import select

import click
import jsonschema_rs
import pytest

from batchgen import cli
from batchgen.advice.command_line import typed_again, with_keep, without_redo
from batchgen.report.event_schema import schema
from tests.batches import write_manifest
from tests.conftest import Command, Launch, Running, Simulate
from tests.events import check_events, fields_of
from tests.waiting import rows, until


@pytest.mark.slow
def test_the_printed_schema_is_valid_and_knows_every_event(batchgen: Command) -> None:
    printed = json.loads(batchgen("schema", "--events").stdout)
    assert printed == schema()
    jsonschema_rs.meta.validate(printed)
    for event, fields in {"Done": ("next", "held", "missing"), "Waiting": ("hint", "collect_by")}.items():
        for name in fields:
            assert "description" in printed["$defs"][event]["properties"][name], "it is that of the type that has it"
    names = {"enrolled", "warning", "elsewhere", "moved", "waiting", "notice", "hook", "notification_failed", "done"}
    for name in names | {"status", "changed", "held", "error"}:
        assert "event" in fields_of(name)
    for name in ("elsewhere", "waiting", "notice", "hook", "done", "status", "error"):
        assert {"hint", "next"} <= fields_of(name)


LINES: dict[str, tuple[str, ...]] = {
    "check": ("m.yaml",),
    "plan": ("m.yaml",),
    "models": ("kling",),
    "run": ("m.yaml", "--enroll"),
    "prioritize": ("m.yaml", "clip-1"),
    "pause": ("m.yaml",),
    "set": ("m.yaml", "in_flight=5"),
    "resume": ("m.yaml",),
    "worker": (),
    "status": ("m.yaml",),
    "retry": ("m.yaml",),
    "cancel": ("m.yaml",),
    "resolve": ("m.yaml",),
    "reconcile": ("m.yaml",),
    "verdicts import": ("m.yaml", "verdicts.json"),
    "doctor": ("m.yaml",),
    "db check": ("m.yaml",),
    "db copy": ("batchgen.db", "copy.db"),
}
"""The arguments with which each command writes JSON lines, one command after the other."""
NO_EVENTS = {"sql"}
"""Its lines have the columns of the query."""


@pytest.mark.slow
def test_every_command_with_json_writes_events(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    loaded = {name: cli.load(name) for name in cli.COMMANDS}
    parts = {
        " ".join(filter(None, (name, inner))): part
        for name, command in loaded.items()
        for inner, part in (command.commands.items() if isinstance(command, click.Group) else [("", command)])
    }
    writers = {name for name, part in parts.items() if "as_json" in {parameter.name for parameter in part.params}}
    assert writers == LINES.keys() | NO_EVENTS, "LINES has arguments for each command with --json"
    simulator = simulate("--lag", "0")
    write_manifest(tmp_path / "m.yaml", 2)
    verdicts = {"format": "batchgen verdicts", "version": 1, "batch": "m", "verdicts": []}
    (tmp_path / "verdicts.json").write_text(json.dumps(verdicts))
    for name, arguments in LINES.items():
        ended = batchgen(*name.split(), *arguments, "--json", **simulator.environment)
        assert "error" not in [line["event"] for line in check_events(ended.stdout)], ended.stderr
        assert ended.stdout, name


@pytest.mark.parametrize(
    ("arguments", "code", "next_command"),
    [
        (("run", "no.yaml"), 2, None),
        (("plan", "no.yaml"), 2, None),
        (("run", "wrong.yaml"), 2, "batchgen check wrong.yaml"),
        (("run", "m.yaml"), 4, "batchgen run m.yaml --json"),
        (("run", "m.yaml", "--unknown"), 2, "batchgen run --help"),
        (("run",), 2, "batchgen run --help"),
        (("m.yaml",), 2, "batchgen --help"),
        (("status", "m.yaml"), 2, None),
        (("retry", "m.yaml"), 2, None),
        (("cancel", "m.yaml"), 2, None),
        (("resolve", "m.yaml"), 2, None),
        (("verdicts", "import", "m.yaml", "no.json"), 2, None),
        (("models", "no-such-model"), 2, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_that_fails_ends_with_an_event_that_says_what_to_do(
    arguments: tuple[str, ...], code: int, next_command: str | None, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml", 1)
    (tmp_path / "wrong.yaml").write_text("jobs: 5")
    ended = batchgen(*arguments, "--json")
    error = check_events(ended.stdout)[-1]
    assert (ended.returncode, error["event"], error["exit_code"], error["next"]) == (code, "error", code, next_command)
    assert "top up" not in error["hint"], "no command is refused for the lack of credits"
    assert error["message"] and error["hint"]


@pytest.mark.slow
def test_the_events_of_a_batch_with_failures_and_held_jobs_are_as_the_schema_says(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    """The fixture `batchgen` validates each line."""
    faults = {
        "create": {"accept_then_drop": {"count": 1}},
        "fetch": {"generation_error": {"count": 2}},
        "log": {"missing": 1},
    }
    simulator = simulate("--lag", "0", faults=faults)
    write_manifest(tmp_path / "m.yaml", 4, limits={"submits_per_minute": 60_000, "unconfirmed_minutes": 0.001})
    done = check_events(batchgen("run", "m.yaml", "--json", **simulator.environment).stdout)[-1]
    assert (done["event"], sum(done["failed"].values()), done["held"]) == ("done", 1, 1)
    assert done["next"] == "batchgen resolve m.yaml"
    assert {wait["next"] for wait in done["waits"]} == {"batchgen resolve m.yaml"}
    (status,) = check_events(batchgen("status", "m.yaml", "--json").stdout)
    assert (status["event"], status["next"]) == ("status", "batchgen resolve m.yaml")
    (held,) = check_events(batchgen("resolve", "m.yaml", "--json").stdout)
    assert (held["event"], len(held["jobs"])) == ("held", 1)
    settled = check_events(batchgen("resolve", "m.yaml", "--json", "--give-up").stdout)[0]
    assert settled["next"] == "batchgen run m.yaml"
    (retried,) = check_events(batchgen("retry", "m.yaml", "clip-*", "--json", "--new").stdout)
    assert len(retried["jobs"]["pending"]) == 2
    (cancelled,) = check_events(batchgen("cancel", "m.yaml", "--json").stdout)
    assert len(cancelled["jobs"]["cancelled"]) == 2


@pytest.mark.slow
def test_a_watcher_shows_the_events_of_a_run_until_it_ends(
    tmp_path: Path, simulate: Simulate, batchgen: Command, launch: Launch
) -> None:
    simulator = simulate(speed=600)
    write_manifest(tmp_path / "m.yaml", 2)
    batchgen("run", "m.yaml", "--enroll", **simulator.environment)
    batchgen("pause", "m.yaml")
    running = launch("run", "m.yaml", **simulator.environment)
    until(lambda: rows(tmp_path / "batchgen.db", "SELECT 1 FROM runs"))
    watching, left = launch("status", "m.yaml", "--watch", "--json"), launch("status", "m.yaml", "--watch")
    limits = cycle(("in_flight=5", "in_flight=6"))

    def has_shown(watcher: Running) -> bool:
        """Whether it has written a line; something happens that it can show."""
        batchgen("set", "m.yaml", next(limits))
        assert watcher.process.stdout
        return bool(select([watcher.process.stdout], [], [], 0.2)[0])

    until(lambda: has_shown(watching) and has_shown(left))
    left.signal(signal.SIGINT)
    assert left.end().returncode == 130
    batchgen("resume", "m.yaml")
    assert running.end().returncode == 0
    ended = watching.end()
    lines = check_events(ended.stdout)
    assert ended.returncode == 0
    assert [line["to"] for line in lines if line["event"] == "moved"].count("done") == 2
    assert lines[-1]["event"] == "status" and lines[-1]["runs"] == 0
    assert "there is nothing to watch" in batchgen("status", "m.yaml", "--watch").stderr


@pytest.mark.slow
def test_a_watcher_says_why_the_run_at_work_sends_no_more(tmp_path: Path, simulate: Simulate, launch: Launch) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 2)
    launch("run", "m.yaml", "--max-cost", "2", **simulator.environment)
    until(lambda: rows(tmp_path / "batchgen.db", "SELECT 1 FROM runs WHERE message IS NOT NULL"), "it has said so")
    watching = launch("status", "m.yaml", "--watch")
    assert watching.process.stdout
    line = watching.process.stdout.readline()
    assert "no more submits for now: what is left of the budget is reserved" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "m.yaml", "--notify", "json://t0ken"], "batchgen run m.yaml --notify URL"),
        (["run", "m.yaml", "--notify=t0ken"], "batchgen run m.yaml --notify=URL"),
        (["status", "--db", "postgresql://u:t0ken@h/d"], "batchgen status --db URL"),
        (["status", "--db=postgresql://u:t0ken@h/d"], "batchgen status --db=URL"),
        (["db", "copy", "x.db", "postgresql://u:t0ken@h/d"], "batchgen db copy x.db URL"),
        (["status", "a b.yaml", "--db", "x.db"], "batchgen status 'a b.yaml' --db x.db"),
    ],
)
def test_a_command_that_is_shown_again_has_no_url(arguments: list[str], expected: str) -> None:
    assert typed_again(arguments) == expected


@pytest.mark.parametrize(
    ("words", "kept"),
    [(["--changed", "redo"], ""), (["--changed=redo"], ""), (["--changed", "keep"], " --changed keep"), ([], "")],
)
def test_the_command_that_goes_on_orders_nothing_once_more(words: list[str], kept: str) -> None:
    assert without_redo(["run", "m.yaml", *words, "--json"]) == f"batchgen run m.yaml{kept} --json"


@pytest.mark.parametrize("words", [[], ["--changed", "redo"], ["--changed=redo"]])
def test_the_command_that_keeps_says_so_once(words: list[str]) -> None:
    assert with_keep(["run", "m.yaml", *words, "--json"]) == "batchgen run m.yaml --json --changed keep"

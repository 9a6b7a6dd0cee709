"""What a run calls outside: notifications, a command for each delivered file, metrics. Real sockets and processes."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from batchgen.errors import UsageError
from batchgen.hooks import delivery_hook
from batchgen.hooks.delivery_hook import HookResult, parse_command
from batchgen.hooks.notifier import LINE_CHARS, LINES_MAX, Message, receivers_of
from tests.batches import write_manifest
from tests.conftest import Command, Launch, Simulate
from tests.events import check_events
from tests.forks import Fork
from tests.listening import hang, listening_on_a_thread, read_head
from tests.table import RUN, Table
from tests.waiting import rows, states, until

KEY = "test-key-never-to-be-seen"
IMPATIENT = "import batchgen.hooks.notifier as n, batchgen.cli; n.END_SECONDS = 0.2; batchgen.cli.main()"
SOON_IDLE = """
from datetime import timedelta
from batchgen import cli
from batchgen.hooks import run_hooks
run_hooks.IDLE = timedelta(seconds=0.6)
cli.main()
"""
RECORD = """
import json, os, sys
names = sorted(name for name in os.environ if name.startswith(("BATCHGEN", "AIMLAPI")))
with open("hook.log", "a") as log:
    print(json.dumps({"argv": sys.argv[1:], **{name: os.environ[name] for name in names}}), file=log)
"""


class Receiver:
    """An HTTP server that keeps the bodies of the requests that it gets."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, str]] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await read_head(reader)).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class MailServer:
    """An SMTP server that keeps the mails that it gets."""

    def __init__(self) -> None:
        self.mails: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        while line := await reader.readline():
            if line.upper().startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                self.mails.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            if line.upper().startswith(b"QUIT"):
                return
            writer.write(b"250 ok\r\n")


@pytest.mark.slow
def test_the_end_of_a_run_is_notified_by_http_and_mail_and_no_secret_is_seen(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 2, batch="clips @everyone")
    http, mail = Receiver(), MailServer()
    with listening_on_a_thread(http) as http_port, listening_on_a_thread(mail) as mail_port:
        urls = (
            f"json://user:s3cret-password@127.0.0.1:{http_port}/t0ken",
            f"mailto://127.0.0.1:{mail_port}?from=a@example.com&to=b@example.com&mode=insecure",
        )
        environment = {**simulator.environment, "BATCHGEN_NOTIFY": " ".join(urls)}
        ended = batchgen("run", "m.yaml", "-vv", **environment)
    assert ended.returncode == 0, ended.stderr
    (body,) = http.bodies
    assert body["title"] == "batchgen: clips ＠everyone: every job is delivered"
    assert "2 done; " in body["message"]
    (text,) = mail.mails
    assert "From: " in text and "b@example.com" in text
    database = (tmp_path / "batchgen.db").read_bytes()
    assert not [secret for secret in ("s3cret", "t0ken", KEY) if secret in ended.stdout + ended.stderr]
    assert b"s3cret" not in database and b"t0ken" not in database


def test_a_breaker_is_notified_with_what_to_do(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    simulator = simulate(faults={"create": {"credits_403": {"count": 9}}})
    write_manifest(tmp_path / "m.yaml", 1)
    receiver = Receiver()
    with listening_on_a_thread(receiver) as port:
        notify = ("--notify", f"json://127.0.0.1:{port}")
        ended = batchgen("run", "m.yaml", "--db", "other.db", *notify, **simulator.environment)
    assert ended.returncode == 4
    first, last = receiver.bodies
    assert first["title"] == "batchgen: m: no more is sent (credits)"
    assert all("Top it up" in body["message"] for body in (first, last))
    assert f"batchgen run {tmp_path / 'm.yaml'} --db {tmp_path / 'other.db'}" in last["message"]


def test_one_command_that_failed_is_notified_as_one(tmp_path: Path, simulate: Simulate, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 1)
    receiver = Receiver()
    with listening_on_a_thread(receiver) as port:
        notify = ("--notify", f"json://127.0.0.1:{port}")
        batchgen("run", "m.yaml", "--exec", "false", *notify, **simulate(speed=2_000).environment)
    assert "1 command of --exec failed" in receiver.bodies[-1]["message"]


@pytest.mark.slow
def test_a_run_in_which_nothing_moves_for_long_is_notified_once(
    tmp_path: Path, simulate: Simulate, launch: Launch
) -> None:
    simulator = simulate(speed=1)
    write_manifest(tmp_path / "m.yaml", 1)
    killed = launch("run", "m.yaml", **simulator.environment)
    until(lambda: states(tmp_path / "batchgen.db").get("generating") == 1)
    killed.signal(signal.SIGKILL)
    killed.end()
    receiver = Receiver()
    with listening_on_a_thread(receiver) as port:
        words = ["-c", SOON_IDLE, "run", "m.yaml", "--notify", f"json://127.0.0.1:{port}"]
        with Fork(words, cwd=tmp_path, env={**os.environ, **simulator.environment}) as running:
            try:
                until(lambda: receiver.bodies)
            finally:
                running.send_signal(signal.SIGINT)
        assert running.returncode == 130
    idle, end = receiver.bodies
    assert "nothing has moved for 0 minutes" in idle["title"]
    assert "1 job waits for generations at the service" in idle["message"]
    assert "interrupted" in end["title"]


@pytest.mark.slow
def test_a_receiver_that_refuses_or_hangs_fails_no_run(
    tmp_path: Path, simulate: Simulate, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.hooks.notifier.END_SECONDS", 0.2)
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    with listening_on_a_thread(hang) as port, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = [f"json://127.0.0.1:{number}/t0ken" for number in (port, closed.getsockname()[1])]
        options = [word for url in urls for word in ("--notify", url)]
        ended = batchgen("run", "m.yaml", "--json", *options, **simulator.environment)
    assert ended.returncode == 0
    failed = [line for line in check_events(ended.stdout) if line["event"] == "notification_failed"]
    assert {line["message"].split(" ")[1] for line in failed} == {"1", "2"}
    assert "t0ken" not in ended.stdout + ended.stderr


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer that never ends, of which something comes sooner than any time-out between two reads."""
    await read_head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.1)


@pytest.mark.slow
def test_a_receiver_whose_answer_never_ends_keeps_no_process_alive(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    with listening_on_a_thread(drip) as port:
        ended = subprocess.run(
            [sys.executable, "-c", IMPATIENT, "run", "m.yaml", "--notify", f"json://127.0.0.1:{port}"],
            cwd=tmp_path,
            env={**os.environ, **simulator.environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 0
    assert "--notify 1 (json://…) does not answer" in ended.stderr


def test_a_message_is_bounded_and_printable() -> None:
    message = Message("t", ["\x1b[31mred\n<!channel> @here" + "x" * 10_000] * 1_000)
    lines = message.text.split("\n")
    assert len(lines) == LINES_MAX
    assert max(map(len, lines)) <= LINE_CHARS
    assert not set("\x1b<>@") & set(message.text)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--notify", "s3cret", "--notify 1 is no address that Apprise knows"),
        ("--notify", "nothing://s3cret", "--notify 1 is no address that Apprise knows"),
        ("--notify", "json://a/s3cret json://b/s3cret", "--notify 1 holds several addresses: write --notify before"),
        ("--exec", "no-such-program {path}", "there is no program 'no-such-program'"),
        ("--exec", "cp 'unclosed", "No closing quotation"),
        ("--exec", "cp {path} to/{id}.mp4", "a placeholder must be an argument of its own"),
        ("--exec", "echo {path} >> done.txt", "no shell is started, and >> would be an argument of echo"),
        ("--exec", "mv {path} ~", "no shell is started, and ~ would be an argument of mv"),
        ("--exec", "mv {path} $HOME/clips", "no shell is started, and $HOME/clips would be an argument of mv"),
        ("--exec", "cp {path} `pwd`", "no shell is started, and `pwd` would be an argument of cp"),
        ("--exec", "cp {file} clips", "there is no {file}; known: {path}, {id}, {batch}, {model} and {url}"),
        ("--exec", "{path}", "the program cannot be {path}"),
        ("--exec", "  ", "there is no command"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_sent(
    option: str, value: str, expected: str, tmp_path: Path, batchgen: Command
) -> None:
    write_manifest(tmp_path / "m.yaml", 1, service="simulator")
    ended = batchgen("run", "m.yaml", "--json", option, value)
    (error,) = check_events(ended.stdout)
    assert (ended.returncode, error["event"], error["exit_code"]) == (2, "error", 2)
    assert expected in error["message"]
    assert "s3cret" not in ended.stdout + ended.stderr
    assert not (tmp_path / "batchgen.db").exists()


def test_a_missing_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from batchgen.hooks.metrics import MetricsServer

    for name in ("apprise", "prometheus_client"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r'pip install "batchgen\[notify\]"'):
        receivers_of(["json://localhost"])
    with pytest.raises(UsageError, match=r'pip install "batchgen\[metrics\]"'):
        MetricsServer(0)


HOSTILE = ["--delete", "$(touch owned)", "a; touch owned", "a'b\"c", "`touch owned`", "größe 大"]


@pytest.mark.slow
def test_the_command_gets_each_delivered_file_once_and_nothing_becomes_an_option_or_a_command(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    jobs = [
        {"id": key, "prompt": f"--help; touch owned {{path}} {key}", "output": f"out/-n {number} $(x).mp4"}
        for number, key in enumerate(HOSTILE)
    ]
    write_manifest(tmp_path / "m.yaml", jobs)
    (tmp_path / "hook.py").write_text(RECORD)
    command = shlex.join([sys.executable, "hook.py", "--", "{}", "{id}", "{batch}", "{model}", "{url}", "{prompt}"])
    first = batchgen("run", "m.yaml", "--exec", command, **simulator.environment)
    assert first.returncode == 0, first.stderr
    calls = [json.loads(line) for line in (tmp_path / "hook.log").read_text().splitlines()]
    assert {call["argv"][2] for call in calls} == set(HOSTILE)
    for call in calls:
        _, path, key, batch, model, url, untouched = call["argv"]
        assert Path(path).is_absolute() and Path(path).exists()
        assert untouched == "{prompt}"
        values = [call[f"BATCHGEN_{name}"] for name in ("PATH", "ID", "BATCH", "MODEL", "URL")]
        assert values == [path, key, batch, model, url]
        assert "AIMLAPI_API_KEY" not in call
    assert not (tmp_path / "owned").exists()

    again = batchgen("run", "m.yaml", "--exec", command, **simulator.environment)
    assert (again.returncode, len((tmp_path / "hook.log").read_text().splitlines())) == (0, len(HOSTILE))


@pytest.mark.slow
def test_a_command_that_fails_is_told_fails_no_run_and_is_started_again_by_the_next_one(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    script = "test -e fixed || { printf 'first\\n\\033[31mno such bucket\\n'; exit 7; }"
    arguments = ("run", "m.yaml", "--json", "--exec", shlex.join(["sh", "-c", script]))
    ended = batchgen(*arguments, **simulator.environment)
    events = check_events(ended.stdout)
    (hook,) = [event for event in events if event["event"] == "hook"]
    assert (ended.returncode, hook["exit_code"], hook["message"]) == (0, 7, "[31mno such bucket")
    assert hook["next"] and events[-1]["hooks_failed"] == 1
    (tmp_path / "fixed").touch()
    events = check_events(batchgen(*arguments, **simulator.environment).stdout)
    assert [event["exit_code"] for event in events if event["event"] == "hook"] == [0]


def test_a_command_that_another_program_killed_is_said_to_be() -> None:
    assert str(HookResult("mona", "mona.mp4", -9, "")) == "mona: --exec was killed by signal 9"


@pytest.mark.slow
def test_a_command_that_hangs_is_killed_with_what_it_started(
    tmp_path: Path, simulate: Simulate, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.hooks.delivery_hook.TIMEOUT_SECONDS", 0.3)
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    command = shlex.join(["sh", "-c", "sleep 600 & echo $! >child; wait"])
    ended = batchgen("run", "m.yaml", "--exec", command, **simulator.environment)
    assert ended.returncode == 0
    assert "exit code 124: it was killed after 0.3 s" in ended.stderr
    child = int((tmp_path / "child").read_text())
    until(lambda: not is_running(child))


def refuse(_pid: int) -> None:
    raise PermissionError


@pytest.mark.parametrize("kill", [refuse, lambda _pid: None], ids=["another user's", "one that waits for a disk"])
async def test_a_command_that_cannot_be_killed_is_left_behind(
    kill: Callable[[int], None], table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = delivery_hook.CommandOutput()
    replaced = {"TIMEOUT_SECONDS": 0.1, "KILL_SECONDS": 0.1, "kill_group": kill, "CommandOutput": lambda: output}
    for name, value in replaced.items():
        monkeypatch.setattr(delivery_hook, name, value)
    assert await executed(table, ["sleep", "600"]) == (124, "it was killed after 0.1 s.")
    await output.ended.wait()  # asyncio kills it, too, when its transport is closed


async def executed(table: Table, command: Sequence[str]) -> tuple[int, str]:
    """How a command ends that is started for one file."""
    hook = delivery_hook.DeliveryHook(command, table.folder)
    await hook.open(table.database, "spring", table.batch_id, RUN, ())
    file = SimpleNamespace(key="mona", model="m", url="", number=1, sha256="")
    return await hook.execute(file, "mona.mp4")


@pytest.mark.parametrize(
    ("script", "reason"), [("echo", "A script begins with"), ("#!/bin/sh\r\n", "ends as in Windows")]
)
async def test_a_script_that_cannot_be_started_is_told_why(table: Table, script: str, reason: str) -> None:
    (table.folder / "script").write_bytes(script.encode())
    (table.folder / "script").chmod(0o700)
    code, message = await executed(table, ["./script"])
    assert (code, reason in message) == (126, True), message


@pytest.mark.slow
def test_a_command_has_ended_although_what_it_started_goes_on(
    tmp_path: Path, simulate: Simulate, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.hooks.delivery_hook.TAIL_SECONDS", 0.1)
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    script = "echo done; sleep 600 & echo $! >child"
    ended = batchgen("run", "m.yaml", "--json", "--exec", shlex.join(["sh", "-c", script]), **simulator.environment)
    child = int((tmp_path / "child").read_text())
    assert is_running(child)
    os.kill(child, signal.SIGKILL)
    (hook,) = [event for event in check_events(ended.stdout) if event["event"] == "hook"]
    assert (ended.returncode, hook["exit_code"], hook["message"]) == (0, 0, "done")


@pytest.mark.slow
def test_the_end_of_a_run_says_which_commands_it_waits_for_and_which_it_broke_off(
    tmp_path: Path, simulate: Simulate, batchgen: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.hooks.delivery_hook.END_SECONDS", 1.0)
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    command = shlex.join(["sh", "-c", "test -e go || sleep 600"])
    ended = batchgen("run", "m.yaml", "--exec", command, **simulator.environment)
    assert ended.returncode == 0
    assert "waiting for 1 command of --exec to end" in ended.stderr
    assert "--exec: 0 ended well, 0 failed, 1 broken off; the next run with the same --exec starts" in ended.stderr
    (tmp_path / "go").touch()
    again = batchgen("run", "m.yaml", "--exec", command, **simulator.environment)
    assert "--exec: 1 ended well, 0 failed\n" in again.stderr


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.slow
def test_a_file_whose_command_died_with_its_run_is_given_to_it_again(
    tmp_path: Path, simulate: Simulate, batchgen: Command, launch: Launch
) -> None:
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 1)
    waits = "until test -e go; do sleep 0.1; done"
    command = shlex.join(["sh", "-c", f"echo x >>begun; if test -e go; then echo x >>ended; else {waits}; fi"])
    running = launch("run", "m.yaml", "--exec", command, **simulator.environment)
    until((tmp_path / "begun").exists)
    running.signal(signal.SIGKILL)
    running.end()
    (tmp_path / "go").touch()
    assert batchgen("run", "m.yaml", "--exec", command, **simulator.environment).returncode == 0
    assert (tmp_path / "begun").read_text() == "x\nx\n"
    assert (tmp_path / "ended").read_text() == "x\n"
    (row,) = rows(tmp_path / "batchgen.db", "SELECT * FROM hook_runs")
    assert row["exit_code"] == 0


@pytest.mark.slow
def test_metrics_are_served_on_loopback_and_read_by_the_client_s_own_parser(
    tmp_path: Path, simulate: Simulate, batchgen: Command
) -> None:
    """The command of `--exec` asks for them, so that the run is at work meanwhile."""
    simulator = simulate()
    write_manifest(tmp_path / "m.yaml", 3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fetch = f"import urllib.request as u; open('metrics', 'wb').write(u.urlopen('http://127.0.0.1:{port}').read())"
    command = shlex.join([sys.executable, "-c", fetch])
    ended = batchgen("run", "m.yaml", "--metrics", str(port), "--exec", command, **simulator.environment)
    assert ended.returncode == 0, ended.stderr
    families = {family.name: family for family in text_string_to_metric_families((tmp_path / "metrics").read_text())}
    samples = {name: {sample.labels.get("state"): sample.value for sample in family.samples} for name, family in
               families.items()}  # fmt: skip
    assert sum(samples["batchgen_jobs"].values()) == 3
    creates = [sample for sample in families["batchgen_requests"].samples if sample.labels["request"] == "create"]
    assert sum(sample.value for sample in creates) == 3
    assert samples["batchgen_cost_usd"][None] > 0
    assert samples["batchgen_reserved_usd"][None] == samples["batchgen_unpriced"][None] == 0
    assert families["batchgen_requests"].type == "counter" and families["batchgen_in_flight"].type == "gauge"
    assert "batchgen_delivered_bytes" in families
    assert samples["batchgen_last_movement_timestamp_seconds"][None] > 1e9


def test_a_taken_port_is_refused_before_anything_is_sent(tmp_path: Path, batchgen: Command) -> None:
    write_manifest(tmp_path / "m.yaml", 1, service="simulator")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = batchgen("run", "m.yaml", "--metrics", str(taken.getsockname()[1]))
    assert ended.returncode == 2
    assert "the port cannot be used" in ended.stderr
    assert not (tmp_path / "batchgen.db").exists()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("echo {}", ["echo", "{}"]),
        (["echo", ">", "{}"], ["echo", ">", "{}"]),
        ("""cut -d '|' -f "<" \\& {}""", ["cut", "-d", "|", "-f", "<", "&", "{}"]),
        ("sh -c 'x > y' {}", ["sh", "-c", "x > y", "{}"]),
    ],
)
def test_a_command_is_text_or_its_arguments_and_what_is_quoted_is_an_argument(
    command: str | list[str], arguments: list[str]
) -> None:
    assert parse_command(command) == arguments

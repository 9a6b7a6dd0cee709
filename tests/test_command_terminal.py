"""The live display on a real pseudo-terminal."""

from __future__ import annotations

import os
import re
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.batches import write_manifest
from tests.conftest import Simulate
from tests.forks import Fork

pytestmark = pytest.mark.slow

pty = pytest.importorskip("pty")

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m")


def on_terminal(folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run the batch with standard error on a terminal; exit code, standard output, and the text on the terminal."""
    terminal, process_end = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LINES": "24", **environment}
    process = Fork(["-m", "batchgen", "run", "m.yaml"], cwd=folder, env=variables, stdout=PIPE, stderr=process_end)
    os.close(process_end)
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # what Linux raises once the process has ended
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    stdout, _ = process.communicate()
    return process.wait(), stdout, shown.decode()


def test_a_terminal_gets_a_live_display_that_leaves_no_trace(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(speed=100)
    write_manifest(tmp_path / "m.yaml", 3)
    code, stdout, shown = on_terminal(tmp_path, **simulator.environment)
    assert code == 0
    assert stdout.startswith("m: 3 done; ")
    assert COLOUR.search(shown)
    assert "3 generating" in shown
    display, _, said_after = shown.partition("  3 clips look wrong: ")
    assert display.endswith("A\r\x1b[J")
    assert "\x1b" not in said_after
    frames = display.partition("batchgen.db\r\n")[2].split("\x1b[J")  # after the place of the new job table
    assert max(len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line)) for frame in frames for line in frame.split("\r\n")) < 60


def test_no_color_and_a_dumb_terminal_are_honoured(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate(speed=600)
    write_manifest(tmp_path / "a/m.yaml", 2)
    _, _, shown = on_terminal(tmp_path / "a", NO_COLOR="1", **simulator.environment)
    assert "\x1b[J" in shown
    assert not COLOUR.search(shown)

    write_manifest(tmp_path / "b/m.yaml", [{"id": f"clip-{n}", "prompt": f"Another {n}."} for n in range(2)], batch="b")
    _, _, shown = on_terminal(tmp_path / "b", TERM="dumb", **simulator.environment)
    assert "\x1b" not in shown
    assert "delivered b/clip-1.mp4" in shown

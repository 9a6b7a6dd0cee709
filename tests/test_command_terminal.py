"""The live display on a real pseudo-terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batches import write_manifest
from tests.conftest import Simulate

pty = pytest.importorskip("pty")

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])[0-9;]*m")


def on_terminal(folder: Path, **environment: str) -> tuple[int, str, str]:
    """Run the batch with standard error on a terminal; exit code, standard output, and all that the terminal got."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "batchgen", "run", "m.yaml"],
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LINES": "24", **environment},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    stdout, _ = process.communicate()
    return process.returncode, stdout, shown.decode()


def test_a_terminal_gets_a_live_display_that_leaves_no_trace(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate("--speed", "100", "--instant")
    write_manifest(tmp_path / "m.yaml", 3)
    code, stdout, shown = on_terminal(tmp_path, **simulator.environment)
    assert code == 0
    assert stdout.startswith("m: 3 done; ")
    assert COLOUR.search(shown)
    assert "3 generating" in shown
    assert shown.endswith("A\r\x1b[J")
    pictures = shown.split("\x1b[J")
    assert max(len(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line)) for each in pictures for line in each.split("\r\n")) < 60


def test_no_color_and_a_dumb_terminal_are_honoured(tmp_path: Path, simulate: Simulate) -> None:
    simulator = simulate("--speed", "600", "--instant")
    write_manifest(tmp_path / "a/m.yaml", 2)
    _, _, shown = on_terminal(tmp_path / "a", NO_COLOR="1", **simulator.environment)
    assert "\x1b[J" in shown
    assert not COLOUR.search(shown)

    write_manifest(tmp_path / "b/m.yaml", 2, batch="b")
    _, _, shown = on_terminal(tmp_path / "b", TERM="dumb", **simulator.environment)
    assert "\x1b" not in shown
    assert "delivered b/clip-1.mp4" in shown

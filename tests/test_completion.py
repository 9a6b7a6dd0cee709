"""`batchgen completion`: the script in a real shell, and what it is answered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from batchgen.cli import COMMANDS
from tests.conftest import Command

PROGRAM = Path(sys.executable).parent
SHELLS = ("bash", "zsh", "fish")
LOAD = {"bash": "source <(batchgen completion bash)", "fish": "batchgen completion fish | source"}
ASK = {
    # Bash calls the function of a `complete -F`; what it would offer is in COMPREPLY.
    "bash": "COMPREPLY=(); COMP_WORDS=({line}); COMP_CWORD={last}; _batchgen_completion batchgen;"
    ' printf "%s\\n" "${{COMPREPLY[@]}}"',
    "fish": 'complete -C "{line}"',
}
LINES: list[tuple[str, str]] = [("batchgen expo", "export"), ("batchgen export spring.yaml --format web", "webdataset")]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_its_shell_can_read(shell: str, batchgen: Command, tmp_path: Path) -> None:
    written = batchgen("completion", shell)
    assert (written.returncode, written.stderr, bool(written.stdout)) == (0, "", True)
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(written.stdout)
    assert subprocess.run([program, "-n", tmp_path / "script"], capture_output=True, text=True).stderr == ""


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_commands_options_and_values(shell: str, tmp_path: Path) -> None:
    if not (program := shutil.which(shell)):
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "spring.yaml").write_text("jobs: []")
    (tmp_path / "spring.csv").write_text("")
    environment = {**os.environ, "PATH": f"{PROGRAM}{os.pathsep}{os.environ['PATH']}"}
    questions = [ASK[shell].format(line=line, last=len(line.split()) - 1) for line, _ in LINES]
    answer = subprocess.run(
        [program, "-c", "\n".join([LOAD[shell], *questions])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    offers = [offer.partition("\t")[0] for offer in answer.stdout.splitlines()]
    assert offers == [expected for _, expected in LINES]


def complete(line: str, batchgen: Command) -> list[str]:
    """The answer to bash, in this process."""
    words = line.split(" ")
    answer = batchgen(COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), _BATCHGEN_COMPLETE="bash_complete")
    return answer.stdout.splitlines()


def test_commands_are_completed_without_importing_them(batchgen: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COMMANDS:
        if name != "completion":
            monkeypatch.setitem(sys.modules, f"batchgen.cli.{name}", None)  # importing it would fail
    assert complete("batchgen ", batchgen) == [f"plain,{name}" for name in COMMANDS]
    assert complete("batchgen --v", batchgen) == ["plain,--version"]


def test_files_are_completed_by_the_shell(batchgen: Command) -> None:
    assert complete("batchgen run sp", batchgen) == ["file,sp"]

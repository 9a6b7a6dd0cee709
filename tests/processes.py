"""Python processes that all start their work at the same moment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from subprocess import PIPE

from tests.forks import Fork


def gather(script: str, arguments: Sequence[object]) -> list[str]:
    """Run `script` once per argument. Each process prints a line when it is ready, and waits for a line to go on.

    Returns what each printed after that. A process that fails, fails the test with its traceback.
    """
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    processes = [
        Fork(["-c", script, str(argument)], stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment)
        for argument in arguments
    ]
    try:
        for process in processes:
            assert process.stdout
            process.stdout.readline()
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate(60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
    return [stdout.strip() for stdout, _ in outputs]

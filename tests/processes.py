"""Python processes that all begin at one signal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def gather(script: str, arguments: Sequence[object]) -> list[str]:
    """Run `script` once for each argument: each says a line when it is ready, and goes on when all are.

    Returns what each said after that. A process that fails, fails the test with its traceback.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for argument in arguments
    ]
    try:
        for process in running:
            assert process.stdout
            process.stdout.readline()
        for process in running:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, (_, complaint) in zip(running, said, strict=True):
        assert process.returncode == 0, complaint
    return [told.strip() for told, _ in said]

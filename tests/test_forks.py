"""Processes that the tests fork."""

from __future__ import annotations

from tests.forks import Fork


def test_a_process_that_ends_meanwhile_can_be_killed_again() -> None:
    for _ in range(10):
        fork = Fork(["-c", "import time; time.sleep(60)"])
        fork.kill()
        while fork.poll() is None:
            fork.terminate()
        assert fork.returncode == -9

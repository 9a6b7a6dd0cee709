"""The benchmarks' contestants do what they are measured at."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks.measure import run
from tests.benchmarks.peers import PEERS, Peer
from tests.conftest import Simulate


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.what)
def test_every_peer_delivers_its_jobs(peer: Peer, simulate: Simulate) -> None:
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed; it comes with the extra `bench`")
    service = simulate("--instant", "--speed", "100000")
    assert float(run(sys.executable, "-m", peer.module, service.base_url, "3").stdout.splitlines()[-1]) > 0


def test_the_benchmarks_that_are_named_make_one_table() -> None:
    told = run(sys.executable, "-m", "tests.benchmarks", "startup").stdout.splitlines()
    assert told[0].startswith("| what | measured (")
    assert told[2].startswith("| `batchgen --help` |")

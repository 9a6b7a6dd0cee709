"""The simulator's controls obey only who has their address: other programs and web pages reach the port as well."""

from __future__ import annotations

import pytest

from batchgen.simulator.server import control_url
from batchgen.simulator.service import Simulation

from .client import CONTROL, TOKEN, create, ledger, set_faults, simulated

pytestmark = pytest.mark.hostile(
    "a local program or a web page that controls the simulator", "404, as for any unknown path"
)

STRANGERS = [
    "/_simulator",
    "/_simulator/",
    "/_simulator//",
    "/_simulator/guessed",
    f"/_simulator/{TOKEN}x",
    "/_simulator/é",
]


@pytest.mark.parametrize("control", STRANGERS)
async def test_without_the_token_nothing_is_shown_or_changed(control: str) -> None:
    async with simulated() as client:
        client.control = control
        assert (await set_faults(client, {"create": {"reject_400": 1}})).status_code == 404
        assert (await client.get(f"{control}/ledger")).status_code == 404
        client.control = CONTROL
        await create(client)
        assert len((await ledger(client))["accepted"]) == 1


def test_every_simulator_has_a_token_of_its_own() -> None:
    addresses = {control_url("http://127.0.0.1:1", Simulation()) for _ in range(3)}
    assert len(addresses) == 3
    assert all(len(address) > 40 for address in addresses)


def test_the_token_is_in_no_representation_of_the_settings() -> None:
    assert TOKEN not in repr(Simulation(control_token=TOKEN))

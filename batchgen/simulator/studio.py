"""The simulated service at work: everything its routes share."""

from __future__ import annotations

from starlette.requests import Request

from batchgen.simulator.clock import SimulatedClock
from batchgen.simulator.faults import Faults
from batchgen.simulator.gallery import Gallery
from batchgen.simulator.ledger import Ledger
from batchgen.simulator.limits import Account
from batchgen.simulator.simulation import Simulation


class Studio:
    """One simulated service. Raises `StorageError` or `UsageError` for a ledger or faults that cannot be used."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.clock = SimulatedClock(simulation.speed)
        self.faults = Faults(simulation.faults, simulation.seed)
        self.ledger = Ledger(simulation.ledger)
        self.account = Account(simulation.limits, simulation.key, self.clock, self.ledger)
        self.gallery = Gallery(self.ledger, instant=simulation.instant)
        self.secret = self.ledger.secret()
        self.burnt: dict[str, int] = {}  # nonces of addresses that expired by a fault, and what they answer
        self.opened_at = self.ledger.opened_at(self.clock.now())

    def close(self) -> None:
        """Write what is left, and let go of threads and files."""
        self.gallery.close()
        self.ledger.close()


def studio(request: Request) -> Studio:
    """The service that a request came to."""
    found = request.app.state.studio
    assert isinstance(found, Studio)
    return found

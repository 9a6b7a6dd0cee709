"""The video service imitated over real HTTP: offline, free, in compressed time, with faults on demand.

async with serve(Simulation(speed=60)) as base_url: ...
python -m batchgen.simulator --port 0 --speed 60 --ledger simulator.db
"""

from batchgen.simulator.ledger import Ledger
from batchgen.simulator.server import run_forever, serve
from batchgen.simulator.simulation import AccountLimits, Simulation

__all__ = ["AccountLimits", "Ledger", "Simulation", "run_forever", "serve"]

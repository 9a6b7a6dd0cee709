"""`python -m batchgen.simulator`: the simulated service as a process. Its first line of output is its base URL."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.simulator.server import run_forever
from batchgen.simulator.simulation import AccountLimits, Simulation

EPILOG = """\
A generation takes as long as the service documents for its model and length, divided by --speed. The clip itself is
rendered when it is first asked for, a tenth of a second each, unless --instant serves one fixed clip of 20 kB, made
different for each generation. To measure a client and not the service, take both away:

  python -m batchgen.simulator --instant --speed 100000
  python -m batchgen.simulator --faults '{"create": {"throttle_429": 0.1}, "cdn": {"cut": 0.2}}'
"""


def main() -> int:
    """Serve until stopped; the value is the exit code."""
    asked = read(sys.argv[1:])
    try:
        run_forever(simulation_of(asked), asked.host, asked.port, _tell)
    except BatchgenError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def read(arguments: Sequence[str]) -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m batchgen.simulator",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--speed", type=float, default=60.0, help="60, the default: 210 s take 3.5 s")
    parser.add_argument("--sigma", type=float, help="spread of the times' logarithm; default: as documented")
    parser.add_argument("--seed", type=int, default=0, help="durations and faults follow from it")
    parser.add_argument("--ledger", type=Path, help="SQLite file; without it memory")
    parser.add_argument("--faults", type=json.loads, default={}, metavar="JSON", help="what goes wrong, by place")
    parser.add_argument("--instant", action="store_true", help="serve one tiny clip in place of rendering")
    parser.add_argument("--lag", type=float, default=30.0, help="seconds of the service a log row is late")
    parser.add_argument("--limits", type=_limits, default=AccountLimits(), metavar="JSON", help="of the account")
    return parser.parse_args(arguments)


def simulation_of(asked: argparse.Namespace) -> Simulation:
    """The service that is asked for."""
    return Simulation(
        speed=asked.speed,
        sigma=asked.sigma,
        seed=asked.seed,
        ledger=asked.ledger,
        faults=asked.faults,
        instant=asked.instant,
        lag_seconds=asked.lag,
        limits=asked.limits,
    )


def _limits(given: str) -> AccountLimits:
    limits = json.loads(given, parse_float=Decimal)
    unknown = set(limits) - {field.name for field in fields(AccountLimits)}
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no limit {', '.join(sorted(unknown))}")
    return AccountLimits(**limits)


def _tell(base_url: str) -> None:
    sys.stdout.write(f"{base_url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

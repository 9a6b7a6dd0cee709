"""`python -m batchgen.simulator`: the simulated service as a process. Its first line of output is its base URL."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from decimal import Decimal
from pathlib import Path

from batchgen.errors import BatchgenError
from batchgen.simulator.faults import NAMES
from batchgen.simulator.server import run_forever
from batchgen.simulator.service import AccountLimits, Simulation

EPILOG = """\
A generation takes as long as the service documents for its model and length, divided by --speed. To measure a client
and not the simulator: --instant --speed 100000. To see a client's errors: --faults '{"create": {"throttle_429": 0.1}}'.
A fault is a probability, or an object of probability, count, bytes, seconds and retry_after. By place, they are:
"""
LIMITS = [field.name for field in fields(AccountLimits)]


def main() -> int:
    """Serve until stopped; returns the exit code."""
    try:
        run_forever(*parse(sys.argv[1:]), lambda base_url: print(base_url, flush=True))  # noqa: T201
    except BatchgenError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def parse(arguments: Sequence[str]) -> tuple[Simulation, str, int]:
    """The settings, the host and the port of a command line. Raises `UsageError`."""
    faults = [f"  {place}.{name}: {effect}" for place, names in NAMES.items() for name, effect in names.items()]
    parser = argparse.ArgumentParser(
        prog="python -m batchgen.simulator",
        description="Serve a simulated video service, and print its base URL.",
        epilog=EPILOG + "\n".join(faults),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="the address to listen on")
    add("--port", type=int, default=0, help="0 takes a free one")
    add("--speed", type=float, default=60.0, help="times real speed; by default 210 s take 3.5 s")
    add("--sigma", type=float, help="standard deviation of the times' logarithm; default: as documented")
    add("--seed", type=int, default=0, help="generation times and faults follow from it")
    add("--ledger", type=Path, help="an SQLite file; default: memory")
    add("--faults", type=json.loads, default={}, metavar="JSON", help="what goes wrong, by place and name: see below")
    add("--instant", action="store_true", help="serve copies of one clip of 20 kB, and render nothing")
    add("--lag", dest="lag_seconds", type=float, default=30.0, help="the service's seconds until its log has a create")
    add("--limits", type=_limits, default=AccountLimits(), metavar="JSON", help=f"of the account: {', '.join(LIMITS)}")
    settings = vars(parser.parse_args(arguments))
    host, port = settings.pop("host"), settings.pop("port")
    return Simulation(**settings), host, port


def _limits(text: str) -> AccountLimits:
    limits = json.loads(text, parse_float=Decimal)
    if unknown := sorted(set(limits) - set(LIMITS)):
        raise argparse.ArgumentTypeError(f"there is no limit {', '.join(unknown)}")
    return AccountLimits(**limits)


if __name__ == "__main__":
    sys.exit(main())

"""`batchgen simulate`: serve the simulator alone."""

import json
import sys
from dataclasses import fields
from decimal import Decimal
from typing import Any

import click

from batchgen.cli import options
from batchgen.errors import ExitCode
from batchgen.report.terminal import OutputStream, print_lines
from batchgen.simulator.faults import NAMES
from batchgen.simulator.server import control_url, run_forever
from batchgen.simulator.service import AccountLimits, Simulation

LIMITS = ", ".join(field.name for field in fields(AccountLimits))
EXAMPLE = """'{"create": {"throttle_429": 0.1}}'"""


def account_limits(text: str) -> AccountLimits:
    """The limits of an account, from a JSON object. Raises click.BadParameter."""
    try:
        return AccountLimits(**json.loads(text, parse_float=Decimal))
    except (TypeError, ValueError):
        raise click.BadParameter(f"it must be a JSON object with some of {LIMITS}") from None


def planned_faults(text: str) -> Any:
    """The faults of a JSON object. The word "help" lists them all, and ends the command. Raises click.BadParameter."""
    try:
        if text != "help":
            return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"it must be JSON such as {EXAMPLE}, or the word help ({error})") from None
    print_lines(*(f"{place}.{name}: {effect}" for place, names in NAMES.items() for name, effect in names.items()))
    print_lines(f"For example: --faults {EXAMPLE}", err=True)
    sys.exit(ExitCode.DELIVERED)


@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="The port to listen on; 0 takes a free one.",
)
@click.option("--speed", default=60.0, show_default=True, help="How many times real speed: at 60, 210 s take 3.5 s.")
@click.option(
    "--ledger",
    type=options.FilePath("ledger.db"),
    help="Keep what was accepted and charged in this SQLite file. Default: in memory.",
)
@click.option(
    "--faults",
    type=planned_faults,
    default="{}",
    metavar="JSON|help",
    help=f"What goes wrong: {EXAMPLE}; help: list all faults. A fault is a probability,"
    " or an object with some of probability, count, bytes, seconds and retry_after.",
)
@click.option("--limits", type=account_limits, default="{}", metavar="JSON", help=f"Limits of the account: {LIMITS}.")
@click.option("--seed", default=0, help="The seed of generation times and faults.")
@click.option("--sigma", type=float, help="Standard deviation of the times' logarithm. Default: as documented.")
@click.option(
    "--lag",
    "lag_seconds",
    default=30.0,
    show_default=True,
    help="Seconds until the log has a create, divided by --speed.",
)
@click.option("--instant", is_flag=True, help="Serve copies of one clip of 20 kB, and render nothing.")
def command(host: str, port: int, **settings: Any) -> None:
    """It accepts every API key. Point any client of the service, batchgen too, at the base URL that is the first line
    of output. A generation takes as long as the service documents for its model and length, divided by --speed. To
    measure a client and not the simulator: --instant --speed 100000.

    The second line is the address of the controls, which only its reader can use: GET …/ledger shows what was accepted,
    PUT …/faults replaces the faults.
    """
    from batchgen.services import registry

    variables = registry.plugin(registry.DEFAULT).variables

    simulation = Simulation(**settings)

    def print_url(base_url: str) -> None:
        # At once: a reader that takes only the first line may close the stream after it.
        OutputStream(sys.stdout).write_raw(f"{base_url}\n{control_url(base_url, simulation)}\n")
        print_lines(f"{variables.base_url}={base_url} {variables.key}=any batchgen run …   (Ctrl-C ends it)", err=True)

    run_forever(simulation, host, port, print_url)

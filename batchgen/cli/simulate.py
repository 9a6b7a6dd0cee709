"""`batchgen simulate`: serve the simulator alone."""

from pathlib import Path

import click


@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--speed", default=60.0, show_default=True, type=click.FloatRange(0.01, 100_000), help="Times real speed."
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep what was accepted and charged in this SQLite file. Default: in memory.",
)
def command(host: str, port: int, speed: float, ledger: Path | None) -> None:
    """Serve a simulated video service, for free and offline. It accepts every API key.

    Point any client of the service, batchgen too, at the printed base URL. `python -m batchgen.simulator --help` has
    more options: faults, limits of the account, a seed.
    """
    from batchgen.simulator import Simulation, run_forever

    def print_url(base_url: str) -> None:
        click.echo(base_url)
        click.echo(f"AIMLAPI_BASE_URL={base_url} AIMLAPI_API_KEY=any batchgen run …   (Ctrl-C ends it)", err=True)

    run_forever(Simulation(speed=speed, ledger=ledger), host, port, print_url)

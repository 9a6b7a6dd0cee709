"""Run the whole campaign, or a part of it, and print one table. `postgres` as first word: that on many machines.

Exit code 1 if anything was bought twice, lost, or otherwise wrong; the folders of those trials stay.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from tests.campaign import points
from tests.campaign.postgres import command
from tests.campaign.postgres.table import BLOCK
from tests.campaign.scenarios import KINDS, scenarios
from tests.campaign.table import problem_report, table, write
from tests.campaign.trial import Trial, run_scenario

AT_ONCE = 4 * (os.cpu_count() or 1)
"""Trials at once. Most of a trial is waiting."""
SCENARIOS = 200
KILLS_MIN = 300
"""A campaign with fewer kills is not written into the README. The default one has more than 500."""

TrialRunner = Callable[[Path], Trial]
"""Runs one trial in a folder of its own."""


def select_trials(runs: int, seed: int, only: str | None) -> list[TrialRunner]:
    """The trials of a command line, in the order of the table."""
    runners: list[TrialRunner] = []
    if only is None or only in KINDS:
        listed = sorted(scenarios(runs, seed, only), key=lambda scenario: list(KINDS).index(scenario.name))
        runners += [partial(run_scenario, scenario) for scenario in listed]
    if only is None or only in points.ROWS:
        runners += [partial(points.run_crash_point, point) for point in points.crash_points(only)]
    elif only.partition(" #")[0] in points.ROWS:
        runners.append(partial(points.run_crash_point, points.parse(only)))
    return runners


def run_trials(runners: Sequence[TrialRunner], folder: Path) -> list[Trial]:
    """Run the trials, several at once, with a line on standard error for each."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        numbers = {threads.submit(run, folder / f"{number:03}"): number for number, run in enumerate(runners)}
        trials: dict[int, Trial] = {}
        for future in as_completed(numbers):
            trial = trials[numbers[future]] = future.result()
            problem = "" if trial.passed else "  ← " + trial.audit.problems[0][:150]
            progress = f"{len(trials)}/{len(runners)}  {trial.name}: {trial.kills} kills, {trial.seconds:.1f} s"
            print(progress + problem, file=sys.stderr, flush=True)
    return [trials[number] for number in sorted(trials)]


def main() -> int:
    """Returns the exit code."""
    if sys.argv[1:2] == [BLOCK]:
        return command.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--runs", type=int, default=SCENARIOS, help=f"scenarios besides the crash points ({SCENARIOS})")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same scenarios (1)")
    parser.add_argument("--only", metavar="NAME", help="one row of the table, or one crash point: 'ROW #N'")
    parser.add_argument("--write", action="store_true", help="put the table into tests/campaign/README.md")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("only a whole campaign is written; leave out --only")
    runners = select_trials(options.runs, options.seed, options.only)
    if not runners:
        parser.error(f"there is no row {options.only!r}; there are:\n  " + "\n  ".join((*KINDS, *points.ROWS)))
    folder = Path(tempfile.mkdtemp(prefix="batchgen-campaign-"))
    began = time.monotonic()
    trials = run_trials(runners, folder)
    print(table(trials))
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    kills = sum(trial.kills for trial in trials)
    print(f"\n{len(trials)} runs and {kills} kills in {minutes} min {seconds} s, seed {options.seed}", file=sys.stderr)
    if problems := problem_report(trials):
        print(problems, file=sys.stderr)
        return 1
    folder.rmdir()
    if options.write and kills < KILLS_MIN:
        print(f"not written: {kills} kills are fewer than {KILLS_MIN}", file=sys.stderr)
        return 1
    if options.write:
        write(trials, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One reconciliation of planted books by the command, and what it said beside what was planted."""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchgen.billing.settlements import Settlement
from tests.books.plants import PAYMENTS, Truth, fill

ARGUMENTS = ("reconcile", "m.yaml", "--json", "--csv", "bill.csv")
Run = Callable[[Path], "subprocess.CompletedProcess[str]"]
"""Runs the command with `ARGUMENTS` in a folder."""


@dataclass
class KindRow:
    """One kind of plant: how often it was planted and named, and how many others got its settlement."""

    settlement: str
    planted: int = 0
    found: int = 0
    false: int = 0


@dataclass
class Trial:
    """How a reconciliation went."""

    attempts: int
    transactions: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    megabytes: float = 0.0
    rows: dict[str, KindRow] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def run_trial(
    folder: Path, ledger: Path, environment: dict[str, str], attempts: int, every: int, run: Run | None = None
) -> Trial:
    """Plant, reconcile twice, by `run` or a process of its own, and compare."""
    run = run or run_process
    truth = fill(folder / "batchgen.db", ledger, folder / "m.yaml", environment, attempts, every)
    trial, before = Trial(attempts), resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    first = reconcile(folder, run)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    trial.seconds, trial.megabytes = time.monotonic() - began, after.ru_maxrss / 1024
    trial.cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with (folder / "bill.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    compare(trial, truth, first, rows)
    if reconcile(folder, run) != first:
        trial.problems.append("a second reconciliation says something else")
    return trial


def reconcile(folder: Path, run: Run) -> list[dict[str, Any]]:
    ended = run(folder)
    assert ended.returncode == 3, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def run_process(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchgen", *ARGUMENTS]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def compare(trial: Trial, truth: Truth, lines: list[dict[str, Any]], rows: list[dict[str, str]]) -> None:
    """Hold the JSON lines and the rows of the CSV file beside what was planted."""
    result, problems = lines[-1], trial.problems
    trial.transactions = result["transactions"]
    total = Decimal(truth.credits) / 2_000_000
    csv_total = sum((Decimal(row["charged_usd"] or 0) for row in rows), Decimal(0))
    if not Decimal(result["charged_usd"]) == total == csv_total:
        problems.append(f"{total} USD were charged; the command says {result['charged_usd']}, the file {csv_total}")
    if trial.transactions != truth.rows + len(PAYMENTS):
        problems.append(f"{truth.rows + len(PAYMENTS)} transactions were planted, {trial.transactions} were read")
    settlements = settlements_of(rows)
    problems += [
        f"{name}: is {truth.settlements.get(name)}, and is called {settlements.get(name)}"
        for name in sorted(settlements.keys() | truth.settlements.keys())
        if settlements.get(name) != truth.settlements.get(name)
    ]
    shown = settlements_of([{**line, "attempt": line["attempt"] or ""} for line in lines[:-1]])
    if shown != {name: settlement for name, settlement in settlements.items() if not Settlement(settlement).closes}:
        problems.append("the lines name other things than the rows of the file")
    called = Counter(settlements.values())
    for kind, names in truth.kinds.items():
        settlement = truth.settlements[names[0]]
        right = sum(settlements.get(name) == settlement for name in names)
        is_so = sum(settlements.get(name) == settlement == truth.settlements[name] for name in truth.settlements)
        trial.rows[kind] = KindRow(settlement, len(names), right, called[settlement] - is_so)


def settlements_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The settlement of each job, and of each charge of no job, by the names that `Truth` has."""
    settlements: dict[str, str] = {}
    nameless = 0
    for row in rows:
        if row["settlement"] == Settlement.BALANCE:
            continue
        name = row["id"] if row["attempt"] else row["generation_id"]
        if not name:
            name, nameless = f"nameless {nameless}", nameless + 1
        settlements[name] = row["settlement"]
    return settlements

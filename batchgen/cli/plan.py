"""The command `batchgen plan`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchgen import clock
from batchgen.advice.command_line import typed_again
from batchgen.api import running
from batchgen.cli import options
from batchgen.report.plan import plan_json, plan_lines
from batchgen.report.terminal import show
from batchgen.services.registry import SIMULATOR


@options.manifest
@options.db
@options.with_simulator
@options.limits_and_selection
@options.validate
@options.json_lines
def command(manifest: Path, as_json: bool, **run_options: Any) -> None:
    """Needs no key, and sends no job.

    The prices are the service's price list if it can be reached, else the last one that was stored, with its date. The
    forecast takes the generation times that were measured and the limits in force.
    """
    show_plan(manifest, run_options, as_json=as_json)


def show_plan(path: Path, run_options: Mapping[str, Any], *, as_json: bool) -> None:
    plan = running.plan(path, **run_options)
    if plan.request.batch.service == SIMULATOR:
        options.name_simulation()
    words = [word for word in options.typed_arguments() if word not in ("--dry-run", "-n")]
    show(plan_json(plan, typed_again(["run", *words])), *plan_lines(plan, clock.utcnow()), as_json=as_json)

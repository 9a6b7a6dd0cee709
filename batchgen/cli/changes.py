"""What `retry`, `cancel` and `resolve` have changed or found, as JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from batchgen.cli import options
from batchgen.jobs import Job
from batchgen.report import hints
from batchgen.report.command_events import Changed, Held
from batchgen.report.terminal import print_json


def print_changed(jobs: Mapping[str, Sequence[str]], hint: str, next_command: str) -> None:
    """Print the event `changed`: the ids of jobs by what happens to them. The command follows if there are any."""
    changed: Changed = {
        "event": "changed",
        "command": click.get_current_context().info_name or "",
        "jobs": {name: list(keys) for name, keys in jobs.items()},
        **hints.advice(hint, options.command_to_type(next_command) if any(jobs.values()) else None),
    }
    print_json(changed)


def print_held(jobs: Sequence[Job]) -> None:
    """Print the event `held`: what a person needs to find lost requests at the service."""
    held: Held = {
        "event": "held",
        "jobs": [
            {
                "id": job.key,
                "model": job.model,
                "sent_at": job.attempt.intent_at,
                "client_request_id": job.attempt.client_request_id,
                "error": job.error,
            }
            for job in jobs
        ],
        **hints.advice(
            "search for them on the service's site, by time and model; if one is there: --found GENERATION-ID; if not:"
            " --resubmit or --give-up",
            options.command_to_type("resolve"),
        ),
    }
    print_json(held)

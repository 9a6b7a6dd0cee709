"""`batchgen resolve`: a person settles what neither an answer nor the service's log could."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import click

from batchgen import clock
from batchgen.cli.options import again, db_option, manifest_argument, simulate_option
from batchgen.cli.session import batch_of, table_of
from batchgen.errors import UsageError
from batchgen.jobtable import reconciliation
from batchgen.jobtable.reconciliation import UnconfirmedAttempt
from batchgen.report.words import plural, shortened, span

DEADLINE = timedelta(hours=1)


@click.command(name="resolve")
@manifest_argument
@click.argument("ids", nargs=-1)
@db_option
@simulate_option
@click.option("--found", metavar="GENERATION-ID", help="It was accepted: this is its generation id (for one job).")
@click.option("--resubmit", is_flag=True, help="It was not accepted: send it again. Pays a second time if it was.")
@click.option("--give-up", is_flag=True, help="Count it as failed; do not send it again.")
def command(
    manifest: Path,
    ids: tuple[str, ...],
    db: str | None,
    simulate: bool,
    found: str | None,
    resubmit: bool,
    give_up: bool,
) -> None:
    """Settle jobs that were sent, whose answer was lost, and that the service's request log does not know.

    Without an option: show them, with what to look for on the service's site. Without IDS: all of them.
    """
    if sum(map(bool, (found, resubmit, give_up))) > 1:
        raise UsageError("--found, --resubmit and --give-up exclude one another")
    with table_of(db, manifest) as database:
        batch_id = batch_of(database, manifest, simulate)
        now = clock.utcnow()
        held = database.look(reconciliation.held_doubts, batch_id)
        unknown = [key for key in ids if key not in {doubt.key for doubt in held}]
        if unknown:
            raise UsageError(f"not held: {', '.join(unknown)}. Nothing has been changed.")
        chosen = [doubt for doubt in held if not ids or doubt.key in ids]
        if found and len(chosen) > 1:
            raise UsageError(f"--found settles one job: name it ({shortened([doubt.key for doubt in chosen])})")
        for doubt in chosen:
            if found:
                deadline = now + DEADLINE
                database.change(reconciliation.adopted, doubt, found, None, doubt.sent_at, now, deadline)
            elif resubmit:
                database.change(reconciliation.refuted, doubt, "resubmitted by a person", now)
            elif give_up:
                database.change(reconciliation.abandoned, doubt, "given up by a person", now)
            else:
                show(doubt, now)
    if not chosen:
        click.echo("no job waits for a person")
    elif found or resubmit or give_up:
        click.echo(f"{plural(len(chosen), 'job')} settled: {shortened([doubt.key for doubt in chosen])}")
        click.echo(f"Next: {again('run')}", err=True)
    else:
        click.echo(
            "Look for them on the service's site, by time and model. There: --found GENERATION-ID. Not there:"
            " --resubmit, or --give-up.",
            err=True,
        )


def show(doubt: UnconfirmedAttempt, now: datetime) -> None:
    """What a person needs to find the request at the service."""
    click.echo(f"{doubt.key}  {doubt.model}")
    click.echo(f"  sent {doubt.sent_at.astimezone():%Y-%m-%d %H:%M:%S %Z}, {span(now - doubt.sent_at)} ago")
    click.echo(f"  X-Client-Request-Id: {doubt.client_request_id}")
    click.echo(f"  {doubt.reason}")

"""The `batchgen` command: words and exit codes, nothing else. Each subcommand is a file, imported when it is called."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import click

from batchgen import __version__
from batchgen.errors import BatchgenError

COMMANDS = {
    "init": "Write a first manifest, with comments.",
    "run": "Bring a manifest's videos home: submit, wait, download. Run it again to go on.",
    "check": "Validate a manifest; write and send nothing.",
    "schema": "Print the JSON Schema of manifests, for an editor.",
    "plan": "Show what a run would send, what it would cost and when it would be done.",
    "models": "List the models, or show what one takes and costs.",
    "status": "Show how a batch stands, what it has cost and what it waits for.",
    "retry": "Make failed jobs pending again; their history stays.",
    "cancel": "Take unsent jobs out of the batch.",
    "resolve": "Settle jobs whose answer was lost and that the service's log does not know.",
    "simulate": "Serve the built-in imitation of the service, for free, offline.",
}


class Commands(click.Group):
    """The subcommands, listed without importing any."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"batchgen.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # before a run listens, or after it has ended
            click.echo("interrupted; the same command goes on where this one stopped", err=True)
            sys.exit(130)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="batchgen")
def commands() -> None:
    """A batch job runner for AI video generation: paid for once, whole, accounted for.

    Write prompts and images into a manifest, type `batchgen run manifest.yaml`, and find the videos in the morning.
    Stop it anywhere; the same command goes on where it was.

    \b
    Exit codes:  0 all delivered            1 internal error
                 2 usage, invalid manifest  3 ended, not every job delivered
                 4 key or credits           5 budget or time cap reached
                 6 service unreachable      8 disk or output
                 130, 143 interrupted; the same command goes on
    """


def main() -> None:
    """The entry point. A problem that has a name becomes one message and its exit code, never a traceback.

    Anything else is a defect: its traceback is what a report needs.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error is: no name may end a run
    try:
        commands(prog_name="batchgen")
    except BatchgenError as error:
        click.echo(f"{error}", err=True)
        sys.exit(error.exit_code)
    except Exception:
        import traceback  # a fifth of what --help takes, and needed only for a defect

        traceback.print_exc()
        click.echo(
            "This is a defect in batchgen; please report the lines above. Nothing is lost: what was sent is in the"
            " job table, and the same command goes on.",
            err=True,
        )
        sys.exit(1)

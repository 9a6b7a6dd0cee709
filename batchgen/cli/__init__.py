"""The command line: names and one-line help. Each command is a file of its own, imported when it is called."""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from batchgen import __version__
from batchgen.advice.command_line import with_keep
from batchgen.cli import usage_errors
from batchgen.cli.refusals import refused  # before it is needed: nothing may be left to open a module with
from batchgen.errors import BatchgenError, ExitCode, Interrupted, ManifestChanged, UsageError
from batchgen.report.terminal import discard, open_standard_streams, print_json, print_lines, results

COMMANDS = {
    "init": "Write an example manifest, with comments.",
    "check": "Validate a manifest. Writes and sends nothing.",
    "plan": "Show what a run would send, what it would cost and when it would be done.",
    "run": "Submit a manifest's jobs, wait, and download the videos. Run it again to go on.",
    "status": "Show a batch: its jobs by state, its cost, and what it waits for.",
    "models": "List the models, or show the parameters and the price of one.",
    "review": "Judge the clips of a batch on a page in the browser. Verdicts go into the job table.",
    "retry": "Make failed jobs pending again. Their earlier attempts stay in the job table.",
    "cancel": "Cancel jobs that have not been sent; by id, whatever is not delivered.",
    "resolve": "Settle jobs whose answer was lost and that the service's request log does not list.",
    "reconcile": "Compare a batch with the account's bill, charge by charge, and fetch what was paid for.",
    "pause": "Submit nothing more in a batch until it is resumed. What is in flight goes on.",
    "resume": "End the pause of a batch.",
    "set": "Set limits, the cap or the time of a batch while its runs are at work; or show what is in force.",
    "prioritize": "Send these jobs of a batch first.",
    "report": "Write the review page as one file that opens without a server.",
    "verdicts": "Bring verdicts on clips from a file into the job table.",
    "next": "Write the picked or rejected jobs as a new manifest: for another model, or for another try.",
    "export": "Write the delivered clips as CSV, JSON lines, Parquet or WebDataset, or as sidecar files.",
    "sql": "Ask the job table: one SELECT, read-only. Without a query, list its views.",
    "explore": "Open the job table in a browser, read-only (Datasette).",
    "worker": "Work on the batches of a job table that have work, without their manifests.",
    "db": "Move batches to another job table, or compare a job table with its files.",
    "doctor": "Say what is wrong with key, service, disk or job table, and the command that mends it.",
    "schema": "Print the JSON Schema of manifests, for an editor.",
    "completion": "Print a script by which a shell completes commands, options and manifests.",
    "simulate": "Serve the built-in simulator of the service: free, offline.",
}


@cache
def load(name: str) -> click.Command:
    """Import the function of a command. Its docstring has the details: the one-line help is put before them.

    A command with commands of its own is a group already.
    """
    gc.disable()  # a sixth of a command's start: the collector would go through all modules a dozen times
    function = importlib.import_module(f"batchgen.cli.{name}").command
    gc.freeze()  # what was imported stays until the process ends
    gc.set_threshold(10_000)  # new objects between two passes: a run leaves few cycles, and a pass costs CPU time
    gc.enable()
    if isinstance(function, click.Group):
        function.help = f"{COMMANDS[name]}\n\n{function.help or ''}"
        return function
    return click.command(name, help=f"{COMMANDS[name]}\n\n{inspect.getdoc(function)}")(function)


class Commands(click.Group):
    """The commands, listed without importing any of them."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            ctx.fail(usage_errors.unknown_command(args, COMMANDS))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise reported(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            check_folder()
            check_time_zone()
            return super().invoke(ctx)
        except click.UsageError as error:
            raise reported(error) from None
        except BrokenPipeError:  # `| head` has read enough
            discard(results())
            sys.exit(ExitCode.DELIVERED)
        except KeyboardInterrupt:  # before a run handles signals, or after it has ended
            end(Interrupted("interrupted"), f"interrupted; {ExitCode.INTERRUPTED.hint}")

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl(list(ExitCode.legend().items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="batchgen")
def commands() -> None:
    """A batch job runner for AI video generation. No job is paid for twice.

    Write prompts and images into a manifest, type `batchgen run manifest.yaml`, and find the videos in the morning.
    Stop it at any time; the same command goes on where it stopped.
    """


def check_folder() -> None:
    """Raise `UsageError` where the shell stands in a folder that was deleted: no path can be told from there."""
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the current folder cannot be used ({error.strerror}): it may be deleted. Go to another one"
        ) from None


def check_time_zone() -> None:
    """Raise `UsageError` where no local time can be told, as it would be a day or more from UTC."""
    try:
        for month in (1, 7):  # in winter and in summer
            datetime(2026, month, 1, tzinfo=UTC).astimezone()
    except ValueError:
        wrong = f"TZ={os.environ.get('TZ')} is no time zone; unset it, or set one such as Europe/Berlin"
        raise UsageError(wrong) from None


def reported(typed: click.UsageError) -> click.UsageError:
    """The error, explained, which click prints as text; with `--json` it is a line on standard output as well."""
    error = usage_errors.explain(typed)
    if is_json():
        from batchgen.report.hints import usage_json

        arguments = sys.argv[1:] if sys.argv[1] in COMMANDS else []
        print_json(usage_json(error.format_message(), arguments), is_progress=True)
    return error


def is_json() -> bool:
    """Whether the command was typed with `--json`, also where the rest of it is wrong."""
    return "--json" in sys.argv[1:]


def end(error: BatchgenError, *lines: str) -> NoReturn:
    """End with an error, of which these lines tell a person.

    With `--json` it is the last line on standard output as well, so that a program need not read text.
    """
    print_lines(*lines, err=True)
    if is_json():
        from batchgen.report.hints import error_json

        print_json(error_json(error, sys.argv[1:]), is_progress=True)
    sys.exit(error.exit_code)


def main() -> None:
    """The entry point. A `BatchgenError` becomes one message and its exit code, never a traceback.

    Any other exception is a defect: its traceback is what a report needs.
    """
    open_standard_streams()
    try:
        commands(prog_name="batchgen")
    except BatchgenError as error:
        is_open = isinstance(error, ManifestChanged)
        decide = [f"Next: `{with_keep(sys.argv[1:])}`, or with redo in place of keep"] if is_open else []
        end(error, *str(error).split("\n"), *decide)
    except Exception as error:
        if refusal := refused(error):
            end(refusal, str(refusal))
        import traceback  # Imported here: it takes a fifth of the time of --help, and only a defect needs it.

        end(
            BatchgenError(f"{type(error).__name__}: {error}"),
            *traceback.format_exc().rstrip().split("\n"),
            "This is a defect in batchgen; please report the lines above. Nothing is lost: what was sent is in the"
            " job table, and the same command goes on.",
        )

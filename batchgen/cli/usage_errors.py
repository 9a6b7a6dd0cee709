"""What a person may have meant by a command line that cannot be read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

import click

from batchgen.advice.command_line import MANIFEST_SUFFIXES
from batchgen.errors import INIT_WRITES
from batchgen.services.text import shell_word

OTHER_NAMES = {"help": "--help", "version": "--version", "list": "status", "validate": "check", "start": "run"}
"""What other programs call a command or an option."""

OTHER_OPTIONS = {  # of other programs, and what is here in their place
    **dict.fromkeys(
        ("--concurrency", "--jobs", "--parallel", "--workers"),
        "--in-flight bounds the videos that are made at one time",
    ),
    **dict.fromkeys(("--continue", "--resume"), "the same command goes on where it stopped"),
    **dict.fromkeys(("--api-key", "--key"), "the key comes from the environment, or a file .env beside the manifest"),
    "--budget": "--max-cost is the cap",
    **dict.fromkeys(("--output", "-o"), "`output:` in the manifest says where videos go"),
    "--retries": "a run tries again by itself what costs nothing, `batchgen retry` what has failed",
    **dict.fromkeys(("--dry-run", "-n"), "`batchgen plan` shows what a run would send"),
}

ONE_MANIFEST = "It takes one manifest, whose `include:` takes in others. A name with blanks is put in quotes."
NO_MANIFEST = (
    "A worker takes no manifest: `batchgen run MANIFEST --enroll` puts its jobs into the table, from which workers take"
    " them; without --enroll, it is run here."
)
ALIKE = 0.7
"""How like an option must be to be suggested: by click's 0.6, --sample is meant by --resume, since both have dashes."""


def unknown_command(args: Sequence[str], commands: Collection[str]) -> str:
    """What is wrong with these arguments, of which the first is none of the commands."""
    name = args[0]
    if name.endswith(MANIFEST_SUFFIXES):
        return f"{name} is no command. Did you mean `batchgen run {shell_word(name)}`?"
    near = [OTHER_NAMES[name]] if name in OTHER_NAMES else get_close_matches(name, commands, 1)
    if name == "help" and args[1:] and args[1] in commands:
        near = [f"batchgen {args[1]} --help"]
    return f"There is no command {name!r}.{f' Did you mean `{near[0]}`?' if near else ''}"


def explain(error: click.UsageError) -> click.UsageError:
    """The same error; of a missing manifest, an argument too many or an unknown option, with what is meant by it."""
    if isinstance(error, click.MissingParameter) and error.param and error.param.name == "manifest":
        return click.MissingParameter(f"It is the YAML file with the jobs; {INIT_WRITES}.", error.ctx, error.param)
    if not error.ctx:
        return error
    if "extra argument" in error.message:
        takes_manifest = "manifest" in error.ctx.params
        hint = ONE_MANIFEST if takes_manifest else NO_MANIFEST if error.ctx.info_name == "worker" else ""
        return click.UsageError(f"{error.message}. {hint}", error.ctx) if hint else error
    return explained_option(error, error.ctx) if isinstance(error, click.NoSuchOption) else error


def explained_option(error: click.NoSuchOption, ctx: click.Context) -> click.NoSuchOption:
    """An option that a command lacks, with what is there in its place, or an option like it."""
    name = error.option_name
    if hint := option_hint(name, ctx):
        return click.NoSuchOption(name, f"{error.message} ({hint})", ctx=ctx)
    near = [
        word for word in error.possibilities or () if word.startswith(name) or get_close_matches(name, [word], 1, ALIKE)
    ]
    return click.NoSuchOption(name, possibilities=near, ctx=ctx)


def option_hint(name: str, ctx: click.Context) -> str:
    """What stands for an option that the command of `ctx` lacks; "" where nothing does. `run` has most options."""
    if ctx.parent is None:
        return "an option stands behind its command, as in `batchgen status --json`"
    if name == "--db" and ctx.command_path.startswith("batchgen db"):
        return "the job table is an argument here: `batchgen db check PATH-OR-URL`"
    of_run = options_of_run(ctx)
    if ctx.info_name == "set" and is_steered(limit := of_run.get(name) or name.lstrip("-").replace("-", "_")):
        return f"`batchgen set` takes it as {limit}=VALUE"
    if name in OTHER_OPTIONS or name not in of_run:
        return OTHER_OPTIONS.get(name, "")
    limits = "; a worker takes limits and the cap from the manifest and from `batchgen set`"
    return f"`batchgen run` has it{limits if ctx.info_name == 'worker' else ''}"


def options_of_run(ctx: click.Context) -> dict[str, str | None]:
    """The names of its parameters by the words of its options. The command is imported only for this."""
    group = ctx.find_root().command
    run = group.get_command(ctx, "run") if isinstance(group, click.Group) else None
    return {word: param.name for param in run.params for word in param.opts} if run else {}


def is_steered(name: str) -> bool:
    from batchgen.limits.steering import STEERED

    return name in STEERED

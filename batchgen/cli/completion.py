"""The command `batchgen completion`, and what a shell is answered (click's own, with one shortcut)."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from batchgen.advice.command_line import MANIFEST_SUFFIXES
from batchgen.cli import COMPLETION_VARIABLE
from batchgen.report.terminal import print_lines, print_text

INSTALL = {
    "bash": "echo 'eval \"$(batchgen completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(batchgen completion zsh)\"' >> ~/.zshrc",
    "fish": "batchgen completion fish > ~/.config/fish/completions/batchgen.fish",
}
WITHOUT_MANIFEST = ("init", "worker", "schema", "models", "verdicts", "db", "completion", "simulate")


@click.argument("shell", type=click.Choice(list(INSTALL)))
def command(shell: str) -> None:
    """To have it in every new shell, type the line of yours:

    \b
    echo 'eval "$(batchgen completion bash)"' >> ~/.bashrc        (bash 4.4 or newer)
    echo 'eval "$(batchgen completion zsh)"' >> ~/.zshrc          (below compinit)
    batchgen completion fish > ~/.config/fish/completions/batchgen.fish
    """
    complete = get_completion_class(shell)
    assert complete
    root = click.get_current_context().find_root()
    print_lines(f"# To have this in every new shell: {INSTALL[shell]}")
    print_text(complete(root.command, {}, "batchgen", COMPLETION_VARIABLE).source())


class QuickCompletion(ShellComplete):
    """Completes the manifest behind a command without importing the command, which takes most of a second."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        if len(args) == 1 and args[0] not in WITHOUT_MANIFEST and not incomplete.startswith("-"):
            return manifests(incomplete)
        return super().get_completions(args, incomplete)


for kind in (BashComplete, ZshComplete, FishComplete):
    add_completion_class(type(f"Quick{kind.__name__}", (QuickCompletion, kind), {}))


def manifests(incomplete: str) -> list[CompletionItem]:
    """The manifests whose path begins like this. Without one, the shell completes any file."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        paths = [str(path) for path in folder.iterdir() if path.suffix in MANIFEST_SUFFIXES]
    except OSError:
        paths = []
    start = incomplete.removeprefix("./")
    paths = sorted(path for path in paths if path.startswith(start))
    if not paths or any(shlex.quote(path) != path for path in paths):  # only the shell itself can quote a blank
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(incomplete[: len(incomplete) - len(start)] + path) for path in paths]

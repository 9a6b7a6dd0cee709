"""The command `batchgen completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from batchgen.report.terminal import print_text


@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
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
    # The variable by which the shell asks: click derives its name from that of the program.
    print_text(complete(root.command, {}, "batchgen", "_BATCHGEN_COMPLETE").source())

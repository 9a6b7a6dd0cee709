"""Pages that a command serves to this machine: a socket on the loopback, and the browser that shows it."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import click

from batchgen.cli import options
from batchgen.cli.options import C
from batchgen.errors import UsageError

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Under which a browser may ask. A foreign page whose name leads to this machine (DNS rebinding) has another one."""
PORTS_TRIED = 20  # from the wished one on
PORT_MAX = 65_535


def address(port: int) -> Callable[[C], C]:
    """The options of a command that serves pages; `port` is the one that it has without them."""
    return options.add(
        click.option(
            "--port",
            default=port,
            show_default=True,
            type=click.IntRange(0, PORT_MAX),
            metavar="PORT",
            help="The port to listen on, or the next free one. 0 takes any free one.",
        ),
        click.option("--no-browser", is_flag=True, help="Only print the address."),
    )


def listen(port: int) -> socket.socket:
    """A socket on a port of this machine, or on the next that is free; 0 takes any. Raises `UsageError`."""
    for candidate in range(port, port + PORTS_TRIED if port else 1):
        with suppress(OSError):
            return socket.create_server((HOST, min(candidate, PORT_MAX)))
    raise UsageError(f"no port from {port} to {port + PORTS_TRIED - 1} is free on {HOST}; choose another with --port")


def open_browser(address: str) -> None:
    """Show an address in a browser, where it can open a window: a browser of text might take the terminal."""
    if sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
        # On a thread: some browsers run for as long as they are open.
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()

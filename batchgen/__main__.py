"""`python -m batchgen` is the `batchgen` command, and this is where both begin."""

import os
import sys
from contextlib import suppress

INTERRUPTED = 130  # `ExitCode.INTERRUPTED`, of a module that may not be imported yet


def main() -> None:
    """The entry point. Ctrl-C may come while the modules of a command are still being imported."""
    try:
        from batchgen.cli import main as run_command

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on where this one stopped\n")
    except SystemExit as error:
        if error.code != INTERRUPTED:
            raise
    else:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is closed, or nobody reads it
            stream.flush()
    os._exit(INTERRUPTED)  # the interpreter would wait for threads, which may wait for a server that never answers


if __name__ == "__main__":
    main()

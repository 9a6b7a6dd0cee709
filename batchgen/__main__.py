"""`python -m batchgen` is the `batchgen` command, and this is where both begin."""

import os
import sys
import threading
from contextlib import suppress

INTERRUPTED = 130  # `ExitCode.INTERRUPTED`, of a module that may not be imported yet
END_SECONDS = 5.0  # for the threads of a plug-in, say: the interpreter would wait for ever for one that hangs


def main() -> None:
    """The entry point. Ctrl-C may come while the modules of a command are still being imported."""
    try:
        from batchgen.cli import main as run_command

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on where this one stopped\n")
        end(INTERRUPTED)  # the interpreter would wait for threads, which may wait for a server that never answers
    except SystemExit as error:
        code = error.code or 0
        if isinstance(code, int) and (code == INTERRUPTED or has_hung_thread()):
            end(code)
        raise


def has_hung_thread() -> bool:
    """Whether a thread does not end, though the command has."""
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    threads.remove(threading.main_thread())
    return any(map(hangs, threads))


def hangs(thread: threading.Thread) -> bool:
    thread.join(END_SECONDS)
    return thread.is_alive()


def end(code: int) -> None:
    """End the process with what is written, whatever its threads do."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # it is closed, or nobody reads it
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

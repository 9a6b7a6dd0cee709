"""The process in which files that have come are finished: made durable, and looked at whole.

It reads an order a line, and answers each with a line, in JSON both: what to do and with which path; what came of it.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

from batchgen.files import part, video
from batchgen.files.video import NotVideo, Undecodable

CHECK, SYNC = "check", "sync"
READY = b"ready\n"
TROUBLE: dict[str, type[Exception]] = {each.__name__: each for each in (NotVideo, Undecodable, OSError)}
"""What may come of an order other than nothing, by the word for it between processes."""


def carry_out(order: str, path: Path) -> None:
    """Raises what `TROUBLE` names."""
    part.sync(path)
    if order == CHECK:
        video.check(path)


def serve() -> None:
    """Carry out the orders that come by standard input, until it ends."""
    import av  # noqa: F401 - what is needed for the first is there when that comes

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(0, "rb") as orders, open(1, "wb", buffering=0) as answers:
        answers.write(READY)
        for line in orders:
            order, path = json.loads(line)
            told: list[object] = []
            try:
                carry_out(order, Path(path))
            except OSError as error:
                told = ["OSError", error.errno, error.strerror]
            except (NotVideo, Undecodable) as error:
                told = [type(error).__name__, str(error)]
            answers.write(json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    serve()

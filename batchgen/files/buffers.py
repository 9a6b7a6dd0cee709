"""Buffers for what comes from the network, filled again and again: new memory costs as much as copying."""

from __future__ import annotations

from collections import deque
from typing import cast

Chunk = bytes | memoryview
"""What came at once."""

BUFFER_BYTES = 1 << 20
SPARE_MOST = 32

_spare: deque[bytearray] = deque(maxlen=SPARE_MOST)


def take() -> memoryview:
    """A buffer, for its holder alone."""
    try:
        return memoryview(_spare.pop())
    except IndexError:
        return memoryview(bytearray(BUFFER_BYTES))


def give_back(chunk: Chunk) -> None:
    """Let the buffer that `chunk` lies in be filled again, by whichever thread; `chunk` can be read no more.

    A buffer that nobody gives back goes the way of all memory. Raises `BufferError` where something else looks at it.
    """
    if isinstance(chunk, memoryview):
        buffer = cast(bytearray, chunk.obj)
        chunk.release()
        # Nothing else tells whether it is looked at than that its size cannot be changed then.
        buffer.append(buffer.pop())
        _spare.append(buffer)


def put_back(buffer: memoryview) -> None:
    """The same for one of which nothing was kept, though whoever filled it has not let go of it yet."""
    _spare.append(cast(bytearray, buffer.obj))

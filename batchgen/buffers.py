"""Buffers for what comes from the network, filled again and again: new memory costs as much as copying."""

from __future__ import annotations

from collections import deque

Chunk = bytes | memoryview
"""What came at once."""

BUFFER_BYTES = 1 << 20
SPARE_MOST = 32

_spare: deque[memoryview] = deque(maxlen=SPARE_MOST)


def take() -> memoryview:
    """A buffer, for its holder alone."""
    try:
        return _spare.pop()
    except IndexError:
        return memoryview(bytearray(BUFFER_BYTES))


def give_back(chunk: Chunk) -> None:
    """Let the buffer that `chunk` lies in be filled again, by whichever thread; `chunk` can be read no more.

    There is one chunk in a buffer at a time. A buffer that nobody gives back goes the way of all memory.
    """
    if isinstance(chunk, memoryview):
        _spare.append(memoryview(chunk.obj))
        chunk.release()

"""Buffers are filled again, by one at a time."""

from __future__ import annotations

import pytest

from batchgen.files import buffers


@pytest.fixture(autouse=True)
def none_spare() -> None:
    buffers._spare.clear()


def test_a_buffer_that_is_given_back_is_filled_again() -> None:
    first = buffers.take()
    first[:4] = b"ftyp"
    chunk = first[:4]
    memory = id(chunk.obj)
    del first
    buffers.give_back(chunk)
    again = buffers.take()
    assert (id(again.obj), len(again)) == (memory, buffers.BUFFER_BYTES)
    assert id(buffers.take().obj) != memory


def test_what_is_given_back_can_neither_be_read_nor_given_back_again() -> None:
    chunk = buffers.take()[:4]
    buffers.give_back(chunk)
    with pytest.raises(ValueError, match="released"):
        bytes(chunk)
    with pytest.raises(ValueError, match="released"):
        buffers.give_back(chunk)


def test_a_buffer_that_is_still_looked_at_cannot_be_given_back() -> None:
    buffer = buffers.take()
    first, second = buffer[:4], buffer[4:8]
    del buffer
    with pytest.raises(BufferError):
        buffers.give_back(first)
    assert not buffers._spare
    buffers.give_back(second)
    assert len(buffers.take()) == buffers.BUFFER_BYTES


def test_a_buffer_of_which_nothing_was_kept_is_put_back_by_whom_it_is_held() -> None:
    buffer = buffers.take()
    buffers.put_back(buffer)
    assert buffers.take().obj is buffer.obj


def test_bytes_hold_no_buffer() -> None:
    buffers.give_back(b"small")
    assert not buffers._spare


def test_only_so_many_are_spare() -> None:
    for chunk in [buffers.take() for _ in range(buffers.SPARE_MOST + 5)]:
        buffers.give_back(chunk)
    assert len(buffers._spare) == buffers.SPARE_MOST

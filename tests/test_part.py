"""A `.part` file: its bytes in order, hashed, resumed, and renamed without taking anybody's name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from batchgen.files.part import Part, find_placed

CONTENT = os.urandom(100_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def filled(target: Path, content: bytes = CONTENT, etag: str | None = '"v1"') -> Part:
    part = Part(target)
    part.restart(etag)
    part.append([content])
    return part


def test_pieces_are_written_and_hashed_in_order(tmp_path: Path) -> None:
    part = filled(tmp_path / "clips" / "spring" / "a.mp4", b"")
    for start in range(0, len(CONTENT), 9_999):
        part.append([CONTENT[start : start + 9_999]])
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.sha256, part.etag) == (len(CONTENT), DIGEST, '"v1"')


def test_a_part_is_resumed_where_it_ended(tmp_path: Path) -> None:
    filled(tmp_path / "a.mp4", CONTENT[:4_000])
    part = Part(tmp_path / "a.mp4", '"v1"')
    part.resume()
    assert (part.size, part.etag) == (4_000, '"v1"')
    part.append([CONTENT[4_000:]])
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.sha256) == (len(CONTENT), DIGEST)


@pytest.mark.parametrize("etag", [None, '"v1"'], ids=["no version in the row", "no file"])
def test_nothing_is_resumed_without_both_the_file_and_its_version(tmp_path: Path, etag: str | None) -> None:
    if etag is None:
        filled(tmp_path / "a.mp4")
    part = Part(tmp_path / "a.mp4", etag)
    part.resume()
    assert (part.size, part.etag) == (0, None)


def test_a_restart_leaves_nothing_of_the_old_bytes(tmp_path: Path) -> None:
    part = filled(tmp_path / "a.mp4", b"old")
    part.restart('"v2"')
    assert part.path.read_bytes() == b"old", "the disk stays as it is until the first new bytes"
    part.append([CONTENT])
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.sha256, part.etag) == (len(CONTENT), DIGEST, '"v2"')


def test_a_part_gets_the_first_free_name(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    assert [filled(target, name).place().name for name in (b"0", b"1", b"2")] == ["a.mp4", "a~1.mp4", "a~2.mp4"]
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == [b"0", b"1", b"2"]


def test_a_placed_file_is_found_under_whatever_name_it_got(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    assert find_placed(target, len(CONTENT), DIGEST) is None
    target.write_bytes(CONTENT[::-1])
    assert find_placed(target, len(CONTENT), DIGEST) is None
    placed = filled(target).place()
    assert placed.name == "a~1.mp4"
    assert find_placed(target, len(CONTENT), DIGEST) == placed

"""A `.part` file: its bytes in order, hashed, resumed, and renamed without taking anybody's name."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from pathlib import Path

import pytest

from batchgen.files.outputs import OutputFolder
from batchgen.files.part import Part, PartBusy

CONTENT = os.urandom(100_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


ATTEMPT = "batchgen-0123456789abcdef-0123456789abcdef0123456789abcdef"
OTHER_ATTEMPT = "batchgen-0123456789abcdef-fedcba9876543210fedcba9876543210"


@pytest.fixture
def outputs(tmp_path: Path) -> OutputFolder:
    return OutputFolder(tmp_path)


def filled(
    outputs: OutputFolder, target: str, content: bytes = CONTENT, etag: str | None = '"v1"', attempt: str = ATTEMPT
) -> Part:
    part = Part(outputs, target, attempt)
    part.restart(etag)
    part.append([content])
    return part


def test_pieces_are_written_and_hashed_in_order(outputs: OutputFolder) -> None:
    part = filled(outputs, "clips/spring/a.mp4", b"")
    for start in range(0, len(CONTENT), 9_999):
        part.append([CONTENT[start : start + 9_999]])
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.sha256, part.etag) == (len(CONTENT), DIGEST, '"v1"')
    assert part.path == outputs.root / "clips/spring/a.mp4.0123456789ab.part"


def test_a_part_is_resumed_where_it_ended(outputs: OutputFolder) -> None:
    filled(outputs, "a.mp4", CONTENT[:4_000]).close()
    part = Part(outputs, "a.mp4", ATTEMPT, '"v1"')
    part.resume()
    assert (part.size, part.etag) == (4_000, '"v1"')
    part.append([CONTENT[4_000:]])
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.sha256) == (len(CONTENT), DIGEST)


@pytest.mark.parametrize("etag", [None, '"v1"'], ids=["no version in the row", "no file"])
def test_nothing_is_resumed_without_both_the_file_and_its_version(outputs: OutputFolder, etag: str | None) -> None:
    if etag is None:
        filled(outputs, "a.mp4").close()
    part = Part(outputs, "a.mp4", ATTEMPT, etag)
    part.resume()
    assert (part.size, part.etag) == (0, None)


def test_a_restart_leaves_nothing_of_the_old_bytes(outputs: OutputFolder) -> None:
    part = filled(outputs, "a.mp4", b"old, and longer" * 10_000)
    part.restart('"v2"')
    assert part.path.read_bytes().startswith(b"old"), "the disk stays as it is until the first new bytes"
    part.append([CONTENT])
    assert part.path.read_bytes() == CONTENT
    assert (part.size, part.sha256, part.etag) == (len(CONTENT), DIGEST, '"v2"')


def test_a_part_gets_the_first_free_name(outputs: OutputFolder) -> None:
    names = [filled(outputs, "b/a.mp4", content).place() for content in (b"0", b"1", b"2")]
    assert names == ["b/a.mp4", "b/a~1.mp4", "b/a~2.mp4"]
    assert [path.read_bytes() for path in sorted((outputs.root / "b").iterdir())] == [b"0", b"1", b"2"]


def test_a_name_is_taken_once_although_the_file_system_has_no_hard_links(
    outputs: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert [filled(outputs, "a.mp4", name).place() for name in (b"0", b"1")] == ["a.mp4", "a~1.mp4"]
    assert [path.read_bytes() for path in sorted(outputs.root.iterdir())] == [b"0", b"1"]


def test_a_placed_file_is_found_under_whatever_name_it_got(outputs: OutputFolder) -> None:
    target = outputs.root / "a.mp4"
    assert Part(outputs, "a.mp4", ATTEMPT).find_placed(len(CONTENT), DIGEST) is None
    target.write_bytes(CONTENT[::-1])
    assert Part(outputs, "a.mp4", ATTEMPT).find_placed(len(CONTENT), DIGEST) is None
    placed = filled(outputs, "a.mp4").place()
    assert placed == "a~1.mp4"
    assert Part(outputs, "a.mp4", ATTEMPT).find_placed(len(CONTENT), DIGEST) == placed


def test_after_a_crash_between_two_names_of_a_file_the_part_is_removed(outputs: OutputFolder) -> None:
    part = filled(outputs, "a.mp4")
    part.close()
    os.link(part.path, outputs.root / "a.mp4")
    assert Part(outputs, "a.mp4", ATTEMPT).find_placed(len(CONTENT), DIGEST) == "a.mp4"
    assert [path.name for path in outputs.root.iterdir()] == ["a.mp4"]


def test_two_attempts_for_one_target_have_a_part_each(outputs: OutputFolder) -> None:
    first, second = filled(outputs, "a.mp4", b"first"), filled(outputs, "a.mp4", b"second", attempt=OTHER_ATTEMPT)
    first.append([b" and more"])
    assert [outputs.root / part.place() for part in (second, first)] == [
        outputs.root / "a.mp4",
        outputs.root / "a~1.mp4",
    ]
    assert (outputs.root / "a.mp4").read_bytes() == b"second"
    assert (outputs.root / "a~1.mp4").read_bytes() == b"first and more"


def test_a_part_that_another_process_writes_is_left_to_it(outputs: OutputFolder) -> None:
    first = filled(outputs, "a.mp4", b"first")
    second = Part(outputs, "a.mp4", ATTEMPT, '"v1"')
    for use in (second.resume, lambda: second.append([b"second"])):
        with pytest.raises(PartBusy, match=r"another process downloads a\.mp4"):
            use()
    second.discard()
    assert first.path.read_bytes() == b"first"


def test_what_is_still_read_of_a_part_keeps_no_other_try_away(outputs: OutputFolder) -> None:
    """A map of a file lives on after the file was closed, until Python collects it."""
    first = filled(outputs, "a.mp4", b"first")
    with first.reader() as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        first.close()
        second = Part(outputs, "a.mp4", ATTEMPT, '"v1"')
        second.resume()
        assert second.size == len(content)
        second.close()


def test_an_unfinished_video_is_private_and_a_delivered_one_has_ordinary_permissions(outputs: OutputFolder) -> None:
    part = filled(outputs, "new/a.mp4")
    assert stat.S_IMODE(part.path.stat().st_mode) == 0o600
    placed = outputs.root / part.place()
    (outputs.root / "ordinary").mkdir()
    (outputs.root / "ordinary/file").touch()
    for made, ordinary in ((placed, "ordinary/file"), (placed.parent, "ordinary")):
        assert made.stat().st_mode == (outputs.root / ordinary).stat().st_mode

"""Verdicts come from files into the table: each is judged, the newest one counts, and garbage is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from freezegun.api import FrozenDateTimeFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update

from batchgen.errors import UsageError
from batchgen.files.verdicts_file import read_verdicts
from batchgen.jobs import State, Verdict
from batchgen.jobtable.schema import outputs, verdicts
from batchgen.jobtable.verdicts import Judgement, current, record_verdict
from tests.conftest import NOON, Command
from tests.table import MINUTE, Table, spec

SHA256 = "0123456789abcdef" * 4
CLIP = SHA256[:16]


@pytest.fixture(autouse=True)
def _frozen(clock: FrozenDateTimeFactory) -> None:
    """A file says when its verdicts were given; the table must not be of another time."""


@pytest.fixture
def judged(table: Table) -> Table:
    """A batch with two delivered clips, and a job that is not delivered."""
    (table.folder / "spring.yaml").touch()
    for key in ("mona", "lisa"):
        table.bring(State.DONE, key)
    table.bring(State.FAILED, "lost")
    table.change(lambda connection: connection.execute(update(outputs).values(sha256=SHA256)))
    return table


def entry(key: str = "mona", verdict: Any = "picked", **changes: Any) -> dict[str, Any]:
    return {"id": key, "clip": CLIP, "verdict": verdict, "stars": 4, "at": "2026-03-01T11:00:00.250Z", **changes}


def write(table: Table, *entries: Any, name: str = "v.json", **changes: Any) -> Path:
    document = {"format": "batchgen verdicts", "version": 1, "batch": "spring", "verdicts": entries, **changes}
    path = table.folder / name
    path.write_text(json.dumps(document), "utf-8")
    return path


def said(table: Table, key: str = "mona") -> Judgement:
    return table.database.read_now(current, table.row(key).attempt_id)


def history(table: Table) -> int:
    return len(table.database.read_now(lambda connection: connection.execute(select(verdicts)).all()))


def test_verdicts_of_a_file_are_imported_once(judged: Table, batchgen: Command) -> None:
    path = write(judged, entry("mona"), entry("lisa", "rejected", stars=None))
    first, again = (batchgen("verdicts", "import", "spring.yaml", path) for _ in range(2))
    assert first.stdout == "spring: 2 verdicts imported\n  1 not delivered, 1 picked, 1 rejected\n"
    assert again.stdout.startswith("spring: 0 verdicts imported, 2 not newer than the table's\n")
    assert (first.stderr, first.returncode, again.returncode) == ("", 0, 0)
    assert (said(judged), said(judged, "lisa")) == (Judgement(Verdict.PICKED, 4), Judgement(Verdict.REJECTED))
    assert history(judged) == 2


def test_of_several_files_the_newest_verdict_counts(judged: Table, batchgen: Command) -> None:
    later = write(judged, entry(verdict="rejected", at="2026-03-01T13:30:00+02:00"), name="later.json")
    earlier = write(judged, entry(verdict="picked"), name="earlier.json")
    for files in ((later, earlier), (earlier, later), (earlier,)):
        assert batchgen("verdicts", "import", "spring.yaml", *files).returncode == 0
        assert said(judged).verdict == Verdict.REJECTED


@pytest.mark.parametrize("at_once", [True, False])
def test_the_stars_of_one_person_leave_the_verdict_of_another(judged: Table, batchgen: Command, at_once: bool) -> None:
    picked, starred, taken_back = (entry(at=f"2026-03-01T11:{minute}:00Z") for minute in (10, 20, 30))
    del picked["stars"], starred["verdict"], taken_back["verdict"]
    taken_back["stars"] = None
    files = [write(judged, entry, name=f"{entry['at'][14:16]}.json") for entry in (picked, starred)]
    for names in [files] if at_once else [[path] for path in files]:
        assert batchgen("verdicts", "import", "spring.yaml", *names).returncode == 0
    assert said(judged) == Judgement(Verdict.PICKED, 4)
    assert batchgen("verdicts", "import", "spring.yaml", write(judged, taken_back)).returncode == 0
    assert said(judged) == Judgement(Verdict.PICKED)


def test_a_newer_verdict_on_another_clip_of_the_job_does_not_stand_in_the_way(judged: Table, batchgen: Command) -> None:
    mine = write(judged, entry(verdict="rejected"), name="mine.json")
    another = write(judged, entry(clip="0" * len(CLIP), at="2026-03-01T11:30:00Z"), name="another.json")
    ended = batchgen("verdicts", "import", "spring.yaml", mine, another)
    assert ended.stdout.startswith("spring: 1 verdict imported\n")
    assert "another.json: mona: its clip is another one by now" in ended.stderr
    assert said(judged).verdict == Verdict.REJECTED


def test_a_verdict_on_a_clip_that_a_redo_has_renamed_goes_to_that_clip(judged: Table, batchgen: Command) -> None:
    digests = {judged.row(key).attempt_id: digit * 64 for key, digit in (("mona", "a"), ("lisa", "b"))}
    for attempt, digest in digests.items():
        named = update(outputs).where(outputs.c.attempt_id == attempt).values(sha256=digest)
        judged.change(Connection.execute, named)
    judged.sync(spec("mona", prompt="She smiles."), "lisa", "lost", changed="redo")
    newer = entry("mona~1", "rejected", clip="a" * 16, at="2026-03-01T11:30:00Z")
    path = write(judged, newer, entry("mona", clip="a" * 16), entry("gone", clip="b" * 16))
    assert batchgen("verdicts", "import", "spring.yaml", path).returncode == 0
    assert {key: said(judged, key).verdict for key in ("mona", "mona~1", "lisa")} == {
        "mona": None,
        "mona~1": Verdict.REJECTED,
        "lisa": Verdict.PICKED,
    }


def test_a_newer_verdict_of_the_table_stays(judged: Table, batchgen: Command) -> None:
    attempt = judged.row("mona").attempt_id
    judged.change(record_verdict, attempt, Judgement(Verdict.REJECTED), NOON - 30 * MINUTE)
    path = write(judged, entry(verdict="picked"))
    assert batchgen("verdicts", "import", "spring.yaml", path).returncode == 0
    assert said(judged).verdict == Verdict.REJECTED
    write(judged, entry(verdict=None, stars=None, at="2026-03-01T11:45:00Z"))
    assert batchgen("verdicts", "import", "spring.yaml", path).returncode == 0
    assert said(judged) == Judgement()  # a newer file takes it back


def test_a_file_of_a_clock_that_is_ahead_is_not_newer_than_what_came_after_it(judged: Table, batchgen: Command) -> None:
    path = write(judged, entry(verdict="picked", at="2026-03-01T12:09:00Z"))
    batchgen("verdicts", "import", "spring.yaml", path)
    judged.change(record_verdict, judged.row("mona").attempt_id, Judgement(Verdict.REJECTED), NOON + MINUTE)
    batchgen("verdicts", "import", "spring.yaml", path)
    assert said(judged).verdict == Verdict.REJECTED


BAD_ENTRIES = {
    "no mapping": ([1], "verdict NUMBER: is no verdict: it must be an object with id, clip, verdict, stars and at"),
    "no id": (entry(""), "verdict NUMBER: has no id that a job could have"),
    "an id that no text can be": (entry("\ud800"), "\ud800: has no id that a job could have"),
    "an id that turns the text": (entry("a\u202eb"), "a\u202eb: has no id that a job could have"),
    "a long id": (entry("x" * 201), f"{'x' * 200}: has no id that a job could have"),
    "half a clip": (entry(clip=CLIP[:15]), "mona: `clip` must be 16 hex digits: the beginning of the clip's SHA-256"),
    "another word": (entry(verdict="great"), "mona: `verdict` must be picked or rejected, or null"),
    "a list as verdict": (entry(verdict=["picked"]), "mona: `verdict` must be picked or rejected, or null"),
    "nothing said": ({"id": "mona", "clip": CLIP}, "mona: has neither `verdict` nor `stars`"),
    "six stars": (entry(stars=6), "mona: `stars` must be 1 to 5, or null"),
    "no star": (entry(stars=0), "mona: `stars` must be 1 to 5, or null"),
    "a truth value": (entry(stars=True), "mona: `stars` must be 1 to 5, or null"),
    "half a star": (entry(stars=4.5), "mona: `stars` must be 1 to 5, or null"),
    "a time without a zone": (entry(at="2026-03-01T11:00"), "mona: `at` must be a time with its zone"),
    "no time": (entry(at=None), "mona: `at` must be a time with its zone"),
    "the first day": (entry(at="0001-01-01T00:00:00+14:00"), "mona: `at` must be a time with its zone"),
    "long ago": (entry(at="1999-03-01T11:00:00Z"), "mona: `at` is before there was any batchgen"),
    "the future": (entry(at="2026-03-01T12:11:00Z"), "mona: `at` is in the future; set the clock"),
    "another clip": (entry(clip="f" * 16), "mona: its clip is another one by now; look at that, and judge it"),
    "no delivered clip": (entry("lost", clip="f" * 16), "lost: its clip is not delivered; judge it when it is"),
    "no such job, with the blank of Japanese": (
        entry("写真\u30001", clip="f" * 16),
        "写真\u30001: the batch has no job of this id",
    ),
    "no such job": (entry("monna", clip="f" * 16), "monna: the batch has no job of this id"),
}


def test_each_bad_verdict_is_named_and_the_good_ones_are_imported(judged: Table, batchgen: Command) -> None:
    path = write(judged, entry("lisa"), *(entry for entry, _ in BAD_ENTRIES.values()))
    ended = batchgen("verdicts", "import", "spring.yaml", path, "--json")
    assert (ended.returncode, history(judged)) == (2, 1)
    problems = iter(json.loads(ended.stdout)["problems"])
    for number, (_, message) in enumerate(BAD_ENTRIES.values(), 2):
        assert next(problems).startswith(f"{path}: {message.replace('NUMBER', str(number))}")
    assert not list(problems)


def test_problems_are_shown_up_to_twenty(judged: Table, batchgen: Command) -> None:
    path = write(judged, *(entry(f"no-{number}", clip="f" * 16) for number in range(23)))
    ended = batchgen("verdicts", "import", "spring.yaml", path)
    shown = ended.stderr.splitlines()
    assert shown[0] == f"{path}: no-0: the batch has no job of this id"
    assert (len(shown), shown[-1]) == (21, "… and 3 more; --json has them all")
    assert (ended.stdout.splitlines()[0], ended.returncode) == ("spring: 0 verdicts imported", 2)


def test_of_two_verdicts_in_one_file_the_newer_one_counts(judged: Table, batchgen: Command) -> None:
    path = write(judged, entry(verdict="rejected", at="2026-03-01T11:30:00Z"), entry(verdict="picked"))
    ended = batchgen("verdicts", "import", "spring.yaml", path, "--json")
    assert json.loads(ended.stdout) == {
        "event": "imported",
        "batch": "spring",
        "imported": 1,
        "unchanged": 0,
        "problems": [],
        "jobs": {"not delivered": 1, "rejected": 1, "without a verdict": 1},
    }


def test_verdicts_on_a_batch_that_was_renamed_go_to_the_clips_it_goes_on_with(judged: Table, batchgen: Command) -> None:
    path = write(judged, entry("mona-of-autumn"), entry(clip="f" * 16), batch="autumn")
    ended = batchgen("verdicts", "import", "spring.yaml", path)
    assert ended.stderr == f"{path}: mona: its clip is another one by now; look at that, and judge it\n"
    assert (ended.stdout.splitlines()[0], history(judged)) == ("spring: 1 verdict imported", 1)


BAD_FILES = {
    "nothing": (b"", "the file cannot be read as JSON; save it in the review page once more"),
    "no comma": (b'{"format": 1\n"version": 1}', "the file cannot be read as JSON (Expecting ',' delimiter: line 2"),
    "no text": (b"\xff\xfe\x00", "the file cannot be read as JSON"),
    "a deep one": (b"[" * 200_000, "the file cannot be read as JSON"),
    "a huge number": (b'{"format": ' + b"9" * 5_000 + b"}", "the file cannot be read as JSON"),
    "a list": (b"[]", "this is no file of verdicts; the review page saves one"),
    "another format": (b'{"format": "x"}', "this is no file of verdicts"),
    "a newer one": (b'{"format": "batchgen verdicts", "version": 2}', "a newer batchgen has written this file"),
    "half of one": (b'{"format": "batchgen verdicts", "version": 1, "batch": "spring"}', "the file of verdicts is dam"),
    "another batch": (
        b'{"format": "batchgen verdicts", "version": 1, "batch": "autumn", "verdicts": []}',
        "it has verdicts on the batch 'autumn', but spring.yaml is 'spring'",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_of_something_else_is_refused_and_nothing_is_imported(
    judged: Table, batchgen: Command, content: bytes, message: str
) -> None:
    good, bad = write(judged, entry()), judged.folder / "bad.json"
    bad.write_bytes(content)
    ended = batchgen("verdicts", "import", "spring.yaml", good, bad)
    assert ended.stderr.startswith(f"{bad}: {message}")
    assert (ended.stdout, ended.returncode, history(judged)) == ("", 2, 0)


def test_a_file_that_is_none_is_refused(judged: Table, batchgen: Command) -> None:
    for name, message in (("nowhere.json", "No such file or directory"), ("", "this is a folder, not a file")):
        ended = batchgen("verdicts", "import", "spring.yaml", judged.folder / name)
        assert (ended.stderr, ended.returncode) == (f"{judged.folder / name}: {message}\n", 2)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([CLIP, "picked", "2026-03-01"])
)
trees = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)
entries = st.dictionaries(st.sampled_from(list(entry())), trees) | st.builds(
    lambda changes: entry(**changes),
    st.dictionaries(st.sampled_from(["verdict", "stars", "at", "clip"]), trees, max_size=2),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None, database=None)
@given(st.lists(entries | trees, max_size=4), st.integers(0, 60))
def test_any_file_is_read_or_refused(tmp_path: Path, listed: list[Any], cut: int) -> None:
    """What it has is a verdict or a problem, a sentence each; a damaged file is refused."""
    document = {"format": "batchgen verdicts", "version": 1, "batch": "spring", "verdicts": listed}
    path = tmp_path / "v.json"
    path.write_text(json.dumps(document)[cut:] if cut > 50 else json.dumps(document))
    try:
        read = read_verdicts(path, NOON)
    except UsageError as error:
        assert cut > 50
        assert "\n" not in str(error)
        return
    assert cut <= 50
    assert len(read.verdicts) + len(read.problems) >= bool(listed)
    assert all(problem.startswith(f"{path}: ") for problem in read.problems)

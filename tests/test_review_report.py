"""The commands `review` and `report`, and the data of the page: what is written where, what is refused, what is cut."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from select import select
from subprocess import PIPE

import httpx2 as httpx
import pytest
from sqlalchemy import update

from batchgen.files.posters import Posters
from batchgen.jobs import State
from batchgen.jobtable import clips, ledger
from batchgen.jobtable.batches import Batch, stored_batches
from batchgen.jobtable.clips import Clip
from batchgen.jobtable.database import Database
from batchgen.jobtable.schema import outputs
from batchgen.review.charts import ChartData, charts
from batchgen.review.data import ClipData, as_script
from batchgen.review.page import read_page
from tests.conftest import NOON, Command, Launch
from tests.forks import Fork
from tests.review_batch import ReviewBatch, job, poster_bytes
from tests.table import Table

CLIP = b"not a video"
DIGEST = sha256(CLIP).hexdigest()
FEW_DESCRIPTORS = """
import resource
from batchgen import cli
from batchgen.review import server
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
server.REQUEST_SECONDS = 3
cli.main()
"""
HOSTILE = "</script><script>alert(1)</script>\"'\u202e\0\x1b"


@pytest.fixture
def batch(database: Database, tmp_path: Path) -> ReviewBatch:
    """One delivered job with a poster, and a failed one."""
    batch = ReviewBatch(database, tmp_path)
    sent = batch.send([job("mona", prompt="Mist."), job("refused")])
    batch.deliver_all(sent[:1], lambda _: (CLIP, DIGEST), timedelta(minutes=3))
    batch.fail_all(sent[1:], "no faces")
    batch.keep_poster(DIGEST, poster_bytes("teal"))
    return batch


@pytest.fixture
def posters_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No poster is small enough for the page itself."""
    monkeypatch.setattr("batchgen.review.report.INLINE_BYTES", 0)


def read_clips(batch: ReviewBatch) -> list[Clip]:
    return batch.database.read_now(lambda connection: list(clips.clips(connection, batch.batch_id)))


def test_report_writes_one_page_beside_the_manifest(batch: ReviewBatch, batchgen: Command) -> None:
    result = batchgen("report", batch.manifest)
    path = batch.folder / "m-report.html"
    assert result.returncode == 0
    assert result.stdout.startswith(f"{path}: 2 jobs, ")
    assert "1 poster in the page" in result.stdout
    assert "The videos are not in it" in result.stderr
    page = path.read_text("utf-8")
    assert 'content="default-src' in page
    assert '"videos":""' in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert sorted(file.name for file in batch.folder.glob("*report*")) == ["m-report.html"]
    assert batchgen("report", batch.manifest).returncode == 0  # its own page may be replaced


def test_a_batch_and_its_simulation_have_reports_of_their_own_whatever_their_names(
    table: Table, batchgen: Command
) -> None:
    manifest = table.folder / "m.yaml"
    manifest.touch()
    for name, service, words in (("a/b", "aimlapi", ()), ("a/b-simulated", "simulator", ("--simulate",))):
        table.sync("mona", batch=Batch(name, service, manifest, "00"))
        assert batchgen("report", manifest, *words).returncode == 0
    reports = {path.name for path in table.folder.glob("*-report.html")}
    assert reports == {"m-report.html", "m-simulated-report.html"}


@pytest.mark.usefixtures("posters_beside")
def test_a_report_elsewhere_finds_its_videos_and_its_posters(batch: ReviewBatch, batchgen: Command) -> None:
    folder = batch.folder / "for the client"  # which is made
    result = batchgen("report", batch.manifest, "-o", folder / "page.html")
    assert result.returncode == 0
    assert '"videos":"../"' in (folder / "page.html").read_text("utf-8")
    assert (folder / "page-posters" / f"{DIGEST[:16]}.webp").read_bytes() == Posters(batch.folder).read(DIGEST)


@pytest.mark.usefixtures("posters_beside")
def test_posters_beside_a_report_are_written_through_no_link(batch: ReviewBatch, batchgen: Command) -> None:
    folder, mine = batch.folder / "for the client", batch.folder / "mine"
    folder.mkdir()
    mine.mkdir()
    command = ("report", batch.manifest, "-o", folder / "page.html")
    (folder / "page-posters").symlink_to(mine)
    refused = batchgen(*command)
    assert (refused.returncode, "page-posters: is a symbolic link to" in refused.stderr) == (8, True), refused.stderr
    assert [*mine.iterdir()] == []

    (folder / "page-posters").unlink()
    (folder / "page-posters").mkdir()
    poster, note = folder / "page-posters" / f"{DIGEST[:16]}.webp", mine / "note"
    note.write_text("mine")
    for name in (poster, poster.with_suffix(".part")):
        name.symlink_to(note)
    assert batchgen(*command).returncode == 0
    assert (note.read_text(), poster.is_symlink()) == ("mine", False)
    assert poster.stat().st_mode == (folder / "page.html").stat().st_mode, "whoever reads the page sees its posters"


def test_a_report_replaces_no_other_file(batch: ReviewBatch, batchgen: Command) -> None:
    (batch.folder / "notes.html").write_text("<html>mine</html>")
    for output, words, code in (
        (batch.folder / "notes.html", "was not made by this command", 8),
        (batch.folder / "notes.html/page.html", "Not a directory", 8),
        (batch.folder / "clips", "this is a folder; name a file in it, such as ", 2),
        ("new/", "new/: this is a folder; name a file in it, such as new/page.html", 2),
        ("-", "-: this is no file; name a file to write", 2),
        ("s3://clips/page.html", "this command writes to a disk, not to an address", 2),
        ("~/page.html", "no shell has filled in the ~ here; write the whole path", 2),
    ):
        result = batchgen("report", batch.manifest, "-o", output)
        assert (result.returncode, result.stdout) == (code, "")
        assert words in result.stderr
    assert (batch.folder / "notes.html").read_text() == "<html>mine</html>"


@pytest.mark.parametrize("command", ["review", "report"])
def test_a_manifest_that_was_never_run_has_nothing_to_show(command: str, batchgen: Command) -> None:
    result = batchgen(command, "none.yaml")
    assert result.returncode == 2
    assert "there is no such manifest" in result.stderr
    assert "name one with --db" in result.stderr


def test_review_serves_until_it_is_interrupted(batch: ReviewBatch, launch: Launch) -> None:
    running = launch("review", batch.manifest, "--port", "0", "--no-browser")
    assert running.process.stdout
    address = running.process.stdout.readline().strip()
    assert "mona" in httpx.get(address).text
    running.signal(signal.SIGINT)
    result = running.end()
    assert (result.returncode, result.stdout) == (0, "")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_idle_connections_are_closed_and_what_the_system_no_longer_gives_is_told_once(batch: ReviewBatch) -> None:
    words = ("review", str(batch.manifest), "--port", "0", "--no-browser")
    process = Fork(["-c", FEW_DESCRIPTORS, *words], cwd=batch.folder, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout and process.stderr
        address = process.stdout.readline().strip()
        place = ("127.0.0.1", httpx.URL(address).port or 0)
        with ExitStack() as stack:
            stderr = b""
            while b"ulimit -n" not in stderr:  # on a busy machine, the first are closed before the last are open
                idle = stack.enter_context(socket.socket())
                idle.settimeout(1)
                with suppress(TimeoutError):  # the queue of those that wait to be taken is full
                    idle.connect(place)
                    idle.sendall(b"GET / HTTP/1.1\r\n")
                if select([process.stderr], [], [], 0)[0]:
                    stderr += os.read(process.stderr.fileno(), 1 << 16)
                    assert b"Traceback" not in stderr
            assert "mona" in httpx.get(address, timeout=60).text
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=100)
        assert ("ulimit" in rest, "Traceback" in rest, process.wait()) == (False, False, 0), rest
    finally:
        process.kill()
        process.communicate()


def test_texts_without_end_are_cut_and_cannot_leave_the_data(batch: ReviewBatch) -> None:
    mona = next(clip for clip in read_clips(batch) if clip.id == "mona")
    request = json.dumps(
        {"prompt": HOSTILE * 50_000, "image_url": f"data:image/png;base64,{'A' * 100_000}", **params()}
    )
    clip = replace(
        mona, request=request, error=HOSTILE * 50_000, tags=(HOSTILE * 1_000,) * 1_000, model=HOSTILE * 1_000
    )
    data = ClipData()
    data.add(clip)
    text = as_script(data.document())
    assert len(text) < 15_000
    assert "<" not in text
    assert "\u202e" not in text
    assert json.loads(text)["rows"][0][1] == "mona"


def params() -> dict[str, str]:
    return {f"p{number}{HOSTILE}": HOSTILE * 100 for number in range(1_000)}


@pytest.mark.parametrize(
    "request_", ["", "[]", "null", '{"prompt": 5}', '{"prompt": null}', '{"image_url": [1, {}]}', "[" * 9_999]
)
def test_a_request_that_is_none_is_shown_as_far_as_it_goes(batch: ReviewBatch, request_: str) -> None:
    data = ClipData()
    data.add(replace(read_clips(batch)[0], request=request_))
    assert json.loads(as_script(data.document()))["rows"][0][1] == "mona"


@pytest.mark.usefixtures("posters_beside")
def test_a_digest_that_is_a_path_leads_nowhere(batch: ReviewBatch, batchgen: Command) -> None:
    outside = batch.folder.parent / "outside.webp"
    batch.change(lambda connection: connection.execute(update(outputs).values(sha256="../../../outside")))
    (batch.folder / ".batchgen" / "posters" / "..").mkdir(exist_ok=True)
    outside.write_bytes(poster_bytes("teal"))
    result = batchgen("report", batch.manifest)
    assert result.returncode == 0
    assert "poster" not in result.stdout
    assert not read_clips(batch)[0].files


def test_the_cost_of_a_clip_is_that_of_all_its_attempts(batch: ReviewBatch) -> None:
    batch.retry("refused")
    sent = batch.intend()
    batch.accept(sent[0], "g-again", cost="0.5")
    costs = {clip.id: clip.cost_usd for clip in read_clips(batch)}
    bill = batch.database.read_now(ledger.spend_by_model, batch.batch_id)
    assert costs["refused"] == Decimal("0.5")
    assert sum(bill.values()) == sum(cost or Decimal(0) for cost in costs.values())


def test_charts_of_nothing_are_nothing_and_names_in_them_are_text() -> None:
    assert charts(ChartData(), {}) == ""
    data = ChartData([NOON], [], [NOON], {HOSTILE: [1.0]}, 1)
    drawn = charts(data, {HOSTILE: Decimal(1)})
    assert "<script>" not in drawn
    assert drawn.count("<figure>") == 3


def test_a_clip_has_its_state_its_file_and_its_times(batch: ReviewBatch) -> None:
    mona, refused = read_clips(batch)
    assert (mona.state, refused.state) == (State.DONE, State.FAILED)
    assert mona.finished_at
    assert mona.answered_at
    assert mona.finished_at - mona.answered_at == timedelta(minutes=3)
    assert [(file.number, file.path, file.sha256) for file in mona.files] == [(1, "clips/mona.mp4", DIGEST)]
    assert refused.error == "no faces"
    assert not refused.files


def test_a_page_says_of_every_state_why_there_is_no_video(batch: ReviewBatch) -> None:
    (stored,) = batch.database.read_now(stored_batches)
    page = batch.database.read_now(read_page, stored)
    assert page.document["missing"].keys() == set(State)
    assert all(page.document["missing"].values())

"""The review page in a real Chromium: as a file and served, every key, filters, comparison, verdicts, hostile texts."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is not installed")

from playwright.sync_api import Browser

from batchgen.jobs import JobSpec, State, Verdict
from batchgen.jobtable import clips, verdicts
from batchgen.jobtable.batches import stored_batches
from batchgen.jobtable.clips import Clip, ClipFile
from batchgen.jobtable.database import Database
from batchgen.jobtable.verdicts import Judgement
from batchgen.review.charts import ChartData, charts
from batchgen.review.data import ClipData
from batchgen.review.page import SCRIPTS, TEMPLATE, PageData, asset, read_page, script, style
from batchgen.review.report import write_report
from tests.chromium import Watched, chromium, watch
from tests.conftest import NOON, Command
from tests.review_batch import MASTER, ReviewBatch, clip_bytes, job, matrix_jobs, poster_bytes
from tests.test_review_server import served_review

pytestmark = pytest.mark.slow

HOSTILE = "\"><script>alert(1)</script></script><img src=x onerror=alert(1)>\u202e\u200b\x1b[31m '`${1}"


@pytest.fixture(scope="module")  # playwright's event loop must be gone before another module's tests run theirs
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewBatch]:
    """Two prompts with two images in two takes, a failed job, a waiting one, and one with hostile texts."""
    folder = tmp_path_factory.mktemp("a batch & its #1 clips")
    with Database(folder / "batchgen.db") as database:
        batch = ReviewBatch(database, folder)
        specs = [
            job(f"{name}-{image}-{take}", prompt=prompt, image=f"images/{image}.jpg", take=take, seed=take, tags=tags)
            for name, prompt, tags in (("fox", "A fox in the snow.", ("hero",)), ("tram", "A tram at night.", ()))
            for image in ("dusk", "lake")
            for take in (1, 2)
        ]
        specs[-1] = replace(specs[-1], model=MASTER)
        clips = [clip_bytes("short", 1.0), clip_bytes("long", 2.0)]
        contents = {spec.key: marked(clips[place % 2], spec.key) for place, spec in enumerate(specs)}
        contents["hostile"] = marked(clips[0], "hostile")
        specs += [
            job("hostile", prompt=HOSTILE, negative=HOSTILE, tags=(HOSTILE,)),
            job("refused", prompt="No."),
            job("late"),
        ]
        sent = batch.send(specs)
        digests = {key: sha256(content).hexdigest() for key, content in contents.items()}
        batch.deliver_all(sent[:9], lambda job_: (contents[job_.key], digests[job_.key]), timedelta(minutes=3))
        batch.fail_all(sent[9:10], f"moderation: {HOSTILE}")
        for number, digest in enumerate(digests.values()):
            batch.keep_poster(digest, poster_bytes(("teal", "maroon", "indigo")[number % 3], str(number)))
        batch.change(lambda connection: connection.exec_driver_sql("UPDATE batches SET unpriced = 1"))  # of `late`
        yield batch


@pytest.fixture(scope="module")
def report(batch: ReviewBatch) -> str:
    """The address of the report of the batch."""
    return write(batch, batch.folder / "night report.html")


def marked(clip: bytes, text: str) -> bytes:
    """The clip with a box at its end that players pass over: the same video as another file."""
    content = text.encode()
    return clip + (8 + len(content)).to_bytes(4, "big") + b"free" + content


def write(batch: ReviewBatch, path: Path) -> str:
    from batchgen.files.posters import Posters

    (stored,) = batch.database.read_now(stored_batches)
    stills, files = Posters(batch.folder), batch.database.read_now(clips.first_files, stored.id)
    posters = {file.sha256: poster for file in files if (poster := stills.read(file.sha256))}
    write_report(batch.database.read_now(read_page, stored, posters), path, batch.folder)
    return path.as_uri()


@contextmanager
def opened(browser: Browser, address: str, allowed: str = "file:", **options: Any) -> Iterator[Watched]:
    """A page in a profile of its own. At its end, nothing may have gone wrong on it."""
    context = browser.new_context(viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options)
    try:
        page = context.new_page()
        page.set_default_timeout(10_000)
        watched = watch(page, allowed)
        page.goto(address)
        yield watched
        watched.check()
    finally:
        context.close()


KEYS_OF_ALL = [f"{name}-{image}-{take}" for name in ("fox", "tram") for image in ("dusk", "lake") for take in (1, 2)]


def test_a_report_opens_from_the_disk_and_asks_nobody_for_anything(browser: Browser, report: str) -> None:
    with opened(browser, report) as watched:
        assert watched.ids() == [*KEYS_OF_ALL, "hostile", "refused", "late"]
        assert "9 delivered" in watched.text("#summary")
        assert "$2.94 and 1 charge not known yet" in watched.text("#summary")
        assert watched.page.locator("figure").count() == 3
        assert "3 m" in watched.text("figure:nth-of-type(2)")
        for described in watched.page.locator("figure svg").all():
            assert described.get_attribute("role") == "img"
            assert described.locator("desc").text_content()
        assert watched.page.evaluate("[...document.images].filter((image) => image.naturalWidth).length") == 9
        assert "failed" in watched.classes("refused")


def test_every_key_does_its_work(browser: Browser, report: str) -> None:
    with opened(browser, report) as watched:
        page, press = watched.page, watched.press
        press("ArrowRight", "ArrowRight")
        assert watched.current() == KEYS_OF_ALL[2]
        press("ArrowLeft")
        press("p")
        assert "picked" in watched.classes(KEYS_OF_ALL[1])
        assert watched.current() == KEYS_OF_ALL[2]  # the cursor has moved on
        press("x", "4", "Shift+Digit5")
        assert "rejected" in watched.classes(KEYS_OF_ALL[2])
        assert watched.current() == KEYS_OF_ALL[4]
        assert page.locator(".card.current").get_attribute("aria-label")
        press("u", "u")
        assert watched.current() == KEYS_OF_ALL[3]
        press("u")
        assert "rejected" not in watched.classes(KEYS_OF_ALL[2])
        press("End")
        assert watched.current() == "late"
        press("p")
        assert not {"picked"} & watched.classes("late")  # there is nothing to judge
        press("Home", "ArrowDown", "ArrowUp")
        assert watched.current() == KEYS_OF_ALL[0]
        press("ArrowRight", "ArrowRight", "ArrowRight")
        press("Space")
        watched.wait_for("document.querySelector('.frame video')?.currentTime > 0")
        press("Space")
        assert page.locator(".frame video").count() == 0
        press("Enter")
        watched.wait_for("document.querySelector('.pane video').currentTime > 0")
        assert "4 of 11" in watched.text("#viewer-title")
        press("ArrowRight")
        assert KEYS_OF_ALL[4] in watched.text(".pane .details")
        press("Space")
        assert page.evaluate("document.querySelector('.pane video').paused")
        press("x")
        assert KEYS_OF_ALL[5] in watched.text(".pane .details")  # the next one is shown
        press("Escape")
        assert not page.locator("#viewer").is_visible()
        assert "rejected" in watched.classes(KEYS_OF_ALL[4])
        press("g")
        assert watched.hash()["mode"] == "matrix"
        press("g", "/")
        page.keyboard.type("tram dusk")
        assert watched.ids() == ["tram-dusk-1", "tram-dusk-2"]
        press("Escape", "?")
        assert page.locator("#help").is_visible()
        press("Escape")
        assert not page.locator("#help").is_visible()
        assert len(watched.ids()) == 11


def test_clips_are_compared_side_by_side_in_step(browser: Browser, report: str) -> None:
    times = "[...document.querySelectorAll('.pane video')].map((video) => video.currentTime)"
    with opened(browser, report) as watched:
        page, press = watched.page, watched.press
        press("c")  # the takes of the same prompt and image
        assert page.locator(".pane").count() == 2
        differing = page.locator(".pane:first-child .differs").all_inner_texts()
        assert "1" in differing  # the seed
        assert "images/dusk.jpg" not in differing
        watched.wait_for(f"{times}.every((time) => time > 0.2)")
        first, second = page.evaluate(times)
        assert abs(first - second) < 0.5
        press("p")
        assert page.locator(".pane").first.locator(".pick").get_attribute("aria-pressed") == "true"
        assert "current" in (page.locator(".pane").last.get_attribute("class") or "")
        press("ArrowDown")  # the next takes
        assert "fox-lake-1" in watched.text(".pane:first-child .details")
        press("Escape")
        for _ in range(3):
            press("m", "ArrowRight", "ArrowRight")
        assert "3 clips marked" in watched.text("#tray-text")
        press("c")
        assert page.locator(".pane").count() == 3
        assert watched.hash()["open"].count(",") == 2
        page.reload()
        assert page.locator(".pane").count() == 3  # the comparison is in the address
        page.locator("#viewer-close").click()
        assert not page.locator("#viewer").is_visible()


def test_filters_shrink_the_list_and_the_address_keeps_them(browser: Browser, report: str) -> None:
    with opened(browser, report) as watched:
        page, press = watched.page, watched.press
        page.locator("#verdict button", has_text="Undecided").click()
        assert len(watched.ids()) == 9
        page.locator(".card").first.focus()
        press("p", "x", "p")
        assert len(watched.ids()) == 6  # the pile shrinks
        assert watched.current() == KEYS_OF_ALL[3]
        assert "Picked 2" in watched.text("#verdict")
        page.locator("#verdict button", has_text="Picked").click()
        assert watched.ids() == [KEYS_OF_ALL[0], KEYS_OF_ALL[2]]
        page.locator("#clear").click()
        page.locator("#state").select_option("failed")
        assert watched.ids() == ["refused"]
        page.locator("#state").select_option("")
        page.locator("#tag").select_option("hero")
        assert len(watched.ids()) == 4
        page.locator("#tag").select_option("")
        page.locator("#model").select_option(MASTER)
        assert watched.ids() == [KEYS_OF_ALL[7]]
        assert watched.hash() == {"model": MASTER, "at": KEYS_OF_ALL[7]}
        page.reload()
        assert watched.ids() == [KEYS_OF_ALL[7]]
        page.evaluate("location.hash = 'mode=matrix&q=fox'")
        watched.wait_for("document.querySelectorAll('.card').length === 4")
        assert page.locator("#columns .heading").all_inner_texts() == ["dusk.jpg", "lake.jpg"]
        assert page.locator("#rows .heading").all_inner_texts() == ["A fox in the snow."]


def test_verdicts_outlive_a_reload_and_are_handed_back_as_a_file(browser: Browser, report: str, tmp_path: Path) -> None:
    with opened(browser, report, accept_downloads=True) as watched:
        page = watched.page
        for _attempt in range(4):  # of fifty reloads of a bare page on a busy machine, Chromium itself loses one write
            watched.press("3", "p", "x", "u")
            page.reload()
            if "picked" in watched.classes(KEYS_OF_ALL[0]):
                break
        assert "picked" in watched.classes(KEYS_OF_ALL[0])
        with page.expect_download() as download:
            page.locator("#save-button").click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
    document = json.loads(path.read_text("utf-8"))
    assert path.name == "night-verdicts.json"
    assert (document["format"], document["version"], document["batch"]) == ("batchgen verdicts", 1, "night")
    first, second = document["verdicts"]
    assert (first["id"], first["verdict"], first["stars"]) == (KEYS_OF_ALL[0], "picked", 3)
    assert (second["verdict"], "stars" in second) == (None, False), "of the stars nothing was said here"
    assert re.fullmatch(r"[0-9a-f]{16}", first["clip"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z", first["at"])


def test_saved_verdicts_are_imported_and_the_next_report_has_them(
    browser: Browser, batch: ReviewBatch, report: str, batchgen: Command, tmp_path: Path
) -> None:
    with opened(browser, report, accept_downloads=True) as watched:
        watched.press("ArrowRight", "p", "2")
        with watched.page.expect_download() as download:
            watched.page.locator("#save-button").click()
        download.value.save_as(tmp_path / "verdicts.json")
    result = batchgen("verdicts", "import", batch.manifest, tmp_path / "verdicts.json")
    assert "2 verdicts imported" in result.stdout
    with opened(browser, write(batch, batch.folder / "newer.html")) as watched:
        assert "picked" in watched.classes(KEYS_OF_ALL[1])
        assert watched.page.locator("#verdict button", has_text="Picked").inner_text() == "Picked 1"
    for key in KEYS_OF_ALL[1:3]:
        batch.change(verdicts.record_verdict, batch.row(key).attempt_id, Judgement(), NOON)


def test_where_the_browser_keeps_nothing_the_page_says_so(browser: Browser, report: str) -> None:
    refuse = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })"
    with opened(browser, "about:blank") as watched:
        watched.page.add_init_script(refuse)
        watched.page.goto(report)
        watched.press("p")
        assert "picked" in watched.classes(KEYS_OF_ALL[0])
        assert "Save verdicts" in watched.text("#notice")


def test_hostile_texts_are_shown_as_text(browser: Browser, report: str) -> None:
    with opened(browser, report) as watched:
        watched.page.on("dialog", lambda _dialog: watched.faults.append("a dialog opened"))
        card = watched.page.locator(".card", has=watched.page.locator(".id", has_text="hostile"))
        assert "<script>alert(1)</script>" in card.locator(".prompt").inner_text()
        assert "\u202e" not in card.locator(".prompt").inner_text()
        assert "<img src=x" in watched.text(".card.failed .why")
        card.locator(".frame").click()
        assert "<script>" in watched.text(".pane .details")
        assert watched.page.locator("img[src=x], .card script, .pane script").count() == 0


def test_a_served_page_writes_verdicts_into_the_table_and_shows_those_of_others(
    browser: Browser, batch: ReviewBatch
) -> None:
    def judgement(key: str) -> Judgement:
        return batch.database.read_now(verdicts.current, batch.row(key).attempt_id)

    with served_review(batch) as address, opened(browser, address, address) as watched:
        page = watched.page
        with page.expect_response("**/verdicts"):
            watched.press("p")
        assert judgement(KEYS_OF_ALL[0]) == Judgement(Verdict.PICKED)
        with page.expect_response("**/verdicts"):
            watched.press("u")
        assert judgement(KEYS_OF_ALL[0]) == Judgement()
        watched.press("p", "u", "x")  # quicker than the answers
        while judgement(KEYS_OF_ALL[0]) != Judgement(Verdict.REJECTED):
            page.wait_for_timeout(25)
        watched.press("u", "Space")
        watched.wait_for("document.querySelector('.frame video')?.currentTime > 0")
        assert page.evaluate("[...document.images].filter((image) => image.naturalWidth).length") == 9
        other = batch.row(KEYS_OF_ALL[5]).attempt_id
        batch.change(verdicts.record_verdict, other, Judgement(Verdict.REJECTED), NOON)
        watched.wait_for("document.querySelectorAll('.card.rejected').length === 1")
        batch.change(verdicts.record_verdict, other, Judgement(), NOON)


def test_verdicts_that_a_served_page_cannot_store_are_kept_for_a_file(
    browser: Browser, batch: ReviewBatch, tmp_path: Path
) -> None:
    with served_review(batch) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        watched = watch(context.new_page(), address)
        watched.page.goto(address)
    try:  # the server has ended, and the page is still open
        watched.press("p")
        watched.wait_for("!document.getElementById('notice').hidden")
        assert "1 verdict not stored" in watched.text("#notice")
        with watched.page.expect_download() as download:
            watched.page.locator("#save-button").click()
        download.value.save_as(tmp_path / "verdicts.json")
    finally:
        context.close()
    (entry,) = json.loads((tmp_path / "verdicts.json").read_text("utf-8"))["verdicts"]
    assert (entry["id"], entry["verdict"]) == (KEYS_OF_ALL[0], "picked")


def test_a_page_is_not_closed_in_silence_while_verdicts_wait_for_a_locked_job_table(
    browser: Browser, batch: ReviewBatch
) -> None:
    with served_review(batch) as address, opened(browser, address, address) as watched:
        page = watched.page
        with closing(sqlite3.connect(batch.folder / "batchgen.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            watched.press("x")
            with page.expect_event("dialog") as question:
                page.close(run_before_unload=True)
            assert question.value.type == "beforeunload"
            question.value.dismiss()
            with page.expect_response("**/verdicts"):
                other.execute("COMMIT")
        with page.expect_response("**/verdicts"):
            watched.press("u")


def test_fingers_find_large_buttons_and_a_narrow_screen_shows_everything(browser: Browser, report: str) -> None:
    with opened(browser, report, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True) as watched:
        page = watched.page
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator(".card .pick").first.tap()
        assert "picked" in watched.classes(KEYS_OF_ALL[0])
        page.locator(".card .frame").nth(1).tap()
        page.locator(".pane .reject").tap()
        page.locator("#viewer-compare").tap()
        assert page.locator(".pane").count() == 2
        page.locator("#viewer-compare").tap()
        assert page.locator(".pane").count() == 1
        page.locator("#viewer-close").tap()
        assert "rejected" in watched.classes(KEYS_OF_ALL[1])
        page.locator("#filters-button").tap()
        small = """[...document.querySelectorAll('button, select, input')].filter((element) => element.offsetParent)
          .filter((element) => element.offsetWidth < 44 || element.offsetHeight < 44)
          .map((element) => element.outerHTML)"""
        assert page.evaluate(small) == []


def clip_of(spec: JobSpec, number: int) -> Clip:
    """A delivered clip, without a table."""
    file = ClipFile(1, spec.output, sha256(spec.key.encode()).hexdigest(), 100_000, 5.0, 1280, 720, None)
    return Clip(
        row_id=number,
        id=spec.key,
        state=State.DONE,
        model=spec.model,
        request=spec.request,
        input_pointers=spec.input_pointers,
        clip_seconds=5.0,
        take=spec.take,
        tags=spec.tags,
        attempt_id=number,
        error_class=None,
        error=None,
        intent_at=NOON,
        answered_at=NOON,
        finished_at=NOON,
        delivered_at=NOON,
        ended_at=NOON,
        cost_usd=Decimal("0.2941"),
        files=(file,),
        judgement=Judgement(),
        judged_at=None,
        problems=(),
    )


@pytest.fixture(scope="module")
def large_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.html"
    data, chart_data = ClipData(posters=()), ChartData()
    for number, spec in enumerate(matrix_jobs(10_000)):
        data.add(clip_of(spec, number))
        chart_data.add(clip_of(spec, number))
    fields = {"batch": "large", "simulated": False, "served": False, "began": 0, "marks": (0, 0, "")}
    document = {**data.document(), **fields}
    write_report(PageData("large", document, charts(chart_data, {}), {}), path, path.parent)
    return path


def test_no_template_literal_stands_in_another_one() -> None:
    """The packer would take blanks out of it."""
    for name in SCRIPTS:
        assert not re.findall(r"`[^`]*\$\{[^}`]*`", asset(name)), name


def test_ten_thousand_clips_are_few_cards_and_few_bytes(browser: Browser, large_report: Path) -> None:
    content = large_report.read_bytes()
    data = content[content.index(b'id="data">') : content.rindex(b"<script>")]
    assert len(data) / 10_000 <= 400
    assert sum(len(part.encode()) for part in (script(), style(), asset(TEMPLATE))) <= 60_000
    with opened(browser, large_report.as_uri()) as watched:
        page = watched.page
        assert "10,000 jobs" in watched.text("#count")
        most = 0
        for position in range(0, 20_000, 4_000):
            page.evaluate(
                "async (top) => { main.scrollTop = top; await new Promise(requestAnimationFrame); }", position
            )
            most = max(most, page.locator(".card").count())
        assert 10 < most < 120
        watched.press("End")
        assert watched.current() == "study-09999"
        assert page.locator(".card.current").get_attribute("aria-setsize") == "10000"
        watched.press("g", "Home", "PageDown")
        assert page.locator(".card").count() < 200
        watched.press("/")
        page.keyboard.type("study-0777")
        assert watched.text("#count") == "10 of 10,000 jobs"


def test_posters_beyond_the_bound_lie_in_a_folder_beside_the_page(
    batch: ReviewBatch, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchgen.review.report.INLINE_BYTES", 10)
    address = write(batch, batch.folder / "elsewhere.html")
    assert len(list((batch.folder / "elsewhere-posters").iterdir())) == 9
    with opened(browser, address) as watched:
        watched.wait_for("[...document.images].filter((image) => image.naturalWidth).length === 9")

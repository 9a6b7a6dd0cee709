"""The review page with 10,000 clips: first paint, scrolling, verdicts, filters, memory, bytes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from batchgen.review.page import SCRIPTS, STYLES, TEMPLATE, packed
from tests.benchmarks.measure import Figure, run, sized
from tests.chromium import OBSERVE, chromium, long_tasks
from tests.review_batch import make_large_batch

CLIPS = sized(10_000, 300)
ROUNDS = sized(3, 1)
VERDICTS = 20
TASK_MS = 50  # Chromium's own bound of a long task
SCROLL = """async () => {
  for (let step = 0; step < 150; step++) {
    main.scrollTop += 300;
    await new Promise(requestAnimationFrame);
  }
}"""
JUMP = """async () => {
  for (let step = 0; step < 40; step++) {
    main.scrollTop = main.scrollHeight * ((step * 0.618) % 1);
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
  }
}"""
KEY_MS = """async (key) => {
  const began = performance.now();
  document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  document.body.offsetHeight;
  const took = performance.now() - began;
  await new Promise(requestAnimationFrame);
  return took;
}"""
FILTER_MS = """async ([name, value, kind]) => {
  const began = performance.now();
  const control = document.getElementById(name);
  control.value = value;
  control.dispatchEvent(new Event(kind));
  document.body.offsetHeight;
  const took = performance.now() - began;
  await new Promise(requestAnimationFrame);
  return took;
}"""


@dataclass
class Round:
    """What one visit measured: milliseconds and megabytes."""

    paint: float
    scroll: float
    verdict: float
    filter: float
    memory: float
    foreign: int


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch = make_large_batch(folder, CLIPS)
        batch.database.__exit__(None, None, None)
        run(sys.executable, "-m", "batchgen", "report", str(batch.manifest))
        page = folder / "night-report.html"
        content = page.read_bytes()
        began = content.index(b'id="data">')
        data = content.index(b"</script>", began) - began
        with chromium() as browser:
            rounds = [visit(browser, page.as_uri()) for _ in range(ROUNDS)]
    code = sum(len(packed(part).encode()) for part in (TEMPLATE, *STYLES, *SCRIPTS))
    what = f"{CLIPS:,} clips in one page"
    for label, worst, unit, bound in (
        ("first paint", max(visited.paint for visited in rounds), "ms", 1_000),
        ("longest task while scrolling", max(visited.scroll for visited in rounds), "ms", TASK_MS),
        ("a verdict, until the page shows it", max(visited.verdict for visited in rounds), "ms", 50),
        ("a filter", max(visited.filter for visited in rounds), "ms", 50),
        ("memory of the tab", max(visited.memory for visited in rounds), "MB", 300),
    ):
        value = f"{worst:.0f} {unit}" if worst else f"under {TASK_MS} ms"
        yield Figure(f"{what}: {label}", value, f"≤ {bound:,} {unit}", worst <= bound)
    yield Figure("page code: HTML, style and script", f"{code / 1000:.1f} kB", "≤ 60 kB", code <= 60_000)
    yield Figure(f"{what}: data a clip", f"{data / CLIPS:.0f} B", "≤ 400 B", data <= 400 * CLIPS)
    foreign = sum(visited.foreign for visited in rounds)
    yield Figure(f"{what}: requests to another host", str(foreign), "0", foreign == 0)


def visit(browser: Browser, address: str) -> Round:
    """One visit in a new profile."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        page = context.new_page()
        page.add_init_script(OBSERVE)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_timeout(1_500)  # what follows is measured at rest
        paint = float(page.evaluate("performance.getEntriesByType('paint')[0].startTime"))
        long_tasks(page)
        page.evaluate(SCROLL)
        page.evaluate(JUMP)
        page.wait_for_timeout(200)
        scroll = max((duration for _, duration in long_tasks(page)), default=0.0)
        page.evaluate(FILTER_MS, ["state", "done", "change"])
        verdict = max(float(page.evaluate(KEY_MS, key)) for key in "pxu" * (VERDICTS // 3))
        filters = (["q", "fox", "input"], ["q", "fox snow", "input"], ["q", "", "input"], ["tag", "hero", "change"])
        filter_ = max(float(page.evaluate(FILTER_MS, arguments)) for arguments in filters)
        foreign = sum(not url.startswith(("file:", "data:", "blob:")) for url in requests)
        return Round(paint, scroll, verdict, filter_, megabytes(browser, page), foreign)
    finally:
        context.close()


def megabytes(browser: Browser, page: Page) -> float:
    """The proportional memory of the largest renderer: that of the page."""
    page.wait_for_timeout(100)
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return max(proportional(process["id"]) for process in processes if process["type"] == "renderer")


def proportional(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6

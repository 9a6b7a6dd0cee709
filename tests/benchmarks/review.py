"""The review page with 10,000 clips: first paint, scrolling, verdicts, filters, memory, bytes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from batchgen.review.page import TEMPLATE, asset, script, style
from tests.benchmarks.measure import Figure, run, sized
from tests.chromium import chromium
from tests.review_batch import make_large_batch

CLIPS = sized(10_000, 300)
ROUNDS = sized(3, 1)
TASK_MS = 50  # from which Chromium calls a task long
TRACED = ("toplevel", "__metadata")
FRAME = "await new Promise(requestAnimationFrame); await new Promise((next) => setTimeout(next, 30));"
SCROLL = f"for (let step = 0; step < 150; step++) {{ main.scrollTop += 300; {FRAME} }}"
LEAP = f"for (let step = 0; step < 40; step++) {{ main.scrollTop = main.scrollHeight * ((step * 0.618) % 1); {FRAME} }}"
VERDICTS = f"""for (const key of 'pxupxupxupxupxupxu') {{
  document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{ key, bubbles: true }}));
  {FRAME}
}}"""
FILTERS = f"""for (const [name, value, kind] of [['q', 'fox', 'input'], ['q', 'fox snow', 'input'], ['q', '', 'input'],
    ['tag', 'hero', 'change'], ['tag', '', 'change']]) {{
  const control = document.getElementById(name);
  control.value = value;
  control.dispatchEvent(new Event(kind));
  {FRAME}
}}"""
DELIVERED = f"state.value = 'done'; state.dispatchEvent(new Event('change')); {FRAME} document.activeElement.blur();"


@dataclass
class Visit:
    """What one visit measured: milliseconds and megabytes."""

    paint: float
    scroll: float
    verdict: float
    filter: float
    memory: float
    foreign: int
    """Requests to other places than the disk."""


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        batch = make_large_batch(folder, CLIPS)
        batch.database.__exit__(None, None, None)
        run(sys.executable, "-m", "batchgen", "report", str(batch.manifest))
        page = folder / "m-report.html"
        content = page.read_bytes()
        began = content.index(b'id="data">')
        data = content.index(b"</script>", began) - began
        with chromium() as browser:
            visits = [visit(browser, page.as_uri()) for _ in range(ROUNDS)]
    code = sum(len(part.encode()) for part in (asset(TEMPLATE), script(), style()))
    what = f"{CLIPS:,} clips in one page"
    for label, worst, unit, bound in (
        ("first paint", max(visit.paint for visit in visits), "ms", 1_000),
        ("longest task while scrolling", max(visit.scroll for visit in visits), "ms", TASK_MS),
        ("longest task of a verdict", max(visit.verdict for visit in visits), "ms", TASK_MS),
        ("longest task of a filter", max(visit.filter for visit in visits), "ms", TASK_MS),
        ("memory of the tab", max(visit.memory for visit in visits), "MB", 300),
    ):
        yield Figure(f"{what}: {label}", f"{worst:.0f} {unit}", f"≤ {bound:,} {unit}", worst <= bound)
    yield Figure("page code: HTML, style and script", f"{code / 1000:.1f} kB", "≤ 60 kB", code <= 60_000)
    yield Figure(f"{what}: data a clip", f"{data / CLIPS:.0f} B", "≤ 400 B", data <= 400 * CLIPS)
    foreign = sum(visit.foreign for visit in visits)
    yield Figure(f"{what}: requests to another host", str(foreign), "0", foreign == 0)


def visit(browser: Browser, address: str) -> Visit:
    """One visit in a new profile."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    try:
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_timeout(1_500)  # what follows is measured at rest
        paint = float(page.evaluate("performance.getEntriesByType('paint')[0].startTime"))
        scroll = max(longest_task(page, SCROLL), longest_task(page, LEAP))
        page.evaluate(f"async () => {{ {DELIVERED} }}")
        verdict, filter_ = longest_task(page, VERDICTS), longest_task(page, FILTERS)
        foreign = sum(not url.startswith(("file:", "data:", "blob:")) for url in requests)
        return Visit(paint, scroll, verdict, filter_, megabytes(browser, page), foreign)
    finally:
        context.close()


def longest_task(page: Page, script: str) -> float:
    """The longest task of the page's main thread while a script runs: milliseconds of the processor.

    Other work on the machine does not count, as it would in the wall time of PerformanceObserver.
    """
    session = page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    complete: list[object] = []
    session.on("Tracing.dataCollected", lambda part: events.extend(part["value"]))
    session.on("Tracing.tracingComplete", lambda part: complete.append(part))
    config = {"includedCategories": list(TRACED)}
    session.send("Tracing.start", {"transferMode": "ReportEvents", "traceConfig": config})
    page.evaluate(f"async () => {{ {script} }}")
    session.send("Tracing.end")
    while not complete:
        page.wait_for_timeout(50)
    session.detach()
    names = [event for event in events if event.get("name") == "thread_name"]
    mains = {place_of(event) for event in names if event["args"]["name"] == "CrRendererMain"}
    tasks = [event for event in events if event.get("ph") == "X" and place_of(event) in mains]
    return max((event.get("tdur", 0) / 1000 for event in tasks), default=0.0)


def place_of(event: dict[str, Any]) -> tuple[int, int]:
    """The process and the thread of an event."""
    return event["pid"], event["tid"]


def megabytes(browser: Browser, page: Page) -> float:
    """The proportional memory of the largest renderer, that of the page, after a collection of its garbage."""
    collector = page.context.new_cdp_session(page)
    collector.send("HeapProfiler.collectGarbage")
    page.wait_for_timeout(500)
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return max(proportional(process["id"]) for process in processes if process["type"] == "renderer")


def proportional(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6

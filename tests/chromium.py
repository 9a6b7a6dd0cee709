"""A real Chromium for the tests of the review page: the system's own, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, Request, Route, sync_playwright

WAIT_MS, POLL_MS = 10_000, 25
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",  # without it, Chromium does not start as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Skips the test where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """A page, with what it asked for and what went wrong on it."""

    page: Page
    allowed: str
    """What the addresses begin with that it may ask for."""
    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert not self.faults
        foreign = [url for url in self.requests if not url.startswith((self.allowed, "data:", "blob:"))]
        assert not foreign

    # --- what a person sees ---

    def ids(self) -> list[str]:
        """The ids on the cards in the document, in their order."""
        cards = "[...document.querySelectorAll('.card')].sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)"
        ids: list[str] = self.page.evaluate(f"{cards}.map((card) => card.querySelector('.id').textContent)")
        return ids

    def current(self) -> str:
        """The id of the card under the cursor."""
        return str(
            self.page.evaluate("document.querySelector('.card.current')?.querySelector('.id').textContent ?? ''")
        )

    def classes(self, key: str) -> set[str]:
        """How the card of a job looks."""
        find = "[...document.querySelectorAll('.card')].find((card) => card.querySelector('.id').textContent === key)"
        return set(str(self.page.evaluate(f"(key) => {find}?.className ?? ''", key)).split())

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait_for(self, condition: str) -> None:
        """Wait until a condition holds. The page's policy forbids what playwright's own function of this does."""
        for _ in range(WAIT_MS // POLL_MS):
            if self.page.evaluate(f"Boolean({condition})"):
                return
            self.page.wait_for_timeout(POLL_MS)
        raise AssertionError(f"never: {condition}")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def hash(self) -> dict[str, str]:
        """The state of the view in the address, once it is written."""
        self.page.wait_for_timeout(300)  # the page's own pause before it writes
        script = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        return dict(self.page.evaluate(script))


def watch(page: Page, allowed: str) -> Watched:
    """Record all that a page asks for and every error. What it may not ask for is not sent."""
    watched = Watched(page, allowed)

    def on_route(route: Route, request: Request) -> None:
        watched.requests.append(request.url)
        route.continue_() if request.url.startswith((allowed, "data:", "blob:")) else route.abort()

    page.route("**/*", on_route)
    page.on("console", lambda message: watched.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: watched.faults.append(str(error)))
    return watched

"""A real browser in front of proxyd: Debian's chromium, driven by Playwright."""

import base64
import hashlib
import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.server.daemon import Daemon

# chromium has many names; what `playwright install` downloads is not asked for.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

pytestmark = [
    pytest.mark.skipif(FOUND is None, reason=f"there is no browser here ({', '.join(NAMES)})"),
    pytest.mark.timeout(90),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Give a page of its own; what the console complains of fails the test."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(20_000)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.extend(failure_of(request)))
    yield page
    context.close()
    assert complaints == []


def failure_of(request: Request) -> list[str]:
    """Return why a request failed, unless the page itself gave it up (an EventSource closed)."""
    aborted = request.failure == "net::ERR_ABORTED"
    return [] if aborted else [f"{request.url} failed: {request.failure}"]


def test_a_page_gets_its_style_script_and_picture(daemon: Daemon, page: Page) -> None:
    answer = page.goto(f"{daemon.url}/page")
    assert answer is not None
    assert answer.status == 200
    page.get_by_text("the script ran").wait_for()
    color = page.evaluate("getComputedStyle(document.body).color")
    assert color == "rgb(1, 2, 3)"
    page.wait_for_function("document.querySelector('img').naturalWidth === 7")
    assert not [path for path in daemon.ask_json("/seen") if path.startswith("/static")]


def test_a_second_visit_costs_a_304(daemon: Daemon, page: Page) -> None:
    page.goto(f"{daemon.url}/page")
    with page.expect_response("**/style.css") as asked_again:
        page.reload()
    assert asked_again.value.status == 304
    page.get_by_text("the script ran").wait_for()


def test_the_browser_hears_events_as_they_happen(daemon: Daemon, page: Page) -> None:
    page.goto(f"{daemon.url}/page")
    page.evaluate(
        """() => {
            const source = new EventSource("/events/browser");
            source.onmessage = event => {
                const item = document.createElement("li");
                item.textContent = event.data;
                document.querySelector("ol").append(item);
                if (event.data === "second") source.close();
            };
        }"""
    )
    page.get_by_text("first").wait_for()
    assert page.locator("li").count() == 1
    daemon.ask("/open/browser", method="POST")
    page.get_by_text("second").wait_for()


def test_the_browser_talks_over_a_websocket(daemon: Daemon, page: Page) -> None:
    page.goto(f"{daemon.url}/page")
    heard = page.evaluate(
        """() => new Promise((resolve, reject) => {
            const socket = new WebSocket(`ws://${location.host}/websocket`);
            socket.onopen = () => socket.send("hello from a browser");
            socket.onmessage = event => { resolve(event.data); socket.close(); };
            socket.onerror = () => reject(new Error("the socket failed"));
        })"""
    )
    assert heard == "HELLO FROM A BROWSER"


def test_the_browser_uploads_a_large_file(daemon: Daemon, page: Page) -> None:
    page.goto(f"{daemon.url}/page")
    content = os.urandom(1 << 20)
    digest = page.evaluate(
        """async bytes => {
            const body = new Uint8Array(await (await fetch(bytes)).arrayBuffer());
            return (await fetch("/digest", {method: "POST", body})).json();
        }""",
        "data:;base64," + base64.b64encode(content).decode(),
    )
    assert digest == {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}

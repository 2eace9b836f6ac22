"""A web page against [control], in the browser of somebody who may: it knows the token, even."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.server.daemon import Daemon, serving
from tests.server.test_browser import ARGUMENTS, FOUND
from tests.server.test_control import free_port

pytestmark = [
    pytest.mark.skipif(FOUND is None, reason="there is no browser here"),
    pytest.mark.timeout(120),
]

TOKEN = "0123456789abcdef0123"
SITE = """
[[listen]]
address = "127.0.0.1:0"
[control]
address = "127.0.0.1:{control}"
token = "{token}"
[[route]]
path = "/*"
files = "static"
"""
# Everything that a script can send elsewhere: "" when it gets no answer to read, else its status.
TRY = """
async ([url, how]) => {
  try { const answer = await fetch(url, how); return String(answer.status || ""); }
  catch { return ""; }
}
"""
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Daemon, int]]:
    control = free_port()
    text = SITE.replace("{control}", str(control)).replace("{token}", TOKEN)
    with serving(text) as running:
        yield running, control
        assert "generation 2" not in running.log
        assert running.process.poll() is None


@pytest.fixture
def page() -> Iterator[Page]:
    """Give a page in a browser for which evil.test is this machine, as after DNS rebinding."""
    resolving = "--host-resolver-rules=MAP evil.test 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=[*ARGUMENTS, resolving])
        page = browser.new_page()
        page.set_default_timeout(30_000)
        yield page
        browser.close()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"method": "POST", "mode": "no-cors"},
        {"method": "POST", "headers": BEARER},
        {"method": "POST", "headers": {**BEARER, "Proxyd-Control": "1"}},
        {"method": "POST", "credentials": "include", "body": "now=1"},
    ],
)
def test_a_page_of_another_site_stops_nothing_and_reads_nothing(
    site: tuple[Daemon, int], page: Page, how: dict[str, Any]
) -> None:
    running, control = site
    page.goto(f"{running.url}/page.html")
    for path in ("/api/status", "/metrics", "/api/reload", "/api/stop"):
        assert page.evaluate(TRY, [f"http://127.0.0.1:{control}{path}", how]) == ""
    assert page.goto(f"{running.url}/page.html") is not None


def test_a_form_of_another_site_is_refused(site: tuple[Daemon, int], page: Page) -> None:
    running, control = site
    page.goto(f"{running.url}/page.html")
    with page.expect_navigation() as gone:
        page.evaluate(
            """url => {
              const form = document.body.appendChild(document.createElement("form"));
              form.method = "post"; form.action = url; form.submit();
            }""",
            f"http://127.0.0.1:{control}/api/stop",
        )
    assert gone.value is not None
    assert gone.value.status == 403


def test_a_name_that_was_let_point_here_is_no_name_of_ours(
    site: tuple[Daemon, int], page: Page
) -> None:
    _, control = site
    answer = page.goto(f"http://evil.test:{control}/health/live")
    assert answer is not None
    assert answer.status == 421
    # Its own origin now: no rule of the browser is in the way of this script.
    stop = [f"http://evil.test:{control}/api/stop", {"method": "POST"}]
    stop[1]["headers"] = {**BEARER, "Proxyd-Control": "1"}  # type: ignore[index]
    assert page.evaluate(TRY, stop) == "421"

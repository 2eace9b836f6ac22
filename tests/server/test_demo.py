"""The main job of the project, as a person sees it: the demo, in a browser, through proxyd.

The daemon runs on a copy of the repository: its own proxy.toml, backend/ and static/.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.server.daemon import Daemon, short_folder
from tests.server.test_browser import FOUND, NAMES, browser, page

__all__ = ["browser", "page"]  # fixtures

ROOT = Path(__file__).parent.parent.parent
# What a test must have otherwise: a free port, a log that can be read, an application that tells.
CHANGES = {
    '"127.0.0.1:8080"': '"127.0.0.1:0"',
    'access = "-"': 'access = "access.log"',
    'format = "combined"': 'format = "json"',
    'wsgi = "backend.wsgi:app"': 'wsgi = "telling:app"',
}
TELLING = """
from backend.wsgi import app as timeline

def app(environ, start_response):
    print("flask saw", environ["PATH_INFO"])
    return timeline(environ, start_response)
"""
POST = "Written by a browser, through proxyd."

pytestmark = [
    pytest.mark.skipif(FOUND is None, reason=f"there is no browser here ({', '.join(NAMES)})"),
    pytest.mark.timeout(90),
]


@pytest.fixture(scope="module")
def demo() -> Iterator[Daemon]:
    folder = short_folder()
    configuration = (ROOT / "proxy.toml").read_text()
    for before, after in CHANGES.items():
        assert before in configuration
        configuration = configuration.replace(before, after)
    left_out = shutil.ignore_patterns("var", "__pycache__")
    for name in ("backend", "static"):
        shutil.copytree(ROOT / name, folder / name, ignore=left_out)
    (folder / "telling.py").write_text(TELLING)
    running = Daemon(folder, configuration, control=True)
    try:
        yield running
        assert running.stop() == 0
        running.check_clean()
    finally:
        running.kill()
        shutil.rmtree(folder)


def access_log(demo: Daemon) -> list[dict[str, Any]]:
    """Return the entries of the access log, complete up to now."""
    demo.ask("/health?up-to-here")
    demo.access("/health?up-to-here")
    return [json.loads(line) for line in (demo.folder / "access.log").read_text().splitlines()]


def sign_in(demo: Daemon, page: Page) -> None:
    page.goto(f"{demo.url}/sign-in")
    page.get_by_label("Name").fill("mira")
    page.get_by_label("Password").fill("timeline")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/timeline")


def test_the_front_page_looks_as_it_should(demo: Daemon, page: Page) -> None:
    page.goto(demo.url)
    assert "Timeline" in page.title()
    assert page.locator(".post").count() > 3
    page.wait_for_function("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.styleSheets[0].cssRules.length") > 10
    expect(page.get_by_text("Live")).to_be_visible()


def test_somebody_posts_and_everybody_sees_it_at_once(
    demo: Daemon, browser: Browser, page: Page
) -> None:
    page.goto(demo.url)
    expect(page.get_by_text("Live")).to_be_visible()
    assert page.get_by_text(POST).count() == 0
    context = browser.new_context()
    writer = context.new_page()
    sign_in(demo, writer)
    writer.get_by_role("textbox").fill(POST)
    writer.get_by_role("button", name="Post").click()
    expect(writer.get_by_text(POST)).to_be_visible()
    expect(page.get_by_text(POST)).to_be_visible()  # nobody loaded that page again
    context.close()


def test_the_files_never_touch_flask(demo: Daemon, page: Page) -> None:
    page.goto(demo.url)
    page.wait_for_load_state()
    entries = access_log(demo)
    static = [entry for entry in entries if entry["target"].startswith("/static/")]
    assert {entry["status"] for entry in static} <= {200, 304}
    kinds = {Path(entry["target"]).suffix for entry in static}
    assert {".css", ".js", ".svg"} <= kinds
    assert all(entry["upstream_s"] is None for entry in static)
    assert "app timeline: flask saw /\n" in demo.log
    assert "flask saw /static" not in demo.log


def test_assets_are_kept_for_a_year_and_pages_are_not(demo: Daemon, page: Page) -> None:
    kept: dict[str, str] = {}
    page.on(
        "response",
        lambda answer: kept.update({answer.url: answer.headers.get("cache-control", "")}),
    )
    page.goto(demo.url)
    page.wait_for_load_state()
    assets = {url: value for url, value in kept.items() if "/static/" in url}
    assert assets
    assert all("immutable" in value for value in assets.values())
    assert "immutable" not in kept[f"{demo.url}/"]

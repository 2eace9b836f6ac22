"""The demo with its cache: two people at one address never see each other's page; posts purge.

What the demo's answers allow stands in backend/controller/caching.py.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.process.running import wait_for
from tests.server.caching import clients, is_hit, on_both, told
from tests.server.daemon import PROXYD, Daemon
from tests.server.test_browser import FOUND, NAMES, browser
from tests.server.test_demo import demo
from tests.server.wire import Message

__all__ = ["browser", "demo"]  # fixtures

PUBLIC = ("/", "/u/jonas", "/u/mira", "/api/posts")
PERSONAL = ("/timeline", "/api/me", "/whoami", "/sign-in")
# Whose posts are on whose timeline, besides their own (backend/model/seed.py).
FOLLOWED = {"mira": {"jonas", "leila", "tomas"}, "femi": {"jonas", "mira"}}
NAMES_SHOWN = {"mira": "Mira Halloran", "femi": "Femi Adeyemi"}
# The cache keeps the front page for so long (CDN-Cache-Control).
LIFETIME_S = 30

pytestmark = [
    pytest.mark.skipif(FOUND is None, reason=f"there is no browser here ({', '.join(NAMES)})"),
    pytest.mark.timeout(240),
]


@contextmanager
def reader(demo: Daemon, browser: Browser, name: str | None) -> Iterator[Page]:
    """Open a browser of its own, in which somebody has signed in, or nobody."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    if name is not None:
        page.goto(f"{demo.url}/sign-in")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill("timeline")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/timeline")
    yield page
    context.close()


def check_public(page: Page, name: str | None) -> None:
    """Assert that a public page is shown as to this reader, whoever it was made for."""
    account = page.locator("[data-me]")
    if name is None:
        expect(account.get_by_role("link", name="Sign in")).to_be_visible()
        assert not any(shown in page.content() for shown in ('action="/sign-out"', 'class="me"'))
    else:
        expect(account.get_by_text(NAMES_SHOWN[name])).to_be_visible()
        expect(account.get_by_role("button", name="Sign out")).to_be_visible()


def check_timeline(page: Page, name: str | None) -> None:
    """Assert that the timeline is this reader's, and nobody else gets one."""
    if name is None:
        assert "/sign-in" in page.url
        assert page.locator(".post").count() == 0
        return
    handles = set(page.locator(".feed .handle").all_inner_texts())
    assert handles == {f"@{author}" for author in FOLLOWED[name] | {name}}


def test_readers_of_one_address_never_see_each_others_page(demo: Daemon, browser: Browser) -> None:
    readers: tuple[str | None, ...] = ("mira", None, "femi")
    with (
        reader(demo, browser, "mira") as mira,
        reader(demo, browser, None) as nobody,
        reader(demo, browser, "femi") as femi,
    ):
        pages = dict(zip(readers, (mira, nobody, femi), strict=True))
        for order in (readers, readers[::-1]):
            for target in ("/", "/u/jonas"):
                for name in order:
                    pages[name].goto(f"{demo.url}{target}")
                    check_public(pages[name], name)
            for name in order:
                pages[name].goto(f"{demo.url}/timeline")
                check_timeline(pages[name], name)
            for name in order:
                shown = pages[name].goto(f"{demo.url}/api/me")
                assert shown is not None
                user = shown.json()["user"]
                assert (None if user is None else user["name"]) == name


def stored(demo: Daemon) -> list[dict[str, Any]]:
    """Return what `proxyd cache ls` says."""
    said = subprocess.run(
        [PROXYD, "cache", "ls", "--limit", "1000", "--json", "-c", demo.folder / "proxy.toml"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed: list[dict[str, Any]] = json.loads(said)
    return listed


def test_pages_that_are_one_persons_are_never_stored(demo: Daemon, browser: Browser) -> None:
    with reader(demo, browser, "mira") as page:
        (cookie,) = page.context.cookies()
        line = f"Cookie: {cookie.get('name')}={cookie.get('value')}"
        for target in PERSONAL:
            for answer in (demo.ask(target, line), demo.ask(target), demo.ask(target, line)):
                assert answer.get("cache-control") == "private, no-store"
                assert "; hit" not in told(answer)
        own = [demo.ask("/api/me", line), demo.ask("/api/me")]
        assert [json.loads(answer.body)["user"] is None for answer in own] == [False, True]
    keys = [one["key"] for one in stored(demo)]
    assert not [key for key in keys for target in PERSONAL if target in key]


@pytest.mark.parametrize("target", PUBLIC)
def test_public_pages_are_hits_for_everybody_for_some_seconds(
    demo: Daemon, browser: Browser, target: str
) -> None:
    with reader(demo, browser, "mira") as page:
        (cookie,) = page.context.cookies()
        line = f"Cookie: {cookie.get('name')}={cookie.get('value')}"
        first = demo.ask(target, line)
        assert first.get("set-cookie") is None
        wait_for(lambda: all(map(is_hit, on_both(demo, target))), "the page in both workers")
        both = [*on_both(demo, target), *on_both(demo, target, line)]
        assert len({answer.body for answer in both}) == 1
        assert all(0 < ttl(answer) <= LIFETIME_S for answer in both)
        assert all(answer.get("cache-groups") for answer in both)


def as_browsers(demo: Daemon, target: str) -> list[Message]:
    """Ask both workers under the name that browsers have: an origin purges its own pages only."""
    host, port = demo.address
    request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    with clients(demo, 24) as wires:
        for wire in wires:
            wire.send(request)
        return [wire.message() for wire in wires]


def ttl(answer: Message) -> int:
    """Return what Cache-Status says is left."""
    return int(told(answer).partition("ttl=")[2].partition(";")[0])


def test_who_posts_purges_the_pages_that_show_it_and_no_others(
    demo: Daemon, browser: Browser
) -> None:
    text = "Only the pages that show this are fetched again."
    with reader(demo, browser, "mira") as page:
        for target in PUBLIC:
            wait_for(lambda it=target: all(map(is_hit, as_browsers(demo, it))), target)  # type: ignore[misc]
        page.get_by_role("textbox").fill(text)
        # Not only until it is seen: its event comes before the answer, which is what purges.
        with page.expect_navigation():
            page.get_by_role("button", name="Post").click()
        expect(page.get_by_text(text)).to_be_visible()
    assert all(map(is_hit, as_browsers(demo, "/u/jonas")))
    for target in ("/", "/u/mira", "/api/posts"):
        answers = as_browsers(demo, target)
        assert all(text.encode() in answer.body for answer in answers), target


def test_a_stale_page_is_served_while_the_application_makes_it_anew(demo: Daemon) -> None:
    demo.ask("/u/leila")
    url = "http://proxyd.test/u/leila"  # as the requests of `Daemon.ask` name it
    command = [str(PROXYD), "cache", "purge", "--soft", url, "-c", str(demo.folder / "proxy.toml")]
    subprocess.run(command, capture_output=True, check=True)
    stale = demo.ask("/u/leila")
    assert is_hit(stale)
    assert ttl(stale) < 0
    wait_for(lambda: ttl(demo.ask("/u/leila")) > 0, "the page made anew")

"""Applications that die over a request: who waits, what is repeated, who is told that it is not."""

from collections.abc import Iterator

import pytest

from tests.server.daemon import Daemon, serving
from tests.server.upstream import Upstream

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
processes = 2
[app.one]
wsgi = "application:app"
[upstream.two]
servers = ["127.0.0.1:{port}", "127.0.0.1:{other}"]
[[route]]
path = "/one/*"
to = "one"
strip_prefix = true
[[route]]
path = "/two/*"
to = "two"
[[route]]
path = "/*"
to = "flask"
"""


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    both = Upstream(), Upstream()
    yield both
    for each in both:
        each.close()


@pytest.fixture(scope="module")
def site(upstreams: tuple[Upstream, Upstream]) -> Iterator[Daemon]:
    ports = {"{port}": upstreams[0].port, "{other}": upstreams[1].port}
    text = SITE
    for name, port in ports.items():
        text = text.replace(name, str(port))
    with serving(text) as running:
        yield running
        assert running.stop() == 0
        running.check_clean()


@pytest.mark.parametrize("path", ["/die", "/one/die"])
def test_a_process_that_dies_over_a_request_costs_its_client_nothing(
    site: Daemon, path: str
) -> None:
    name = path.replace("/", "-")
    answer = site.ask(f"{path}?name=once{name}&times=1")
    assert (answer.status, answer.body) == (200, b"alive")


def test_a_request_that_kills_every_process_ends(site: Daemon) -> None:
    assert site.ask("/die?name=always&times=9").status == 502
    assert (site.folder / "always").stat().st_size <= 3
    assert site.ask("/pid").status == 200  # which waited for a process


def test_a_post_is_not_repeated_and_told_so(site: Daemon) -> None:
    answer = site.ask("/die?name=posted&times=1", method="POST", body=b"an order")
    assert answer.status == 502
    assert b"not sent again" in answer.body
    assert (site.folder / "posted").stat().st_size == 1


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"


@pytest.mark.parametrize("part", [b"", HEAD[:9], HEAD, HEAD + b"\r\n"])
def test_an_end_before_the_content_is_repaired_by_another_server(
    site: Daemon, upstreams: tuple[Upstream, Upstream], part: bytes
) -> None:
    first, second = upstreams
    with site.connect() as wire:
        wire.get("/two/")
        try:
            first.listener.settimeout(1)
            behind = first.accept()
        except TimeoutError:
            first, second = second, first
            behind = first.accept()
        behind.message()
        if part:
            behind.send(part)
        behind.close()
        again = second.accept()
        again.message()
        again.answer(b"whole")
        assert wire.message().body == b"whole"
    for each in upstreams:
        each.forget()

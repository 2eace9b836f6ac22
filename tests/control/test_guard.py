"""Who may ask: nobody's web page, on TCP nobody without the token, and nobody by another name."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from proxy.config.load import parse
from proxy.control.guard import Guard

TOKEN = "0123456789abcdef"
ROUTE = '\n[[route]]\npath = "/*"\nfiles = "."\n'
ON_TCP = f"""
[control]
address = "metrics.test:9000"
token = "{TOKEN}"
hosts = ["proxy.example"]
"""
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OURS = {"Host": "127.0.0.1:9000"}


def guard(text: str = ON_TCP) -> Guard:
    config = parse(text + ROUTE, Path("/srv/proxy.toml"))
    return Guard(config, config.control.token or "")


def refused(guard: Guard, headers: dict[str, str], method: str = "GET") -> int:
    """Return the status of the refusal, 0 for none."""
    try:
        guard.check(make_mocked_request(method, "/metrics", headers=headers))
    except web.HTTPException as error:
        return error.status
    return 0


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9000",
        "[::1]:9000",
        "LOCALHOST",
        "localhost:1",
        "proxy.example.",
        "metrics.test:9000",
    ],
)
def test_an_address_or_a_known_name_is_let_in(host: str) -> None:
    assert refused(guard(), {"Host": host, **BEARER}) == 0


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:9000", "localhost.evil.test", "", ":9000"]
)
def test_a_name_that_somebody_let_point_here_is_not(host: str) -> None:
    assert refused(guard(), {"Host": host, **BEARER}) == 421


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        TOKEN,
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        "Bearer é",
    ],
)
def test_without_the_token_nobody_is_let_in(given: str | None) -> None:
    headers = OURS if given is None else {**OURS, "Authorization": given}
    assert refused(guard(), headers) == 401


def test_the_scheme_is_read_in_any_case() -> None:
    assert refused(guard(), {**OURS, "Authorization": f"bearer  {TOKEN}"}) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 0),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:9000"}, 0),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:8080"}, 403),
        ({"Origin": "http://evil.test"}, 403),
    ],
)
def test_no_other_sites_page_may_ask(headers: dict[str, str], status: int) -> None:
    assert refused(guard(), {**OURS, **BEARER, **headers}) == status
    assert refused(guard(ROUTE), {"Host": "127.0.0.1:9000", **headers}) == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_what_may_change_something_needs_a_field_that_no_page_can_send(method: str) -> None:
    assert refused(guard(), {**OURS, **BEARER}, method) == 403
    assert refused(guard(), {**OURS, **BEARER, "Proxyd-Control": "1"}, method) == 0
    assert refused(guard(ROUTE), {}, method) == 403


def test_on_a_unix_socket_the_files_mode_is_enough() -> None:
    assert refused(guard(ROUTE), {"Host": "whatever"}) == 0
    assert refused(guard(ROUTE), {}) == 0

"""What Flask believes about a request, under each server, with no ProxyFix. RFC 7239."""

import json
from typing import Any

import pytest

from tests.server.daemon import Daemon
from tests.server.wire import connect

SPOOFED = (
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Port: 666",
    "X-Forwarded-Prefix: /evil",
    "X-Forwarded-User: root",
    "X-Real-IP: 6.6.6.6",
    "X_Forwarded_For: 6.6.6.6",
    "Forwarded: for=6.6.6.6;host=evil.test;proto=https",
    "Proxy: evil.test",
)
SERVERS = pytest.mark.parametrize("prefix", ["", "/gevent", "/werkzeug"])


def ask_trusted(daemon: Daemon, target: str, *lines: str) -> Any:
    """Ask as a proxy in front of proxyd, whose word is taken."""
    with connect(daemon.folder / "trusted.sock") as wire:
        wire.get(target, *lines)
        return json.loads(wire.message().body)


def ask_proxied(daemon: Daemon, preface: bytes) -> Any:
    with connect(daemon.folder / "proxied.sock") as wire:
        wire.send(preface)
        wire.get("/whoami")
        return json.loads(wire.message().body)


@SERVERS
def test_client_scheme_host_and_prefix_are_true(daemon: Daemon, prefix: str) -> None:
    seen = daemon.ask_json(f"{prefix}/whoami?a=b")
    assert seen["remote_addr"] == "127.0.0.1"
    assert seen["is_secure"] is False
    assert seen["host"] == "proxyd.test"
    assert seen["url"] == f"http://proxyd.test{prefix}/whoami?a=b"
    assert seen["external"] == f"http://proxyd.test{prefix}/whoami"
    assert seen["script_root"] == prefix
    assert seen["path"] == "/whoami"
    assert seen["server_port"] == "80"


@SERVERS
def test_what_a_client_makes_up_is_replaced(daemon: Daemon, prefix: str) -> None:
    seen = daemon.ask_json(f"{prefix}/whoami", *SPOOFED)
    assert seen["remote_addr"] == "127.0.0.1"
    assert seen["is_secure"] is False
    assert seen["external"] == f"http://proxyd.test{prefix}/whoami"
    assert seen["script_root"] == prefix
    told = json.dumps(seen)
    for lie in ("6.6.6.6", "evil", "666", "root"):
        assert lie not in told.replace("script_root", "")


@SERVERS
def test_a_host_with_a_port_keeps_it(daemon: Daemon, prefix: str) -> None:
    with daemon.connect() as wire:
        wire.send(b"GET %b/whoami HTTP/1.1\r\nHost: A.test:8080\r\n\r\n" % prefix.encode())
        seen = json.loads(wire.message().body)
    assert seen["external"] == f"http://a.test:8080{prefix}/whoami"
    assert seen["server_port"] == "8080"


@SERVERS
def test_a_trusted_proxy_is_believed(daemon: Daemon, prefix: str) -> None:
    seen = ask_trusted(
        daemon, f"{prefix}/whoami", "X-Forwarded-For: 6.6.6.6, 203.0.113.7",
        "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.test", "X-Forwarded-User: alice",
    )  # fmt: skip
    assert seen["remote_addr"] == "203.0.113.7"
    assert seen["is_secure"] is True
    assert seen["external"] == f"https://shop.test{prefix}/whoami"
    assert seen["server_port"] == "443"
    assert ["X-Forwarded-User", "alice"] in seen["headers"]


@SERVERS
def test_a_trusted_proxy_may_speak_rfc_7239(daemon: Daemon, prefix: str) -> None:
    seen = ask_trusted(
        daemon, f"{prefix}/whoami",
        'Forwarded: for=6.6.6.6, for="[2001:db8::7]:4711";host="shop.test:8443";proto=https',
    )  # fmt: skip
    assert seen["remote_addr"] == "2001:db8::7"
    assert seen["external"] == f"https://shop.test:8443{prefix}/whoami"
    assert seen["server_port"] == "8443"


def test_a_prefix_with_an_escape_is_given_decoded(daemon: Daemon) -> None:
    seen = daemon.ask_json("/under/a%20prefix/whoami")
    assert seen["script_root"] == "/under/a prefix"
    assert seen["path"] == "/whoami"


def test_a_request_has_an_id_of_its_own(daemon: Daemon) -> None:
    given = [
        dict(daemon.ask_json("/whoami", "X-Request-ID: made-up")["headers"])["X-Request-Id"]
        for _ in range(2)
    ]
    assert "made-up" not in given
    assert given[0] != given[1]


def test_the_id_that_a_trusted_proxy_gave_is_kept_and_logged(daemon: Daemon) -> None:
    seen = ask_trusted(daemon, "/whoami?id", "X-Request-ID: from-the-edge")
    assert dict(seen["headers"])["X-Request-Id"] == "from-the-edge"
    assert daemon.access("/whoami?id")["request_id"] == "from-the-edge"


def test_the_application_learns_of_every_hop(daemon: Daemon) -> None:
    seen = dict(daemon.ask_json("/whoami", "Via: 1.0 edge")["headers"])
    assert seen["Via"] == "1.0 edge, 1.1 proxyd"


def test_the_log_has_the_client_that_the_application_has(daemon: Daemon) -> None:
    ask_trusted(daemon, "/whoami?logged", "X-Forwarded-For: 203.0.113.9")
    assert daemon.access("/whoami?logged")["client"] == "203.0.113.9"


def test_the_proxy_protocol_names_the_client_in_text(daemon: Daemon) -> None:
    seen = ask_proxied(daemon, b"PROXY TCP4 203.0.113.5 192.0.2.1 4711 80\r\n")
    assert seen["remote_addr"] == "203.0.113.5"


def test_the_proxy_protocol_names_the_client_in_binary(daemon: Daemon) -> None:
    addresses = bytes.fromhex("20010db8000000000000000000000005" * 2) + b"\x12\x67\x00\x50"
    tlv = b"\x04\x00\x02\x00\x00"
    head = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + (len(addresses) + len(tlv)).to_bytes(2, "big")
    seen = ask_proxied(daemon, head + addresses + tlv)
    assert seen["remote_addr"] == "2001:db8::5"


def test_the_proxy_protocol_may_come_in_single_bytes(daemon: Daemon) -> None:
    with connect(daemon.folder / "proxied.sock") as wire:
        for byte in b"PROXY TCP4 203.0.113.6 192.0.2.1 4711 80\r\nGET /whoami HTTP/1.0\r\n\r\n":
            wire.send(bytes((byte,)))
        assert json.loads(wire.message().body)["remote_addr"] == "203.0.113.6"


def test_a_client_behind_the_proxy_protocol_is_not_trusted_itself(daemon: Daemon) -> None:
    with connect(daemon.folder / "proxied.sock") as wire:
        wire.send(b"PROXY TCP4 203.0.113.5 192.0.2.1 4711 80\r\n")
        wire.get("/whoami", *SPOOFED)
        assert json.loads(wire.message().body)["remote_addr"] == "203.0.113.5"


def test_a_listener_with_the_proxy_protocol_takes_nothing_else(daemon: Daemon) -> None:
    with connect(daemon.folder / "proxied.sock") as wire:
        wire.get("/whoami")
        assert wire.ended()
    assert "no valid PROXY header from unix:" in daemon.log


def test_who_is_not_trusted_may_not_speak_the_proxy_protocol(daemon: Daemon) -> None:
    host, _, port = daemon.urls[3].removeprefix("http://").rpartition(":")
    with connect((host.strip("[]"), int(port))) as wire:
        assert wire.ended()
    assert "is not in trusted_proxies" in daemon.log

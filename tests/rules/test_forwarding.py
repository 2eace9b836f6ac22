"""Applications and clients are told the truth, whoever tries to make them believe otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields
from proxy.rules.forwarded import MAX_STEPS
from proxy.rules.forwarding import (
    HOP_BY_HOP,
    NAME_BYTES_REMEMBERED,
    NAMES_REMEMBERED,
    Origin,
    TrustedNetworks,
    _fates,
    end_to_end,
    origin,
    request_fields,
    response_fields,
)

TRUSTED = TrustedNetworks(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "unix:"])
XFF = b"X-Forwarded-For"
CLIENT = Origin("203.0.113.9", b"https", b"example.com:8443", b"8443")


def told(*lines: FieldLine, peer: str = "10.0.0.1", authority: bytes = b"front") -> Origin:
    """Say what is believed of a trusted peer that asks over plain HTTP."""
    return origin(peer, peer in TRUSTED, b"http", authority, 8080, Fields(lines), TRUSTED)


def upstream(*lines: FieldLine, asks: Origin = CLIENT, trusted: bool = False) -> Fields:
    """Return what an upstream gets for a request with these field lines."""
    return Fields(
        request_fields(
            Fields(lines),
            asks,
            b"",
            1,
            authority=b"example.com:8443",
            peer_trusted=trusted,
        )
    )


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:1::1", True),
        ("2001:db9::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:11.0.0.1", False),
        ("unix:", True),
        ("", False),
        ("localhost", False),
        ("10.0.0.1:80", False),
    ],
)
def test_a_peer_is_trusted_by_its_network(address: str, inside: bool) -> None:
    assert (address in TRUSTED) is inside
    assert address not in TrustedNetworks([])


# The connection's own facts.


@pytest.mark.parametrize(
    ("scheme", "authority", "local_port", "port"),
    [
        (b"http", b"a", 8080, b"80"),
        (b"https", b"a", 8443, b"443"),
        (b"http", b"a:8080", 80, b"8080"),
        (b"http", b"[::1]", 8080, b"80"),
        (b"https", b"[::1]:8443", 443, b"8443"),
        (b"http", b"", 8080, b"8080"),
        (b"http", b"", 0, b"80"),
    ],
)
def test_the_port_is_the_one_the_client_named(
    scheme: bytes, authority: bytes, local_port: int, port: bytes
) -> None:
    asked = origin("203.0.113.9", False, scheme, authority, local_port, Fields(), TRUSTED)
    assert asked == Origin("203.0.113.9", scheme, authority, port)


def test_an_untrusted_peer_is_not_believed_anything() -> None:
    lies = [
        (XFF, b"10.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"evil"),
        (b"X-Forwarded-Port", b"1"),
        (b"Forwarded", b"for=10.0.0.1;host=evil;proto=https"),
    ]
    assert told(*lies, peer="203.0.113.9") == Origin("203.0.113.9", b"http", b"front", b"80")


def test_a_trusted_peer_that_says_nothing_is_the_client() -> None:
    assert told() == Origin("10.0.0.1", b"http", b"front", b"80")
    assert told(peer="unix:") == Origin("unix:", b"http", b"front", b"80")


# X-Forwarded-For and its companions.


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"203.0.113.9:51000", "203.0.113.9"),
        (b"2a00::1", "2a00::1"),
        (b"[2a00::1]:51000", "2a00::1"),
        (b"198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (b"203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (b"6.6.6.6, 203.0.113.9,10.0.0.2 , 2001:db8::5", "203.0.113.9"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b"203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        (b"203.0.113.9, 999.1.1.1", "10.0.0.1"),
        (b"203.0.113.9,", "10.0.0.1"),
        (b"evil", "10.0.0.1"),
        (b"", "10.0.0.1"),
        (b"203.0.113.9" + b", 10.0.0.2" * MAX_STEPS, "203.0.113.9"),
        (b"203.0.113.9" + b", 10.0.0.2" * (MAX_STEPS + 1), "10.0.0.2"),
    ],
)
def test_the_client_is_the_first_untrusted_address_from_the_right(
    chain: bytes, client: str
) -> None:
    assert told((XFF, chain)).client == client


def test_several_lines_are_one_chain() -> None:
    assert told((XFF, b"203.0.113.9"), (XFF, b"10.0.0.2")).client == "203.0.113.9"


@given(st.text(alphabet='10.,:[]" \\;=for', max_size=40))
def test_a_client_cannot_change_what_a_proxy_appends(made_up: str) -> None:
    left = made_up.encode()
    assert told((XFF, left + b", 203.0.113.9")).client == "203.0.113.9"
    element = b'for=203.0.113.9;host="example.com:8443";proto=https'
    assert told((b"Forwarded", left + b", " + element)) == CLIENT


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        (b"https", b"https"),
        (b"HTTPS", b"https"),
        (b"http", b"http"),
        (b"wss", b"https"),
        (b"ws", b"http"),
        (b"ftp", b"http"),
        (b"", b"http"),
        (b"https, http", b"https"),
        (b"http, https", b"http"),
        (b"https, https, https", b"http"),
    ],
)
def test_the_scheme_belongs_to_the_client_of_the_chain(proto: bytes, scheme: bytes) -> None:
    asked = told((XFF, b"203.0.113.9, 10.0.0.2"), (b"X-Forwarded-Proto", proto))
    assert asked.scheme == scheme


def test_a_list_without_a_chain_is_not_believed() -> None:
    assert told((b"X-Forwarded-Proto", b"https, https")).scheme == b"http"
    assert told((XFF, b"x, y"), (b"X-Forwarded-Proto", b"https, https")).scheme == b"http"
    assert told((b"X-Forwarded-Proto", b"https")).scheme == b"https"


@pytest.mark.parametrize(
    ("lines", "host", "port"),
    [
        ([(b"X-Forwarded-Host", b"Example.com")], b"example.com", b"80"),
        ([(b"X-Forwarded-Host", b"a:8443")], b"a:8443", b"8443"),
        ([(b"X-Forwarded-Host", b"a"), (b"X-Forwarded-Proto", b"https")], b"a", b"443"),
        ([(b"X-Forwarded-Host", b"a"), (b"X-Forwarded-Port", b"8443")], b"a", b"8443"),
        ([(b"X-Forwarded-Host", b"a:1"), (b"X-Forwarded-Port", b"2")], b"a:1", b"1"),
        ([(b"X-Forwarded-Port", b"8443")], b"front", b"8443"),
        ([(b"X-Forwarded-Port", b"0")], b"front", b"80"),
        ([(b"X-Forwarded-Port", b"65536")], b"front", b"80"),
        ([(b"X-Forwarded-Port", b"x")], b"front", b"80"),
        ([(b"X-Forwarded-Host", b"a b")], b"front", b"80"),
        ([(b"X-Forwarded-Host", b"a\nb")], b"front", b"80"),
        ([(b"X-Forwarded-Host", b"a, b"), (XFF, b"1.1.1.1")], b"front", b"80"),
        ([(b"X-Forwarded-Host", b"a, b"), (XFF, b"1.1.1.1, 10.0.0.2")], b"a", b"80"),
    ],
)
def test_host_and_port_are_believed_when_they_make_sense(
    lines: list[FieldLine], host: bytes, port: bytes
) -> None:
    assert told(*lines)[2:] == (host, port)


# Forwarded. RFC 7239.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"for=203.0.113.9;host=a;proto=https", Origin("203.0.113.9", b"https", b"a", b"443")),
        (b'for="[2a00::1]:5"', Origin("2a00::1", b"http", b"front", b"80")),
        (b'for=203.0.113.9;host="a:81"', Origin("203.0.113.9", b"http", b"a:81", b"81")),
        (
            b"for=6.6.6.6;proto=http, for=203.0.113.9;proto=https, for=10.0.0.2;proto=http",
            Origin("203.0.113.9", b"https", b"front", b"443"),
        ),
        (b"for=10.0.0.3, for=10.0.0.2;proto=https", Origin("10.0.0.3", b"http", b"front", b"80")),
        # §6.2, §6.3: the proxy hides its client, and is itself the last one known.
        (b"for=_hidden;proto=https", Origin("10.0.0.1", b"https", b"front", b"443")),
        (b"for=1.1.1.1, for=unknown;host=a", Origin("10.0.0.1", b"http", b"a", b"80")),
        (b"proto=https", Origin("10.0.0.1", b"https", b"front", b"443")),
        (b"for=1.1.1.1;proto=https, oops", Origin("10.0.0.1", b"http", b"front", b"80")),
        (b"for=1.1.1.1;host=x;for=2.2.2.2", Origin("10.0.0.1", b"http", b"front", b"80")),
        (b"", Origin("10.0.0.1", b"http", b"front", b"80")),
    ],
)
def test_forwarded_is_read_through_trusted_hops(value: bytes, expected: Origin) -> None:
    assert told((b"Forwarded", value)) == expected


def test_x_forwarded_for_wins_over_forwarded() -> None:
    lines = [(b"Forwarded", b"for=6.6.6.6;proto=https;host=evil"), (XFF, b"203.0.113.9")]
    assert told(*lines) == Origin("203.0.113.9", b"http", b"front", b"80")


def test_forwarded_is_not_mixed_with_the_other_dialect() -> None:
    lines = [(b"Forwarded", b"for=203.0.113.9"), (b"X-Forwarded-Host", b"evil")]
    assert told(*lines).host == b"front"


# What upstreams get.


def test_a_request_goes_on_in_order_with_what_proxyd_says() -> None:
    lines = request_fields(
        Fields(
            [
                (b"ACCEPT", b"*/*"),
                (b"host", b"other"),
                (b"X-Unknown", b"1"),
                (b"Connection", b"keep-alive"),
                (b"x-unknown", b"2"),
                (b"Cookie", b"a=b"),
            ]
        ),
        CLIENT,
        b"/app",
        1,
        authority=b"example.com:8443",
        peer_trusted=False,
    )
    assert lines == [
        (b"Host", b"example.com:8443"),
        (b"ACCEPT", b"*/*"),
        (b"X-Unknown", b"1"),
        (b"x-unknown", b"2"),
        (b"Cookie", b"a=b"),
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Host", b"example.com:8443"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Port", b"8443"),
        (b"X-Forwarded-Prefix", b"/app"),
        (b"X-Real-IP", b"203.0.113.9"),
        (b"Forwarded", b'for=203.0.113.9;host="example.com:8443";proto=https'),
        (b"Via", b"1.1 proxyd"),
    ]


def test_a_client_without_a_host_gets_none_made_up() -> None:
    got = upstream(asks=Origin("unix:", b"http", b"", b"80"))
    assert b"x-forwarded-host" not in got
    assert b"x-forwarded-prefix" not in got
    assert got.get(b"x-forwarded-for") == b"unix:"
    assert got.get(b"forwarded") == b"for=unknown;proto=http"


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        b"X-Forwarded-For",
        b"x-forwarded-host",
        b"X-FORWARDED-PROTO",
        b"X-Forwarded-Port",
        b"X-Forwarded-Prefix",
        b"X-Forwarded-Ssl",
        b"X_Forwarded_For",
        b"X-Forwarded_Proto",
        b"x_real-ip",
        b"X-Real-IP",
        b"X-Request-ID",
        b"X_Request_Id",
        b"Forwarded",
        b"Host",
        b"Proxy",
        b"Proxy-Connection",
        b"Proxy-Authorization",
        b"Keep-Alive",
        b"Upgrade",
        b"Expect",
        b"Content-Length",
        b"Content_Length",
        b"Transfer-Encoding",
        b"Transfer_Encoding",
        b"TE",
    ],
)
def test_what_is_written_anew_does_not_pass(name: bytes, trusted: bool) -> None:
    assert (name, b"evil") not in upstream((name, b"evil"), trusted=trusted).lines


@pytest.mark.parametrize("name", [b"X-Forwarded-User", b"x_forwarded_email"])
def test_who_is_signed_in_is_told_by_trusted_peers_only(name: bytes) -> None:
    assert (name, b"root") in upstream((name, b"root"), trusted=True).lines
    assert (name, b"root") not in upstream((name, b"root")).lines


@pytest.mark.parametrize("name", [b"X-Forwarded", b"X_Custom", b"Trailer", b"Priority"])
def test_other_fields_pass(name: bytes) -> None:
    assert (name, b"x") in upstream((name, b"x")).lines


def test_names_are_judged_alike_and_in_bounded_memory_however_many_there_were() -> None:
    for number in range(NAMES_REMEMBERED + 2):
        upstream((b"X-Junk-%d" % number, b""))
    assert len(_fates) <= NAMES_REMEMBERED
    long_name = b"x-forwarded-" + b"y" * NAME_BYTES_REMEMBERED
    for _ in range(2):
        assert long_name not in upstream((long_name, b""))
        assert b"x-forwarded-ssl" not in upstream((b"X-Forwarded-Ssl", b"on"))
    assert long_name not in _fates


# RFC 9110 §7.6.1.
@pytest.mark.parametrize("connection", [b"close, X-Hop", b"x-hop", b"keep-alive ,\tX-HOP,"])
def test_fields_named_in_connection_end_here(connection: bytes) -> None:
    lines = [(b"Connection", connection), (b"X-Hop", b"1"), (b"X-Other", b"2")]
    assert end_to_end(Fields(lines)) == [(b"X-Other", b"2")]
    got = upstream(*lines)
    assert b"x-hop" not in got
    assert got.get(b"x-other") == b"2"
    assert response_fields(Fields(lines), 1) == [(b"X-Other", b"2"), (b"Via", b"1.1 proxyd")]


@pytest.mark.parametrize(
    "name",
    [b"Host", b"Cookie", b"X-Forwarded-For", b"X-Forwarded-User", b"Cache-Control", b"Via"],
)
def test_connection_cannot_strip_what_is_for_the_end(name: bytes) -> None:
    lines = [(b"Connection", b"close, " + name), (name, b"x")]
    assert end_to_end(Fields(lines)) == [(name, b"x")]
    assert name.lower() in upstream(*lines, trusted=True)


def test_end_to_end_drops_what_it_is_told() -> None:
    fields = Fields([(b"A", b"1"), (b"Upgrade", b"x"), (b"B", b"2"), (b"Connection", b"close")])
    assert end_to_end(fields) == [(b"A", b"1"), (b"B", b"2")]
    assert end_to_end(fields, HOP_BY_HOP | {b"a"}) == [(b"B", b"2")]


# RFC 9110 §10.1.4.
@pytest.mark.parametrize("te", [b"trailers", b"gzip;q=0.5, Trailers"])
def test_of_te_only_trailers_goes_on(te: bytes) -> None:
    got = upstream((b"TE", te), (b"Connection", b"TE"))
    assert got.get(b"te") == b"trailers"
    assert got.get(b"connection") == b"TE"


def test_other_transfer_codings_are_not_asked_for() -> None:
    got = upstream((b"TE", b"gzip"), (b"Connection", b"TE"))
    assert b"te" not in got
    assert b"connection" not in got


# RFC 9110 §7.6.3.
@pytest.mark.parametrize(
    ("lines", "minor", "via"),
    [
        ([], 1, b"1.1 proxyd"),
        ([], 0, b"1.0 proxyd"),
        ([(b"Via", b"")], 1, b"1.1 proxyd"),
        (
            [(b"Via", b"1.0 a, 2 b"), (b"A", b""), (b"via", b"2 c")],
            1,
            b"1.0 a, 2 b, 2 c, 1.1 proxyd",
        ),
    ],
)
def test_via_names_every_hop_in_order(lines: list[FieldLine], minor: int, via: bytes) -> None:
    got = request_fields(
        Fields(lines),
        CLIENT,
        b"",
        minor,
        authority=b"a",
        peer_trusted=False,
    )
    assert Fields(got).get_all(b"via") == [via]
    assert Fields(response_fields(Fields(lines), minor)).get_all(b"via") == [via]


# What clients get.


@pytest.mark.parametrize(
    ("keep_server", "keep_date", "kept"),
    [
        (False, False, []),
        (False, True, [b"Date"]),
        (True, False, [b"Server"]),
        (True, True, [b"Server", b"Date"]),
    ],
)
def test_an_answer_goes_on_without_its_hop(
    keep_server: bool, keep_date: bool, kept: list[bytes]
) -> None:
    fields = Fields(
        [
            (b"Server", b"waitress"),
            (b"Date", b"x"),
            (b"Content-Length", b"5"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Connection", b"close"),
            (b"Keep-Alive", b"timeout=5"),
            (b"Set-Cookie", b"a"),
            (b"Set-Cookie", b"b"),
        ]
    )
    got = response_fields(fields, 1, keep_server=keep_server, keep_date=keep_date)
    assert [name for name, _ in got] == [*kept, b"Set-Cookie", b"Set-Cookie", b"Via"]
    assert got[-3:] == [(b"Set-Cookie", b"a"), (b"Set-Cookie", b"b"), (b"Via", b"1.1 proxyd")]


# What a client certificate says.

IDENTITY = ((b"X-Client-Cert-Verify", b"SUCCESS"), (b"X-Client-Cert-Subject", b"CN=mira"))
CLAIMED = (
    (b"X-Client-Cert-Verify", b"SUCCESS"),
    (b"x-client_cert_subject", b"CN=root"),
    (b"Client-Cert", b":AAAA:"),
    (b"Client-Cert-Chain", b":AAAA:"),
    (b"X-SSL-Client-Verify", b"SUCCESS"),
    (b"SSL_CLIENT_S_DN", b"CN=root"),
)


def test_nobody_outside_can_claim_a_certificate() -> None:
    """RFC 9440 §2.4."""
    assert not {name for name, _ in CLAIMED} & {name for name, _ in upstream(*CLAIMED)}


def test_a_trusted_proxy_may_pass_on_who_its_client_is() -> None:
    assert set(CLAIMED) <= set(upstream(*CLAIMED, trusted=True))


@pytest.mark.parametrize("trusted", [False, True])
def test_the_certificate_of_the_connection_itself_replaces_all_claims(trusted: bool) -> None:
    lines = request_fields(
        Fields(CLAIMED),
        CLIENT,
        b"",
        1,
        authority=b"h",
        peer_trusted=trusted,
        identity=IDENTITY,
    )
    about = [line for line in lines if b"client-cert" in line[0].lower().replace(b"_", b"-")]
    assert about == list(IDENTITY)


def test_connection_cannot_name_the_identity_away() -> None:
    lines = request_fields(
        Fields([(b"Connection", b"close, X-Client-Cert-Verify")]),
        CLIENT,
        b"",
        1,
        authority=b"h",
        peer_trusted=False,
        identity=IDENTITY,
    )
    assert set(IDENTITY) <= set(lines)

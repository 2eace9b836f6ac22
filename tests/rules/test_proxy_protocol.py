"""A PROXY header is understood whole, or refused. HAProxy's proxy-protocol.txt."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequestError
from proxy.rules.proxy_protocol import V1_BYTES, V2_BYTES, Preface, parse

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + struct.pack(">HH", 51000, 443)
V6 = IPv6Address("2001:db8::1").packed + IPv6Address("::1").packed + struct.pack(">HH", 1, 65535)


def v2(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return SIGNATURE + struct.pack(">BBH", command, family, size) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


FOUR = (("192.0.2.1", 51000), ("198.51.100.7", 443))
SIX = (("2001:db8::1", 1), ("::1", 65535))
NOBODY = (None, None)

GOOD = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.7 51000 443\r\n", FOUR),
    (b"PROXY TCP6 2001:DB8:0::1 ::1 1 65535\r\n", SIX),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", (("0.0.0.0", 0), ("0.0.0.0", 0))),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 51000 443\r\n", FOUR),
    (b"PROXY UNKNOWN\r\n", NOBODY),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NOBODY),
    (b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 16) + b"\r\n", NOBODY),
    (v2(0x21, 0x11, V4), FOUR),
    (v2(0x21, 0x21, V6), SIX),
    (v2(0x21, 0x11, V4 + tlv(0x03, b"abcd") + tlv(0x04, b"")), FOUR),
    (v2(0x21, 0x12, V4), NOBODY),
    (v2(0x21, 0x22, V6), NOBODY),
    (v2(0x21, 0x31, b"\x00" * 216), NOBODY),
    (v2(0x21, 0x32, b"\x00" * 216 + tlv(0xE0, b"x")), NOBODY),
    (v2(0x21, 0x00, b""), NOBODY),
    (v2(0x21, 0x00, b"ignored"), NOBODY),
    (v2(0x20, 0x00, b""), NOBODY),
    (v2(0x20, 0x11, V4), NOBODY),
    (v2(0x20, 0xFF, b"ignored"), NOBODY),
    (v2(0x21, 0x11, V4 + tlv(0x04, b"\x00" * (V2_BYTES - 15))), FOUR),
]


@pytest.mark.parametrize(("header", "endpoints"), GOOD)
def test_a_header_says_who_is_connected(
    header: bytes, endpoints: tuple[tuple[str, int] | None, tuple[str, int] | None]
) -> None:
    source, destination = endpoints
    expected = Preface(consumed=len(header), source=source, destination=destination)
    assert parse(header) == expected
    assert parse(header + b"GET / HTTP/1.1\r\n") == expected


@pytest.mark.parametrize("header", [header for header, _ in GOOD])
def test_the_beginning_of_a_header_is_waited_for(header: bytes) -> None:
    for end in range(len(header)):
        assert parse(header[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PX",
        b"PROXY  ",
        b"PROXY TCP5",
        b"PROXY TCP4x",
        b"PROXY UNKNOWNx",
        b"PROXY UNKNOWN \x00",
        b"PROXY TCP4 1.2.3.4 x",
        b"PROXY TCP4 1.2.3.4\r ",
        b"proxy",
        b"P" * V1_BYTES,
        b"PROXY UNKNOWN " + b"x" * (V1_BYTES - 14),
        b"\r\n\r\n\r",
        b"\r\n\r\nG",
        SIGNATURE[:-1] + b"\r",
        SIGNATURE + b"\x11",
        SIGNATURE + b"\x22",
        v2(0x21, 0x11, b"", V2_BYTES + 1),
        v2(0x20, 0x00, b"", 65535),
        v2(0x21, 0x11, b"", 11),
        v2(0x21, 0x21, b"", 35),
        v2(0x21, 0x31, b"", 215),
        v2(0x21, 0x41, b"", 100),
        v2(0x21, 0x13, b"", 100),
    ],
)
def test_what_cannot_become_a_header_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse(data)


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.7 51000 443\n",
        b"PROXY UNKNOWN\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 51000\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 51000 443 1\r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.7 51000 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 51000 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.7 051 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.256 51000 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.7 51000 443\r\n",
        b"PROXY TCP4 ::1 ::1 51000 443\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.7 51000 443\r\n",
        b"PROXY TCP6 ::1 ::1::1 51000 443\r\n",
        v2(0x21, 0x11, V4 + b"\x01"),
        v2(0x21, 0x11, V4 + tlv(0x03, b"abcd")[:-1]),
        v2(0x21, 0x21, V6 + b"\x01\xff\xff"),
        v2(0x21, 0x31, b"\x00" * 217),
    ],
)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse(header)


PORTS = st.integers(0, 65535)
ENDPOINTS = st.one_of(
    st.tuples(st.just(4), *[st.ip_addresses(v=4)] * 2, PORTS, PORTS),
    st.tuples(st.just(6), *[st.ip_addresses(v=6, network="2000::/3")] * 2, PORTS, PORTS),
)


@given(ENDPOINTS)
def test_both_versions_say_the_same(
    said: tuple[int, IPv4Address | IPv6Address, IPv4Address | IPv6Address, int, int],
) -> None:
    version, source, destination, source_port, destination_port = said
    text = f"PROXY TCP{version} {source} {destination} {source_port} {destination_port}\r\n"
    ports = struct.pack(">HH", source_port, destination_port)
    binary = v2(0x21, 0x11 if version == 4 else 0x21, source.packed + destination.packed + ports)
    for header in (text.encode(), binary):
        preface = parse(header)
        assert preface is not None
        assert preface.source == (str(source), source_port)
        assert preface.destination == (str(destination), destination_port)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(SIGNATURE.__add__)))
def test_any_bytes_are_a_header_a_beginning_or_refused(data: bytes) -> None:
    try:
        preface = parse(data)
    except BadRequestError:
        return
    assert preface is None or preface.consumed <= len(data)

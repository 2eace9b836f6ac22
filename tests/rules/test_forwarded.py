"""Forwarded is read from the right, and nothing on the left changes how. RFC 7239."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.forwarded import MAX_STEPS, elements_from_right, read_node, write_element


# RFC 7239 §4, §5, §7.1.
@pytest.mark.parametrize(
    ("value", "elements"),
    [
        (b"for=192.0.2.43", [{b"for": b"192.0.2.43"}]),
        (
            b'For="[2001:db8:cafe::17]:4711"',
            [{b"for": b"[2001:db8:cafe::17]:4711"}],
        ),
        (
            b"for=192.0.2.60;proto=http;by=203.0.113.43",
            [{b"for": b"192.0.2.60", b"proto": b"http", b"by": b"203.0.113.43"}],
        ),
        (b"for=192.0.2.60; proto=http ;", [{b"for": b"192.0.2.60", b"proto": b"http"}]),
        (b"for=a, for=b", [{b"for": b"b"}, {b"for": b"a"}]),
        (b"for=a,for=b\t,\tfor=c", [{b"for": b"c"}, {b"for": b"b"}, {b"for": b"a"}]),
        (b", for=a,, for=b,", [{b"for": b"b"}, {b"for": b"a"}]),
        (b'for="a,b", for=c', [{b"for": b"c"}, {b"for": b"a,b"}]),
        (b'for="a\\"b\\\\"', [{b"for": b'a"b\\'}]),
        (b'for="";host=""', [{b"for": b"", b"host": b""}]),
        (b";", [{}]),
        (b"", []),
        (b" , ,", []),
    ],
)
def test_elements_come_from_the_right(value: bytes, elements: list[dict[bytes, bytes]]) -> None:
    assert list(elements_from_right(value)) == elements


@pytest.mark.parametrize(
    "left",
    [
        b'for="',
        b'for="x',
        b"for",
        b"for=",
        b"=x",
        b"for=a;for=b",
        b"for=a;FOR=b",
        b"for = a",
        b"for=[::1]",
        b'for="a"b',
        b"for=a b",
        b"for=\xff",
        b'for="\x7f"',
        b'"',
        b"\\",
    ],
)
def test_reading_ends_at_a_malformed_element(left: bytes) -> None:
    assert list(elements_from_right(left)) == []
    assert list(elements_from_right(b"for=z, " + left + b",for=c")) == [{b"for": b"c"}]


def test_reading_is_bounded() -> None:
    many = b",".join([b"for=a"] * (MAX_STEPS + 10))
    assert len(list(elements_from_right(many))) == MAX_STEPS


FIELD_TEXT = st.lists(
    st.sampled_from(
        [b'"', b"\\", b",", b";", b"=", b"for", b'for="', b"for=1.2.3.4", b"proto=http", b" ", b"x"]
    )
).map(b"".join)


@given(FIELD_TEXT)
def test_what_is_on_the_left_does_not_change_the_last_element(left: bytes) -> None:
    last = b'for="[2001:db8::1]:80";host="a:1";proto=https'
    parameters = {b"for": b"[2001:db8::1]:80", b"host": b"a:1", b"proto": b"https"}
    assert next(elements_from_right(left + b", " + last)) == parameters


# RFC 7239 §6.
@pytest.mark.parametrize(
    ("node", "address"),
    [
        (b"192.0.2.43", "192.0.2.43"),
        (b"192.0.2.43:47011", "192.0.2.43"),
        (b"192.0.2.43:_port", "192.0.2.43"),
        (b"[2001:DB8::0:17]", "2001:db8::17"),
        (b"[2001:db8::17]:47011", "2001:db8::17"),
        (b"[::1]:_x.y-z", "::1"),
        (b"2001:db8::17", "2001:db8::17"),
        (b"::ffff:192.0.2.43", "192.0.2.43"),
        (b"[::ffff:192.0.2.43]", "192.0.2.43"),
        (b"unknown", None),
        (b"_hidden", None),
        (b"unix:", None),
        (b"example.com", None),
        (b"", None),
        (b"192.0.2.256", None),
        (b"192.0.2.043", None),
        (b"192.0.2.43:", None),
        (b"192.0.2.43:123456", None),
        (b"1", None),
        (b"[192.0.2.43]", None),
        (b"[::1", None),
        (b"[::1]80", None),
        (b"::1::", None),
        (b"fe80::1%eth0", None),
        (b" 192.0.2.43", None),
        (b"192.0.2.43\n", None),
        (b"\xd9\xa1.0.0.1", None),
    ],
)
def test_a_node_is_an_address_or_nobody(node: bytes, address: str | None) -> None:
    assert read_node(node) == address


@pytest.mark.parametrize(
    ("client", "host", "element"),
    [
        ("192.0.2.1", b"a", b"for=192.0.2.1;host=a;proto=https"),
        ("2001:db8::1", b"a:80", b'for="[2001:db8::1]";host="a:80";proto=https'),
        ("::1", b"[::1]", b'for="[::1]";host="[::1]";proto=https'),
        ("unix:", b"", b"for=unknown;proto=https"),
    ],
)
def test_an_element_is_quoted_where_it_must_be(client: str, host: bytes, element: bytes) -> None:
    assert write_element(client, host, b"https") == element


@given(st.ip_addresses(), st.sampled_from([b"a", b"a-b.example:8443", b"[::1]:1"]))
def test_reading_undoes_writing(address: object, host: bytes) -> None:
    client = read_node(str(address).encode())
    assert client is not None
    [element] = elements_from_right(write_element(client, host, b"http"))
    assert read_node(element[b"for"]) == client
    assert element[b"host"] == host
    assert element[b"proto"] == b"http"

"""Values that mean the same. RFC 9111 §4.1, RFC 9110 §12.5."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.canonical import canonical_value
from proxy.rules.negotiation import parse_weights


@pytest.mark.parametrize(
    ("name", "value", "canonical"),
    [
        # RFC 9110 §12.5.3: the order of codings means nothing
        (b"accept-encoding", b"gzip, br", b"br,gzip"),
        (b"accept-encoding", b"br,gzip", b"br,gzip"),
        (b"accept-encoding", b"BR , GZip;q=1.000", b"br,gzip"),
        (b"accept-encoding", b"gzip;q=0.50, *;q=0", b"*;q=0,gzip;q=0.5"),
        (b"accept-encoding", b"x-gzip", b"gzip"),
        (b"accept-encoding", b"gzip,,br,", b"br,gzip"),
        (b"accept-encoding", b"", b""),
        (b"accept-encoding", b"gzip;q=2, br", b"gzip;q=2, br"),
        (b"accept-encoding", b'gzip;a=",", br', b'gzip;a=",", br'),
        # §12.5.4: of two that are liked the same, some take the first
        (b"accept-language", b"de, en;q=0.5, FR", b"de,fr,en;q=0.5"),
        (b"accept-language", b"fr, de", b"fr,de"),
        (b"accept-language", b"en;q=0.1, de;q=0.9", b"de;q=0.9,en;q=0.1"),
        (b"accept", b"text/html ; level=1;q=0.4, */*", b"*/*,text/html;level=1;q=0.4"),
        (b"accept", b"a/b;q=x, c/d", b"a/b;q=x, c/d"),
        (b"accept-charset", b"UTF-8", b"utf-8"),
        # of others nothing is known
        (b"x-device", b"Phone,  tablet", b"Phone,  tablet"),
    ],
)
def test_a_value_has_one_form(name: bytes, value: bytes, canonical: bytes) -> None:
    assert canonical_value(name, value) == canonical
    assert canonical_value(name, canonical) == canonical


coding = st.sampled_from([b"gzip", b"br", b"zstd", b"identity", b"*"])
weight = st.sampled_from([b"", b";q=0", b" ; q=0.5", b";Q=1", b";q=0.333"])


@given(st.lists(st.tuples(coding, weight), unique_by=lambda element: element[0]))
def test_accept_encoding_keeps_what_it_means(elements: list[tuple[bytes, bytes]]) -> None:
    value = b", ".join(name + weight for name, weight in elements)
    canonical = canonical_value(b"accept-encoding", value)
    assert parse_weights(canonical) == parse_weights(value)
    reverse = b",".join(name + weight for name, weight in reversed(elements))
    assert canonical_value(b"accept-encoding", reverse) == canonical

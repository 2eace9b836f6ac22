"""Names with a star."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.name_patterns import compile_names, compile_pairs


@pytest.mark.parametrize(
    ("patterns", "name", "fits"),
    [
        ([], b"", False),
        ([], b"a", False),
        ([b"a"], b"a", True),
        ([b"a"], b"A", False),
        ([b"a"], b"ab", False),
        ([b"a.c"], b"abc", False),
        ([b"utm_*"], b"utm_source", True),
        ([b"utm_*"], b"utm_", True),
        ([b"utm_*"], b"xutm_a", False),
        ([b"*_id"], b"click_id", True),
        ([b"a*z"], b"az", True),
        ([b"a*z"], b"a\nz", True),
        ([b"a*z"], b"a", False),
        ([b"*"], b"anything", True),
        ([b"a", b"b*"], b"bc", True),
    ],
)
def test_a_star_stands_for_anything(patterns: list[bytes], name: bytes, fits: bool) -> None:
    assert bool(compile_names(patterns).fullmatch(name)) is fits


@pytest.mark.parametrize(
    ("patterns", "pair", "fits"),
    [
        ([], b"=", False),
        ([b"a"], b"a=", True),
        ([b"a"], b"a=1", True),
        ([b"a"], b"ab=1", False),
        ([b"a=1"], b"a=1", True),
        ([b"a=1"], b"a=12", False),
        ([b"a=1*"], b"a=12", True),
        ([b"a="], b"a=", True),
        ([b"a="], b"a=1", False),
        ([b"wp_*"], b"wp_user=mira", True),
    ],
)
def test_a_pair_is_a_name_with_any_value_or_with_one(
    patterns: list[bytes], pair: bytes, fits: bool
) -> None:
    assert bool(compile_pairs(patterns).fullmatch(pair)) is fits


@given(st.lists(st.binary().filter(lambda name: b"*" not in name), min_size=1))
def test_a_name_without_a_star_fits_itself(names: list[bytes]) -> None:
    compiled = compile_names(names)
    assert all(compiled.fullmatch(name) for name in names)

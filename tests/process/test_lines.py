"""What processes write, on its way to the log."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.process.lines import LINE_BYTES, LineSplitter


def split(*pieces: bytes) -> list[bytes]:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return lines + list(splitter.finish())


def test_lines_are_cut_wherever_the_pieces_end() -> None:
    assert split(b"one\ntw", b"o\r\n", b"\n", b"three") == [b"one", b"two", b"three"]


def test_a_line_without_end_is_given_in_bounded_pieces() -> None:
    lines = split(*[b"x" * 1000] * 20)
    assert max(map(len, lines)) == LINE_BYTES
    assert b"".join(lines) == b"x" * 20_000


@given(st.lists(st.binary(max_size=30)))
def test_any_cut_gives_the_same_lines(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert split(*pieces) == split(whole)
    assert (
        b"".join(split(*pieces))
        == b"".join(line.rstrip(b"\r") for line in whole.split(b"\n")[:-1]) + whole.split(b"\n")[-1]
    )


def test_a_long_line_that_comes_at_once_is_cut_as_well() -> None:
    assert [len(line) for line in split(b"x" * (LINE_BYTES + 5) + b"\n")] == [LINE_BYTES, 5]

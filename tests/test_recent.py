"""A memory of what was used last keeps that, and no more than it may."""

from proxy.recent import Recent


def test_what_is_used_stays_however_much_comes() -> None:
    recent: Recent[str, int] = Recent(8)
    recent.add("used", 1)
    for number in range(100):
        recent.add(str(number), number)
        if not number % 3:
            assert recent.get("used") == 1


def test_what_nobody_asks_for_is_forgotten() -> None:
    recent: Recent[str, int] = Recent(8)
    recent.add("once", 1)
    for number in range(8):
        recent.add(str(number), number)
    assert recent.get("once") is None


def test_no_more_is_kept_than_may_be() -> None:
    recent: Recent[int, int] = Recent(8)
    for number in range(100):
        recent.add(number, number)
        recent.get(number - 5)
        assert len(recent) <= 8
    kept = [number for number in range(100) if recent.get(number) is not None]
    assert len(kept) >= 4


def test_a_newer_value_is_the_one_that_is_found() -> None:
    recent: Recent[str, int] = Recent(4)
    recent.add("a", 1)
    recent.add("b", 2)
    recent.add("a", 3)
    assert recent.get("a") == 3

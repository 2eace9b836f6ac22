"""Which server gets a request: in turn, by load, by chance, by a hash."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.balancing import (
    Balancer,
    ConsistentHash,
    LeastConnections,
    RandomTwo,
    RoundRobin,
    drawn,
    slow_start_factor,
    sticky_values,
    without_backups,
)

NAMES = [f"10.0.0.{number}:8000" for number in range(5)]
KEYS = [f"/page/{number}".encode() for number in range(2000)]


def no_load(_index: int) -> int:
    return 0


def chosen(balancer: Balancer, weights: list[float], times: int) -> list[int]:
    return [balancer.choose(weights, no_load, b"") for _ in range(times)]


def draws(*values: float) -> Callable[[], float]:
    given: Iterator[float] = iter(values)
    return lambda: next(given)


# nginx's own example of smooth weighted round robin: 5, 1, 1 is a a b a c a a
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 1.0, 1.0], [0, 1, 2, 0, 1, 2]),
        ([5.0, 1.0, 1.0], [0, 0, 1, 0, 2, 0, 0]),
        ([2.0, 1.0], [0, 1, 0, 0, 1, 0]),
        ([0.0, 1.0, 1.0], [1, 2, 1, 2]),
    ],
)
def test_servers_are_taken_in_turn_by_their_weights(
    weights: list[float], expected: list[int]
) -> None:
    assert chosen(RoundRobin(len(weights)), weights, len(expected)) == expected


def test_a_server_that_comes_back_does_not_get_what_it_missed() -> None:
    balancer = RoundRobin(2)
    chosen(balancer, [0.0, 1.0], 100)
    assert Counter(chosen(balancer, [1.0, 1.0], 10)) == {0: 5, 1: 5}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_in_one_round_each_gets_its_weight(weights: list[int]) -> None:
    got = Counter(chosen(RoundRobin(len(weights)), [float(one) for one in weights], sum(weights)))
    assert [got[index] for index in range(len(weights))] == weights


@pytest.mark.parametrize(
    ("weights", "loads", "expected"),
    [
        ([1.0, 1.0, 1.0], [2, 0, 1], 1),
        ([1.0, 3.0], [0, 1], 1),  # (0 + 1) / 1 is more than (1 + 1) / 3
        ([0.0, 1.0], [0, 50], 1),
    ],
)
def test_the_least_loaded_for_its_weight_is_taken(
    weights: list[float], loads: list[int], expected: int
) -> None:
    assert LeastConnections(len(weights)).choose(weights, loads.__getitem__, b"") == expected


def test_equally_loaded_servers_are_taken_in_turn() -> None:
    assert chosen(LeastConnections(3), [1.0, 1.0, 1.0], 6) == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("drawn_at", "loads", "expected"),
    [
        ((0.0, 0.0), [5, 1, 0], 1),  # 0, then the first of 1 and 2
        ((0.0, 0.99), [0, 0, 3], 0),
        ((0.99, 0.0), [4, 0, 4], 0),  # a draw between equals stays with the first... of 2 and 0
    ],
)
def test_the_better_of_two_by_chance_is_taken(
    drawn_at: tuple[float, float], loads: list[int], expected: int
) -> None:
    balancer = RandomTwo(draws(*drawn_at))
    got = balancer.choose([1.0, 1.0, 1.0], loads.__getitem__, b"")
    assert loads[got] <= loads[expected]


def test_of_two_equals_the_first_that_was_drawn_is_taken() -> None:
    assert RandomTwo(draws(0.99, 0.0)).choose([1.0, 1.0], no_load, b"") == 1


def test_with_one_server_there_is_no_second_draw() -> None:
    assert RandomTwo(draws(0.5)).choose([0.0, 1.0, 0.0], no_load, b"") == 1


def test_a_draw_is_by_weight() -> None:
    got = Counter(drawn([1.0, 0.0, 3.0], number / 100) for number in range(100))
    assert got == {0: 25, 2: 75}


def test_a_draw_at_the_very_end_is_the_last_server_with_a_weight() -> None:
    assert drawn([0.1, 0.2, 0.0], 1.0) == 1


def placed(balancer: ConsistentHash, weights: list[float]) -> list[int]:
    return [balancer.choose(weights, no_load, key) for key in KEYS]


def test_a_key_has_the_same_server_in_every_process() -> None:
    one, other = (ConsistentHash(NAMES, [1] * 5) for _ in range(2))
    assert placed(one, [1.0] * 5) == placed(other, [1.0] * 5)
    assert len(set(placed(one, [1.0] * 5))) == 5


def test_when_a_server_leaves_only_its_own_keys_move_and_to_all_others() -> None:
    balancer = ConsistentHash(NAMES, [1] * 5)
    before = placed(balancer, [1.0] * 5)
    after = placed(balancer, [1.0, 1.0, 0.0, 1.0, 1.0])
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(moved) == before.count(2)
    assert set(moved) == {0, 1, 3, 4}


def test_when_a_server_is_taken_out_of_the_configuration_the_other_keys_stay() -> None:
    before = placed(ConsistentHash(NAMES, [1] * 5), [1.0] * 5)
    after = placed(ConsistentHash(NAMES[:4], [1] * 4), [1.0] * 4)
    assert all(old in (new, 4) for old, new in zip(before, after, strict=True))


def test_keys_are_spread_by_weight() -> None:
    got = Counter(placed(ConsistentHash(NAMES[:2], [1, 3]), [1.0, 1.0]))
    assert 0.18 < got[0] / len(KEYS) < 0.32


def test_without_any_server_there_is_no_choice() -> None:
    with pytest.raises(ValueError, match="no server"):
        ConsistentHash(["a"], [1]).choose([0.0], no_load, b"k")


@pytest.mark.parametrize(
    ("weights", "backups", "expected"),
    [
        ([1.0, 2.0], [False, True], [1.0, 0.0]),
        ([0.0, 2.0], [False, True], [0.0, 2.0]),
        ([0.0, 0.0], [False, True], [0.0, 0.0]),
    ],
)
def test_a_backup_counts_only_when_all_others_are_gone(
    weights: list[float], backups: list[bool], expected: list[float]
) -> None:
    assert without_backups(weights, backups) == expected


@pytest.mark.parametrize(
    ("up_s", "slow_start_s", "expected"),
    [(0, 10, 0.1), (0.5, 10, 0.1), (5, 10, 0.5), (10, 10, 1), (99, 10, 1), (0, 0, 1)],
)
def test_the_share_of_a_server_that_came_back_grows(
    up_s: float, slow_start_s: float, expected: float
) -> None:
    assert slow_start_factor(up_s, slow_start_s) == expected


@given(st.sets(st.text(min_size=1, max_size=30), min_size=1, max_size=400))
def test_every_server_has_a_value_of_its_own_which_is_not_its_address(names: set[str]) -> None:
    ordered = sorted(names)
    values = sticky_values("shop", ordered)
    assert len(set(values)) == len(names)
    assert all(len(value) == 4 for value in values)
    backwards = sticky_values("shop", ordered[::-1])
    assert backwards[::-1] == values


def test_two_servers_whose_values_meet_get_different_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "proxy.rules.balancing.sticky_value", lambda _group, _name, number: b"%d" % number
    )
    assert sticky_values("shop", ["b", "a"]) == [b"1", b"0"]

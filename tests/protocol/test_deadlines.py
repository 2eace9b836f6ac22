"""The one timer: nothing early, nothing late by more than its step, nothing forgotten or kept."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.deadlines import NEVER, Deadlines

STEP_S = 1.0


class Thing:
    """What has a deadline; `again_s` sets another one when it comes."""

    def __init__(self, deadlines: Deadlines, again_s: float | None = None) -> None:
        self.deadline_at = NEVER
        self.bucket = NEVER
        self.called_at: list[float] = []
        self.others: list[Thing] = []
        self._deadlines = deadlines
        self._again_s = again_s

    def on_deadline(self, now: float) -> None:
        assert self.deadline_at == NEVER
        self.called_at.append(now)
        if self._again_s is not None:
            self._deadlines.set(self, now + self._again_s)
        for other in self.others:
            self._deadlines.forget(other)


def test_a_deadline_comes_once() -> None:
    deadlines = Deadlines(100.0)
    thing = Thing(deadlines)
    deadlines.set(thing, 105.5)
    deadlines.sweep(105.4)
    assert not thing.called_at
    deadlines.sweep(106.6)
    deadlines.sweep(200.0)
    assert thing.called_at == [106.6]
    assert thing.bucket == NEVER


def test_a_deadline_that_moved_away_comes_later() -> None:
    deadlines = Deadlines(100.0)
    thing = Thing(deadlines)
    deadlines.set(thing, 105.0)
    thing.deadline_at = 110.0
    deadlines.sweep(107.0)
    assert not thing.called_at
    deadlines.sweep(111.0)
    assert thing.called_at


def test_a_deadline_that_was_taken_back_does_not_come() -> None:
    deadlines = Deadlines(100.0)
    thing = Thing(deadlines)
    deadlines.set(thing, 105.0)
    thing.deadline_at = NEVER
    deadlines.sweep(200.0)
    assert not thing.called_at
    deadlines.forget(thing)


def test_a_deadline_may_set_the_next_one() -> None:
    deadlines = Deadlines(0.0)
    thing = Thing(deadlines, again_s=5.0)
    deadlines.set(thing, 1.0)
    for quarter in range(100):
        deadlines.sweep(quarter / 4)
    assert thing.called_at == [2.0, 8.0, 14.0, 20.0]


def test_a_deadline_may_forget_others_that_are_due_with_it() -> None:
    deadlines = Deadlines(0.0)
    things = [Thing(deadlines) for _ in range(5)]
    for thing in things:
        thing.others = things
        deadlines.set(thing, 1.0)
    deadlines.sweep(3.0)
    assert sum(len(thing.called_at) for thing in things) == 1


def test_what_is_forgotten_is_held_by_nobody() -> None:
    deadlines = Deadlines(0.0)
    thing = Thing(deadlines)
    deadlines.set(thing, 5.0)
    deadlines.forget(thing)
    deadlines.forget(thing)
    assert not any(deadlines._buckets.values())


def test_a_deadline_in_the_past_comes_with_the_next_second() -> None:
    deadlines = Deadlines(100.0)
    thing = Thing(deadlines)
    deadlines.set(thing, 50.0)
    deadlines.sweep(101.0)
    assert thing.called_at == [101.0]


OPERATION = st.tuples(
    st.sampled_from(["set", "move", "forget", "sweep"]),
    st.integers(0, 3),
    st.floats(0, 30, allow_nan=False),
)


@given(st.lists(OPERATION, max_size=60))
def test_it_does_what_looking_at_everything_all_the_time_would_do(
    operations: list[tuple[str, int, float]],
) -> None:
    now = 1000.25
    deadlines = Deadlines(now)
    things = [Thing(deadlines) for _ in range(4)]
    due_at = [NEVER] * 4
    for what, number, value in operations:
        thing = things[number]
        if what == "set":
            deadlines.set(thing, now + value)
            due_at[number] = now + value
        elif what == "move" and due_at[number] != NEVER:
            thing.deadline_at = due_at[number] = max(due_at[number], now + value)
        elif what == "forget":
            deadlines.forget(thing)
            due_at[number] = NEVER
        elif what == "sweep":
            now += value
            called = [len(each.called_at) for each in things]
            deadlines.sweep(now)
            for index, each in enumerate(things):
                if len(each.called_at) > called[index]:
                    assert due_at[index] <= now
                    due_at[index] = NEVER
                else:
                    assert due_at[index] > now - STEP_S
    for index, each in enumerate(things):
        assert each.deadline_at == due_at[index]
    assert sum(map(len, deadlines._buckets.values())) <= 4

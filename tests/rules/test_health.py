"""When a server is passed over, and when it gets another chance."""

import pytest

from proxy.rules.health import EjectionRules, Health, Thresholds

RULES = EjectionRules(failures=3, rate=0.5, first_s=1, longest_s=5)


def test_a_server_begins_as_usable_and_is_not_suspect() -> None:
    health = Health(RULES)
    assert health.usable(0)
    assert not health.suspect


def test_failures_in_a_row_eject_a_server() -> None:
    health = Health(RULES)
    health.failed(10)
    health.failed(10)
    assert health.usable(10)
    assert health.suspect
    health.failed(10)
    assert not health.usable(10.9)
    assert health.usable(11)
    assert not health.refusing


def test_an_answer_between_failures_begins_the_row_anew() -> None:
    health = Health(RULES)
    for _ in range(5):
        health.failed(10)
        health.failed(10)
        health.succeeded(10)
    assert health.usable(10)


def test_a_server_that_nobody_can_connect_to_is_ejected_at_once() -> None:
    health = Health(RULES)
    health.refused(10)
    assert health.refusing
    assert not health.usable(10.5)


def test_a_high_rate_of_failures_ejects_without_a_row() -> None:
    health = Health(EjectionRules(failures=1000, rate=0.5))
    for number in range(20):
        health.asked()
        health.asked()
        health.failed(10 + number / 10)
        if not health.usable(12):
            break
        health.succeeded(10)
    else:
        pytest.fail("half of all requests failed")
    assert number >= 4


def test_a_low_rate_of_failures_does_not() -> None:
    health = Health(EjectionRules(failures=1000, rate=0.5))
    for _ in range(20):
        for _ in range(5):
            health.asked()
        health.failed(10)
    assert health.usable(10)


def test_failures_of_long_ago_do_not_count_for_the_rate() -> None:
    health = Health(EjectionRules(failures=1000, rate=0.1))
    for second in range(0, 200, 11):
        health.asked()
        health.failed(second)
    assert health.usable(200)


def test_each_failure_after_the_first_ejection_doubles_its_time() -> None:
    health = Health(RULES)
    now = 10.0
    times = []
    for _ in range(5):
        health.refused(now)
        times.append(health.ejected_until - now)
        now = health.ejected_until
    assert times == [1, 2, 4, 5, 5]


def test_one_failure_is_enough_for_a_server_on_trial() -> None:
    health = Health(RULES)
    health.refused(10)
    health.try_out(11)
    health.failed(11.1)
    assert health.ejections == 2
    assert not health.usable(13)


def test_while_one_request_tries_a_server_no_other_does() -> None:
    health = Health(RULES)
    health.refused(10)
    assert health.usable(11)
    health.try_out(11)
    assert not health.usable(11.5)
    assert health.usable(12)  # the trial was given up without a result


def test_a_trial_that_succeeds_closes_the_circuit() -> None:
    health = Health(RULES)
    health.refused(10)
    health.try_out(11)
    health.succeeded(11.2)
    assert health.usable(11.2)
    assert health.up_at == 11.2
    assert (health.refusing, health.suspect, health.ejections) == (False, False, 0)


def test_trying_a_healthy_server_changes_nothing() -> None:
    health = Health(RULES)
    health.try_out(10)
    assert health.usable(10)


def test_a_server_that_is_down_by_its_probe_is_not_usable_until_it_is_up() -> None:
    health = Health(RULES)
    health.probed(False, 10)
    assert not health.usable(1000)
    health.probed(True, 20)
    assert health.usable(20)
    assert health.up_at == 20
    health.probed(True, 30)
    assert health.up_at == 20


def noted(thresholds: Thresholds, outcomes: str) -> str:
    """Return what `up` is after each outcome."""
    said = ""
    for outcome in outcomes:
        before = thresholds.up
        changed = thresholds.note(outcome == "+")
        assert changed == (thresholds.up != before)
        said += "u" if thresholds.up else "d"
    return said


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("+---", "uuud"),
        ("+--+--+", "uuuuuuu"),
        ("-", "d"),  # the first one decides
        ("-++", "ddu"),
        ("-+-++", "ddddu"),
        ("+---++---", "uuudduuud"),
    ],
)
def test_it_takes_several_probes_to_change_the_verdict(outcomes: str, expected: str) -> None:
    assert noted(Thresholds(rise=2, fall=3), outcomes) == expected

"""The secret of session tickets: what is derived from it, and how it goes on."""

import ssl
import sys

import pytest

from proxy.protocol import ticket_keys
from proxy.protocol.ticket_keys import DAY_S, TicketSecret, set_ticket_key

NOON = 20_000.5 * DAY_S


def test_processes_that_share_the_secret_have_the_same_keys_on_every_day() -> None:
    one = TicketSecret.new(NOON)
    other = TicketSecret(one.secret, one.day)
    assert one.key(b"a", 80) == other.key(b"a", 80)
    assert len(one.key(b"a", 80)) == 80
    assert one.advance(NOON + DAY_S)
    assert one.key(b"a", 80) != other.key(b"a", 80)
    assert other.advance(NOON + DAY_S)
    assert one.key(b"a", 80) == other.key(b"a", 80)


def test_a_process_that_slept_for_days_catches_up() -> None:
    one = TicketSecret.new(NOON)
    other = TicketSecret(one.secret, one.day)
    for day in range(1, 4):
        one.advance(NOON + day * DAY_S)
    other.advance(NOON + 3 * DAY_S)
    assert one.secret == other.secret


def test_within_a_day_and_when_the_clock_goes_back_nothing_changes() -> None:
    one = TicketSecret.new(NOON)
    before = one.secret
    assert not one.advance(NOON + 1)
    assert not one.advance(NOON - 5 * DAY_S)
    assert one.secret == before


def test_a_ticket_for_one_purpose_is_worthless_for_another() -> None:
    secret = TicketSecret.new(NOON)
    assert secret.key(b"a", 80) != secret.key(b"b", 80)


def test_an_unknown_python_keeps_its_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    monkeypatch.setattr(ticket_keys, "KNOWN_LAYOUTS", ())
    assert not set_ticket_key(context, TicketSecret.new(NOON), b"")


def test_a_python_whose_libssl_cannot_be_reached_keeps_its_own_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    monkeypatch.setattr("_ssl.__file__", "/nowhere/_ssl.so")
    assert not set_ticket_key(context, TicketSecret.new(NOON), b"")


@pytest.mark.skipif(
    sys.version_info[:2] not in ticket_keys.KNOWN_LAYOUTS, reason="a newer Python than is known"
)
def test_this_python_can_share_its_keys() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert set_ticket_key(context, TicketSecret.new(NOON), b"")

"""What `proxyd status` shows."""

import pytest

from proxy.tools.status import show, until
from proxy.tools.words import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (3661, "1h 1m"), (90_061, "1d 1h"), (86_405, "1d 5s")],
)
def test_times_are_written_in_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_processes_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    running = {"name": "worker 1", "pid": 12, "uptime_s": 61.0, "restarts": 2}
    gone = {"name": "app [x]", "pid": None, "uptime_s": None, "restarts": 3}
    show(
        {
            "version": "1.0",
            "pid": 11,
            "uptime_s": 3600.0,
            "config": "/srv/[site]/proxy.toml",
            "listeners": ["http://[::1]:80"],
            "generations": [
                {"number": 2, "state": "serving", "processes": [running, gone]},
                {"number": 1, "state": "draining", "processes": [running]},
            ],
        }
    )
    shown = capsys.readouterr().out
    assert "proxyd 1.0, pid 11, for 1h, /srv/[site]/proxy.toml" in shown
    assert "listening on http://[::1]:80" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["worker", "1", "2", "serving", "12", "1m", "1s", "2"] in rows
    assert ["app", "[x]", "2", "restarting", "-", "-", "3"] in rows
    assert ["worker", "1", "1", "draining", "12", "1m", "1s", "2"] in rows


def test_numbers_and_certificates_are_shown_where_there_are_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = {
        "version": "1.0", "pid": 11, "uptime_s": 1.0, "config": "proxy.toml", "listeners": [],
        "generations": [],
        "certificates": [{"listener": "[::]:443", "names": ["a", "b"], "expires_at": 1.0}],
    }  # fmt: skip
    show(status | {"traffic_trouble": "not for you"})
    shown = capsys.readouterr().out
    assert "no numbers: not for you" in shown
    assert "certificate  a, b on [::]:443: has EXPIRED" in shown
    numbers = {"busy": 1, "idle": 2}
    traffic = {"connections": numbers, "requests": 3, "requests_failed": 0, "upstreams": []}
    show(status | {"traffic": traffic | {"cache": None}})
    assert "connections  1 busy, 2 idle" in capsys.readouterr().out
    assert until(90_000) == "ends in 1d 1h"

"""What a person sees at the start."""

import sys
from pathlib import Path

import pytest

from proxy.config.load import parse
from proxy.process.announce import announce

CONFIGURATION = """
[upstream.legacy]
servers = ["127.0.0.1:9000", "unix:/run/[bold].sock"]
[[route]]
path = "/static/*"
files = "static"
[[route]]
host = ["a.example", "b.example"]
path = "/*"
to = "legacy"
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_every_listener_and_route_is_shown_as_it_is(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    terminal: bool,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    announce(parse(CONFIGURATION, tmp_path / "proxy.toml"), ["http://[::1]:8080"], [], [])
    shown = capfd.readouterr().err
    for text in (
        "http://[::1]:8080",
        "files in static",
        "a.example/*, b.example/*",
        "legacy: 127.0.0.1:9000, unix:/run/[bold].sock",
    ):
        assert text in shown
    assert ("Point the browser to http://[::1]:8080" in shown) is terminal
    assert ("proxyd: listening http://[::1]:8080\n" in shown) is not terminal

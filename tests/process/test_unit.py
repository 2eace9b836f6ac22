"""The units that `proxyd systemd` prints; systemd's own parser reads them, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

from proxy.config.load import parse
from proxy.config.schema import Config
from proxy.process.unit import quoted, service_unit, socket_unit

ROUTE = '[[route]]\npath = "/*"\nfiles = "."\n'
LISTEN = '[[listen]]\naddress = "[::]:{port}"\n[[listen]]\naddress = "unix:web%1.sock"\n'


def config(text: str, folder: Path, port: int = 8080) -> Config:
    return parse(ROUTE + LISTEN.replace("{port}", str(port)) + text, folder / "proxy.toml")


def test_with_a_user_the_master_is_root_with_a_few_capabilities(tmp_path: Path) -> None:
    unit = service_unit(config('[server]\nuser = "www-data"\n', tmp_path), "/opt/proxyd")
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SETUID" in unit
    assert "User=" not in unit
    assert f"ExecStart=/opt/proxyd run -c {tmp_path}/proxy.toml\n" in unit
    assert "ExecStart=/opt/$$HOME run " in service_unit(config("", tmp_path), "/opt/$HOME")


def test_without_a_user_nobody_is_root_and_systemd_binds_low_ports(tmp_path: Path) -> None:
    unit = service_unit(config("", tmp_path, port=80), "/opt/proxyd")
    assert "\nUser=www-data\n" in unit
    assert "\nCapabilityBoundingSet=\n" in unit
    assert "proxyd systemd --socket" in unit
    assert "--socket" not in service_unit(config("", tmp_path), "/opt/proxyd")


def test_the_socket_unit_has_every_listener(tmp_path: Path) -> None:
    unit = socket_unit(config("", tmp_path))
    assert "ListenStream=[::]:8080\n" in unit
    assert f"ListenStream={tmp_path}/web%%1.sock\n" in unit


def test_folders_of_logs_may_be_written_and_homes_be_read(tmp_path: Path) -> None:
    unit = service_unit(config('[log]\naccess = "/var/log/my site/a.log"\n', tmp_path), "/p")
    assert f'ReadWritePaths=-{tmp_path}/var "-/var/log/my site"\n' in unit
    assert "ProtectHome=yes" in unit
    assert "ProtectHome=read-only" in service_unit(config("", Path("/home/me/site")), "/p")


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/a/b", "/a/b"),
        ("/a b", '"/a b"'),
        ('/a"b', '"/a\\"b"'),
        ("/a%n", "/a%%n"),
        ("/a\\b", '"/a\\\\b"'),
    ],
)
def test_words_are_what_they_are(word: str, written: str) -> None:
    assert quoted(word) == written


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
@pytest.mark.parametrize("text", ["", '[server]\nuser = "www-data"\n'])
def test_systemd_understands_every_line(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "my site"
    folder.mkdir()
    given = config(text, folder)
    (tmp_path / "proxyd.service").write_text(service_unit(given, "/bin/true"))
    (tmp_path / "proxyd.socket").write_text(socket_unit(given))
    told = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "proxyd.service", tmp_path / "proxyd.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in told.stderr.splitlines() if str(tmp_path) in line]
    assert ours == []

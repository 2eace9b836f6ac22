"""What the tools take from proxy.toml and from a daemon that runs."""

import os
import pwd
from pathlib import Path

import pytest

from proxy.cache.purges import PURGES
from proxy.errors import CommandError, ConfigError
from proxy.tools.setting import app_sockets, newest, open_purges, setting
from tests.tools.conftest import CONFIGURATION


def test_the_newest_generation_serves(tmp_path: Path) -> None:
    for number, name in enumerate(("9", "10", "other")):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (number, number))
    assert newest(tmp_path) == tmp_path / "10"
    assert newest(tmp_path / "none") == tmp_path / "none"


def test_applications_are_found_on_their_sockets(folder: Path) -> None:
    (folder / "proxy.toml").write_text(
        '[[route]]\npath = "/*"\nto = "a"\n[app.a]\nwsgi = "m:a"\nprocesses = 2\n'
    )
    site = setting(folder / "proxy.toml")
    assert app_sockets(site.config, folder) == {"a": [folder / "a-0.sock", folder / "a-1.sock"]}
    own = folder.with_name(f"{folder.name}.1")
    own.mkdir()
    (own / "a-1.7").touch()
    assert app_sockets(site.config, folder) == {"a": [folder / "a-0.sock", own / "a-1.7"]}
    (own / "a-1.7").unlink()
    own.rmdir()


def test_looking_makes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    setting(folder / "proxy.toml")
    assert sorted(folder.rglob("*")) == before


def test_a_configuration_that_is_wrong_is_an_error(folder: Path) -> None:
    (folder / "proxy.toml").write_text("[cach]\n")
    with pytest.raises(ConfigError, match='did you mean "cache"'):
        setting(folder / "proxy.toml")


def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    text = CONFIGURATION.replace("[cache]\n", '[cache]\nfolder = "static/a.css/cache"\n')
    (folder / "proxy.toml").write_text(text)
    with pytest.raises(CommandError, match="cannot be made"):
        open_purges(setting(folder / "proxy.toml"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_the_file_of_purges_is_made_for_those_who_serve(folder: Path) -> None:
    (folder / "proxy.toml").write_text(f'[server]\nuser = "nobody"\n{CONFIGURATION}')
    site = setting(folder / "proxy.toml")
    open_purges(site).close()
    owner = pwd.getpwnam("nobody").pw_uid
    assert (site.folder / PURGES).stat().st_uid == owner
    assert site.folder.stat().st_uid == owner

"""What `proxyd check` says about applications, on real files."""

import sys
from pathlib import Path

import pytest

from proxy.config.check_apps import applications
from proxy.config.load import parse

ROUTE = '[[route]]\npath = "/*"\nto = "shop"\n'


def found(folder: Path, lines: str) -> list[str]:
    config = parse(f"{ROUTE}[app.shop]\n{lines}\n", folder / "proxy.toml")
    return [f"{each.key[-1]}: {each.text}; {each.fix}" for each in applications(config)]


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """Return a virtual environment as far as files go, with nothing installed."""
    packages = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    packages.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.12.1\n")
    return packages


def test_a_module_in_the_folder_of_the_application_is_found(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "wsgi.py").touch()
    assert found(tmp_path, 'wsgi = "wsgi:app"\ndirectory = "shop"') == []
    (said,) = found(tmp_path, 'wsgi = "wsgi:app"')
    assert f"neither below {tmp_path} nor installed" in said


def test_a_virtual_environment_without_waitress_is_told(tmp_path: Path, venv: Path) -> None:
    (tmp_path / "shop.py").touch()
    lines = 'wsgi = "shop:app"\nvenv = ".venv"'
    python = tmp_path / ".venv" / "bin" / "python"
    assert found(tmp_path, lines) == [
        f"venv: waitress is not installed in {tmp_path}/.venv; {python} -m pip install waitress"
    ]
    assert "gevent is not installed" in found(tmp_path, lines + '\nserver = "gevent"')[0]
    (venv / "waitress").mkdir()
    (venv / "waitress" / "__init__.py").touch()
    assert found(tmp_path, lines) == []


def test_an_application_may_be_installed_in_its_environment(tmp_path: Path, venv: Path) -> None:
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("include-system-site-packages = true\n")
    (venv / "shop.py").touch()
    assert found(tmp_path, 'wsgi = "shop:app"\nvenv = ".venv"') == []


def test_a_folder_that_is_no_environment_and_an_old_one_are_told(
    tmp_path: Path, venv: Path
) -> None:
    (tmp_path / "shop.py").touch()
    settings = venv.parents[2] / "pyvenv.cfg"
    settings.write_text("version_info = 3.9.2.final.0\n")
    (said,) = found(tmp_path, 'wsgi = "shop:app"\nvenv = ".venv"')
    assert "has Python 3.9, and proxyd starts applications with 3.11 or later" in said
    settings.unlink()
    (said,) = found(tmp_path, 'wsgi = "shop:app"\nvenv = ".venv"')
    assert "is not a virtual environment" in said
    assert f"python3 -m venv {tmp_path}/.venv" in said
    assert found(tmp_path, 'wsgi = "shop:app"\nvenv = "none"') == []  # the paths tell of that


def test_a_program_that_is_not_there_is_told(tmp_path: Path, venv: Path) -> None:
    (said,) = found(tmp_path, 'command = ["no-such-server", "{socket}"]')
    assert 'there is no program "no-such-server"' in said
    assert found(tmp_path, f'command = ["{sys.executable}", "{{socket}}"]') == []
    (said,) = found(tmp_path, 'command = ["./serve", "{socket}"]')
    assert "cannot be run" in said
    program = venv.parents[2] / "bin" / "serve"
    program.parent.mkdir()
    program.touch(0o755)
    assert found(tmp_path, 'command = ["serve", "{socket}"]\nvenv = ".venv"') == []
    (said,) = found(tmp_path, 'command = ["serve2", "{port}"]\nvenv = ".venv"')
    assert f"install it, to {tmp_path}/.venv, or" in said

"""What `proxyd check` says about applications: modules, virtual environments, other servers.

Looks at files only: to run a Python of somebody else's, perhaps as root, would be too much trust.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.machinery import all_suffixes
from pathlib import Path

from proxy.config.backends import App
from proxy.config.finding import Finding, error, warning
from proxy.config.locate import KeyPath
from proxy.config.schema import Config


def applications(config: Config) -> Iterator[Finding]:
    """Look for everything that each application is started with."""
    for name, app in config.app.items():
        folder = app.directory or config.folder
        if app.venv is not None:
            yield from environment(("app", name, "venv"), app.venv, app)
        if app.command is not None:
            yield from program(("app", name, "command"), app, app.command.arguments[0], folder)
        elif app.wsgi is not None:
            yield from module(("app", name, "wsgi"), app, app.wsgi, folder)


def module(key: KeyPath, app: App, wsgi: str, folder: Path) -> Iterator[Finding]:
    """Look for the file of an application, without importing anything."""
    if app.venv is None:
        installed = [Path(entry) for entry in sys.path if entry]
    else:
        installed = site_packages(app.venv)
    if find_module(wsgi, [folder, *installed]) is None:
        name = wsgi.partition(":")[0]
        file = name.replace(".", "/") + ".py"
        yield warning(
            key,
            f'the module "{name}" is neither below {folder} nor installed',
            f"look for {folder / file}; the part before the colon is a module",
        )


def find_module(wsgi: str, folders: list[Path]) -> Path | None:
    """Return the file of the module in "module:object", from the first folder that has it."""
    relative = wsgi.partition(":")[0].replace(".", "/")
    for folder in folders:
        for suffix in all_suffixes():
            for file in (folder / f"{relative}{suffix}", folder / relative / f"__init__{suffix}"):
                if os.path.exists(file):  # Path.exists raises where a parent is closed
                    return file
    return None


def environment(key: KeyPath, venv: Path, app: App) -> Iterator[Finding]:
    """Look into a virtual environment; whether its Python can be run is found with other paths."""
    if not os.path.exists(venv):
        return
    if not os.path.exists(venv / "pyvenv.cfg"):
        text = f"{venv} is not a virtual environment: it has no pyvenv.cfg"
        yield error(key, text, f"name its folder, or make one: python3 -m venv {venv}")
        return
    settings = environment_settings(venv)
    version = re.match(r"(\d+)\.(\d+)", settings.get("version", settings.get("version_info", "")))
    if app.command is not None:
        return
    if version is not None and (int(version[1]), int(version[2])) < (3, 11):
        yield error(
            key,
            f"{venv} has Python {version[0]}, and proxyd starts applications with 3.11 or later",
            "make it anew with a later one, or run the application's own server with `command`",
        )
    elif settings.get("include-system-site-packages") != "true":
        folders = site_packages(venv)
        if folders and find_module(app.server, folders) is None:
            yield error(
                key,
                f"{app.server} is not installed in {venv}",
                f"{venv / 'bin' / 'python'} -m pip install {app.server}",
            )


def site_packages(venv: Path) -> list[Path]:
    """Return where a virtual environment keeps what is installed."""
    return sorted(venv.glob("lib*/python*/site-packages"))


def environment_settings(venv: Path) -> dict[str, str]:
    """Return what a virtual environment says of itself, in lower case."""
    try:
        text = (venv / "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.lower().splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def program(key: KeyPath, app: App, name: str, folder: Path) -> Iterator[Finding]:
    """Look for the program of a `command`, as its process will."""
    if "/" in name:
        if shutil.which(folder / name) is None:
            text = f"{folder / name} cannot be run"
            yield error(key, text, "name a program that is there and may be executed")
        return
    path = app.env.get("PATH", os.environ.get("PATH", os.defpath))
    if app.venv is not None and "PATH" not in app.env:
        path = f"{app.venv / 'bin'}{os.pathsep}{path}"
    if shutil.which(name, path=path) is None:
        where = f", to {app.venv}," if app.venv is not None else ""
        text = f'there is no program "{name}" in {path}'
        yield error(key, text, f"install it{where} or write its whole path")

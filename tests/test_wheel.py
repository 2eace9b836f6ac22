"""What a user installs is the server, and nothing of its demo; compiled where that is wanted."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path
from typing import TypeVar, get_origin

import pytest

ROOT = Path(__file__).parents[1]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
    "wheel"
]["hooks"]["custom"]


@pytest.mark.once
@pytest.mark.timeout(180)
def test_the_wheel_holds_the_server_only(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=False,
        capture_output=True,
        text=True,
    )
    if "No matching distribution" in done.stderr:
        pytest.skip("there is no package index to fetch the build backend from")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("proxyd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        commands = archive.read(entry_points).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"proxy", "proxyd"}
    assert "proxy/py.typed" in names
    assert "proxyd = proxy.cli:main" in commands
    # What the lab's page is made of is no module, and is read by name when it is written.
    page_files = {path.name for path in (ROOT / "proxy/lab/page_files").iterdir()}
    assert page_files >= {"page.html", "page.css", "page.js", "d3.min.js", "plot.min.js"}
    assert {f"proxy/lab/page_files/{name}" for name in page_files} <= set(names)


def can_compile() -> bool:
    """Say whether there are a C compiler and the headers of this Python."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return shutil.which("cc") is not None and headers.exists()


@pytest.mark.timeout(180)
@pytest.mark.skipif(not can_compile(), reason="no C compiler, or no headers of this Python")
def test_a_compiled_wheel_holds_libraries_beside_their_sources(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for name in ("hatch_build.py", "README.md"):
        shutil.copy(ROOT / name, project)
    (project / "proxy" / "rules").mkdir(parents=True)
    for name in ("__init__.py", "clock.py", "rules/__init__.py", "rules/cookies.py"):
        shutil.copy(ROOT / "proxy" / name, project / "proxy" / name)
    # Two modules are enough to see where everything goes, and take seconds.
    text = (ROOT / "pyproject.toml").read_text()
    modules = re.compile(r"^modules = \[.*?^\]", re.DOTALL | re.MULTILINE)
    text, count = modules.subn('modules = ["proxy/clock.py", "proxy/rules/cookies.py"]', text)
    assert count == 1
    (project / "pyproject.toml").write_text(text)
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
            "-w", tmp_path, project,
        ],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PROXYD_COMPILE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("proxyd-*.whl")
    assert "none-any" not in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = "from proxy import clock; print(clock.__file__, clock.Clock().date_line.decode())"
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "installed",
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert re.search(r"/clock\.\S*\.so Date: ", said)
    assert (tmp_path / "installed" / "proxy" / "clock.py").exists()


@pytest.mark.parametrize("module", HOOK["modules"])
def test_a_module_to_be_compiled_holds_nothing_that_mypyc_makes_something_else_of(
    module: str,
) -> None:
    """Options of a class (frozen, kw_only) and of a dataclass (slots) would be lost in silence."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.ClassDef):
            assert node.keywords == []
            # An attribute that an error of ours sets on its class was lost: errors.py has them all.
            assert not node.name.endswith("Error")
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            assert "dataclass" not in {
                part.id
                for decorator in node.decorator_list
                for part in ast.walk(decorator)
                if isinstance(part, ast.Name)
            }
            assert "Struct" not in names


def is_type(value: object) -> bool:
    """Say whether a value is an alias of types, or a variable for one."""
    return isinstance(value, type | TypeVar) or get_origin(value) is not None


@pytest.mark.parametrize("module", HOOK["modules"])
def test_constants_of_a_module_to_be_compiled_are_final(module: str) -> None:
    # mypyc looks up others in a dict by their names, each time.
    source = (ROOT / module).read_text()
    values = vars(import_module(module.removesuffix(".py").replace("/", ".")))
    changed = set(re.findall(r"^ +global (\w+)", source, re.MULTILINE))
    others = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            (target,) = node.targets
            names = {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
            others |= {name for name in names if not is_type(values[name])}
        elif isinstance(node, ast.AnnAssign) and "Final" not in ast.unparse(node.annotation):
            others.add(ast.unparse(node.target))
    assert others - changed == set()

"""Compiles the way of a request with mypyc: for wheels, tests and benchmarks.

    python hatch_build.py FOLDER      a copy of the package there, with its hot modules compiled
    PROXYD_COMPILE=1 pip wheel …      a wheel for this Python and machine (`make wheel`)

The sources are the same in both forms, and what is not compiled runs as it is. Without
PROXYD_COMPILE the wheel is pure Python, which needs no compiler and costs a request a third more.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
# In a process of its own: it works in the current folder, and setuptools reads what is there. The
# compiler runs on as many processors as there are.
SETUP = """
import json, sys
from mypyc.build import mypycify
from pybind11.setup_helpers import ParallelCompile
from setuptools import setup
ParallelCompile("PROXYD_JOBS", default=0).install()
modules = mypycify(json.loads(sys.argv.pop(1)), opt_level="2", debug_level="0", multi_file=True)
setup(name="proxyd", packages=[], py_modules=[], ext_modules=modules)
"""
# What is checked is checked elsewhere. Not pyproject.toml, which setuptools would read as well.
MYPY = """
[mypy]
explicit_package_bases = True
ignore_missing_imports = True
mypy_path = .
"""


class CompilationError(Exception):
    """The modules cannot be compiled here."""


class CompiledHook(BuildHookInterface[Any]):
    """Puts the compiled modules into the wheel, beside their sources."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile when PROXYD_COMPILE says so; raises CompilationError."""
        if version == "editable" or os.environ.get("PROXYD_COMPILE", "") in {"", "0"}:
            return
        folder = Path(self.root, "build", "compiled")
        compile_into(folder, self.config["modules"])
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for library in libraries(folder):
            build_data["force_include"][str(library)] = str(library.relative_to(folder))


def libraries(folder: Path) -> list[Path]:
    """Return the compiled modules, and the library that they share."""
    return sorted([*folder.glob("*.so"), *folder.glob("proxy/**/*.so")])


def compile_into(folder: Path, patterns: list[str]) -> None:
    """Copy the package into `folder` and compile there what `patterns` name.

    Raises CompilationError, with what the compiler said.
    """
    shutil.rmtree(folder / "proxy", ignore_errors=True)
    for library in libraries(folder):
        library.unlink()
    shutil.copytree(
        ROOT / "proxy", folder / "proxy", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    (folder / "mypy.ini").write_text(MYPY)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SETUP, json.dumps(patterns), "-q", "build_ext", "--inplace"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CompilationError(
            f"{done.stdout[-4000:]}\nmypyc could not compile proxyd: it needs mypy, setuptools,"
            " pybind11, a C compiler and Python's headers (on Debian: apt-get install gcc"
            " python3-dev)"
        )


def main() -> None:
    """Compile into the folder that the command line names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    try:
        compile_into(Path(sys.argv[1]), hook["modules"])
    except CompilationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

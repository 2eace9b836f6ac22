"""What a user installs is the server, and nothing of its demo."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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

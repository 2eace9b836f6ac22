"""What counts as a change of an application's source, and when it is told."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from proxy.process import changes
from proxy.process.changes import Changes, changed, snapshot


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("app.py", "templates/page.html", "proxy.toml", "data.sqlite", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for skipped in (".git/hook.py", "venv/lib.py", "__pycache__/app.py", "var/spooled.py"):
        (tmp_path / skipped).parent.mkdir()
        (tmp_path / skipped).touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "gone.py").symlink_to("nowhere")
    return tmp_path


def names(project: Path, paths: list[str]) -> list[str]:
    return sorted(str(Path(path).relative_to(project)) for path in paths)


def test_sources_are_looked_at_and_data_is_not(project: Path) -> None:
    found = names(project, list(snapshot(project, project / "var")))
    assert found == ["app.py", "proxy.toml", "templates/page.html"]


def test_a_folder_without_end_is_looked_at_up_to_a_bound(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_MOST_FILES", 2)
    assert len(snapshot(project, project / "var")) == 2
    assert snapshot(project / "nowhere", project) == {}


def test_what_is_new_different_or_gone_has_changed() -> None:
    before = {"same": (1, 1), "different": (1, 1), "gone": (1, 1)}
    after = {"same": (1, 1), "different": (2, 1), "new": (1, 1)}
    assert changed(before, after) == ["different", "gone", "new"]


async def test_a_change_is_told_once_it_has_come_to_rest(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_CHECK_S", 0.01)
    watched = Changes(project, project / "var", time.time_ns())
    waiting = asyncio.create_task(watched.wait())
    while watched._known is None:  # noqa: ASYNC110 - a thread's doing
        await asyncio.sleep(0.01)
    (project / "app.py").write_text("1")
    (project / "more.py").touch()
    assert names(project, await waiting) == ["app.py", "more.py"]
    again = asyncio.create_task(watched.wait())
    (project / "more.py").unlink()
    assert names(project, await again) == ["more.py"]


async def test_what_changed_while_the_applications_started_has_changed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_CHECK_S", 0.01)
    an_hour_ago = time.time_ns() - 3600 * 10**9
    os.utime(project / "proxy.toml", ns=(an_hour_ago - 1, an_hour_ago - 1))
    os.utime(project / "templates" / "page.html", ns=(an_hour_ago - 1, an_hour_ago - 1))
    watched = Changes(project, project / "var", an_hour_ago)
    assert names(project, await watched.wait()) == ["app.py"]

"""The name of a boot."""

import sys
from pathlib import Path

import pytest

from proxy.cache.boot import boot_name


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_boot_has_one_name() -> None:
    assert boot_name() == boot_name()
    assert len(boot_name()) == 16


@pytest.mark.parametrize("text", [None, "not hexadecimal"])
def test_without_a_name_of_the_system_no_two_are_the_same(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "boot_id"
    if text is not None:
        path.write_text(text)
    assert boot_name(path) != boot_name(path)
    assert len(boot_name(path)) == 16

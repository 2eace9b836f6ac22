"""The token that the master hands to the control process."""

from pathlib import Path

import pytest

from proxy.config.control import Control
from proxy.errors import StartError
from proxy.process.control_program import token_of

TOKEN = "0123456789abcdef"


def in_file(path: Path) -> Control:
    return Control.model_construct(token=None, token_file=path)


def test_without_one_there_is_none() -> None:
    assert token_of(Control.model_construct(token=None, token_file=None)) == ""
    assert token_of(Control.model_construct(token=TOKEN, token_file=None)) == TOKEN


def test_it_is_read_from_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text(f" {TOKEN}\n")
    path.chmod(0o600)
    assert token_of(in_file(path)) == TOKEN
    assert caplog.records == []
    path.chmod(0o644)
    token_of(in_file(path))
    assert f"chmod 600 {path}" in caplog.text


@pytest.mark.parametrize("content", ["", "short", "with spaces in the middle", "\xff" * 20])
def test_one_that_nobody_should_use_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(StartError, match="at least 16 letters"):
        token_of(in_file(path))


def test_a_file_that_is_missing_is_told_with_the_way_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="openssl rand -hex 32 > "):
        token_of(in_file(tmp_path / "token"))

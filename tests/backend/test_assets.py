"""The assets: true names, none missing, none from elsewhere, and small together."""

import json
import re
from pathlib import Path

import pytest

from backend.fingerprint import MANIFEST, STATIC, fingerprint, fingerprinted_name
from backend.settings import SettingsError
from backend.view import assets

_VIEW = Path(assets.__file__).parent
_TEMPLATES = sorted((_VIEW / "templates").glob("*.html"))
_MANIFEST: dict[str, str] = json.loads((STATIC / MANIFEST).read_bytes())
_NAMED = re.compile(r"asset\('([^']+)'\)")


@pytest.fixture
def no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    monkeypatch.setattr(assets, "manifest", assets.manifest.__wrapped__)
    return tmp_path / MANIFEST


@pytest.mark.parametrize(("plain", "name"), sorted(_MANIFEST.items()))
def test_the_name_of_an_asset_holds_the_hash_of_its_content(plain: str, name: str) -> None:
    path = STATIC / name
    assert path.relative_to(STATIC).with_name(fingerprinted_name(path.name, path.read_bytes())) == (
        Path(name)
    )
    assert Path(plain).parent == Path(name).parent


def test_the_manifest_names_every_file_and_no_other() -> None:
    files = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert files - {MANIFEST} == set(_MANIFEST.values())


def test_all_assets_together_are_below_a_megabyte() -> None:
    assert sum((STATIC / name).stat().st_size for name in _MANIFEST.values()) < 1_000_000


@pytest.mark.parametrize("template", _TEMPLATES, ids=lambda path: path.name)
def test_a_template_names_only_assets_that_exist(template: Path) -> None:
    assert set(_NAMED.findall(template.read_text("utf-8"))) <= set(_MANIFEST)


def test_the_pages_name_a_style_sheet_a_script_and_an_icon() -> None:
    named = set(_NAMED.findall((_VIEW / "templates" / "layout.html").read_text("utf-8")))
    assert {"css/timeline.css", "js/timeline.js", "img/favicon.svg"} <= named


@pytest.mark.parametrize("template", _TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_inline_style_or_script_and_loads_nothing_from_elsewhere(
    template: Path,
) -> None:
    html = template.read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|https?://", html)
    assert re.findall(r"<script[^>]*>(?!</script>)", html) == []


def test_the_style_sheet_loads_nothing() -> None:
    # The fingerprinting does not rewrite contents, so a url() in here would miss its target.
    css = (STATIC / _MANIFEST["css/timeline.css"]).read_text("utf-8")
    assert not re.search(r"url\(|@import", css)


def test_an_address_is_made_of_the_folder_and_the_fingerprinted_name() -> None:
    assert assets.asset("css/timeline.css") == f"/static/{_MANIFEST['css/timeline.css']}"


def test_a_missing_manifest_names_the_command_that_writes_it(no_manifest: Path) -> None:
    with pytest.raises(SettingsError, match=r"python -m backend\.fingerprint"):
        assets.manifest()


def test_a_broken_manifest_names_the_command_that_writes_it(no_manifest: Path) -> None:
    no_manifest.write_text("{", "utf-8")
    with pytest.raises(SettingsError, match=r"python -m backend\.fingerprint"):
        assets.manifest()


def test_an_edited_asset_gets_a_new_name_and_a_plain_file_replaces_the_old(tmp_path: Path) -> None:
    (tmp_path / "page.css").write_text("one", "utf-8")
    first = fingerprint(tmp_path)
    (tmp_path / first["page.css"]).write_text("two", "utf-8")
    second = fingerprint(tmp_path)
    (tmp_path / "page.css").write_text("three", "utf-8")
    third = fingerprint(tmp_path)
    assert len({first["page.css"], second["page.css"], third["page.css"]}) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, third["page.css"]]
    assert json.loads((tmp_path / MANIFEST).read_bytes()) == third

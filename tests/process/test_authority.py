"""The authority of `tls = "internal"`, and the certificate that it signs."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy.config.certificates import faults, load_pair
from proxy.config.load import parse
from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.process import authority
from proxy.process.authority import authority_file, how_to_trust, internal_pair, names_for

TEXT = """
[[listen]]
address = "127.0.0.7:0"
tls = "internal"
[[listen]]
address = "[::]:0"
tls = "internal"
[[listen]]
address = "other.test:0"
[[route]]
host = ["shop.test", "*.shop.test"]
path = "/*"
files = "."
"""


def configuration(folder: Path, text: str = TEXT) -> Config:
    (folder / "var").mkdir(exist_ok=True)
    return parse(text, folder / "proxy.toml")


def test_the_certificate_is_for_every_name_that_this_machine_goes_by(tmp_path: Path) -> None:
    names = set(names_for(configuration(tmp_path)))
    assert {"localhost", "127.0.0.1", "::1", "127.0.0.7", "shop.test", "*.shop.test"} <= names
    assert not {"::", "other.test"} & names


def test_the_pair_can_be_served_and_has_no_fault(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    loaded = load_pair(internal_pair(config))
    assert list(faults(loaded)) == []
    assert set(loaded.names) == set(names_for(config))
    context = ssl.create_default_context(cafile=str(authority_file(config)))
    assert context.cert_store_stats()["x509_ca"] == 1


def test_only_the_authority_s_certificate_can_be_read_by_others(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    pair = internal_pair(config)
    folder = pair.key.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(authority_file(config).stat().st_mode) == 0o644


def read(config: Config) -> tuple[bytes, bytes]:
    pair = internal_pair(config)
    return authority_file(config).read_bytes(), pair.certificate.read_bytes()


def test_both_are_kept_from_one_start_to_the_next(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    assert read(config) == read(config)


def test_another_name_means_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    before = read(configuration(tmp_path))
    after = read(configuration(tmp_path, TEXT.replace("shop.test", "blog.test")))
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_certificate_near_its_end_is_made_again_and_an_old_authority_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path)
    before = read(config)

    class Later(datetime):
        ahead = timedelta(days=61)

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + cls.ahead

    monkeypatch.setattr(authority, "datetime", Later)
    renewed = read(config)
    assert renewed[0] == before[0]
    assert renewed[1] != before[1]
    Later.ahead = timedelta(days=3600)
    assert read(config)[0] != before[0]


@pytest.mark.parametrize(
    "name", ["authority.pem", "tls/authority.key", "tls/internal.pem", "tls/internal.key"]
)
def test_what_is_damaged_is_made_again(tmp_path: Path, name: str) -> None:
    config = configuration(tmp_path)
    read(config)
    (tmp_path / "var" / name).write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n")
    assert list(faults(load_pair(internal_pair(config)))) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    (tmp_path / "var" / "authority.pem").mkdir()
    with pytest.raises(StartError, match=r"certificates of tls = \"internal\" cannot be kept in"):
        internal_pair(config)


@pytest.mark.parametrize(
    ("platform", "command"), [("linux", "update-ca-certificates"), ("darwin", "security add")]
)
def test_the_way_to_trust_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, command: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    told = how_to_trust(configuration(tmp_path))
    assert command in told
    assert f"curl --cacert {tmp_path}/var/authority.pem" in told

"""Certificates as the master reads them, and as workers take them."""

import asyncio
import logging
import time
from pathlib import Path

import msgspec
import pytest

from proxy.config.load import parse
from proxy.errors import StartError
from proxy.process import certificates
from proxy.process.certificates import Certificates
from proxy.process.worker_tls import WorkerTls
from proxy.protocol.ticket_keys import DAY_S, TicketSecret
from proxy.protocol.tls import TlsDocument
from tests.config.pki import DAY, NOW, Issued

ROUTE = '[[route]]\npath = "/*"\nfiles = "."\n'
PLAIN = '[[listen]]\naddress = "127.0.0.1:0"\n'
LISTEN = '[[listen]]\naddress = "127.0.0.2:0"\ntls = { certificate = "a.pem", key = "a.key" }\n'


class Place:
    """A folder with a certificate, and a configuration that names it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Issued.authority("Root")
        self.write("a.example")

    def write(self, *names: str) -> None:
        self.root.issue(*names).write(self.folder, "a", self.root)

    def certificates(self, text: str = PLAIN + LISTEN) -> Certificates:
        self.config = parse(ROUTE + text, self.folder / "proxy.toml")
        return Certificates(self.config, TicketSecret.new(time.time()))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def document(read: Certificates) -> TlsDocument:
    return msgspec.json.decode(read.encoded, type=TlsDocument)


def test_workers_get_what_their_listeners_serve(place: Place) -> None:
    read = place.certificates(PLAIN + LISTEN + 'client_ca = "a.pem"\n')
    read.load()
    (material,) = [document(read).listeners[1]]
    assert material.certificates[0].names == ("a.example",)
    assert material.client_ca.count("BEGIN CERTIFICATE") == 2
    worker = WorkerTls(place.config, read.encoded)
    assert list(worker.contexts) == [1]


def test_a_configuration_without_tls_has_nothing_to_watch(place: Place) -> None:
    read = place.certificates(PLAIN)
    read.load()
    assert not document(read).listeners
    asyncio.run(read.watch(lambda: None))


def test_what_cannot_be_served_is_a_failed_start(place: Place) -> None:
    (place.folder / "a.key").unlink()
    with pytest.raises(StartError, match=r"a.key does not exist; name the file"):
        place.certificates().load()


def test_what_clients_would_object_to_is_told_and_served(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    late = place.root.issue("a.example", begins=NOW - 9 * DAY, ends=NOW - DAY)
    late.write(place.folder, "a", place.root)
    place.certificates().load()
    assert "the certificate for a.example expired" in caplog.text


def test_remarks_in_any_encoding_may_stand_in_a_file(place: Place) -> None:
    file = place.folder / "a.pem"
    file.write_bytes(b"subject: caf\xe9\n" + file.read_bytes())
    read = place.certificates()
    read.load()
    WorkerTls(place.config, read.encoded)


def test_what_is_served_is_described_with_its_end(place: Place) -> None:
    read = place.certificates()
    assert read.describe() == []
    read.load()
    described = read.describe()
    assert [one["names"] for one in described] == [["a.example"]]
    assert float(str(described[0]["expires_at"])) > NOW.timestamp()


class Watching:
    """A watch whose every look is made by the test."""

    def __init__(self, read: Certificates) -> None:
        self.read = read

    def look(self, times: int = 2) -> list[bool]:
        return [self.read._reread() for _ in range(times)]


def test_new_files_are_read_when_they_have_been_the_same_for_one_look(place: Place) -> None:
    read = place.certificates()
    read.load()
    watching = Watching(read)
    assert watching.look() == [False, False]
    place.write("b.example")
    assert watching.look(3) == [False, True, False]
    assert document(read).listeners[1].certificates[0].names == ("b.example",)


def test_a_certificate_that_is_there_before_its_key_is_waited_for(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    read = place.certificates()
    read.load()
    watching = Watching(read)
    new = place.root.issue("b.example")
    (place.folder / "a.pem").write_bytes(new.pem + place.root.pem)
    assert watching.look(1) == [False]
    (place.folder / "a.key").write_bytes(new.key_pem())
    assert watching.look() == [False, True]
    assert "stay" not in caplog.text


@pytest.mark.parametrize("damage", ["mismatch", "gone", "garbage"])
def test_new_files_that_cannot_be_served_leave_the_old_ones(
    place: Place, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    read = place.certificates()
    read.load()
    before = read.encoded
    key = place.folder / "a.key"
    if damage == "gone":
        key.unlink()
    else:
        key.write_bytes(place.root.key_pem() if damage == "mismatch" else b"")
    watching = Watching(read)
    assert watching.look(4) == [False] * 4
    assert read.encoded == before
    assert caplog.text.count("the old certificates stay: ") == 1, "it is told once"
    place.write("a.example")
    assert watching.look() == [False, True]


def test_files_that_were_only_touched_are_no_news(place: Place) -> None:
    read = place.certificates()
    read.load()
    (place.folder / "a.pem").touch()
    assert Watching(read).look() == [False, False]


async def test_the_watch_tells_when_there_is_news_and_survives_what_goes_wrong(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "CHECK_S", 0.001)
    read = place.certificates()
    read.load()
    told = asyncio.Event()
    looks = iter([StartError("no space left"), RuntimeError("unforeseen")])
    reread = read._reread

    def faulty() -> bool:
        if (failure := next(looks, None)) is not None:
            raise failure
        return reread()

    monkeypatch.setattr(read, "_reread", faulty)
    monkeypatch.setattr(certificates, "RENEW_S", 0.0)
    task = asyncio.create_task(read.watch(told.set))
    place.write("b.example")
    async with asyncio.timeout(10):
        await told.wait()
    task.cancel()
    assert "no space left" in caplog.text
    assert "could not be looked at" in caplog.text


async def test_workers_that_start_on_another_day_get_that_day_s_secret(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "CHECK_S", 0.001)
    read = place.certificates()
    read.load()
    before = document(read)
    now = time.time() + DAY_S
    monkeypatch.setattr("proxy.process.certificates.time.time", lambda: now)
    task = asyncio.create_task(read.watch(lambda: None))
    async with asyncio.timeout(10):
        while document(read).day == before.day:  # noqa: ASYNC110 - the watch tells nobody of it
            await asyncio.sleep(0.001)
    task.cancel()
    running = WorkerTls(place.config, msgspec.json.encode(before))
    running.tick(now)
    assert running.secret.secret == document(read).secret, "as those that run work it out"


def test_a_worker_takes_new_certificates_and_keeps_the_old_when_they_are_none(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    read = place.certificates()
    read.load()
    worker = WorkerTls(place.config, read.encoded)
    front = worker.contexts[1].front
    worker.take(b"{")
    worker.take(read.encoded.replace(b"BEGIN CERTIFICATE", b"BEGIN NOTHING"))
    assert worker.contexts[1].front is front
    assert caplog.text.count("the old certificates stay") == 2
    worker.take(read.encoded)
    assert worker.contexts[1].front is not front


def test_a_worker_whose_openssl_takes_no_such_key_does_not_start(place: Place) -> None:
    read = place.certificates()
    read.load()
    damaged = read.encoded.replace(b"BEGIN CERTIFICATE", b"BEGIN NOTHING")
    with pytest.raises(StartError, match=r"OpenSSL does not take the certificates of 127.0.0.2:0"):
        WorkerTls(place.config, damaged)


def test_a_python_that_cannot_share_tickets_is_told_of(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("proxy.protocol.ticket_keys.KNOWN_LAYOUTS", ())
    read = place.certificates()
    read.load()
    WorkerTls(place.config, read.encoded)
    assert "resumed only within one worker" in caplog.text

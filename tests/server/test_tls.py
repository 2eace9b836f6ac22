"""proxyd over TLS, seen by openssl, curl and Python: what people and their tools would see."""

import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from websockets.sync.client import connect

from proxy.config.access import Identity, as_user, obstacle
from tests.config.pki import Issued
from tests.process.running import alive, wait_for
from tests.server import application
from tests.server.daemon import PROXYD, Daemon, serving, short_folder
from tests.server.wire import Wire

HOST = "127.0.0.1"
CONFIGURATION = """
[server]
workers = 2
{server}
[log]
access = "access.log"
format = "json"
flush_interval = "10ms"
level = "debug"
[timeouts]
handshake = "1s"
[limits]
handshakes = 8

[[listen]]
address = "127.0.0.1:{tls}"
tls = [
    {{ certificate = "a.pem", key = "a.key" }},
    {{ certificate = "b.pem", key = "b.key" }},
]
hsts = "730d includeSubDomains"
[[listen]]
address = "127.0.0.1:0"
https_redirect = true
[[listen]]
address = "127.0.0.1:{strict}"
tls = {{ certificate = "a.pem", key = "a.key" }}
client_ca = "staff.pem"
[[listen]]
address = "127.0.0.1:{lenient}"
tls = {{ certificate = "a.pem", key = "a.key" }}
tls_profile = "modern"
client_ca = "staff.pem"
client_certificate = "optional"

[app.flask]
wsgi = "application:app"
threads = 4
[[route]]
path = "/static/*"
files = "static"
[[route]]
path = "/*"
to = "flask"
"""


def free_ports(count: int) -> list[int]:
    held = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


class Secure:
    """A daemon with certificates, and the authorities that signed them."""

    def __init__(self, folder: Path, server: str = "") -> None:
        self.folder = folder
        shutil.copy(application.__file__, folder)
        (folder / "static").mkdir()
        (folder / "static" / "page.html").write_text("a file\n")
        self.root = Issued.authority("Root")
        self.middle = Issued.authority("Middle", self.root)
        self.staff = Issued.authority("Staff")
        self.ca = self.root.write(folder, "root")[0]
        self.staff.write(folder, "staff")
        self.client = self.staff.issue("mira", client=True).write(folder, "mira")
        self.write("a", "a.example", "localhost", HOST)
        self.write("b", "b.example", "*.b.example")
        self.tls, self.strict, self.lenient = free_ports(3)
        self.daemon = Daemon(
            folder,
            CONFIGURATION.format(
                tls=self.tls, strict=self.strict, lenient=self.lenient, server=server
            ),
        )
        self.http = int(self.daemon.urls[1].rpartition(":")[2])

    def write(self, stem: str, *names: str) -> None:
        self.middle.issue(*names).write(self.folder, stem, self.middle)

    def context(self, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if own is not None:
            context.load_cert_chain(*own)
        return context

    def connect(self, port: int, context: ssl.SSLContext, name: str = "a.example") -> Wire:
        raw = socket.create_connection((HOST, port), 10)
        return Wire(context.wrap_socket(raw, server_hostname=name))

    def openssl(self, *arguments: str, port: int = 0, request: str = "") -> str:
        """Run s_client; return all that it says."""
        command = ["openssl", "s_client", "-connect", f"{HOST}:{port or self.tls}"]
        command += ["-CAfile", str(self.ca), *arguments]
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, timeout=20, check=False
        )
        return done.stdout + done.stderr

    def curl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["curl", "-sS", "--cacert", self.ca, *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    folder = short_folder()
    made = None
    try:
        made = Secure(folder)
        yield made
        assert made.daemon.stop() == 0
        made.daemon.check_clean()
    finally:
        if made is not None:
            made.daemon.kill()
        shutil.rmtree(folder)


def test_the_urls_that_it_announces_say_https(secure: Secure) -> None:
    assert secure.daemon.urls[0] == f"https://{HOST}:{secure.tls}"


def test_curl_verifies_the_chain_and_is_told_to_stay_with_https(secure: Secure) -> None:
    said = secure.curl("-i", f"https://localhost:{secure.tls}/static/page.html")
    assert said.startswith("HTTP/1.1 200 OK")
    assert "Strict-Transport-Security: max-age=63072000; includeSubDomains" in said
    assert said.endswith("a file\n")


def test_curl_is_sent_from_http_to_https(secure: Secure) -> None:
    url = f"http://localhost:{secure.http}/static/page.html?a=b"
    said = secure.curl("-i", url)
    assert said.startswith("HTTP/1.1 308 ")
    assert f"Location: https://localhost:{secure.tls}/static/page.html?a=b" in said
    assert "Strict-Transport-Security" not in said
    assert secure.curl("-L", url) == "a file\n"


def test_the_application_knows_that_it_is_https(secure: Secure) -> None:
    with secure.connect(secure.tls, secure.context()) as wire:
        wire.send(b"GET /whoami HTTP/1.1\r\nHost: a.example:8443\r\n\r\n")
        seen = json.loads(wire.message().body)
    assert seen["is_secure"]
    assert ["X-Forwarded-Proto", "https"] in seen["headers"]
    assert seen["external"] == "https://a.example:8443/whoami"


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_openssl_is_refused_with_an_old_version(secure: Secure, version: str) -> None:
    said = secure.openssl(version, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in said
    assert "Cipher is (NONE)" in said


def test_openssl_gets_the_certificate_for_the_name_that_it_asks_for(secure: Secure) -> None:
    assert "subject=CN = b.example" in secure.openssl("-servername", "x.b.example")
    assert "subject=CN = a.example" in secure.openssl("-servername", "c.example")
    assert "subject=CN = a.example" in secure.openssl("-noservername")
    assert "Verify return code: 0 (ok)" in secure.openssl("-servername", "b.example")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_its_session_whichever_worker_it_meets(
    secure: Secure, version: str, tmp_path: Path
) -> None:
    """With two workers, one that keeps tickets to itself would fail about half of these."""
    session = str(tmp_path / "session")
    request = "GET /static/page.html HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    said = secure.openssl(version, "-sess_out", session, "-ign_eof", request=request)
    assert "New, TLSv1" in said
    for _ in range(12):
        said = secure.openssl(version, "-sess_in", session, "-ign_eof", request=request)
        assert "Reused, TLSv1" in said


@pytest.mark.parametrize("command", ["reload", "upgrade"])
def test_sessions_are_resumed_after(command: str, tmp_path: Path) -> None:
    folder = short_folder()
    made = None
    session = str(tmp_path / "session")
    request = "GET /static/page.html HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    try:
        made = Secure(folder)
        said = made.openssl("-sess_out", session, "-ign_eof", request=request)
        assert "New, TLSv1" in said
        done = [str(PROXYD), command, "-c", str(folder / "proxy.toml")]
        subprocess.run(done, check=True, capture_output=True, timeout=60)
        if command == "upgrade":
            made.daemon.process.wait(timeout=20)
        for _ in range(4):
            said = made.openssl("-sess_in", session, "-ign_eof", request=request)
            assert "Reused, TLSv1" in said
        master = int((folder / "var" / "proxyd.pid").read_text())
        os.kill(master, signal.SIGTERM)
        wait_for(lambda: not alive(master), "the end")
    finally:
        if made is not None:
            made.daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def identity(said: str) -> dict[str, str]:
    """Return what the application was told of a client's certificate."""
    headers: list[list[str]] = json.loads(said)["headers"]
    return {name: value for name, value in headers if "Client-Cert" in name}


def test_a_client_certificate_can_be_required(secure: Secure) -> None:
    url = f"https://localhost:{secure.strict}/whoami"
    certificate, key = map(str, secure.client)
    assert "certificate required" in secure.curl(url)
    forged = secure.middle.issue("mira", client=True).write(secure.folder, "forged")
    assert "unknown ca" in secure.curl("--cert", str(forged[0]), "--key", str(forged[1]), url)
    seen = identity(secure.curl("--cert", certificate, "--key", key, url))
    assert seen["X-Client-Cert-Verify"] == "SUCCESS"
    assert seen["X-Client-Cert-Subject"] == "CN=mira"
    assert seen["X-Client-Cert-Issuer"] == "CN=Staff"
    assert seen["Client-Cert"].startswith(":MII")


def test_a_client_certificate_can_be_left_out_but_not_be_claimed(secure: Secure) -> None:
    url = f"https://localhost:{secure.lenient}/whoami"
    claims = ["-H", "X-Client-Cert-Subject: CN=mira", "-H", "X-Client-Cert-Verify: SUCCESS"]
    claims += ["-H", "Client_Cert: :MII:"]
    assert identity(secure.curl(*claims, url)) == {"X-Client-Cert-Verify": "NONE"}
    certificate, key = map(str, secure.client)
    seen = identity(secure.curl("--cert", certificate, "--key", key, *claims, url))
    assert seen["X-Client-Cert-Verify"] == "SUCCESS"
    assert identity(secure.curl(*claims, url)) == {"X-Client-Cert-Verify": "NONE"}
    assert identity(secure.curl(*claims, f"https://localhost:{secure.tls}/whoami")) == {}


def test_modern_refuses_tls_1_2(secure: Secure) -> None:
    assert "alert protocol version" in secure.openssl("-tls1_2", port=secure.lenient)


WRONG = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
    # An alert: unexpected message, decode error and the like.
    "SSL 2": (b"\x80\x2e\x01\x00\x02" + bytes(43), b"\x15\x03"),
    "a torn hello": (b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", b"\x15\x03"),
    "an old version": (
        b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x01"
        + bytes(32)
        + b"\x00\x00\x02\x00\x2f\x01\x00",
        b"\x15\x03",
    ),
}


PATIENT = """
[[listen]]
address = "127.0.0.1:0"
tls = "internal"
[timeouts]
handshake = "60s"
[[route]]
path = "/*"
files = "."
"""


@pytest.fixture(scope="module")
def patient() -> Iterator[Daemon]:
    """Run a daemon that waits for a handshake for longer than a test waits for its end."""
    with serving(PATIENT) as daemon:
        yield daemon
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in two parts"])
@pytest.mark.parametrize(("sent", "told"), WRONG.values(), ids=WRONG.keys())
def test_who_cannot_be_served_is_told_and_nothing_is_waited_for(
    patient: Daemon, sent: bytes, told: bytes, late: bool
) -> None:
    with closing(socket.create_connection(patient.address, 10)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in [sent[:8], sent[8:]] if late else [sent]:
            sock.sendall(part)
        assert Wire(sock).rest().startswith(told)


@pytest.mark.parametrize("alert", [b"\x02\x00", b"\x02\x63"], ids=["a known one", "99"])
def test_an_alert_in_the_middle_of_a_handshake_is_its_end(patient: Daemon, alert: bytes) -> None:
    """Also one that Python has no name for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    with closing(socket.create_connection(patient.address, 10)) as sock:
        sock.sendall(outgoing.read())
        assert sock.recv(5).startswith(b"\x16\x03\x03")
        sock.sendall(b"\x15\x03\x03\x00\x02" + alert)
        Wire(sock).rest()
    assert "Fatal error" not in patient.log


def test_handshakes_that_do_not_go_on_are_closed_and_hold_nobody_up(secure: Secure) -> None:
    began_at = time.monotonic()
    silent = [socket.create_connection((HOST, secure.tls), 10) for _ in range(40)]
    assert secure.curl(f"https://localhost:{secure.tls}/static/page.html") == "a file\n"
    for sock in silent:
        with closing(sock):
            sock.settimeout(10)
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                continue
    assert time.monotonic() - began_at < 8


def test_a_large_answer_arrives_whole(secure: Secure) -> None:
    large = secure.folder / "static" / "large.bin"
    large.write_bytes(os.urandom(3_000_000))
    with secure.connect(secure.tls, secure.context()) as wire:
        wire.get("/static/large.bin", "Connection: close")
        assert wire.message().body == large.read_bytes()
        assert wire.ended()


def test_a_client_may_have_the_keys_changed(secure: Secure) -> None:
    """RFC 8446 §4.6.3: upon its KeyUpdate ("K") the server sends one before what it sends next."""
    command = ["openssl", "s_client", "-connect", f"{HOST}:{secure.tls}", "-msg"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        said = b""
        for told, awaited in (
            (b"", b"NewSessionTicket"),
            (b"K\n", b">>> TLS 1.3, Handshake [length 0005], KeyUpdate"),
            (b"GET /static/page.html HTTP/1.1\r\nHost: a.example\r\n\r\n", b"a file\n"),
        ):
            process.stdin.write(told)
            process.stdin.flush()
            while awaited not in said:
                piece = process.stdout.read1()  # type: ignore[attr-defined]
                assert piece, said
                said += piece
        assert b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in said
        process.stdin.close()
        process.wait(timeout=20)


def test_a_websocket_over_tls(websocket_port: int) -> None:
    configuration = f"""
[[listen]]
address = "127.0.0.1:0"
tls = "internal"
[upstream.websocket]
servers = ["127.0.0.1:{websocket_port}"]
[[route]]
path = "/*"
to = "websocket"
"""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    with serving(configuration) as daemon:
        url = "wss://{}:{}/".format(*daemon.address)
        with connect(url, ssl=anybody, proxy=None, close_timeout=None) as websocket:
            for size in (1, 1000, 300_000):
                websocket.send("a" * size)
                assert websocket.recv(10) == "A" * size
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log


def served(secure: Secure, name: str) -> str:
    """Return the serial number of the certificate that is served for `name`."""
    with secure.connect(secure.tls, secure.context(), name) as wire:
        assert isinstance(wire.sock, ssl.SSLSocket)
        found = wire.sock.getpeercert()
    assert found is not None
    return str(found["serialNumber"])


def test_a_new_certificate_is_served_while_old_connections_go_on(secure: Secure) -> None:
    before = served(secure, "b.example")
    with secure.connect(secure.tls, secure.context(), "b.example") as held:
        held.get("/static/page.html")
        assert held.message().status == 200
        logged = len(secure.daemon.log)
        secure.write("b", "b.example", "new.b.example")
        secure.daemon.wait_for_log("certificates read again", logged)
        for _ in range(8):  # of both workers
            wait_for(lambda: served(secure, "new.b.example") != before, "the new certificate")
        held.get("/static/page.html")
        assert held.message().status == 200
    assert secure.daemon.pid("worker 1") in secure.daemon.pids


def test_a_broken_new_certificate_leaves_the_old_one_at_work(secure: Secure) -> None:
    before = served(secure, "b.example")
    logged = len(secure.daemon.log)
    key = secure.folder / "b.key"
    held = key.read_bytes()
    key.write_bytes(secure.root.key_pem())
    said = secure.daemon.wait_for_log("the old certificates stay", logged)
    assert "b.key does not match" in said
    assert served(secure, "b.example") == before
    key.write_bytes(held)


def test_a_key_that_does_not_match_is_a_failed_start(secure: Secure) -> None:
    folder = short_folder()
    try:
        secure.middle.issue("a.example").write(folder, "a", secure.middle)
        (folder / "a.key").write_bytes(secure.root.key_pem())
        (folder / "static").mkdir()
        (folder / "proxy.toml").write_text(
            '[[listen]]\naddress = "127.0.0.1:0"\n'
            'tls = { certificate = "a.pem", key = "a.key" }\n'
            '[[route]]\npath = "/*"\nfiles = "static"\n'
        )
        command = [str(PROXYD), "run", "-c", str(folder / "proxy.toml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        assert f"{folder / 'a.key'} does not match {folder / 'a.pem'}" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        shutil.rmtree(folder)


def test_a_key_of_root_s_alone_is_served_by_workers_that_are_not_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can have a key that workers cannot read")
    user = pwd.getpwnam("nobody")
    nobody = Identity(name=user.pw_name, uid=user.pw_uid, gid=user.pw_gid)
    if as_user(nobody, partial(obstacle, Path(sys.executable), "execute")) is not None:
        pytest.skip(f"the user {user.pw_name} may not run {sys.executable}")
    folder = short_folder()
    folder.chmod(0o755)
    made = None
    try:
        made = Secure(folder, 'user = "nobody"')
        keys = folder / "a.key"
        assert stat.S_IMODE(keys.stat().st_mode) == 0o600
        assert keys.stat().st_uid == 0
        worker = Path(f"/proc/{made.daemon.pid('worker 1')}")
        assert worker.stat().st_uid == user.pw_uid
        assert made.curl(f"https://localhost:{made.tls}/static/page.html") == "a file\n"
        before = served(made, "b.example")
        made.write("b", "b.example")
        wait_for(lambda: served(made, "b.example") != before, "the new certificate")
    finally:
        if made is not None:
            made.daemon.kill()
        shutil.rmtree(folder)


INTERNAL = """
[[listen]]
address = "127.0.0.1:0"
tls = "internal"
[[route]]
host = "shop.test"
path = "/*"
files = "static"
[[route]]
path = "/*"
files = "static"
"""


def test_an_authority_of_its_own_is_kept_private_and_its_certificate_trusted() -> None:
    folder = short_folder()
    daemon = None
    try:
        (folder / "static").mkdir()
        (folder / "static" / "page.html").write_text("a file\n")
        daemon = Daemon(folder, INTERNAL)
        authority = folder / "var" / "authority.pem"
        assert f"curl --cacert {authority}" in daemon.log
        port = daemon.address[1]
        for host in ("localhost", HOST, "shop.test"):
            done = subprocess.run(
                [
                    *("curl", "-sS", "--cacert", str(authority)),
                    *("--resolve", f"shop.test:{port}:{HOST}"),
                    f"https://{host}:{port}/page.html",
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout == "a file\n", done.stderr
        private = folder / "var" / "tls"
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()} == {0o600}
        before = authority.read_bytes(), (private / "internal.pem").read_bytes()
        assert daemon.stop() == 0
        daemon = Daemon(folder, INTERNAL)
        assert (authority.read_bytes(), (private / "internal.pem").read_bytes()) == before
    finally:
        if daemon is not None:
            daemon.kill()
        shutil.rmtree(folder)

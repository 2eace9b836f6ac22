"""What testssl.sh, which tries what attackers and auditors would, says of proxyd's TLS."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.server.daemon import Daemon, short_folder

TESTSSL = shutil.which("testssl") or shutil.which("testssl.sh")

CONFIGURATION = """
[[listen]]
address = "127.0.0.1:0"
tls = "internal"
tls_profile = "{profile}"
hsts = "730d"
[[route]]
path = "/*"
files = "static"
# testssl waits for the end of each connection that it was refused.
[timeouts]
handshake = "1s"
"""

# Protocols, kinds of cipher, forward secrecy, the server's choices, the certificate, headers, and
# every attack that has a name. Left out are the long lists of single ciphers and of clients.
SECTIONS = ["-p", "-s", "-f", "-P", "-S", "-h", "-U"]
ACCEPTABLE = {"OK", "INFO", "WARN"}  # WARN: testssl itself could not try
# What is not a matter of the server's settings, or not of theirs to be wrong.
EXCUSED = {
    "cipher_order": "all ciphers are good, so clients choose, as Mozilla recommends",
    "cert_revocation": "an authority of this machine's own revokes nothing",
    "DNS_CAArecord": "localhost has no CAA record",
}


@pytest.mark.timeout(400)
@pytest.mark.skipif(TESTSSL is None, reason="testssl.sh is not installed (apt install testssl.sh)")
@pytest.mark.parametrize("profile", ["intermediate", "modern"])
def test_testssl_finds_nothing_that_would_cost_the_grade_a(profile: str) -> None:
    folder = short_folder()
    daemon = None
    try:
        (folder / "static").mkdir()
        (folder / "static" / "index.html").write_text("a page\n")
        daemon = Daemon(folder, CONFIGURATION.format(profile=profile))
        findings = examine(daemon)
    finally:
        if daemon is not None:
            daemon.kill()
        shutil.rmtree(folder)
    found = {one["id"]: one for one in findings}
    assert found["TLS1_3"]["severity"] == "OK"
    assert found["TLS1_2"]["finding"].startswith("not" if profile == "modern" else "offered")
    wrong = [
        one for one in findings if one["severity"] not in ACCEPTABLE and one["id"] not in EXCUSED
    ]
    assert wrong == []
    # Before version 3.2, which is in Debian 13, testssl gives no grade.
    if "overall_grade" in found:
        assert found["overall_grade"]["finding"] in {"A", "A+"}


def examine(daemon: Daemon) -> list[dict[str, Any]]:
    """Run testssl; return its findings."""
    report = daemon.folder / "report.json"
    authority = daemon.folder / "var" / "authority.pem"
    subprocess.run(
        [
            *(str(TESTSSL), "--quiet", "--color", "0", "--warnings", "off", "--ip", "one"),
            *("--add-ca", str(authority), "--jsonfile", str(report), *SECTIONS),
            f"https://localhost:{daemon.address[1]}",
        ],
        capture_output=True,
        timeout=350,
        check=False,  # its exit code counts what it could not try
    )
    findings: list[dict[str, Any]] = json.loads(report.read_text())
    return findings

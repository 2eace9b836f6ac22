"""What `proxyd check` says about TLS to upstreams, before a worker trips over it."""

import os
from collections.abc import Iterator

from proxy.config.finding import Finding, error, warning
from proxy.config.locate import KeyPath
from proxy.config.schema import Config
from proxy.errors import CertificateError
from proxy.upstream.server import UpstreamTls
from proxy.upstream.tls import client_context


def upstream_encryption(config: Config) -> Iterator[Finding]:
    """Try what each upstream with TLS would be spoken to with."""
    for name, upstream in config.upstream.items():
        tls = upstream.tls
        key: KeyPath = ("upstream", name, "tls")
        if tls is None:
            continue
        if not tls.verify:
            text = "the servers' certificates are not verified: whoever is on the way can be them"
            yield warning(key, text, "name the authority that signed them as `ca`")
        if readable(tls):  # what is not there, or closed, is found with the other paths
            try:
                client_context(tls)
            except CertificateError as failure:
                yield error(key, str(failure), failure.fix)


def readable(tls: UpstreamTls) -> bool:
    """Say whether the present user can read every file that is named."""
    files = (tls.ca_file, tls.certificate, tls.key)
    return all(file is None or os.access(file, os.R_OK) for file in files)

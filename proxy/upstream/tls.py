"""Makes what a TLS connection to an upstream needs; says which file is wrong when it cannot."""

import ssl

from proxy.errors import CertificateError
from proxy.upstream.server import UpstreamTls


def client_context(tls: UpstreamTls) -> ssl.SSLContext:
    """Return the context for connections to the servers of one group. Raises CertificateError.

    TLS 1.2 at least, HTTP/1.1 by ALPN; Python's defaults choose the ciphers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca_file is None:
        context.load_default_certs()
    else:
        _load_authorities(context, tls)
    if tls.certificate is not None:
        _load_certificate(context, tls)
    return context


def _load_authorities(context: ssl.SSLContext, tls: UpstreamTls) -> None:
    try:
        context.load_verify_locations(tls.ca_file)
    except ssl.SSLError:
        raise CertificateError(
            f"{tls.ca_file} holds no certificates of authorities",
            "write a PEM file of them; it begins with -----BEGIN CERTIFICATE-----",
        ) from None
    except OSError as error:
        raise CertificateError(
            f"{tls.ca_file} cannot be read: {error.strerror}", "check the path and its permissions"
        ) from None


def _load_certificate(context: ssl.SSLContext, tls: UpstreamTls) -> None:
    def no_password() -> str:
        raise ValueError

    files = f"{tls.certificate} with {tls.key or 'its key in it'}"
    try:
        context.load_cert_chain(str(tls.certificate), tls.key, no_password)
    except ValueError:
        raise CertificateError(
            f"the key of {files} has a password",
            "store it without: openssl pkey -in KEY",
            part="key",
        ) from None
    except ssl.SSLError as error:
        raise CertificateError(
            f"{files} is no client certificate: {error.reason or error}",
            "both are PEM, the certificate with its chain, and the key is the one of the first",
        ) from None
    except OSError as error:
        raise CertificateError(
            f"{files} cannot be read: {error.strerror}", "check the paths and their permissions"
        ) from None

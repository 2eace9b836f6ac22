"""What `proxyd check` finds about TLS: certificates, keys, names, and keys that lack each other.

Reads the files as the user that starts proxyd, for that is who does so later.
"""

from collections.abc import Iterator

from proxy.config.certificates import Loaded, faults, load_pair, parse_chain, read_file
from proxy.config.finding import Finding, error, warning
from proxy.config.locate import KeyPath
from proxy.config.schema import Config, Listen
from proxy.config.tls import KeyPair, covers
from proxy.errors import CertificateError


def encryption(config: Config) -> Iterator[Finding]:
    """Yield what is wrong with the TLS of all listeners."""
    names: set[str] = set()
    complete = True
    for index, listen in enumerate(config.listen):
        key: KeyPath = ("listen", index)
        yield from combinations(key, listen)
        if isinstance(listen.tls, tuple):
            loaded, findings = examine((*key, "tls"), listen.tls)
            yield from findings
            complete = complete and len(loaded) == len(listen.tls)
            names.update(name for pair in loaded for name in pair.names)
        if listen.client_ca is not None:
            try:
                parse_chain(read_file(listen.client_ca, "certificate"), listen.client_ca)
            except CertificateError as failure:
                yield error((*key, "client_ca"), str(failure), failure.fix)
    if names and complete and all(listen.tls != "internal" for listen in config.listen):
        yield from unnamed_hosts(config, names)


def combinations(key: KeyPath, listen: Listen) -> Iterator[Finding]:
    """Find keys that mean nothing without another, or beside it."""
    if listen.tls is None:
        for name in ("hsts", "client_ca"):
            if getattr(listen, name) is not None:
                yield error(
                    (*key, name),
                    f"`{name}` has no effect on a listener without `tls`",
                    "move it to the [[listen]] that has `tls`",
                )
    elif listen.https_redirect is not False:
        yield error(
            (*key, "https_redirect"),
            "this listener has `tls`: its requests are https already",
            "move it to the [[listen]] of http",
        )
    if "client_certificate" in listen.model_fields_set and listen.client_ca is None:
        yield error(
            (*key, "client_certificate"),
            "nobody's certificate could be accepted without `client_ca`",
            'write client_ca = "ca.pem": the authorities that sign client certificates',
        )


def examine(key: KeyPath, pairs: tuple[KeyPair, ...]) -> tuple[list[Loaded], list[Finding]]:
    """Read the pairs of a listener; returns those that can be served, and all that is wrong."""
    loaded: list[Loaded] = []
    findings: list[Finding] = []
    for pair in pairs:
        try:
            loaded.append(load_pair(pair))
        except CertificateError as failure:
            findings.append(error(key, str(failure), failure.fix))
        else:
            findings += [
                Finding(level=fault.level, key=key, text=fault.text, fix=fault.fix)
                for fault in faults(loaded[-1])
            ]
    return loaded, findings


def unnamed_hosts(config: Config, names: set[str]) -> Iterator[Finding]:
    """Find hosts of routes for which no certificate is."""
    for index, route in enumerate(config.route):
        for host in route.host or ():
            if not any(covers(name, host) for name in names):
                yield warning(
                    ("route", index, "host"),
                    f"no certificate is for {host}; there are: {', '.join(sorted(names))}",
                    "add a pair for it to `tls` of [[listen]], unless it is served over http only",
                )

"""The Forwarded field and the addresses in forwarding fields. RFC 7239.

Pure. Elements are read from the right: the nearest proxy wrote the last one, and whatever a client
put before it, an open quotation mark included, must not change how that one reads.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

# Hops, and commas in quoted strings, that are looked at. Chains in use have fewer than ten.
MAX_STEPS = 32

_TEXT = rb"[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]*+"
_PAIR = (
    rb"([!#$%%&'*+\-.^_`|~0-9A-Za-z]++)="
    rb"(?:([!#$%%&'*+\-.^_`|~0-9A-Za-z]++)"
    rb'|"(%b(?:\\[\t \x21-\x7e\x80-\xff]%b)*)")'
) % (_TEXT, _TEXT)
_PAIRS = re.compile(_PAIR)
# The white space is not in the grammar of §4; it is often written and changes nothing.
_ELEMENT = re.compile(rb"(?:%b)?(?:[\t ]*+;[\t ]*+(?:%b)?)*" % (_PAIR, _PAIR))
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
# §6, and the bare IPv6 address of X-Forwarded-For. A port may be there, and be obfuscated.
_NODE = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
    rb"|([0-9A-Fa-f:.]+)"
)


def elements_from_right(value: bytes) -> Iterator[dict[bytes, bytes]]:
    """Yield the elements of a combined Forwarded field, the last one first, until one is malformed.

    Parameter names are in lower case, values without quotation. §4.
    """
    end = at = len(value)
    for _ in range(MAX_STEPS):
        at = value.rfind(b",", 0, at)
        element = value[at + 1 : end].strip(b" \t")
        parameters = _read_element(element)
        # What is no element may be the end of one with a comma in a quoted string: look further.
        if parameters is not None:
            if element:  # else an empty member, which a list may have. RFC 9110 §5.6.1.2
                yield parameters
            end = at
        if at < 0:
            return


def _read_element(element: bytes) -> dict[bytes, bytes] | None:
    if _ELEMENT.fullmatch(element) is None:
        return None
    parameters: dict[bytes, bytes] = {}
    for name, token, quoted in _PAIRS.findall(element):
        key = name.lower()
        if key in parameters:
            return None
        parameters[key] = token or _QUOTED_PAIR.sub(rb"\1", quoted)
    return parameters


def read_node(node: bytes) -> str | None:
    """Return the address in a `for` parameter or a member of X-Forwarded-For, without its port.

    None for what is no address: unknown and obfuscated identifiers (§6.2, §6.3), and mistakes.
    """
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    bracketed, four, bare = match.groups()
    try:
        if four is not None:
            return str(IPv4Address(four.decode()))
        return address_text(IPv6Address((bracketed or bare).decode()))
    except ValueError:
        return None


def address_text(address: IPv4Address | IPv6Address) -> str:
    """Write an address; one of IPv4 in IPv6's form is the same client, and gets its usual name."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def write_element(client: str, host: bytes, scheme: bytes) -> bytes:
    """Return one element; `client` is an address or "unix:", `host` may be empty. §4, §6."""
    if client.startswith("unix:"):
        node = b"unknown"
    elif ":" in client:
        node = b'"[%b]"' % client.encode()
    else:
        node = client.encode()
    if not host:
        return b"for=%b;proto=%b" % (node, scheme)
    if b":" in host:
        host = b'"%b"' % host
    return b"for=%b;host=%b;proto=%b" % (node, host, scheme)

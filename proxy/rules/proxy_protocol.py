r"""The PROXY protocol, versions 1 and 2: what a balancer says of a connection before its bytes.

Pure. After HAProxy's proxy-protocol.txt. Version 1 is one line of text; version 2 is

     0                    12        13       14        16
    +--------------------+---------+--------+---------+------------------+- - - -+
    | \r\n\r\n\0\r\nQUIT\n | 2 | cmd | fam|tr | length  | source, dest ... | TLVs  |
    +--------------------+---------+--------+---------+------------------+- - - -+
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from proxy.errors import BadRequestError
from proxy.rules.forwarded import address_text

Endpoint = tuple[str, int]

V1_BYTES = 107  # §2.1, with CRLF
# Behind the 16 bytes. §2.2 allows 65535; 216 are the longest addresses, and TLVs (a TLS client's
# names, a cloud's identifiers) come to some hundreds.
V2_BYTES = 4096

_V1_WORDS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN")
_V1_BEGIN = re.compile(rb"PROXY (?:TCP[46] [0-9A-Fa-f:. ]*|UNKNOWN(?: [\x20-\x7e]*)?)\r?")
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [\x20-\x7e]*)?\r\n")
_V1_KNOWN = re.compile(
    rb"PROXY TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+)"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n"
)

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
# Bytes of both addresses by family and transport. §2.2.
_ADDRESS_BYTES = {0x00: 0, _TCP4: 12, 0x12: 12, _TCP6: 36, 0x22: 36, 0x31: 216, 0x32: 216}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preface:
    """What was said, and in how many bytes.

    The endpoints are None when the sender speaks for itself (a health check) or of something
    other than TCP over IP; the connection's own addresses then hold.
    """

    consumed: int
    source: Endpoint | None = None
    destination: Endpoint | None = None


def parse(data: bytes) -> Preface | None:
    """Read the header at the beginning of a connection; None while it is not complete.

    Raises BadRequestError as soon as no header can come of `data`.
    """
    if data.startswith(b"P"):
        return _parse_v1(data)
    signature = data[: len(_V2_SIGNATURE)]
    if not _V2_SIGNATURE.startswith(signature):
        raise BadRequestError(f"no PROXY protocol header: {data[:16]!r}")
    return _parse_v2(data)


def _parse_v1(data: bytes) -> Preface | None:
    newline = data.find(b"\n", 0, V1_BYTES)
    if newline < 0:
        if len(data) < V1_BYTES and _may_become_v1(data):
            return None
        raise _malformed(data)
    line = data[: newline + 1]
    if _V1_UNKNOWN.fullmatch(line):
        return Preface(consumed=len(line))
    match = _V1_KNOWN.fullmatch(line)
    if match is None:
        raise _malformed(line)
    version, source, destination, source_port, destination_port = match.groups()
    address = IPv4Address if version == b"4" else IPv6Address
    if int(source_port) > 65535 or int(destination_port) > 65535:
        raise _malformed(line)
    try:
        return Preface(
            consumed=len(line),
            source=(address_text(address(source.decode())), int(source_port)),
            destination=(address_text(address(destination.decode())), int(destination_port)),
        )
    except AddressValueError:
        raise _malformed(line) from None


def _may_become_v1(data: bytes) -> bool:
    return any(word.startswith(data) for word in _V1_WORDS) or bool(_V1_BEGIN.fullmatch(data))


def _parse_v2(data: bytes) -> Preface | None:
    if len(data) > 12 and data[12] not in {_LOCAL, _PROXY}:
        raise _malformed(data)
    if len(data) < _V2_HEAD_BYTES:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    consumed = _V2_HEAD_BYTES + length
    if length > V2_BYTES:
        raise BadRequestError(f"a PROXY protocol header of {length} bytes")
    address_bytes = 0
    if command == _PROXY:
        known = _ADDRESS_BYTES.get(family)
        if known is None or known > length:
            raise _malformed(data)
        address_bytes = known
    if len(data) < consumed:
        return None
    if command == _LOCAL or family == 0x00:
        return Preface(consumed=consumed)  # whatever follows is to be ignored. §2.2
    _check_tlvs(data[_V2_HEAD_BYTES + address_bytes : consumed])
    # A stream listener has no use for datagrams, and a unix socket's path names no client.
    if family == _TCP4:
        source, destination = _endpoints(data, 4)
    elif family == _TCP6:
        source, destination = _endpoints(data, 16)
    else:
        return Preface(consumed=consumed)
    return Preface(consumed=consumed, source=source, destination=destination)


def _endpoints(data: bytes, size: int) -> tuple[Endpoint, Endpoint]:
    """Read two addresses of `size` bytes, and the two ports behind them."""
    address = IPv4Address if size == 4 else IPv6Address
    at = _V2_HEAD_BYTES
    source = address_text(address(data[at : at + size]))
    destination = address_text(address(data[at + size : at + 2 * size]))
    ports = data[at + 2 * size : at + 2 * size + 4]
    return (
        (source, int.from_bytes(ports[:2], "big")),
        (destination, int.from_bytes(ports[2:], "big")),
    )


def _check_tlvs(data: bytes) -> None:
    """Walk type, length (two bytes) and value, whose contents are of no use here. §2.2.1."""
    at = 0
    while at < len(data):
        at += 3 + int.from_bytes(data[at + 1 : at + 3], "big")
    if at != len(data):
        raise BadRequestError("malformed PROXY protocol header: its parts do not fit its length")


def _malformed(data: bytes) -> BadRequestError:
    return BadRequestError(f"malformed PROXY protocol header: {data[:V1_BYTES]!r}")

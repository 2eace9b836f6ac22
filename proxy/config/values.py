"""Values of proxy.toml that are more than a text: addresses, networks, patterns, names, fields.

Pure. Each function takes what the person wrote and returns it in its one canonical form. Failures
are ValueError, because pydantic collects those; `load` turns them into ConfigError.
"""

import ipaddress
import re
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from proxy.upstream.address import Address, TcpAddress, UnixAddress

# sizeof(sockaddr_un.sun_path), without the NUL: 108 on Linux, 104 on macOS and the BSDs.
UNIX_PATH_BYTES = 107 if sys.platform == "linux" else 103

HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
TARGET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
WSGI_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
ENVIRONMENT_NAME = re.compile(r"[^=\x00]+")
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
FIELD_VALUE = re.compile(
    r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?"
)  # RFC 9110 §5.5, without obs-text
ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
PATH_CHARACTERS = "/:@!$&'()*+,;=-._~%"  # RFC 3986 §3.3

# What the wire protocol writes itself; a second one would put the framing in doubt. RFC 9112 §11.
OWN_FIELDS = {
    "connection": "proxyd writes it for each connection",
    "content-length": "proxyd writes it from the answer's body",
    "date": "proxyd writes it",
    "keep-alive": "proxyd writes it for each connection",
    "proxy-connection": "it is not a field of HTTP/1.1",
    "server": "it is [server] server_header that turns it on and off",
    "te": "it is a field of requests",
    "trailer": "proxyd writes it from the answer's body",
    "transfer-encoding": "proxyd writes it from the answer's body",
    "upgrade": "proxyd writes it for each connection",
}


def parse_address(text: str, folder: Path) -> Address:
    """Read "host:port", "[v6]:port" or "unix:path"; a relative path begins at `folder`."""
    if text.startswith("unix:"):
        return UnixAddress(unix_path(text.removeprefix("unix:"), folder))
    if "://" in text:
        raise ValueError(f'"{text}" is a URL; write host:port, without scheme and path')
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        raise ValueError(f'"{text}" has no port; write "{text}:8080"')
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{port}" in "{text}" is not a port (0 to 65535)')
    if not host or host == "*":
        raise ValueError(
            f'"{text}" has no host; write "0.0.0.0:{port}" or "[::]:{port}" for every interface, '
            f'"127.0.0.1:{port}" for this machine only'
        )
    return TcpAddress(parse_host(host, text), int(port))


def unix_path(written: str, folder: Path) -> Path:
    """Return the absolute path of a unix socket, short enough for the kernel."""
    if not written:
        raise ValueError('"unix:" has no path; write "unix:/run/name.sock"')
    path = folder / written
    length = len(str(path).encode())
    if length > UNIX_PATH_BYTES:
        raise ValueError(
            f"the path of a unix socket may have {UNIX_PATH_BYTES} bytes, and {path} has {length}; "
            f"choose a shorter one"
        )
    return path


def parse_host(host: str, address: str) -> str:
    """Return the host part of `address` in lower case, without brackets."""
    if host.startswith("["):
        try:
            return str(ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]")))
        except ValueError:
            raise ValueError(f'"{host}" in "{address}" is not an IPv6 address') from None
    if ":" in host:
        port = address.rpartition(":")[2]
        raise ValueError(f'"{address}" needs brackets for IPv6; write "[{host}]:{port}"')
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f'"{host}" in "{address}" is not an IPv4 address') from None
    if not HOST_NAME.fullmatch(host.lower()):
        raise ValueError(f'"{host}" in "{address}" is not a host name')
    return host.lower()


def parse_network(text: str) -> str:
    """Read a network in CIDR notation, a single address, or "unix:"; return its canonical form."""
    if text == "unix:":
        return text
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f'"{text}" is not a network; write "10.0.0.0/8", "2001:db8::/32", one address, or '
            f'"unix:" for peers on unix sockets'
        ) from None
    raise ValueError(f'"{text}" has bits behind its mask; write "{network}"')


def parse_path_pattern(text: str) -> str:
    """Read "/exact" or "/prefix/*"; the result compares with normalised paths (RFC 3986 §6.2.2)."""
    if not text.startswith("/"):
        raise ValueError(f'"{text}" does not begin with "/"; write "/{text.lstrip("/")}"')
    for sign, what in (("?", "query"), ("#", "fragment")):
        if sign in text:
            raise ValueError(f'"{text}" has a {what}; routes look at the path alone')
    literal = text.removesuffix("/*")
    if "*" in literal:
        raise ValueError(
            f'"{text}" has a "*" that is not a whole last segment; write "/exact", "/prefix/*" or '
            f'"/*"'
        )
    if any(segment in (".", "..") for segment in literal.split("/")):
        raise ValueError(f'"{text}" has dot segments, which no request has when routes see it')
    normal = normalise_path(text)
    if normal != text:
        raise ValueError(f'"{text}" is compared with normalised paths; write "{normal}"')
    return text


def normalise_path(text: str) -> str:
    """Return `text` with octets escaped exactly where they must be, in upper case."""

    def canonical(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        return character if UNRESERVED.fullmatch(character) else escape[0].upper()

    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)
    return ESCAPE.sub(canonical, quote(text, safe=PATH_CHARACTERS))


def parse_route_host(text: str) -> str:
    """Read "example.com" or "*.example.com"; return it in lower case, as routes compare it."""
    host = text.lower()
    name = host.removeprefix("*.")
    if not host.isascii():
        raise ValueError(f'"{text}" is not ASCII; write {punycode(host)}')
    if re.fullmatch(r"\[[0-9a-f:.]+\]", host):
        return f"[{parse_host(host, text)}]"
    if "/" in host:
        raise ValueError(f'"{text}" is a URL; write the name alone')
    if ":" in host:
        raise ValueError(f'"{text}" has a port; a route is for a host on every port')
    if not HOST_NAME.fullmatch(name):
        raise ValueError(f'"{text}" is not a host; write "example.com" or "*.example.com"')
    return host


def punycode(host: str) -> str:
    """Return the form in which browsers send an international name. RFC 5891 §4.4."""
    wildcard = "*." if host.startswith("*.") else ""
    try:
        return f'"{wildcard}{host.removeprefix(wildcard).encode("idna").decode()}"'
    except UnicodeError:
        return "the name in its ASCII form, xn--…"


def parse_wsgi(text: str) -> str:
    """Read "module:object"; nothing is imported."""
    if WSGI_OBJECT.fullmatch(text):
        return text
    if re.search(r"\.py(:|$)|/", text):
        path, _, name = text.partition(":")
        module = path.removesuffix(".py").strip("./").replace("/", ".")
        raise ValueError(f'"{text}" is a file; write the module: "{module}:{name or "app"}"')
    if ":" not in text:
        raise ValueError(f'"{text}" names no object; write "{text}:app" when the module has `app`')
    raise ValueError(f'"{text}" is not "module:object", such as "backend.wsgi:app"')


def parse_target_name(text: str) -> str:
    """Read the name of an app or upstream; it also names log lines and socket files."""
    if not TARGET_NAME.fullmatch(text):
        raise ValueError(
            f'"{text}" is not a name; use up to 63 letters, digits, "-" and "_", a letter or digit '
            f"first"
        )
    return text


def parse_environment(variables: dict[str, str]) -> dict[str, str]:
    """Check the names and values of environment variables. POSIX execve(2)."""
    for name, value in variables.items():
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise ValueError(f'"{name}" is not a name of an environment variable')
        if "\0" in value:
            raise ValueError(f'the value of "{name}" has a NUL character')
    return variables


def parse_field_value(text: str) -> str:
    """Check the value of a response field, so that it cannot end its line. RFC 9110 §5.5."""
    if not FIELD_VALUE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a field value: printable ASCII, no line ends, no spaces around it"
        )
    return text


def parse_fields(fields: dict[str, str]) -> dict[str, str]:
    """Check response fields that a route sets."""
    seen: dict[str, str] = {}
    for name, value in fields.items():
        if not FIELD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a field name")
        lower = name.lower()
        if lower in OWN_FIELDS:
            raise ValueError(f'"{name}" cannot be set here: {OWN_FIELDS[lower]}')
        if lower in seen:
            raise ValueError(f'"{name}" and "{seen[lower]}" are the same field')
        seen[lower] = name
        try:
            parse_field_value(value)
        except ValueError as error:
            raise ValueError(f'"{name}": {error}') from None
    return fields


def parse_index(text: str) -> str:
    """Read the name of an index file."""
    if not text or "/" in text or "\0" in text or text in (".", ".."):
        raise ValueError(f'"{text}" is not the name of a file, such as "index.html"')
    return text


def parse_try(text: str) -> str:
    """Read one fallback of `try`: "{path}" or a path below the route's folder."""
    literal = text.replace("{path}", "")
    if "{" in literal or "}" in literal:
        raise ValueError(f'"{text}" has a placeholder that is not {{path}}, the only one')
    if not text.startswith(("/", "{path}")):
        raise ValueError(f'"{text}" does not begin with "/" or "{{path}}"; write "/{text}"')
    if "\0" in text or ".." in literal.split("/"):
        raise ValueError(f'"{text}" leaves the route\'s folder')
    return text


def each(parse: Callable[[str], str]) -> Callable[[object], tuple[str, ...]]:
    """Return a reader of one text or a list of them, each by `parse`."""

    def parse_all(value: object) -> tuple[str, ...]:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ValueError("must be a text in quotes, or a list of them in [ ]")
        if not items:
            raise ValueError("is an empty list; leave the key out instead")
        return tuple(parse(item) for item in items)

    return parse_all

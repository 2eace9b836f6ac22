"""The Cookie field: what names and values a client sends. RFC 6265 §4.2. Pure."""


def parse_cookies(value: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the name and value of each cookie, in order.

    A pair without an equals sign is a name without a value. Quotes mean nothing: a semicolon ends a
    pair in any case, as in browsers.
    """
    if not value:
        return []
    cookies = []
    for pair in value.split(b";"):
        name, _, content = pair.partition(b"=")
        name = name.strip(b" \t")
        content = content.strip(b" \t")
        if name or content:
            cookies.append((name, content))
    return cookies

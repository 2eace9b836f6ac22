"""Paints the demo's pictures, with the standard library only: `python -m backend.paint`.

Writes the header pictures (PNG, a day and a night), the touch icon (PNG) and the avatars (SVG) into
`static/img`, under plain names; run `python -m backend.fingerprint` behind it.
"""

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from backend.fingerprint import STATIC

Colour = tuple[float, float, float]
Shade = Callable[[int, int], Colour]  # the colour of the pixel at x, y

_WIDTH, _HEIGHT = 1600, 400

# Sky from top to horizon, light of sun or moon, hills from far to near.
_DAY = ("3f6fd8", "ffd9b0", "fff6df", ("8fa3dd", "6b84c9", "47619f", "2c4170"))
_NIGHT = ("0b1026", "3a3f77", "e8ecff", ("2a3163", "20264f", "171c3c", "0e1229"))


def _colour(code: str) -> Colour:
    return (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16))


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    share = min(max(share, 0.0), 1.0)
    a, b, c = (x + (y - x) * share for x, y in zip(one, other, strict=True))
    return (a, b, c)


def _png(width: int, height: int, shade: Shade) -> bytes:
    rows = bytearray()
    above = bytes(3 * width)
    for y in range(height):
        row = bytes(round(part) for x in range(width) for part in shade(x, y))
        # Filter 2, "up": what a vertical gradient changes from row to row is small and compresses.
        rows.append(2)
        rows += bytes((now - up) & 0xFF for now, up in zip(row, above, strict=True))
        above = row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _ridge(layer: int, x: int) -> float:
    """Return how far down the ridge of a hill is; each layer is lower and rougher."""
    at = x / _WIDTH * math.tau
    return (
        _HEIGHT * (0.50 + 0.12 * layer)
        + 34 * math.sin(at * (1.3 + 0.4 * layer) + 1.7 * layer)
        + 14 * math.sin(at * (3.1 + 0.9 * layer) + 2.9 * layer)
        + 4 * math.sin(at * (9.7 + layer) + layer)
    )


def _landscape(palette: tuple[str, str, str, tuple[str, ...]], *, stars: bool) -> Shade:
    top, horizon, light = (_colour(code) for code in palette[:3])
    hills = [_colour(code) for code in palette[3]]
    ridges = [[_ridge(layer, x) for x in range(_WIDTH)] for layer in range(len(hills))]
    # A checksum scatters the stars, the same way every time.
    scattered = [zlib.crc32(b"star %d" % number) for number in range(160)]
    star_at = {(at % _WIDTH, at // _WIDTH % (_HEIGHT // 2)) for at in scattered}

    def shade(x: int, y: int) -> Colour:
        colour = _mix(top, horizon, y / (_HEIGHT * 0.75))
        if stars and (x, y) in star_at:
            colour = _mix(colour, light, 0.8)
        distance = math.hypot(x - _WIDTH * 0.72, y - _HEIGHT * 0.36)
        colour = _mix(colour, light, 0.5 * math.exp(-distance / 90))
        colour = _mix(colour, light, 34 - distance)  # the disc, its edge one pixel soft
        for hill, ridge in zip(hills, ridges, strict=True):
            depth = y - ridge[x]
            if depth > -1:
                ground = _mix(hill, horizon, 0.28 - depth / 500)
                colour = _mix(colour, ground, depth + 1)
        return colour

    return shade


def _touch_icon(size: int) -> Shade:
    top, bottom, white = _colour("4f46e5"), _colour("7c3aed"), _colour("ffffff")
    dots = ((0.32, 0.30), (0.32, 0.50), (0.32, 0.70))
    bars = ((0.46, 0.78, 0.30), (0.46, 0.68, 0.50), (0.46, 0.74, 0.70))

    def shade(x: int, y: int) -> Colour:
        colour = _mix(top, bottom, (x + y) / (2 * size))
        for cx, cy in dots:
            colour = _mix(colour, white, size * 0.06 - math.hypot(x - cx * size, y - cy * size))
        for left, right, cy in bars:
            nearest = min(max(float(x), left * size), right * size)
            colour = _mix(colour, white, size * 0.04 - math.hypot(x - nearest, y - cy * size))
        return colour

    return shade


# Background, shoulders, skin, hair, and which hair.
_AVATARS = (
    ("c7d2fe", "4338ca", "f2c9a5", "3b2417", "long"),
    ("fed7aa", "c2410c", "f5d0b0", "a16207", "short"),
    ("fbcfe8", "be185d", "c98d63", "1c1210", "bun"),
    ("bbf7d0", "15803d", "dba77c", "27180f", "curls"),
    ("bae6fd", "0369a1", "f4cfa8", "18181b", "bob"),
    ("ddd6fe", "6d28d9", "7a4a2b", "120c0a", "short"),
    ("fde68a", "b45309", "f0c6a2", "7c2d12", "long"),
    ("e2e8f0", "334155", "9c6a45", "0f0f10", "curls"),
)
_HAIR = {
    "long": '<path d="M26 84V44a22 22 0 0 1 44 0v40z"/>',
    "bob": '<path d="M25 60V43a23 23 0 0 1 46 0v17z"/>',
    "short": '<path d="M28 42a20 20 0 0 1 40 0z"/>',
    "bun": '<circle cx="48" cy="18" r="9"/><path d="M27 46a21 21 0 0 1 42 0z"/>',
    "curls": "".join(
        f'<circle cx="{x}" cy="{y}" r="9"/>'
        for x, y in ((30, 40), (34, 30), (43, 24), (53, 24), (62, 30), (66, 40))
    ),
}
_FRINGE = '<path fill="#{hair}" d="M31 40a17 17 0 0 1 34 0c-9 0-15-3-19-8-3 4-8 8-15 8z"/>'


def _avatar(background: str, shirt: str, skin: str, hair: str, style: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
        f'<path fill="#{background}" d="M0 0h96v96H0z"/>'
        f'<g fill="#{hair}">{_HAIR[style]}</g>'
        f'<path fill="#{shirt}" d="M12 96c0-20 14-30 36-30s36 10 36 30z"/>'
        f'<path fill="#{skin}" d="M41 56h14v12a7 7 0 0 1-14 0z"/>'
        f'<ellipse cx="48" cy="45" rx="17" ry="19" fill="#{skin}"/>'
        f"{_FRINGE.format(hair=hair)}"
        "</svg>\n"
    )


def paint(folder: Path) -> None:
    """Write all pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    day, night = _landscape(_DAY, stars=False), _landscape(_NIGHT, stars=True)
    (folder / "header-day.png").write_bytes(_png(_WIDTH, _HEIGHT, day))
    (folder / "header-night.png").write_bytes(_png(_WIDTH, _HEIGHT, night))
    (folder / "touch-icon.png").write_bytes(_png(180, 180, _touch_icon(180)))
    for number, avatar in enumerate(_AVATARS, 1):
        (folder / f"avatar-{number}.svg").write_text(_avatar(*avatar), "utf-8")


if __name__ == "__main__":
    paint(STATIC / "img")

"""Content-Type by file name: the same on every machine and every Python.

The table below comes first, then the defaults that Python carries; the system's mime.types is not
read, since it would make the answer depend on the packages of the host. Pure.
"""

import mimetypes
import re

DEFAULT = "application/octet-stream"

MEDIA_TYPES = {
    ".7z": "application/x-7z-compressed",
    ".aac": "audio/aac",
    ".apng": "image/apng",
    ".atom": "application/atom+xml",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".br": DEFAULT,
    ".bz2": "application/x-bzip2",
    ".cjs": "text/javascript",
    ".css": "text/css",
    ".csv": "text/csv",
    ".eot": "application/vnd.ms-fontobject",
    ".epub": "application/epub+zip",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".gif": "image/gif",
    ".gltf": "model/gltf+json",
    ".glb": "model/gltf-binary",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".ics": "text/calendar",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".jxl": "image/jxl",
    ".log": "text/plain",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".mpd": "application/dash+xml",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".rss": "application/rss+xml",
    ".svg": "image/svg+xml",
    ".svgz": "image/svg+xml",
    ".tar": "application/x-tar",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".toml": "application/toml",
    ".ts": "video/mp2t",
    ".ttf": "font/ttf",
    ".txt": "text/plain",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xhtml": "application/xhtml+xml",
    ".xml": "application/xml",
    ".xsl": "application/xslt+xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}

_PYTHON_TYPES = mimetypes.MimeTypes().types_map[True]

# What gets smaller; woff, woff2, pictures, sound and archives are compressed already.
COMPRESSIBLE = re.compile(
    r"text/.+|.+\+(?:xml|json)|font/(?:ttf|otf)|image/(?:bmp|x-icon)"
    r"|application/(?:json|xml|javascript|wasm|yaml|toml|vnd\.ms-fontobject)"
)


def media_type(name: str) -> str:
    """Return the media type of a file by the last extension of its name, without parameters."""
    dot = name.rfind(".")
    if dot <= 0:
        return DEFAULT
    extension = name[dot:].lower()
    return MEDIA_TYPES.get(extension) or _PYTHON_TYPES.get(extension, DEFAULT)


def content_type(name: str, charset: str) -> str:
    """Return the whole Content-Type of a file; `charset` is added to text, unless empty.

    XML and JSON say or imply their encoding themselves. RFC 9110 §8.3.
    """
    found = media_type(name)
    return f"{found}; charset={charset}" if charset and found.startswith("text/") else found


def is_compressible(found: str) -> bool:
    """Say whether files of this media type are worth compressing."""
    return COMPRESSIBLE.fullmatch(found) is not None

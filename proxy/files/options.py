"""What a route may choose about the files it serves."""

from dataclasses import dataclass

from proxy.message import FieldLine


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogOptions:
    """Options of one `Catalog`; every default is what `files = "folder"` alone means.

    `try_files` are candidates in their order, "{path}" stands for the requested path with its
    leading slash. `cache_control` is sent with every file, as Flask does: browsers keep it and ask
    each time whether it changed; empty sends none, as nginx and Caddy do, and leaves it to each
    browser's guess. `immutable` sends a year instead for fingerprinted names (see
    `asset.FINGERPRINT`). `headers` are set on every answer and replace ours of the same name. Text
    of at least `compress_min_bytes` is compressed. Files up to `small_file_bytes` live in memory;
    larger ones are streamed. What is in memory is compared with the disk after `check_interval_s`
    (0: every time).
    """

    index: tuple[str, ...] = ("index.html",)
    try_files: tuple[str, ...] = ()
    listing: bool = False
    dotfiles: bool = False
    compress: bool = True
    compress_min_bytes: int = 1024
    precompressed: bool = True
    immutable: bool = True
    cache_control: str = "no-cache"
    charset: str = "utf-8"
    headers: tuple[FieldLine, ...] = ()
    small_file_bytes: int = 1 << 20
    check_interval_s: float = 1.0

"""The files below one root: what is in memory at once, the rest after a look at the disk.

    age of the last look     a request for a file in memory
    0 to 1 s                 is answered
    1 to 1.9 s               is answered, and one look is taken in the background
    older                    waits for the look

so a changed file is seen within two seconds, and the disk is asked once a second at most. All
requests that need the same look wait for the same one.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from proxy.errors import FileChangedError, HttpError, NotFoundError, OverloadedError
from proxy.files.asset import Asset, Representation, represent
from proxy.files.compress import compress_all
from proxy.files.disk import (
    Listing,
    LocatedFile,
    NeedsSlash,
    locate,
    read_whole,
    version,
)
from proxy.files.media_types import is_compressible, media_type
from proxy.files.memory import FileMemory
from proxy.files.options import CatalogOptions
from proxy.files.safe_open import OpenFile, open_below
from proxy.rules.negotiation import CODINGS, IDENTITY

T = TypeVar("T")

Found = Asset | NeedsSlash | Listing

# Past this many intervals since the last look, a request waits for the next one.
PATIENCE = 1.9

# A file that changes while it is read is read again; a log that is always written to has to end.
ATTEMPTS = 3

# Files read and compressed at one time: what is in work is bounded to a few times its largest size.
LOADS_AT_ONCE = 4

# The coarsest file time in use (FAT) counts in two seconds.
SETTLED_NS = 2 * 10**9


async def in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Run blocking `work` in a thread of the loop's pool."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


class Catalog:
    """The files below `root` for one route.

    Keys are paths relative to the root, normalised and percent-encoded as in `Request.path`.
    """

    def __init__(
        self,
        root: Path,
        options: CatalogOptions,
        memory: FileMemory,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = os.fspath(root)
        self.options = options
        self._memory = memory
        self._monotonic = monotonic
        self._interval_s = options.check_interval_s
        self._assets: dict[bytes, Asset] = {}
        self._looks: dict[bytes, asyncio.Task[Found]] = {}
        self._loads = asyncio.Semaphore(LOADS_AT_ONCE)
        self._closed = False
        self._candidates = tuple(_encode(candidate) for candidate in options.try_files)

    def held(self, key: bytes) -> Asset | None:
        """Return the asset for `key` if it may be used as it is; called within the event loop."""
        asset = self._assets.get(key)
        if asset is None:
            return None
        age_s = self._monotonic() - asset.checked_at
        if age_s < self._interval_s:
            return asset
        if age_s < self._interval_s * PATIENCE:
            self._look_once(key)
            return asset
        return None

    async def find(self, key: bytes) -> Found:
        """Return what `key` names, or the first of the `try` candidates that is there.

        Raises NotFoundError, ForbiddenError, OverloadedError.
        """
        if not self._candidates:
            return await self._find_one(key)
        for candidate in self._candidates:
            tried = candidate.replace(b"{path}", b"/" + key).removeprefix(b"/")
            try:
                found = await self._find_one(tried)
            except NotFoundError:
                continue
            if tried == key or not isinstance(found, NeedsSlash):
                return found
        raise NotFoundError(f"none of the candidates is there: {self.options.try_files}")

    async def open(self, representation: Representation) -> OpenFile | None:
        """Open the file of a streamed representation; None when the disk holds another one now."""
        try:
            file = await in_thread(open_below, self.root, representation.segments)
        except NotFoundError:
            return None
        if not file.is_folder and version(file) == representation.version:
            return file
        file.close()
        return None

    def forget(self, key: bytes) -> None:
        """Look at the disk before `key` is answered again."""
        self._assets.pop(key, None)
        self._memory.drop(self, key)

    def evicted(self, asset: Asset) -> None:
        """Forget `asset`, which the memory gave up."""
        if self._assets.get(asset.key) is asset:
            del self._assets[asset.key]

    def close(self) -> None:
        """Give up the memory; requests that already wait are still answered."""
        self._closed = True
        for key in list(self._assets):
            self.forget(key)

    async def _find_one(self, key: bytes) -> Found:
        asset = self.held(key)
        if asset is not None:
            return asset
        if not self._interval_s and (look := self._looks.get(key)) is not None:
            await asyncio.wait((look,))  # it may have seen what is not there any more
        # The look is shared: it goes on when one of those who wait for it is cancelled.
        return await asyncio.shield(self._look_once(key))

    def _look_once(self, key: bytes) -> asyncio.Task[Found]:
        """Return the look at `key` that is under way, or begin one."""
        look = self._looks.get(key)
        if look is None:
            look = asyncio.get_running_loop().create_task(self._look(key))
            self._looks[key] = look
            look.add_done_callback(lambda done: self._looked(key, done))
        return look

    def _looked(self, key: bytes, look: asyncio.Task[Found]) -> None:
        self._looks.pop(key, None)
        if look.cancelled() or look.exception() is not None:
            # Whoever waits gets the error; a look in the background has nobody to tell, and the
            # next request looks again.
            self.forget(key)

    async def _look(self, key: bytes) -> Found:
        """Compare what is in memory with the disk, and load what differs."""
        for _ in range(ATTEMPTS):
            began_at = self._monotonic()
            found = await in_thread(locate, self.root, key, self.options)
            if not isinstance(found, LocatedFile):
                self.forget(key)
                return found
            try:
                asset = self._assets.get(key)
                if asset is None or not asset.settled or asset.versions != found.versions():
                    asset = await self._load(key, found)
            except FileChangedError:
                continue
            finally:
                found.close()
            asset.checked_at = began_at
            self._keep(asset)
            return asset
        raise OverloadedError(
            "a file changes faster than it can be read", ((b"Retry-After", b"1"),)
        )

    async def _load(self, key: bytes, found: LocatedFile) -> Asset:
        async with self._loads:
            return await in_thread(load, key, found, self.options)

    def _keep(self, asset: Asset) -> None:
        if self._closed or not self._memory.keep(self, asset):
            self._assets.pop(asset.key, None)
        else:
            self._assets[asset.key] = asset


def load(key: bytes, found: LocatedFile, options: CatalogOptions) -> Asset:
    """Read the small files among `found`, and compress where nobody else did; blocking.

    Raises FileChangedError when one of them changed since it was opened.
    """
    now_ns = time.time_ns()
    contents: dict[bytes, bytes | None] = {}
    for coding, file in found.files.items():
        small = file.status.st_size <= options.small_file_bytes
        try:
            contents[coding] = read_whole(file) if small else None
        except OSError as error:
            raise HttpError(f"a file could not be read: {error.strerror}") from error
    original = contents[IDENTITY]
    name = os.fsdecode(found.segments[-1])
    if options.compress and original is not None and is_compressible(media_type(name)):
        missing = [coding for coding in CODINGS if coding not in contents]
        contents |= compress_all(original, missing, options.compress_min_bytes)
    ordered = {coding: contents[coding] for coding in (IDENTITY, *CODINGS) if coding in contents}
    versions = found.versions()
    newest_ns = max(max(each.modified_ns, each.changed_ns) for each in versions.values())
    return Asset(
        key,
        versions,
        represent(found, ordered, options, now_ns / 10**9),
        settled=now_ns - newest_ns > SETTLED_NS,
        checked_at=0.0,
    )


def _encode(candidate: str) -> bytes:
    """Bring a `try` candidate from the configuration into the form of request paths."""
    encoded = "{path}".join(
        quote(part, safe="/!$&'()*+,;=:@") for part in candidate.split("{path}")
    )
    return encoded.replace("/{path}", "{path}").encode()

"""An answer that is stored while it comes, and given to all whom it is for. RFC 9111 §3.

Fetch ──→ Arrival ──→ Growing ──→ readers          content that comes bit by bit
             │            └─────→ memory, or a writer of the disk
             └──→ entry ─────────→ the cache        at once, or when all of it is here
"""

import asyncio

from proxy.cache.entry import Entry
from proxy.cache.growing import Growing
from proxy.cache.tiered import Tiered
from proxy.message import Fields, Response
from proxy.pipeline.completing import beginning_of
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.question import Question
from proxy.pipeline.serve import serve_as
from proxy.pipeline.stream import serve_growing


class Arrival:
    """The answer that `entry` is made of.

    `growing` is None when all of it was here at once.
    """

    __slots__ = ("_cache", "_over", "entry", "growing")

    def __init__(self, cache: Tiered, entry: Entry, response: Response, largest_bytes: int) -> None:
        self.entry = entry
        self.growing: Growing | None = None
        self._cache = cache
        self._over: asyncio.Future[None] | None = None
        body = response.body
        if body is None or isinstance(body, bytes):
            entry.set_content(body or b"")
            cache.keep(entry)
        else:
            self.growing = Growing(
                body,
                min(cache.memory_object_bytes, largest_bytes),
                self._ended,
                begin=lambda drained: cache.begin(entry, drained),
                largest_bytes=largest_bytes,
            )

    @property
    def is_kept(self) -> bool:
        """Whether it is stored, as far as that can be known by now."""
        return self.growing is None or self.growing.keeping

    def streams_for(self, question: Question, now: float) -> bool:
        """Whether it is still coming, can be had from its beginning, and is for `question`."""
        entry, growing = self.entry, self.growing
        if growing is None or not growing.may_be_joined():
            return False
        if now >= entry.fresh_until or entry.no_cache or self._cache.purged_since(entry):
            return False
        return question.variant(entry.vary) == entry.variant

    def give(self, exchange: Exchange, question: Question, given: Response) -> Step | Wait:
        """Answer one client; `given` is all of the answer, its content apart."""
        if self.growing is None:
            return serve_as(exchange, question, self.entry, given)
        return serve_growing(exchange, question, self.entry, self.growing, given)

    def start(self) -> bool:
        """Begin to take the content; True when nothing is left to wait for."""
        growing = self.growing
        if growing is None:
            return True
        growing.start()
        return growing.ended and growing.to_commit() is None

    async def over(self) -> None:
        """Wait until all of it is here and stored. Raises what broke it off."""
        growing = self.growing
        if growing is None:
            return
        if not growing.ended:
            self._over = asyncio.get_running_loop().create_future()
            try:
                await self._over
            except asyncio.CancelledError:
                growing.cancel()
                raise
        if growing.error is not None:
            raise growing.error
        entry = await growing.commit()
        if entry is not None:
            self._cache.memory.put(entry)

    def give_up(self) -> None:
        """Take no more of it."""
        if self.growing is not None:
            self.growing.cancel()

    def _ended(self, content: bytes | None, trailers: Fields | None) -> None:
        """The content has come, or broke off, or is not kept, or has to be committed yet."""
        entry, growing = self.entry, self.growing
        if content is not None:
            entry.set_content(content)
            if trailers is not None:
                entry.trailers = trailers
                entry.set_fields(entry.fields)
            self._cache.keep(entry)
        elif growing is not None and growing.beginning:
            part = beginning_of(entry, growing.beginning, growing.length)
            if part is not None and not self._cache.holds_whole(entry):
                self._cache.memory.put(part)
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

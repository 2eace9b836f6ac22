"""`proxyd cache purge`: notes purges where every worker looks, whether a daemon runs or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from proxy.cache.inventory import Inventory, InventoryError
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.errors import CommandError, HttpError
from proxy.pipeline.purge import Purge, url_purges
from proxy.tools.asked import asked
from proxy.tools.setting import Setting, open_purges
from proxy.tools.words import text

# How many entries on disk are counted, which says enough.
COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person wants to be purged; of several, each."""

    urls: Sequence[str] = ()
    prefixes: Sequence[str] = ()
    patterns: Sequence[str] = ()
    tags: Sequence[str] = ()
    everything: bool = False
    soft: bool = False


def purge(setting: Setting, wish: Wish) -> list[str]:
    """Purge, and return a line for each purge. Raises CommandError, PurgeError, StartError."""
    wanted = purges_of(setting, wish)
    if not wanted:
        raise CommandError("say what: a URL, --prefix, --pattern, --tag or --all")
    mode = Verdict.SOFT if wish.soft else Verdict.HARD
    counts = [count(setting, purge) for purge in wanted]
    purges: Purges = open_purges(setting)
    try:
        for kind, argument in wanted:
            purges.add(kind, mode, argument)
    finally:
        purges.close()
    done = "made stale" if wish.soft else "purged"
    return [
        f"{done}: {' '.join((kind.name.lower(), text(argument))).rstrip()}{stored}"
        for (kind, argument), stored in zip(wanted, counts, strict=True)
    ]


def purges_of(setting: Setting, wish: Wish) -> list[Purge]:
    """Return the purges of a wish, each once. Raises CommandError."""
    wanted = [(Kind.ALL, b"")] if wish.everything else []
    for url in wish.urls:
        try:
            found = url_purges(asked(url).request, setting.parts.site.routes)
        except HttpError as error:
            raise CommandError(f"{url}: {error}") from None
        if not found:
            raise CommandError(f"{url}: nothing is cached for its route; see `proxyd explain`")
        wanted += found
    wanted += [
        (Kind.PREFIX, each) for prefix in wish.prefixes for each in with_schemes(prefix, "--prefix")
    ]
    wanted += [
        (Kind.PATTERN, each)
        for pattern in wish.patterns
        for each in with_schemes(pattern, "--pattern")
    ]
    wanted += [(Kind.TAG, encoded(tag)) for tag in wish.tags]
    return list(dict.fromkeys(wanted))


def with_schemes(given: str, option: str) -> list[bytes]:
    """Return the beginning of URLs as keys have it: a name without a scheme stands for both."""
    argument = encoded(given)
    if "://" in given or given.startswith("*"):
        return [argument]
    if not given or given.startswith("/"):
        raise CommandError(
            f'{option} "{given}" names no host; write {option} "example.com{given}"'
            ' or --pattern "*://*' + given + '*" for every host'
        )
    return [b"http://" + argument, b"https://" + argument, b"*://" + argument]


def encoded(argument: str) -> bytes:
    """Return what is purged as bytes; raises CommandError when it is nothing."""
    if not argument.strip():
        raise CommandError("an empty text names nothing; --all is everything")
    return argument.encode("utf-8", "surrogateescape")


def count(setting: Setting, purge: Purge) -> str:
    """Say how many entries on disk a purge is about, as far as the catalogue knows."""
    kind, argument = purge
    name = argument.decode("latin-1")
    try:
        inventory = Inventory(setting.folder)
    except InventoryError:
        return ""
    try:
        match kind:
            case Kind.TAG:
                found = inventory.tagged(name, COUNTED)
            case Kind.URL:
                found = [
                    item
                    for item in inventory.under(name, COUNTED)
                    if item.key.partition(" ")[0] == name
                ]
            case Kind.PREFIX:
                found = inventory.under(name, COUNTED)
            case _:
                found = inventory.ls(name or "*", "key", COUNTED)
    except InventoryError:
        return ""
    finally:
        inventory.close()
    more = "at least " if len(found) == COUNTED else ""
    return f" ({more}{len(found)} on disk)"

"""What is found on the disk for a request, and what purges say of it."""

from pathlib import Path

from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.index import Described, Index
from proxy.cache.index import Found as Listed
from proxy.cache.purges import PURGES, Kind, Purges, Verdict
from proxy.pipeline.question import Question
from proxy.rules.cache_rule import CacheRule
from proxy.tools.asked import asked
from proxy.tools.setting import Setting
from proxy.tools.stored import look_up
from tests.tools.conftest import Store

URL = "http://127.0.0.1:8080/a"
LANGUAGE = (b"accept-language",)


def question(*headers: str, url: str = URL) -> Question:
    request, scheme = asked(url, headers)
    return Question(request, CacheRule(), scheme)


def describe(folder: Path, *variants: bytes) -> None:
    """Enter entries of URL into the catalogue, as the keeper would."""
    index = Index(folder)
    names = [name_of(URL.encode(), variant) for variant in variants]
    index.add([Listed(name, 100, 1) for name in names])
    described = [
        (row.id, Described(100, key=URL, variant=variant.decode(), status=200, fresh_until=1))
        for variant, name in zip(variants, names, strict=True)
        for row in index.named([name])
    ]
    index.describe(described)
    index.close()


def test_where_nothing_is_stored_nothing_is_found(site: Setting) -> None:
    assert look_up(site.folder, question()) == ((), None, (), "")
    assert not site.folder.exists()  # looking changes nothing


def test_an_entry_is_found_with_its_size(site: Setting, store: Store) -> None:
    store()
    found = look_up(site.folder, question())
    assert found.chosen is not None
    assert (found.chosen.entry.key, found.chosen.entry.size_bytes) == (URL.encode(), 7)
    assert (found.chosen.purged, found.others, found.trouble) == (Verdict.NOTHING, [], "")


def test_the_variant_of_the_request_is_chosen(site: Setting, store: Store) -> None:
    for language in (b"de", b"en"):
        store(variant=b"accept-language=" + language, vary=LANGUAGE)
    describe(site.folder, b"accept-language=de", b"accept-language=en")
    found = look_up(site.folder, question("Accept-Language: en"))
    assert found.lists == (LANGUAGE,)
    assert found.chosen is not None
    assert found.chosen.entry.variant == b"accept-language=en"
    assert [other.entry.variant for other in found.others] == [b"accept-language=de"]


def test_variants_for_others_are_named_by_the_catalogue(site: Setting, store: Store) -> None:
    store(variant=b"accept-language=de", vary=LANGUAGE)
    describe(site.folder, b"accept-language=de", b"accept-language=gone")
    found = look_up(site.folder, question())
    assert found.chosen is None
    assert [other.entry.variant for other in found.others] == [b"accept-language=de"]


def test_a_purge_is_heeded(site: Setting, store: Store) -> None:
    purges = Purges(site.folder)
    entry = store(purge_seq=purges.current())
    purges.add(Kind.URL, Verdict.SOFT, URL.encode())
    purges.close()
    chosen = look_up(site.folder, question()).chosen
    assert chosen is not None
    assert chosen.purged is Verdict.SOFT
    assert chosen.entry.fresh_until < entry.fresh_until


def test_a_damaged_file_is_named(site: Setting, store: Store) -> None:
    store()
    Path(path_of(str(site.folder), name_of(URL.encode(), b""))).write_bytes(b"x" * 500)
    assert look_up(site.folder, question()).trouble


def test_a_damaged_catalogue_and_purges_do_not_hide_the_entry(site: Setting, store: Store) -> None:
    store()
    (site.folder / "index.sqlite").write_bytes(b"x" * 500)
    (site.folder / PURGES).mkdir()
    found = look_up(site.folder, question())
    assert found.chosen is not None

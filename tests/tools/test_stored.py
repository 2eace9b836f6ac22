"""What is found on the disk for a request, and what purges say of it."""

from pathlib import Path

import pytest

from proxy.cache import codec
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.entry import Entry
from proxy.cache.index import Described, Index
from proxy.cache.index import Found as Listed
from proxy.cache.purges import PURGES, Kind, Purges, Verdict
from proxy.errors import CommandError
from proxy.pipeline.census import Census, Held, Wanted
from proxy.pipeline.question import Question
from proxy.rules.cache_rule import CacheRule
from proxy.tools.asked import asked
from proxy.tools.setting import Setting
from proxy.tools.stored import NOBODY, Found, clocks
from proxy.tools.stored import look_up as look_up_with
from tests.tools.conftest import Store

URL = "http://127.0.0.1:8080/a"
LANGUAGE = (b"accept-language",)


def question(*headers: str, url: str = URL) -> Question:
    request, scheme = asked(url, headers)
    return Question(request, CacheRule(), scheme)


class Workers:
    """Workers, each with entries in its memory; with what is wrong with them all."""

    def __init__(self, *entries: list[Entry], wrong: str = "") -> None:
        self.entries = entries
        self.wrong = wrong

    def census(self, wanted: Wanted) -> list[Census]:
        if self.wrong:
            raise CommandError(self.wrong)
        assert wanted.key == URL
        return [
            Census(0, 0, 0, [], [Held(codec.encode(one, clocks()), 5) for one in entries])
            for entries in self.entries
        ]


def look_up(folder: Path, asking: Question, *entries: list[Entry]) -> Found:
    return look_up_with(folder, asking, Workers(*entries))


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
    assert look_up(site.folder, question()) == Found(unseen=NOBODY)
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


# ── With workers that run ────────────────────────────────────────────────────────────────────


def remove(site: Setting, entry: Entry) -> None:
    Path(path_of(str(site.folder), name_of(entry.key, entry.variant))).unlink()


def test_what_is_in_memory_alone_is_found(site: Setting, store: Store) -> None:
    entry = store()
    remove(site, entry)
    found = look_up(site.folder, question(), [], [entry])
    assert found.chosen is not None
    assert (found.chosen.where, found.chosen.hits) == ("in the memory of worker 2", 5)
    assert found.chosen.entry.size_bytes == 7
    assert found.chosen.entry.fresh_until == pytest.approx(entry.fresh_until)
    assert (found.unseen, found.others, found.older) == ("", [], [])


def test_what_all_have_is_told_once(site: Setting, store: Store) -> None:
    entry = store()
    found = look_up(site.folder, question(), [entry], [entry])
    assert found.chosen is not None
    where = "in the memory of worker 1, in the memory of worker 2, on disk"
    assert found.chosen.where == where
    assert found.older == []


def test_workers_that_have_nothing_are_said_to(site: Setting) -> None:
    assert look_up(site.folder, question(), [], []) == Found(others=[], older=[])


def test_the_newest_is_chosen_and_the_older_is_named(site: Setting, store: Store) -> None:
    old = store(age_s=30.0, status=404)
    new = store(age_s=5.0)
    found = look_up(site.folder, question(), [old], [new])
    assert found.chosen is not None
    assert found.chosen.entry.status == 200
    assert [(each.entry.status, each.where) for each in found.older] == [
        (404, "in the memory of worker 1")
    ]


def test_what_is_purged_is_not_chosen_before_what_is_not(site: Setting, store: Store) -> None:
    purges = Purges(site.folder)
    purged = store(age_s=1.0, purge_seq=purges.current())
    purges.add(Kind.URL, Verdict.HARD, URL.encode())
    left = store(age_s=5.0, status=404, purge_seq=purges.current())
    purges.close()
    found = look_up(site.folder, question(), [purged, left])
    assert found.chosen is not None
    assert found.chosen.entry.status == 404
    assert found.older[0].purged is Verdict.HARD


def test_variants_in_memory_are_told_apart(site: Setting, store: Store) -> None:
    de, en = (
        store(variant=b"accept-language=" + language, vary=LANGUAGE) for language in (b"de", b"en")
    )
    remove(site, de)
    found = look_up(site.folder, question("Accept-Language: de"), [de, en], [en])
    assert found.lists == (LANGUAGE,)
    assert found.chosen is not None
    assert found.chosen.entry.variant == b"accept-language=de"
    (other,) = found.others
    assert other.where == "in the memory of worker 1, in the memory of worker 2"


def test_a_disk_that_cannot_be_read_does_not_hide_the_memory(site: Setting, store: Store) -> None:
    entry = store()
    Path(path_of(str(site.folder), name_of(URL.encode(), b""))).write_bytes(b"x" * 500)
    found = look_up(site.folder, question(), [entry])
    assert found.chosen is not None
    assert found.trouble


def test_workers_that_cannot_be_asked_leave_what_is_on_the_disk(
    site: Setting, store: Store
) -> None:
    store()
    found = look_up_with(site.folder, question(), Workers(wrong="be root"))
    assert found.chosen is not None
    assert found.unseen == "the memory of the workers is not seen: be root"


def test_a_worker_of_another_version_is_named(site: Setting) -> None:
    class Other:
        def census(self, wanted: Wanted) -> list[Census]:
            return [Census(0, 0, 0, [], [Held(b"\x00", 0)])]

    assert "worker 1 is of another version" in look_up_with(site.folder, question(), Other()).unseen

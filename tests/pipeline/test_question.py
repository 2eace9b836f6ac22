"""What is understood of a client's field lines holds for all that it asks for, and has a bound."""

import pytest

from proxy.message import Fields, Request
from proxy.pipeline.question import MOST_VARIANTS, Asked, Question, asked_by
from proxy.rules.cache_rule import CacheRule, Conditions, Paths

RULE = CacheRule()


def request(path: bytes, fields: Fields, method: bytes = b"GET") -> Request:
    return Request(method, path, 1, fields, path, None, b"h", b"h")


def test_field_lines_are_understood_once_for_each_rule() -> None:
    fields = Fields([(b"Host", b"h"), (b"Cache-Control", b"max-age=5")])
    known = asked_by(request(b"/a", fields), RULE, b"http")
    assert asked_by(request(b"/b", fields), RULE, b"http") is known
    assert asked_by(request(b"/b", fields), RULE, b"https") is not known
    other = CacheRule(ignore=frozenset((b"request-cache-control",)))
    assert asked_by(request(b"/a", fields), other, b"http").directives.max_age is None
    assert known.directives.max_age == 5


def test_questions_with_the_same_field_lines_differ_in_what_they_are_for() -> None:
    fields = Fields([(b"Host", b"h")])
    rule = CacheRule(
        bypass=Conditions(paths=Paths(exact=frozenset((b"/past",)))),
        no_store=Conditions(methods=frozenset((b"HEAD",))),
    )
    plain = Question(request(b"/a", fields), rule, b"http")
    assert (plain.key, plain.why, plain.alone, plain.plain) == (b"http://h/a", b"", False, True)
    assert Question(request(b"/past", fields), rule, b"http").why == b"bypass"
    head = Question(request(b"/a", fields, b"HEAD"), rule, b"https")
    assert (head.key, head.why, head.alone, head.plain) == (b"https://h/a", b"", True, False)
    assert Question(request(b"/a", fields, b"PUT"), rule, b"http").why == b"method"


@pytest.mark.parametrize("count", [1, MOST_VARIANTS, 5 * MOST_VARIANTS])
def test_what_fields_come_to_is_remembered_for_some_lists_of_names(count: int) -> None:
    fields = Fields([(b"X-%d" % number, b"%d" % number) for number in range(count)])
    asked = Asked(fields, RULE, b"http", b"h")
    for _ in range(2):
        for number in range(count):
            assert asked.variant((b"x-%d" % number,)) == b"x-%d=%d" % (number, number)
            assert len(asked._variants) <= MOST_VARIANTS

"""Decides whether a request that failed is sent to the upstream a second time. RFC 9110 §9.2.2.

Pure. Only one failure is repaired here: a keep-alive connection that the upstream closed just as
it was taken for a request. The client cannot know of that connection, so it should not pay for it.
"""

# RFC 9110 §9.2.1 and §9.2.2: what may be done twice with the effect of once. Other registered
# methods are idempotent too (PROPFIND, QUERY …); an application that does not know them may not
# keep that promise, so they are left to the client, as nginx does it.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def may_retry(method: bytes, reused: bool, answer_began: bool, body_repeatable: bool) -> bool:
    """Say whether the request may be sent again on another connection.

    `reused`: the connection had waited idle, so that its end may have crossed with the request; a
    new connection that fails tells something about the upstream, and is reported. `answer_began`:
    a byte of the answer (an interim one as well) has arrived. `body_repeatable`: the content is
    still there from its first byte, or there is none.

    A method that is not idempotent is never repeated: that the connection closed without an answer
    does not show that nothing was done.
    """
    return reused and body_repeatable and not answer_began and method in IDEMPOTENT

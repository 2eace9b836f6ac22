"""Every failure that proxyd means to have, and the HTTP status that it becomes.

Raised anywhere, caught in two places: the pipeline's engine (which answers with `status`) and the
command line (which prints the message). The text of an HTTP failure goes to the log, never to the
client.
"""

from typing import Literal


class ProxydError(Exception):
    """The root of all intended failures."""


class ConfigError(ProxydError):
    """proxy.toml, or something it names, is wrong; the message is for the person who wrote it."""


class CertificateError(ProxydError):
    """A certificate or its key cannot be served; the message names the file, `fix` the way out.

    `part` is the one of the two that is to be looked at.
    """

    def __init__(
        self, text: str, fix: str, *, part: Literal["certificate", "key"] = "certificate"
    ) -> None:
        super().__init__(text)
        self.fix = fix
        self.part: Literal["certificate", "key"] = part


class StartError(ProxydError):
    """The daemon could not start; the message says what to do about it."""


class CommandError(ProxydError):
    """What the running daemon was asked to do was not done; the message says why."""


class HttpError(ProxydError):
    """A request that ends in an answer of proxyd's own.

    `close` says that the connection cannot be trusted or used after it. `fields` are added to the
    answer (Allow, Retry-After …). `hint` is what the client is told in place of the usual sentence.
    `is_logged` once the log has it: an upstream's failure may be that of many requests.
    """

    status = 500
    close = False
    hint = ""

    def __init__(self, reason: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(reason)
        self.fields = fields
        self.is_logged = False


class BadRequestError(HttpError):
    """The message is malformed or its framing is in doubt. RFC 9112 §2.2, §6."""

    status = 400
    close = True


class ForbiddenError(HttpError):
    """The resource exists and is not given. RFC 9110 §15.5.4."""

    status = 403


class NotFoundError(HttpError):
    """Nothing here. RFC 9110 §15.5.5."""

    status = 404


class MethodNotAllowedError(HttpError):
    """The target does not know this method; carries Allow. RFC 9110 §15.5.6."""

    status = 405


class RequestTimeoutError(HttpError):
    """The client took too long to send its request. RFC 9110 §15.5.9."""

    status = 408
    close = True


class PreconditionFailedError(HttpError):
    """The client asked for an answer only if something held, and it does not. RFC 9110 §15.5.13."""

    status = 412


class ContentTooLargeError(HttpError):
    """The request's content is over the limit of its route. RFC 9110 §15.5.14."""

    status = 413
    close = True


class TargetTooLongError(HttpError):
    """The request line is over its limit. RFC 9110 §15.5.15."""

    status = 414
    close = True


class RangeNotSatisfiableError(HttpError):
    """No such range, or too many of them; carries Content-Range. RFC 9110 §15.5.17."""

    status = 416


class ExpectationError(HttpError):
    """An expectation other than 100-continue. RFC 9110 §15.5.18."""

    status = 417


class MisdirectedError(HttpError):
    """No route serves this host. RFC 9110 §15.5.20."""

    status = 421


class HeadersTooLargeError(HttpError):
    """Too many field lines, or too large. RFC 6585 §5."""

    status = 431
    close = True


class NotImplementedMethodError(HttpError):
    """A transfer coding or a form of request that proxyd does not know. RFC 9112 §6.1."""

    status = 501
    close = True


class VersionError(HttpError):
    """Not HTTP/1.x. RFC 9110 §15.6.6."""

    status = 505
    close = True


class FileChangedError(HttpError):
    """A file changed while it was sent; the rest would belong to another version of it."""

    status = 500


class UpstreamError(HttpError):
    """The upstream could not be reached, broke off, or sent what is not HTTP."""

    status = 502


class NoAnswerError(UpstreamError):
    """A connection ended before anything of an answer could be passed on.

    Not a byte of it came, or not all of its head, or not a byte of the content behind it. May be
    repaired (`rules.retrying`).
    """


class StaleConnectionError(NoAnswerError):
    """An idle connection was closed by the upstream before it sent a byte of its answer.

    A failure that may be repaired on the same server (`rules.retrying`). RFC 9110 §9.2.2.
    """


class OverloadedError(HttpError):
    """A queue is at its limit; carries Retry-After. RFC 9110 §15.6.4."""

    status = 503


class UpstreamTimeoutError(HttpError):
    """The upstream was too slow to connect, take or answer. RFC 9110 §15.6.5."""

    status = 504


class InsufficientStorageError(HttpError):
    """No room on the disk for the content of the request. RFC 4918 §11.5."""

    status = 507


class ClientGoneError(ProxydError):
    """The client left before its answer was complete; nobody is there to be told."""


class StoredContentError(ProxydError):
    """Stored content is gone or damaged; before the first byte it is a miss, after it an end."""


class PurgeError(ProxydError):
    """A purge could not be noted, so that nothing was purged; the message says why."""


class LabError(ProxydError):
    """`proxyd lab` cannot measure, or has measured something that is not so; says what to do."""


class OnlyIfCachedError(HttpError):
    """The client wants a stored answer or none. RFC 9111 §5.2.1.7."""

    status = 504

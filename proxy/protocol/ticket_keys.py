"""One key for the session tickets of all workers, so that a client resumes with any of them.

Python's ssl has no way to set that key (OpenSSL makes a random one for each context), so it is set
through ctypes in the very libssl that `_ssl` uses. Only where the layout of its objects is known;
elsewhere a client resumes when it meets the same worker again, and shakes hands in full otherwise.

The secret is replaced by its hash every day (RFC 5077 §5.5: keys are to be changed), in the master
and in each worker by the clock: nobody who sees it today can read yesterday's tickets.
"""

import _ssl
import ctypes
import hashlib
import logging
import os
import ssl
import sys
from typing import Final, Self

log = logging.getLogger("proxyd.tls")

DAY_S: Final = 86400
# Where `struct { PyObject_HEAD; SSL_CTX *ctx; …}` of Modules/_ssl.c was looked at.
KNOWN_LAYOUTS: Final = ((3, 11), (3, 12), (3, 13), (3, 14))
# include/openssl/tls1.h: SSL_CTRL_SET_TLSEXT_TICKET_KEYS
_SET_TICKET_KEYS: Final = 59


class TicketSecret:
    """What ticket keys are derived from; `day` counts from the epoch."""

    __slots__ = ("day", "secret")

    def __init__(self, secret: bytes, day: int) -> None:
        self.secret = secret
        self.day = day

    @classmethod
    def new(cls, now: float) -> Self:
        """Make one that nobody knows; `now` is in seconds since the epoch."""
        return cls(os.urandom(32), int(now // DAY_S))

    def advance(self, now: float) -> bool:
        """Go on to the day of `now`; True when that is another one."""
        today = int(now // DAY_S)
        moved = today > self.day
        while self.day < today:
            self.secret = hashlib.sha256(self.secret).digest()
            self.day += 1
        return moved

    def key(self, purpose: bytes, size_bytes: int) -> bytes:
        """Return the key for one purpose: tickets of one must be worthless for another."""
        return hashlib.shake_256(b"%b%b" % (self.secret, purpose)).digest(size_bytes)


def set_ticket_key(context: ssl.SSLContext, secret: TicketSecret, purpose: bytes) -> bool:
    """Let `context` seal tickets with the key for `purpose`; False where that cannot be done."""
    control = _control()
    if control is None:
        return False
    address = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    size = control(address, _SET_TICKET_KEYS, 0, None)
    done = size > 0 and control(address, _SET_TICKET_KEYS, size, secret.key(purpose, size)) == 1
    return bool(done)


def _control() -> "ctypes._NamedFuncPointer | None":
    """Return SSL_CTX_ctrl of the library that `ssl` stands on, if it can be had."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in KNOWN_LAYOUTS:
        return None
    try:
        # The symbols of a module include those of the libraries that it was linked with.
        control = ctypes.CDLL(_ssl.__file__).SSL_CTX_ctrl
    except (AttributeError, OSError):  # built in, or linked statically
        return None
    control.restype = ctypes.c_long
    control.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    return control

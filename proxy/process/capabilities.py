"""The capabilities of the master: it may hold some, its children get none. Linux.

A master that is not root may bind port 80 with CAP_NET_BIND_SERVICE, which systemd gives it as an
"ambient" capability: one that every program inherits that it starts. Workers and applications
shall not. What is not inheritable cannot be ambient (capabilities(7)), so it is enough to empty
that one set; only a new master (upgrade.py) is handed on what this one has.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# linux/capability.h, linux/prctl.h
_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_LAST = 63


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """32 capabilities of each set; two of these are all."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def withhold_capabilities() -> bool:
    """Let no child inherit a capability; True when this process holds any. Raises OSError."""
    if sys.platform != "linux":
        return False
    halves = _get()
    for half in halves:
        half.inheritable = 0
    _set(halves)
    return any(half.permitted for half in halves)


@contextmanager
def capabilities_handed_on() -> Iterator[None]:
    """Let what is started meanwhile have what this process holds; raises OSError.

    Root needs no help: its programs have everything.
    """
    if sys.platform != "linux" or os.geteuid() == 0:
        yield
        return
    halves = _get()
    for half in halves:
        half.inheritable = half.permitted
    _set(halves)
    try:
        for number in range(_LAST + 1):
            half, bit = halves[number // 32], number % 32
            if half.permitted >> bit & 1:
                _checked(_libc().prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))
        yield
    finally:
        withhold_capabilities()


def _get() -> "ctypes.Array[_Half]":
    halves = (_Half * 2)()
    _checked(_libc().capget(ctypes.byref(_Header(_VERSION_3, 0)), halves))
    return halves


def _set(halves: "ctypes.Array[_Half]") -> None:
    _checked(_libc().capset(ctypes.byref(_Header(_VERSION_3, 0)), halves))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

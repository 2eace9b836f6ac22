"""The time, read once a second for what may be a second old.

Durations use the event loop's monotonic clock; only HTTP dates and log lines use the wall clock.
"""

import time
from email.utils import formatdate


class Clock:
    """The wall clock's second with its encodings, refreshed by `tick`.

    `date_line` is the encoded Date field line (RFC 9110 §6.6.1); `now` is seconds since the epoch;
    `log_time` is Apache's `[10/Oct/2000:13:55:36 -0700]`.
    """

    __slots__ = ("date_line", "log_time", "now")

    def __init__(self) -> None:
        self.now = 0
        self.date_line = b""
        self.log_time = ""
        self.tick()

    def tick(self) -> None:
        """Read the wall clock; called at least once a second by the worker's coarse timer."""
        now = int(time.time())
        if now == self.now:
            return
        self.now = now
        self.date_line = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        self.log_time = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(now))

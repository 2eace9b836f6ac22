"""The two ways in which a benchmark does not come to a result."""


class SkipError(Exception):
    """Something that it needs is not on this machine; the message says what to install."""


class BenchError(Exception):
    """A server or the load generator did not do what it should, so no figure would be true."""

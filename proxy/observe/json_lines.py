"""The lines of the access log as JSON."""

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from proxy.observe.access_log import Entry


class _Line(msgspec.Struct, kw_only=True):
    """One line of the JSON format; the names are what users see."""

    time: str
    client: str
    method: str | None = None
    target: str | None = None
    protocol: str | None = None
    status: int
    bytes: int
    duration_s: float
    upstream_s: float | None
    referer: str | None = None
    user_agent: str | None = None
    request_id: str | None


_encoder = msgspec.json.Encoder()


def json_lines(entries: "list[Entry]") -> bytes:
    """Encode finished requests, one line each."""
    iso_times = {time: _iso(time) for time in {entry[1] for entry in entries}}
    return _encoder.encode_lines([_line(entry, iso_times[entry[1]]) for entry in entries])


def _line(entry: "Entry", time: str) -> _Line:
    client, _, request, status, sent, duration, upstream, request_id = entry
    line = _Line(
        time=time,
        client=client,
        status=status,
        bytes=sent,
        duration_s=round(duration, 6),
        upstream_s=None if upstream < 0 else round(upstream, 6),
        request_id=_text(request_id) if request_id else None,
    )
    if request is not None:
        referer, agent = request.fields.get(b"referer"), request.fields.get(b"user-agent")
        line.method = _text(request.method)
        line.target = _text(request.target)
        line.protocol = f"HTTP/1.{request.minor_version}"
        line.referer = None if referer is None else _text(referer)
        line.user_agent = None if agent is None else _text(agent)
    return line


def _text(value: bytes) -> str:
    """Decode for JSON, which escapes control characters itself; bytes beyond ASCII get escapes."""
    return value.decode("ascii", "backslashreplace")


def _iso(log_time: str) -> str:
    """Turn Apache's time into ISO 8601; done once for each second."""
    return datetime.strptime(log_time, "[%d/%b/%Y:%H:%M:%S %z]").isoformat()

"""What proxyd tells of itself in numbers: every metric, with its kind and its meaning. Pure.

Names and labels follow Prometheus: base units, a counter ends in `_total`. A label never has a
value that a client can choose.
"""

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge", "largest", "histogram"]
Labels = tuple[tuple[str, str], ...]


class Metric(NamedTuple):
    """How the values of several processes become one, and what it says.

    Counters and histograms add up over all processes that ever were, gauges over those that live;
    of a "largest", which is a counter that all processes share, the largest value is right.
    """

    kind: Kind
    help: str


class Series(NamedTuple):
    """One number of a metric.

    Of a histogram: one bucket, with the label `le` (not cumulative), or the sum, without.
    """

    name: str
    labels: Labels = ()


METRICS: Final[dict[str, Metric]] = {
    "proxyd_requests_total": Metric(
        "counter", "Requests of clients that came to their end, by route, method and status."
    ),
    "proxyd_request_duration_seconds": Metric(
        "histogram", "From the first byte of a request to the last of its answer, by route."
    ),
    "proxyd_sent_bytes_total": Metric(
        "counter", "Bytes of answers' contents, without heads, by route."
    ),
    "proxyd_received_bytes_total": Metric(
        "counter", "Bytes of requests' contents, without heads, by route."
    ),
    "proxyd_connections": Metric(
        "gauge", "Client connections that are open: busy with a request, or idle."
    ),
    "proxyd_connections_accepted_total": Metric(
        "counter", "Client connections on which HTTP was to be spoken."
    ),
    "proxyd_tls_handshakes_total": Metric(
        "counter", "TLS handshakes with clients, by how they ended."
    ),
    "proxyd_tls_handshakes_pending": Metric("gauge", "TLS handshakes that are not complete."),
    "proxyd_upstream_requests_total": Metric(
        "counter", "Attempts to have a request answered by an upstream, retries included."
    ),
    "proxyd_upstream_failures_total": Metric(
        "counter", "Attempts to connect or to be answered that failed, by server."
    ),
    "proxyd_upstream_connections": Metric(
        "gauge", "Connections to a server: busy with a request, or idle."
    ),
    "proxyd_upstream_waiting": Metric(
        "gauge", "Requests that wait for a connection to an upstream."
    ),
    "proxyd_upstream_server_down": Metric(
        "gauge", "Workers that send a server no requests, because it failed or its probe did."
    ),
    "proxyd_cache_hits_total": Metric(
        "counter", 'Requests answered with what is stored, while "fresh" or "stale".'
    ),
    "proxyd_cache_misses_total": Metric(
        "counter", "Requests that had to go forward, by the reason in Cache-Status (RFC 9211 §2.2)."
    ),
    "proxyd_cache_collapsed_total": Metric(
        "counter", "Misses that were given the answer to another request, and asked nobody."
    ),
    "proxyd_cache_stored_total": Metric("counter", "Answers that were stored."),
    "proxyd_cache_entries": Metric("gauge", "Entries of the cache, in memory and on disk."),
    "proxyd_cache_bytes": Metric("gauge", "What the entries take, in memory and on disk."),
    "proxyd_cache_memory_evictions_total": Metric(
        "counter", "Entries that went from the memory of a worker to make room."
    ),
    "proxyd_cache_purges_total": Metric(
        "largest", "Purges since the workers were started, those of unsafe requests included."
    ),
    "proxyd_log_lines_lost_total": Metric(
        "counter", "Lines that the access log or the error log could not take."
    ),
}

"""Every engine, and which of them a run is about."""

from collections.abc import Sequence

from bench.engines.caddy import CADDY
from bench.engines.engine import Engine
from bench.engines.haproxy import HAPROXY
from bench.engines.nginx import NGINX
from bench.engines.proxyd import PROXYD
from bench.engines.varnish import VARNISH
from bench.errors import SkipError

# Ratios are of the second to the first, so these two are always measured.
BASIS = (NGINX, PROXYD)
ENGINES = (*BASIS, HAPROXY, VARNISH, CADDY)
ALL = "all"


def chosen(names: Sequence[str]) -> tuple[list[Engine], dict[str, str]]:
    """Return the engines of a run, and why others that were asked for are left out, by name.

    Raises SkipError where one is not installed that every run needs.
    """
    for engine in BASIS:
        engine.path()
    taken, skipped = list(BASIS), {}
    for engine in ENGINES[len(BASIS) :]:
        if engine.name in names or ALL in names:
            try:
                engine.path()
            except SkipError as reason:
                skipped[engine.name] = str(reason)
            else:
                taken.append(engine)
    return taken, skipped

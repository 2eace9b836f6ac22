"""What runs: gathered by the master for whoever asks."""

import os
from collections.abc import Iterable
from typing import Any

from proxy import __version__
from proxy.config.schema import Config
from proxy.process.generation import Generation


def status_of(
    current: Generation, draining: Iterable[Generation], uptime_s: float
) -> dict[str, Any]:
    """Return what runs, for the control socket: plain values, times in seconds."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "uptime_s": round(uptime_s, 1),
        "config": str(current.config.source.file),
        "listeners": current.listeners.urls(),
        "certificates": current.certificates,
        "cache_folder": _disk(current.config),
        "generations": [
            _generation(current, "serving"),
            *(_generation(generation, "draining") for generation in draining),
        ],
    }


def _disk(config: Config) -> str | None:
    """Return where answers are kept on disk; None when they are not."""
    return str(config.cache_folder) if config.uses_cache and config.cache.disk else None


def _generation(generation: Generation, state: str) -> dict[str, Any]:
    return {
        "number": generation.number,
        "state": state,
        "processes": [
            {
                "name": child.program.name,
                "pid": child.pid,
                "uptime_s": round(child.age_s, 1) if child.pid is not None else None,
                "restarts": child.restarts,
            }
            for child in generation.children
            if state == "serving" or child.pid is not None
        ],
    }

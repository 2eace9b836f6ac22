"""What the processes of a stack use: CPU time and memory, each with its name and layer."""

from dataclasses import dataclass
from typing import final

import psutil

from proxy.lab.model import Process

# What a process of proxyd is, by a word of its command line.
_PARTS = {
    "serve_wsgi": ("Waitress", "Waitress"),
    "proxy.process.worker": ("proxyd worker", "proxyd"),
    "proxy.control": ("proxyd control", "proxyd"),
    "cache_keeper": ("proxyd cache keeper", "proxyd"),
}
_TITLES = {
    "waitress": "Waitress",
    "gevent": "gevent",
    "werkzeug": "Werkzeug",
    "gunicorn": "gunicorn",
    "nginx": "nginx",
    "proxyd": "proxyd",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU time of a whole stack since it started, in seconds."""

    user_s: float
    system_s: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(user_s=self.user_s - other.user_s, system_s=self.system_s - other.system_s)

    @property
    def total_s(self) -> float:
        """User and system."""
        return self.user_s + self.system_s


def family(root: int) -> list[psutil.Process]:
    """Return a process and all that it started and that these started, the living ones."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def cpu(roots: list[int]) -> Cpu:
    """Return what the processes below `roots` have used, those that have ended included.

    An ended one's time is its parent's as soon as that has waited for it.
    """
    user_s = system_s = 0.0
    for root in roots:
        for process in family(root):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            user_s += times.user + times.children_user
            system_s += times.system + times.children_system
    return Cpu(user_s=user_s, system_s=system_s)


def processes(services: list[tuple[str, int]]) -> list[Process]:
    """Return every process below services, given as name and pid."""
    found = []
    for service, root in services:
        for process in family(root):
            try:
                found.append(described(service, process, is_root=process.pid == root))
            except psutil.Error:
                continue
    return found


def described(service: str, process: psutil.Process, *, is_root: bool) -> Process:
    """Return what one process is and uses. Raises psutil.Error when it has ended."""
    with process.oneshot():
        times = process.cpu_times()
        rss = process.memory_info().rss
        name, layer = named(service, " ".join(process.cmdline()), is_root=is_root)
    try:
        pss = int(getattr(process.memory_full_info(), "pss", 0))
    except psutil.AccessDenied:
        pss = 0
    return Process(
        name=name,
        layer=layer,
        rss_bytes=rss,
        pss_bytes=pss,
        user_s=times.user,
        system_s=times.system,
    )


def named(service: str, command: str, *, is_root: bool) -> tuple[str, str]:
    """Return the name of a process and its layer, by the service it belongs to and its command."""
    title = _TITLES.get(service, service)
    if service == "proxyd":
        for word, part in _PARTS.items():
            if word in command:
                return part
        return ("proxyd master" if is_root else "proxyd helper"), title
    if service == "nginx" and command.startswith("nginx: "):
        return command.split(" /", maxsplit=1)[0].replace(": ", " ").removesuffix(" process"), title
    if service == "gunicorn":
        return ("gunicorn master" if is_root else "gunicorn worker"), title
    return title, title

"""A worker's side of places.py: follows the processes of applications, and tells what it did."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from proxy.config.schema import Config
from proxy.config.values import parse_address
from proxy.process.places import LEFT, SERVED, Line
from proxy.process.pulse import APP
from proxy.upstream.group import Group


class WorkerApps:
    """The processes of applications that this worker sends requests to."""

    def __init__(
        self, config: Config, groups: Mapping[str, Group], say: Callable[[bytes], None]
    ) -> None:
        self._groups = groups
        self._say = say
        self._counted = {name for name, app in config.app.items() if app.max_requests is not None}
        self._serials: dict[tuple[str, int], int] = {}
        self._told: dict[tuple[str, int], int] = {}

    def take(self, text: bytes) -> None:
        """Follow a line of the master."""
        line: Line = json.loads(text)
        name, index, serial = line["app"], line["index"], line["serial"]
        group = self._groups[name]
        former = self._serials.get((name, index))
        if serial != former:
            self._report(name, index)
            self._serials[name, index] = serial
            group.move(index, parse_address(line["address"], Path("/")), lambda: self._left(former))
        group.probed(index, line["up"])

    def _left(self, serial: int | None) -> None:
        if serial is not None:
            self._say(b"%b%b %d\n" % (APP, LEFT, serial))

    def tick(self) -> None:
        """Tell how many requests were answered since the last time."""
        for name, index in self._serials:
            self._report(name, index)

    def _report(self, name: str, index: int) -> None:
        if name not in self._counted or (name, index) not in self._serials:
            return
        served = self._groups[name].pools[index].served
        fresh = served - self._told.get((name, index), 0)
        if fresh:
            self._told[name, index] = served
            self._say(b"%b%b %d %d\n" % (APP, SERVED, self._serials[name, index], fresh))

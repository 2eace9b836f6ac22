"""What would happen to a request now, and why: `proxyd explain`.

It takes the way of any request, through the very functions that a worker runs, on the configuration
as it is in the file and on what is stored on the disk now. Only the words are made here.
"""

import asyncio
from collections.abc import Iterable

from proxy.compose import entrance
from proxy.config.routes import FilesRoute
from proxy.config.schema import Listen
from proxy.errors import HttpError
from proxy.pipeline.admit import admit
from proxy.pipeline.entrance import OPEN
from proxy.pipeline.exchange import Exchange
from proxy.pipeline.purge import purge
from proxy.pipeline.route import route as choose_route
from proxy.pipeline.site import Route
from proxy.pipeline.static import static
from proxy.tools.asked import Asked, url_of
from proxy.tools.explain_cache import explain_cache
from proxy.tools.findings import Explanation, Fact, Places, Step
from proxy.tools.running import answer_of, exchange_for
from proxy.tools.setting import Setting
from proxy.tools.words import text
from proxy.upstream.address import TcpAddress
from proxy.upstream.group import Group

# The steps about what is stored.
SHOWN = frozenset(("Key", "Stored", "Fields", "Lifetime", "Now"))

_PORTS = {b"http": 80, b"https": 443}
_FILE_FIELDS = frozenset((b"content-type", b"content-encoding", b"cache-control", b"location"))
_FILE_PATIENCE_S = 10.0


def explain(
    setting: Setting, asked: Asked, *, fetch: bool = False, in_full: bool = False
) -> Explanation:
    """Say step by step what becomes of a request; with `fetch`, the upstream is asked once.

    In full, with all fields of what is stored.
    """
    request = asked.request
    told = Explanation(
        request=f"{request.method.decode()} {url_of(asked)}",
        configuration=str(setting.config.source.file),
    )
    exchange = exchange_for(setting.parts.site, asked.scheme, port_of(asked))
    exchange.request = request
    explain_listener(told, setting, asked, exchange)
    if told.outcome is not None:
        return told
    index = explain_route(told, setting, exchange)
    if index is None or exchange.route is None:
        return told
    places = Places(setting.config.source, index)
    given = setting.config.route[index]
    if isinstance(given, FilesRoute):
        explain_files(told, exchange, given, places)
        return told
    explain_upstream(told, setting, exchange.route, places)
    explain_cache(told, setting, exchange, places, fetch=fetch, in_full=in_full)
    return told


def show_entry(setting: Setting, asked: Asked) -> Explanation:
    """Say what is stored for a URL, and why it is fresh or stale; `proxyd cache show`."""
    whole = explain(setting, asked, in_full=True)
    whole.steps = [step for step in whole.steps if step.title in SHOWN] or whole.steps
    return whole


def port_of(asked: Asked) -> int:
    """Return the port that the URL names, or means."""
    _, colon, port = asked.request.authority.rpartition(b":")
    return int(port) if colon and port.isdigit() else _PORTS[asked.scheme]


def explain_listener(told: Explanation, setting: Setting, asked: Asked, exchange: Exchange) -> None:
    """Say where the request arrives, and what is decided before any route: `pipeline/admit`."""
    places = Places(setting.config.source)
    step = told.step("Arrives at")
    found = listener_for(setting.config.listen, asked)
    if found is None:
        step.verdict = f"no [[listen]] speaks {asked.scheme.decode()}; taken as if one did"
        step.tone = "warn"
        exchange.peer.entrance = OPEN
    else:
        index, listen = found
        step.verdict = f"{listen.address}, {asked.scheme.decode()}"
        step.source = places.of(("listen", index))
        exchange.peer.entrance = entrance(setting.config, listen)
    try:
        after = admit(exchange)
    except HttpError as error:
        fails(told, step, error)
        return
    if after is purge:
        step.add("PURGE, which the networks of purge_from may send", places.of(("cache",)))
        told.outcome = Fact(text="It purges, from the networks of [cache] purge_from; 403 else.")
    elif after is not choose_route and exchange.response is not None:
        response = exchange.response
        where = dict(response.fields).get(b"Location", b"").decode()
        told.outcome = Fact(
            text=f"proxyd answers {response.status} itself" + (f", to {where}" if where else "."),
            source="[[listen]] https_redirect" if where else "RFC 9110 §9.3.7",
        )


def listener_for(listens: Iterable[Listen], asked: Asked) -> tuple[int, Listen] | None:
    """Return the [[listen]] for a URL: of its scheme, and of its port if there is one of it."""
    speaking = [
        (index, listen)
        for index, listen in enumerate(listens)
        if (listen.tls is not None) == (asked.scheme == b"https")
    ]
    for index, listen in speaking:
        if isinstance(listen.address, TcpAddress) and listen.address.port == port_of(asked):
            return index, listen
    return speaking[0] if speaking else None


def explain_route(told: Explanation, setting: Setting, exchange: Exchange) -> int | None:
    """Say which route answers, and why none before it does; return its index."""
    request, routes = exchange.request, setting.parts.site.routes
    step = told.step("Route")
    error: HttpError | None = None
    try:
        choose_route(exchange)
    except HttpError as raised:
        error = raised
    for index, candidate in enumerate(routes):
        place = Places(setting.config.source, index).route()
        if candidate is exchange.route:
            step.verdict = routed(setting, index)
            step.source = place
            step.tone = "good"
            break
        step.add(f"not {title(setting, index)}: {why_not(candidate, request.route_path)}", place)
    if error is not None:
        fails(told, step, error)
        return None
    if request.path != request.route_path:
        step.add(f"routes compare the decoded path: {text(request.route_path)}", tone="quiet")
    return next(at for at, route in enumerate(routes) if route is exchange.route)


def why_not(route: Route, path: bytes) -> str:
    """Say why a route that was asked before did not match."""
    host = next(iter(route.hosts), b"x" + next(iter(route.host_suffixes), b""))
    return "another host" if route.matches(host, path) else "another path"


def title(setting: Setting, index: int) -> str:
    """Name a route."""
    given = setting.config.route[index]
    return f"{', '.join(given.host) + ' ' if given.host else ''}{given.path}"


def routed(setting: Setting, index: int) -> str:
    """Name a route, and what is behind it."""
    given = setting.config.route[index]
    target = f"files in {given.files}" if isinstance(given, FilesRoute) else given.to
    return f"{title(setting, index)} → {target}"


def explain_files(told: Explanation, exchange: Exchange, given: FilesRoute, places: Places) -> None:
    """Say what the folder of a route has for the request: `pipeline/static`."""
    step = told.step("File", source=places.route("files"))
    groups: list[Group] = []
    answer = asyncio.run(answer_of(exchange, static, groups, _FILE_PATIENCE_S))
    if isinstance(answer, HttpError):
        fails(told, step, answer)
        return
    path = exchange.request.path
    route = exchange.route
    below = path[len(route.prefix) :] if route is not None and route.prefix else path[1:]
    step.verdict = f"{given.files}/{text(below)}"
    step.tone = "good"
    for name, value in answer.fields:
        if name.lower() in _FILE_FIELDS:
            step.add(f"{text(name)}: {text(value)}", tone="quiet")
    told.step("Cache", "not needed: files are kept ready in each worker's memory", "[files] memory")
    told.outcome = Fact(
        text=f"{answer.status}, from the file; no application is asked.", tone="good"
    )


def explain_upstream(told: Explanation, setting: Setting, route: Route, places: Places) -> None:
    """Say who is behind the route."""
    name = "" if route.group is None else route.group.name
    config = setting.config
    source = places.route("to")
    if name in config.app:
        app = config.app[name]
        told.step("Upstream", f"app {name}: {app.runs}", source)
        return
    servers = ", ".join(map(str, config.upstream[name].servers))
    told.step("Upstream", f"{name}: {servers}", source)


def fails(told: Explanation, step: Step, error: HttpError) -> None:
    """End an explanation with the error page that the client gets."""
    step.verdict = step.verdict or str(error)
    step.tone = "bad"
    told.outcome = Fact(text=f"proxyd answers {error.status}: {error}", tone="bad")

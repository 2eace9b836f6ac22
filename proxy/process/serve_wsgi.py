"""The application's own process: imports one WSGI application and serves it on a unix socket.

Run as a script by the master (see apps.py). It imports nothing of proxyd: it stays light, and an
application may have a package named `proxy`.

    serve_wsgi.py --server waitress --socket PATH --threads 8 [--life-line] [--for-others]
        module:object

The working directory comes first on the import path. `--threads` is how many requests are worked on
at once, with each server: the others wait. The socket's folder is private to proxyd, so what a
request says about its client is believed: proxyd wrote it.
"""

import argparse
import faulthandler
import importlib.util
import os
import signal
import socket
import stat
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

# sysexits.h EX_CONFIG: starting again would not help.
CANNOT_LOAD = 78

_BACKLOG = 1024  # as Waitress; the system caps it (net.core.somaxconn)
# proxyd has limits of its own for all of these, which must be the ones that a request meets.
_UNLIMITED_BYTES = 1 << 60
_UNLIMITED_CONNECTIONS = 1 << 16
_HEADER_BYTES = 16 * 1024 * 1024
# Idle connections are proxyd's to close; the server's own time-out is for what proxyd forgot.
_IDLE_S = 3600
# What requests in progress get when the process is asked to end; proxyd ends workers before it.
_DRAIN_S = 1

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM, or until the other end of standard input is gone."""
    parser = argparse.ArgumentParser(prog="serve_wsgi")
    parser.add_argument("--server", choices=sorted(_SERVERS), required=True)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--life-line", action="store_true")
    parser.add_argument("--for-others", action="store_true")
    parser.add_argument("--sendfile", action="append", metavar="FOLDER")
    parser.add_argument("--read-timeout", type=float, metavar="SECONDS")
    parser.add_argument("--total-timeout", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--report", type=int, metavar="DESCRIPTOR")
    parser.add_argument("--tell-times", action="store_true")
    parser.add_argument("application")
    options = parser.parse_args(arguments)
    faulthandler.enable()
    if options.life_line:
        _hold_life_line(options.socket)
    watch = None
    if options.read_timeout:  # before gevent turns threads into greenlets
        watch = _beside("wsgi_watch").Watch(
            options.read_timeout, options.report, total_timeout_s=options.total_timeout
        )
        watch.start()
    if options.server == "gevent":
        _patch_for_gevent()
    sys.path.insert(0, os.getcwd())
    application = load(options.application)
    if options.sendfile:
        beside = _beside("wsgi_sendfile")
        application = beside.leave_files_to_proxyd(application, options.sendfile)
    application = set_prefix(application)
    if watch is not None:
        application = watch.over(application)
    if options.tell_times:
        # A thread of gevent's works on many requests by turns.
        cpu = options.server != "gevent"
        application = _beside("wsgi_timing").tell_times(application, cpu=cpu)
    signal.signal(signal.SIGTERM, _end)
    listener = listen(options.socket, for_others=options.for_others)
    try:
        _SERVERS[options.server](application, listener, options.threads)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(options.socket)


def _end(*_: object) -> NoReturn:
    sys.exit(0)


def _beside(name: str) -> ModuleType:
    """Import a module of this folder, under a name that no application has."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"_proxyd_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hold_life_line(socket_path: str) -> None:
    """End this process and its children when standard input ends, which is when the master is gone.

    A thread of the lowest kind: it must not be one that gevent has turned into a greenlet.
    """
    import _thread

    life_line = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def wait() -> None:
        while os.read(life_line, 1024):
            pass
        with suppress(OSError):
            os.unlink(socket_path)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    _thread.start_new_thread(wait, ())


def load(target: str) -> Application:
    """Import "module:object"; says what is wrong and exits with CANNOT_LOAD when it cannot."""
    module_name, _, attributes = target.partition(":")
    try:
        __import__(module_name)
    except BaseException as error:
        # Without the line above: the person's own code comes first in the traceback.
        inner = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, inner)
        what = traceback.format_exception_only(error)[-1].strip()
        _give_up(f'the application "{target}" cannot be imported: {what}')
    found: Any = sys.modules[module_name]
    place = f'module "{module_name}"'
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            names = [name for name in dir(found) if name[0] != "_" and callable_in(found, name)]
            _give_up(f'{place} has no "{attribute}"; it has: {", ".join(names) or "no callables"}')
        found = getattr(found, attribute)
        place = f'"{attribute}" of {place}'
    if not callable(found):
        _give_up(f'"{target}" is a {type(found).__name__}, not a WSGI application (a callable)')
    return found  # type: ignore[no-any-return]


def callable_in(owner: object, name: str) -> bool:
    """Whether an attribute may be an application: callable, and no class or module."""
    value = getattr(owner, name)
    return callable(value) and not isinstance(value, type)


def _give_up(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - proxyd logs this process's output
    sys.exit(CANNOT_LOAD)


def listen(path: str, *, for_others: bool = False) -> socket.socket:
    """Bind the unix socket, for this user only, or for whom its folder lets in.

    A leftover of a process that died is removed.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o111 if for_others else 0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    listener.listen(_BACKLOG)
    return listener


def given_up(connection: socket.socket) -> bool:
    """Whether proxyd has closed the connection: its client has left while the request waited."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def set_prefix(application: Application) -> Application:
    """Give the application the prefix that proxyd took off the path, as SCRIPT_NAME (PEP 3333)."""

    def with_prefix(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "").rstrip("/")
        environ["SCRIPT_NAME"] = unquote_to_bytes(prefix).decode("latin-1")
        # A unix socket has no ports; servers put "None" or 0 here.
        environ.pop("REMOTE_PORT", None)
        environ["SERVER_SOFTWARE"] = environ.get("SERVER_SOFTWARE") or "waitress"
        return application(environ, start_response)

    return with_prefix


def believe_proxyd(application: Application) -> Application:
    """Do for other servers what Waitress does itself: take client, scheme and host from proxyd."""

    def told(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        client = environ.get("HTTP_X_FORWARDED_FOR", "").strip(" []")
        scheme = environ.get("HTTP_X_FORWARDED_PROTO") or "http"
        host = environ.get("HTTP_X_FORWARDED_HOST") or environ.get("HTTP_HOST", "")
        name, colon, port = host.rpartition(":")
        if not colon or port.endswith("]"):
            name, port = host, environ.get("HTTP_X_FORWARDED_PORT", "")
            default = {"http": "80", "https": "443"}[scheme]
            if host and port not in {"", default}:
                host = f"{host}:{port}"
            port = port or default
        environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = client
        environ["wsgi.url_scheme"] = scheme
        environ["SERVER_NAME"] = name or "localhost"
        environ["SERVER_PORT"] = port
        if host:
            environ["HTTP_HOST"] = host
        environ.pop("HTTP_FORWARDED", None)
        return application(environ, start_response)

    return told


def serve_waitress(application: Application, listener: socket.socket, threads: int) -> None:
    """Serve with Waitress: a thread for each request."""
    import logging

    try:
        import waitress.server
    except ModuleNotFoundError:
        _give_up(f"Waitress is not installed here: {sys.executable} -m pip install waitress")

    # "Task queue depth": proxyd has a queue of its own in front, with a limit and a time-out.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = waitress.server.create_server(
        application,
        sockets=[listener],
        threads=threads,
        ident="",
        # Waitress calls every peer on a unix socket "localhost"; only proxyd can be one.
        trusted_proxy="localhost",
        trusted_proxy_count=1,
        trusted_proxy_headers="x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port",
        clear_untrusted_proxy_headers=True,
        connection_limit=_UNLIMITED_CONNECTIONS,
        backlog=_BACKLOG,
        max_request_body_size=_UNLIMITED_BYTES,
        max_request_header_size=_HEADER_BYTES,
        channel_timeout=_IDLE_S,
        # Reading on during a request shows that proxyd gave it up: a queued one is not begun.
        channel_request_lookahead=1,
        recv_bytes=65536,
        # select() ends at descriptor 1023.
        asyncore_use_poll=True,
    )
    with suppress(SystemExit, KeyboardInterrupt):
        server.asyncore.loop(timeout=1, map=server._map, use_poll=True)
    server.task_dispatcher.shutdown(timeout=_DRAIN_S)


def _patch_for_gevent() -> None:
    """Make the standard library cooperative before anything of it is used."""
    try:
        from gevent import monkey
    except ModuleNotFoundError:
        _give_up(
            f"gevent is not installed here: {sys.executable} -m pip install gevent, or set"
            ' server = "waitress"'
        )
    monkey.patch_all()


def serve_gevent(application: Application, listener: socket.socket, threads: int) -> None:
    """Serve with gevent: a greenlet for each connection, `threads` of them in a request at once."""
    import gevent
    from gevent import pywsgi
    from gevent.lock import BoundedSemaphore

    slots = BoundedSemaphore(threads)

    class Handler(pywsgi.WSGIHandler):  # type: ignore[misc]
        def handle_one_response(self) -> None:
            with slots:
                if given_up(self.socket._sock):  # not gevent's own, which would wait
                    self.close_connection = True
                else:
                    super().handle_one_response()

    listener.setblocking(False)
    server = pywsgi.WSGIServer(
        listener,
        believe_proxyd(application),
        log=None,  # proxyd has the access log
        error_log=sys.stderr,
        handler_class=Handler,
    )
    gevent.signal_handler(signal.SIGTERM, lambda: server.stop(timeout=_DRAIN_S))
    server.serve_forever()


def serve_werkzeug(application: Application, listener: socket.socket, threads: int) -> None:
    """Serve with Werkzeug's server for development: a thread for each connection."""
    from threading import BoundedSemaphore

    try:
        from werkzeug import serving
    except ModuleNotFoundError:
        _give_up(
            f"werkzeug is not installed here: {sys.executable} -m pip install werkzeug, or set"
            ' server = "waitress"'
        )

    slots = BoundedSemaphore(threads)

    class Handler(serving.WSGIRequestHandler):
        def run_wsgi(self) -> None:
            with slots:
                if given_up(self.connection):
                    self.close_connection = True
                else:
                    super().run_wsgi()

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Proxyd has the access log."""

    server = serving.make_server(
        f"unix://{listener.getsockname()}",
        0,
        believe_proxyd(application),
        threaded=True,
        request_handler=Handler,
        fd=listener.fileno(),
    )
    with suppress(SystemExit, KeyboardInterrupt):
        server.serve_forever()


_SERVERS = {"waitress": serve_waitress, "gevent": serve_gevent, "werkzeug": serve_werkzeug}


if __name__ == "__main__":
    main(sys.argv[1:])

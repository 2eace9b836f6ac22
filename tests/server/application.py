"""The application of these tests: an ordinary Flask application that knows nothing of proxyd.

Copied beside the daemon's proxy.toml and served from there by each of the three servers.
"""

import hashlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, request, send_file, url_for

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

app = Flask(__name__, static_folder=None)
seen: list[str] = []
gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)


@app.before_request
def remember() -> None:
    seen.append(request.path)


@app.get("/seen")
def show_seen() -> Response:
    """Every path that reached the application so far."""
    return jsonify(seen)


@app.get("/send/<path:name>")
def send(name: str) -> Response:
    """A file, as Flask sends them."""
    age = request.args.get("max_age", type=int)
    answer = send_file(f"private/{name}", max_age=age)
    answer.headers["X-By"] = "flask"
    return answer


@app.get("/named")
def named() -> Response:
    """What the query says about a file, and content of its own."""
    fields = {"accel": "X-Accel-Redirect", "file": "X-Sendfile", "type": "Content-Type"}
    headers = {fields[name]: text for name, text in request.args.items() if name in fields}
    return Response("its own", request.args.get("status", "200 OK"), headers)


@app.route("/die", methods=["GET", "POST"])
def die() -> str:
    """End this process in the middle of so many requests of one name."""
    marks = Path(request.args["name"])
    with marks.open("a") as file:
        file.write("x")
    if marks.stat().st_size <= int(request.args["times"]):
        os._exit(3)
    return "alive"


@app.get("/hold/<name>")
def hold(name: str) -> str:
    """Answer when there is a file of that name; another one says that it has begun."""
    Path(f"{name}.begun").touch()
    while not Path(name).exists():
        time.sleep(0.02)
    return "let go"


@app.get("/timed")
def timed() -> Response:
    """A page that takes 20 ms, and says so itself."""
    time.sleep(0.02)
    answer = Response("timed", headers={"Server-Timing": "db;dur=20"})
    answer.cache_control.no_store = True
    if "keep" in request.args:
        answer.headers["Cache-Control"] = "max-age=60"
    answer.headers["X-Seen"] = str(sum("PROXYD" in name for name in request.environ))
    return answer


@app.get("/pid")
def show_pid() -> str:
    return str(os.getpid())


@app.route("/whoami", endpoint="whoami")
def show_request() -> Response:
    """What the application believes about the request."""
    return jsonify(
        remote_addr=request.remote_addr,
        is_secure=request.is_secure,
        host=request.host,
        url=request.url,
        base_url=request.base_url,
        script_root=request.script_root,
        path=request.path,
        external=url_for("whoami", _external=True),
        server_port=request.environ["SERVER_PORT"],
        headers=list(request.headers.items()),
    )


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title>
<link rel="icon" href="/static/dot.svg"><link rel="stylesheet" href="/static/style.css">
<script src="/static/script.js" defer></script></head>
<body><h1>no script yet</h1><img src="/static/dot.svg" alt="a dot"><ol></ol></body></html>
"""


@app.get("/page")
def page() -> str:
    return PAGE


@app.post("/digest")
def digest() -> Response:
    """What arrived of the content."""
    data = request.get_data()
    return jsonify(length=len(data), sha256=hashlib.sha256(data).hexdigest())


@app.get("/bytes/<int:size>")
def give_bytes(size: int) -> Response:
    """A content of `size` bytes, a multiple of 16, produced piece by piece."""
    piece = b"0123456789abcdef" * 4096
    pieces = (piece[: size - begin] for begin in range(0, size, len(piece)))
    return Response(pieces, headers={"Content-Length": str(size)})


def made(name: str, size: int) -> bytes:
    """Return the content that goes by a name: other bytes for each."""
    return hashlib.shake_256(name.encode()).digest(size)


@app.get("/made/<int:size>/<name>")
def give_made(size: int, name: str) -> Response:
    """A content that the client can check, fresh for as many seconds as the query says."""
    fresh = request.args.get("fresh")
    lifetime = f"public, max-age={fresh}" if fresh else "no-store"
    return Response(made(name, size), headers={"Cache-Control": lifetime})


@app.get("/events/<gate>")
def events(gate: str) -> Response:
    """An event stream whose second event waits until the gate is opened."""

    def stream() -> Iterator[str]:
        yield "data: first\n\n"
        gates[gate].wait(10)
        yield "data: second\n\n"

    return Response(stream(), mimetype="text/event-stream")


@app.get("/dribble/<kind>")
def dribble(kind: str) -> Response:
    """A byte every now and then, until there is a file "enough"."""

    def stream() -> Iterator[str]:
        while not Path("enough").exists():
            yield "."
            time.sleep(0.05)

    return Response(stream(), mimetype=f"text/{kind}")


@app.get("/wait/<gate>")
def wait(gate: str) -> str:
    """Answer when the gate is opened."""
    gates[gate].wait(10)
    return "opened"


@app.post("/open/<gate>")
def open_gate(gate: str) -> str:
    gates[gate].set()
    return "open"


@app.get("/error")
def error() -> str:
    raise RuntimeError("the secret reason")


ill = threading.Event()
hoard: list[bytes] = []


@app.get("/health")
def health() -> tuple[str, int]:
    """Well, until this process was told to fall ill."""
    return ("ill", 503) if ill.is_set() else ("well", 200)


@app.post("/fall-ill")
def fall_ill() -> str:
    ill.set()
    return str(os.getpid())


@app.get("/ready")
def ready() -> tuple[str, int]:
    """Ready unless there is a file "unready" in the working directory."""
    return ("later", 503) if Path("unready").exists() else ("ready", 200)


@app.post("/grow")
def grow() -> str:
    """Take 64 MiB and keep them."""
    hoard.append(b"x" * (64 << 20))
    return str(os.getpid())


@app.route("/slow", methods=["GET", "POST"])
def slow() -> str:
    """Take some time."""
    time.sleep(1.5)
    return str(os.getpid())


@app.post("/echo-pid")
def echo_pid() -> str:
    return str(os.getpid())


async def asgi(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """For servers of another kind: this process, and who asks it."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    client = (scope["client"] or ("",))[0]
    shown = str(os.getpid()) if scope["path"] == "/echo-pid" else f"{client} {scope['scheme']}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": shown.encode()})

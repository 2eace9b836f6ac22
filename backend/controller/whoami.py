"""What Flask saw of a request, with nothing corrected by the application."""

from flask import Blueprint, Response, jsonify, render_template, request, url_for

from backend.controller.answers import wants_json
from backend.controller.caching import personal

blueprint = Blueprint("whoami", __name__)

# The session cookie is HttpOnly: a page must not give it to the scripts that may not see it.
_SECRET_FIELDS = frozenset({"cookie", "authorization", "proxy-authorization"})


@blueprint.get("/whoami")
def whoami() -> Response:
    """Show the request's facts and fields, as a table or as JSON."""
    external_url = url_for("whoami.whoami", _external=True)
    fields = [(name, _shown(name, value)) for name, value in request.headers]
    if wants_json():
        response = personal(jsonify(_facts() | {"external_url": external_url, "fields": fields}))
    else:
        facts = [(_label(name), value) for name, value in _facts().items()]
        page = render_template("whoami.html", facts=facts, fields=fields, external_url=external_url)
        response = personal(page)
    response.vary.add("Accept")
    return response


def _facts() -> dict[str, object]:
    environ = request.environ
    return {
        "remote_addr": request.remote_addr,
        "remote_port": environ.get("REMOTE_PORT"),
        "scheme": request.scheme,
        "is_secure": request.is_secure,
        "host": request.host,
        "method": request.method,
        "script_root": request.script_root,
        "path": request.path,
        "url": request.url,
        "protocol": environ.get("SERVER_PROTOCOL"),
        "server_software": environ.get("SERVER_SOFTWARE"),
    }


def _label(name: str) -> str:
    held_by_request = {"protocol": "SERVER_PROTOCOL", "server_software": "SERVER_SOFTWARE"}
    if name == "remote_port":
        return "REMOTE_PORT"
    return held_by_request.get(name, f"request.{name}")


def _shown(name: str, value: str) -> str:
    return "(not shown)" if name.lower() in _SECRET_FIELDS else value

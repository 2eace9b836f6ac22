"""Answers in the form that the client asked for: HTML for people, JSON for programs."""

from flask import Flask, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, InternalServerError

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "object-src 'none'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_PROTECTION = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def wants_json() -> bool:
    """Return whether the client prefers JSON; everything below /api/ is JSON."""
    accepted = request.accept_mimetypes
    return request.path.startswith("/api/") or accepted["application/json"] > accepted["text/html"]


def answer_error(error: HTTPException) -> Response:
    """Return an error as HTML or JSON, with the fields that belong to it (Allow, Retry-After)."""
    own = error.get_response(request.environ)
    status, title, text = own.status_code, error.name, error.description or ""
    if wants_json():
        response = jsonify(status=status, title=title, text=text)
    else:
        page = render_template("error.html", status=status, title=title, text=text)
        response = make_response(page)
    response.status_code = status
    for name, value in own.headers:
        if name not in {"Content-Type", "Content-Length"}:
            response.headers[name] = value
    response.vary.add("Accept")
    return response


def answer_fault(_error: InternalServerError) -> Response:
    """Return a fault of ours without its cause, which is in the log."""
    return answer_error(InternalServerError("Something broke here. Its cause is in the log."))


def add_protection(response: Response) -> Response:
    """Tell the browser what a page may load and do, unless the endpoint told it more strictly."""
    for name, value in _PROTECTION.items():
        response.headers.setdefault(name, value)
    return response


def register(app: Flask) -> None:
    """Attach the error pages and the protection to an application."""
    app.register_error_handler(HTTPException, answer_error)
    app.register_error_handler(InternalServerError, answer_fault)
    app.after_request(add_protection)

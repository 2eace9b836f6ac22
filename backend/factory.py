"""Puts Timeline together: settings in, a WSGI application out."""

import threading
from datetime import timedelta

from flask import Flask
from jinja2 import StrictUndefined
from sqlalchemy.exc import SQLAlchemyError

from backend import view
from backend.controller import (
    account,
    answers,
    api,
    events,
    files,
    health,
    public,
    slow,
    timeline,
    whoami,
)
from backend.controller.caching import default_to_no_store
from backend.controller.session import CookieSessions, csrf_token, refuse_cross_site
from backend.controller.state import Feed, State
from backend.model.database import open_database
from backend.model.uploads import Uploads
from backend.settings import Settings, SettingsError

_PARTS = (public, account, timeline, api, whoami, events, files, slow, health)


def create_app(settings: Settings) -> Flask:
    """Make the application; makes and seeds its database when there is none.

    Raises SettingsError.
    """
    state, secret = _open(settings)
    # No static folder: the server in front gives out static files, and Flask never sees them.
    app = Flask("backend", static_folder=None, template_folder="view/templates")
    app.extensions["timeline"] = state
    app.request_class = files.StreamingRequest
    app.session_interface = CookieSessions()
    app.config.update(
        SECRET_KEY=secret,
        SESSION_COOKIE_NAME="timeline",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,  # else every answer sets a cookie, public ones too
        PERMANENT_SESSION_LIFETIME=timedelta(days=14),
        MAX_CONTENT_LENGTH=64 * 1024,  # uploads raise it for themselves
    )
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals["csrf_token"] = csrf_token
    view.register(app)
    app.before_request(refuse_cross_site)
    for part in _PARTS:
        app.register_blueprint(part.blueprint)
    answers.register(app)
    app.after_request(default_to_no_store)
    return app


def _open(settings: Settings) -> tuple[State, bytes]:
    """Return the parts of the application and the key of its sessions. Raises SettingsError."""
    folder = settings.database.parent
    try:
        database, secret = open_database(settings.database)
        uploads = Uploads(folder / "files", settings.uploads_total_bytes)
    except (OSError, SQLAlchemyError) as error:
        raise SettingsError(
            f"its data in {folder} cannot be made or read ({error}). Give the folder to the user "
            "that runs the application, or set TIMELINE_DATABASE to a path that this user may "
            "write."
        ) from error
    state = State(
        settings=settings,
        database=database,
        uploads=uploads,
        feed=Feed(),
        streams=threading.BoundedSemaphore(settings.max_streams),
    )
    return state, secret

"""Who is asking: the signed session cookie, the current user, and protection against forgery.

The session is touched by private endpoints only; reading it adds `Vary: Cookie`, which would keep a
public page from being shared.
"""

import hmac
import secrets

from flask import Flask, abort, redirect, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from sqlalchemy.orm import Session
from werkzeug.exceptions import Forbidden, Unauthorized

from backend.controller.caching import personal
from backend.model import users
from backend.model.tables import User


class CookieSessions(SecureCookieSessionInterface):
    """Flask's signed cookie, marked Secure whenever the request itself came securely."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return whether the browser shall send the cookie over HTTPS only."""
        return request.is_secure


_TOO_OLD = "This form is too old. Go back, reload the page and try again."


def sign_in(user: User) -> None:
    """Begin a session; nothing of an earlier one is left, so nobody can prepare it."""
    session.clear()
    session.permanent = True
    session["user"] = user.id


def sign_out() -> None:
    """End the session."""
    session.clear()


def current_user(database_session: Session) -> User | None:
    """Return who is signed in."""
    user_id = session.get("user")
    return users.by_id(database_session, user_id) if isinstance(user_id, int) else None


def required_user(database_session: Session) -> User:
    """Return who is signed in; ends in 401 for the API, at the sign-in page for a person."""
    user = current_user(database_session)
    if user is None:
        if request.blueprint == "api":
            raise Unauthorized("Sign in first.")
        here = request.full_path.rstrip("?") if request.method == "GET" else None
        abort(personal(redirect(url_for("account.sign_in_page", next=here), 303)))
    return user


def csrf_token() -> str:
    """Return the token that this session's forms carry, made on first use."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


def check_csrf() -> None:
    """Refuse a change that does not carry the session's token, in the form or X-CSRF-Token."""
    held = session.get("csrf")
    if not held:  # before the form is read: who has no session shall not fill the disk first
        raise Forbidden(_TOO_OLD)
    given = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
    if not hmac.compare_digest(str(held).encode(), given.encode()):
        raise Forbidden(_TOO_OLD)


def refuse_cross_site() -> None:
    """Refuse a change that a browser says another site began (Fetch Metadata)."""
    changes = request.method not in {"GET", "HEAD", "OPTIONS"}
    if changes and request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
        raise Forbidden("Another site sent this form.")


def local_target(target: str | None) -> str:
    """Return a path of this site to go on to, "" for anything that could lead elsewhere."""
    if not target or not target.startswith("/") or not target.isprintable():
        return ""
    # Browsers read a backslash as a slash, and two slashes as the start of another host.
    return "" if target[1:2] in {"/", "\\"} else target

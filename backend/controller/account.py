"""Making an account, signing in and signing out."""

from flask import Blueprint, Response, redirect, render_template, request, url_for

from backend.controller.caching import changing, personal, posts_group
from backend.controller.session import check_csrf, local_target, sign_in, sign_out
from backend.controller.state import state
from backend.model import users

blueprint = Blueprint("account", __name__)


@blueprint.get("/sign-in")
def sign_in_page() -> Response:
    """Ask for name and password."""
    return _sign_in_form(next=local_target(request.args.get("next")))


@blueprint.post("/sign-in")
def sign_in_submit() -> Response:
    """Begin a session."""
    check_csrf()
    name = request.form.get("name", "")
    target = local_target(request.form.get("next"))
    with state().database.read() as session:
        user = users.prove(session, name, request.form.get("password", ""))
        if user is None:
            error = "Name and password do not belong together."
            return _sign_in_form(422, error=error, name=name, next=target)
        sign_in(user)
    return personal(redirect(target or url_for("timeline.page"), 303))


@blueprint.get("/sign-up")
def sign_up_page() -> Response:
    """Ask for what an account needs."""
    return _sign_up_form()


@blueprint.post("/sign-up")
def sign_up_submit() -> Response:
    """Make an account, and begin its first session."""
    check_csrf()
    name, display_name = request.form.get("name", ""), request.form.get("display_name", "")
    try:
        with state().database.write() as session:
            user = users.join(session, name, display_name, request.form.get("password", ""))
            sign_in(user)
    except users.InvalidUserError as error:
        return _sign_up_form(422, error=str(error), name=name, display_name=display_name)
    return changing(personal(redirect(url_for("timeline.page"), 303)), posts_group())


@blueprint.post("/sign-out")
def sign_out_submit() -> Response:
    """End the session."""
    check_csrf()
    sign_out()
    return personal(redirect(url_for("public.front"), 303))


def _sign_in_form(
    status: int = 200,
    *,
    error: str = "",
    name: str = "",
    next: str = "",  # noqa: A002  the name of the form's field
) -> Response:
    return personal((render_template("sign_in.html", error=error, name=name, next=next), status))


def _sign_up_form(
    status: int = 200, *, error: str = "", name: str = "", display_name: str = ""
) -> Response:
    page = render_template("sign_up.html", error=error, name=name, display_name=display_name)
    return personal((page, status))

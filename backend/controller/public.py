"""The pages that are the same bytes for everybody: the front page and profiles.

Nothing here touches the session, so a shared cache may keep the answers; a script of the page asks
/api/me who is reading.
"""

from flask import Blueprint, Response, redirect, render_template, url_for
from sqlalchemy.orm import Session
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as PlainResponse

from backend.controller.arguments import post_id
from backend.controller.caching import posts_group, profile_group, shared
from backend.controller.state import state
from backend.model import posts, users
from backend.model.tables import Post, User
from backend.view.assets import asset

blueprint = Blueprint("public", __name__)

_NEW_PEOPLE = 6


@blueprint.get("/")
def front() -> Response:
    """Everybody's latest posts."""
    with state().database.read() as session:
        found, edge = page_of_posts(session)
        page = render_template(
            "front.html",
            posts=found,
            newest_id=posts.newest_id(session),
            older=edge and url_for("public.front", before=edge),
            people=users.newest(session, _NEW_PEOPLE),
        )
    return shared(page, posts_group())


@blueprint.get("/u/<name>")
def profile(name: str) -> Response:
    """Somebody, and what they wrote."""
    with state().database.read() as session:
        user = user_or_404(session, name)
        found, edge = page_of_posts(session, author=user)
        page = render_template(
            "profile.html",
            user=user,
            counts=users.counts(session, user),
            posts=found,
            newest_id=posts.newest_id(session),
            older=edge and url_for("public.profile", name=name, before=edge),
        )
    return shared(page, profile_group(name))


@blueprint.get("/favicon.ico")
def favicon() -> PlainResponse:
    """Send clients that ask unprompted to the picture that the pages name."""
    response = redirect(asset("img/favicon.svg"), 302)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def user_or_404(session: Session, name: str) -> User:
    """Return the user of this name. Raises NotFound."""
    user = users.by_name(session, name)
    if user is None:
        raise NotFound("Nobody here has that name.")
    return user


def page_of_posts(
    session: Session, *, author: User | None = None, reader: User | None = None
) -> tuple[list[Post], int | None]:
    """Return the page that ?before= asks for, and the id below which the next one begins."""
    found = posts.latest(
        session, author=author, reader=reader, before=post_id("before"), limit=posts.PAGE + 1
    )
    page = found[: posts.PAGE]
    return page, page[-1].id if len(found) > posts.PAGE else None

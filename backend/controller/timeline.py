"""One person's page: their timeline, writing, and whom they follow."""

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from werkzeug.exceptions import UnprocessableEntity

from backend.controller.answers import wants_json
from backend.controller.caching import changing, personal, posts_group, profile_group
from backend.controller.public import page_of_posts, user_or_404
from backend.controller.session import check_csrf, required_user
from backend.controller.state import state
from backend.model import follows, posts, users

blueprint = Blueprint("timeline", __name__)


@blueprint.get("/timeline")
def page() -> Response:
    """What those whom one follows have written, and a form to write."""
    return _page()


@blueprint.post("/posts")
def write() -> Response:
    """Post, and go back to see it."""
    text = request.form.get("text", "")
    try:
        with state().database.write() as session:
            author = required_user(session)
            check_csrf()
            posts.publish(session, author, text)
            groups = posts_group(), profile_group(author.name)
    except posts.InvalidPostError as error:
        return _page(422, error=str(error), text=text)
    state().feed.announce()
    return changing(personal(redirect(url_for("timeline.page"), 303)), *groups)


@blueprint.post("/u/<name>/follow")
def follow(name: str) -> Response:
    """Begin to follow somebody."""
    return _set_following(name, following=True)


@blueprint.post("/u/<name>/unfollow")
def unfollow(name: str) -> Response:
    """Stop following somebody."""
    return _set_following(name, following=False)


def _set_following(name: str, *, following: bool) -> Response:
    with state().database.write() as session:
        reader = required_user(session)
        check_csrf()
        other = user_or_404(session, name)
        if following:
            try:
                follows.follow(session, reader, other)
            except follows.SelfFollowError as error:
                raise UnprocessableEntity(str(error)) from error
        else:
            follows.unfollow(session, reader, other)
        session.flush()
        followers = users.counts(session, other)["followers"]
        groups = profile_group(name), profile_group(reader.name)
    if wants_json():
        answer = personal(jsonify(following=following, followers=followers))
    else:
        answer = personal(redirect(url_for("public.profile", name=name), 303))
    return changing(answer, *groups)


def _page(status: int = 200, *, error: str = "", text: str = "") -> Response:
    with state().database.read() as session:
        user = required_user(session)
        found, edge = page_of_posts(session, reader=user)
        content = render_template(
            "timeline.html",
            user=user,
            posts=found,
            newest_id=posts.newest_id(session),
            older=edge and url_for("timeline.page", before=edge),
            error=error,
            text=text,
        )
    return personal((content, status))

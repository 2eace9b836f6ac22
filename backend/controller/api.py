"""The JSON API. Changes want the session cookie and its token in X-CSRF-Token (see /api/me)."""

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import BadRequest, UnprocessableEntity, UnsupportedMediaType

from backend.controller.caching import changing, personal, posts_group, profile_group, shared
from backend.controller.public import page_of_posts, user_or_404
from backend.controller.session import check_csrf, csrf_token, current_user, required_user
from backend.controller.state import state
from backend.model import follows, posts
from backend.model.tables import Post, User
from backend.view.assets import asset

blueprint = Blueprint("api", __name__, url_prefix="/api")


def post_values(post: Post) -> dict[str, object]:
    """Return a post as JSON shows it; `posted_at` is in seconds since the epoch."""
    return {
        "id": post.id,
        "author": post.author.name,
        "display_name": post.author.display_name,
        "avatar": _avatar(post.author),
        "text": post.text,
        "posted_at": post.posted_at,
    }


@blueprint.get("/posts")
def list_posts() -> Response:
    """A page of everybody's posts, latest first, and the address of the page behind it."""
    with state().database.read() as session:
        found, edge = page_of_posts(session)
        values = [post_values(post) for post in found]
    older = edge and url_for("api.list_posts", before=edge)
    return shared(jsonify(posts=values, older=older), posts_group())


@blueprint.post("/posts")
def add_post() -> Response:
    """Post {"text": …}; 201 with the post."""
    with state().database.write() as session:
        author = required_user(session)
        check_csrf()
        try:
            values = post_values(posts.publish(session, author, _given_text()))
            groups = posts_group(), profile_group(author.name)
        except posts.InvalidPostError as error:
            raise UnprocessableEntity(str(error)) from error
    state().feed.announce()
    return changing(personal((jsonify(values), 201)), *groups)


@blueprint.get("/me")
def me() -> Response:
    """Who is signed in, and the token that changes must carry; ?about=NAME: are they followed."""
    with state().database.read() as session:
        user = current_user(session)
        if user is None:
            return personal(jsonify(user=None))
        shown = {"name": user.name, "display_name": user.display_name, "avatar": _avatar(user)}
        values: dict[str, object] = {"user": shown, "csrf": csrf_token()}
        if name := request.args.get("about"):
            other = user_or_404(session, name)
            values["following"] = follows.is_following(session, user, other)
    return personal(jsonify(values))


def _given_text() -> str:
    if not request.is_json:
        raise UnsupportedMediaType("Send the post as application/json.")
    content = request.get_json()
    text = content.get("text") if isinstance(content, dict) else None
    if not isinstance(text, str):
        raise BadRequest('Send an object with the post in it: {"text": "…"}.')
    return text


def _avatar(user: User) -> str:
    return asset(f"img/{user.avatar}")

"""Posts: what a text may be, and the pages they are read in."""

import time
import unicodedata

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from backend.model.tables import Follow, Post, User

MAX_CHARS = 280
PAGE = 20
_MAX_LINES = 12  # so that one post cannot fill a page


class InvalidPostError(Exception):
    """The text cannot be posted; the message is for the person who wrote it."""


def clean(text: str) -> str:
    """Return the text as it is kept: composed, lines ended by LF. Raises InvalidPostError."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if not text:
        raise InvalidPostError("Write something first.")
    if len(text) > MAX_CHARS:
        raise InvalidPostError(f"That is {len(text)} characters; a post has at most {MAX_CHARS}.")
    if text.count("\n") >= _MAX_LINES:
        raise InvalidPostError(f"A post has at most {_MAX_LINES} lines.")
    if any(unicodedata.category(char) in {"Cc", "Cs"} and char != "\n" for char in text):
        raise InvalidPostError("A post cannot hold control characters.")
    return text


def publish(session: Session, author: User, text: str) -> Post:
    """Add a post. Raises InvalidPostError."""
    post = Post(author=author, text=clean(text), posted_at=int(time.time()))
    session.add(post)
    session.flush()
    return post


def by_id(session: Session, post_id: int) -> Post | None:
    """Return the post with this id."""
    return session.get(Post, post_id)


def newest_id(session: Session) -> int:
    """Return the highest id so far, 0 when there is none."""
    return session.scalar(select(func.max(Post.id))) or 0


def latest(
    session: Session,
    *,
    author: User | None = None,
    reader: User | None = None,
    before: int | None = None,
    limit: int = PAGE,
) -> list[Post]:
    """Return a page of posts, latest first, with ids below `before`.

    `author` keeps one author's posts; `reader` keeps their own and those of whom they follow.
    """
    chosen = _choose(author, reader).order_by(Post.id.desc()).limit(limit)
    if before is not None:
        chosen = chosen.where(Post.id < before)
    return list(session.scalars(chosen))


def newer(
    session: Session,
    after: int,
    *,
    author: User | None = None,
    reader: User | None = None,
    limit: int = PAGE,
) -> list[Post]:
    """Return posts with ids above `after`, oldest first; chosen as in `latest`."""
    chosen = _choose(author, reader).where(Post.id > after).order_by(Post.id).limit(limit)
    return list(session.scalars(chosen))


def _choose(author: User | None, reader: User | None) -> Select[Post]:
    chosen = select(Post)
    if author is not None:
        chosen = chosen.where(Post.author_id == author.id)
    if reader is not None:
        followed = select(Follow.followed_id).where(Follow.follower_id == reader.id)
        chosen = chosen.where(or_(Post.author_id == reader.id, Post.author_id.in_(followed)))
    return chosen

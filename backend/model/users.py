"""Users: who they are, how they join, and how they prove it."""

import functools
import re
import time

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session
from werkzeug.security import check_password_hash, generate_password_hash

from backend.model.tables import Follow, Post, User

AVATARS = tuple(f"avatar-{number}.svg" for number in range(1, 9))
NAME_PATTERN = "[a-z0-9_]{2,20}"
PASSWORD_LENGTH = range(8, 129)  # longer ones only cost the server time
_DISPLAY_NAME_CHARS = 40
_RESERVED = frozenset({"admin", "api", "me", "root", "support", "timeline"})


class InvalidUserError(Exception):
    """A new account is not possible like this; the message is for the person who wants it."""


def by_id(session: Session, user_id: int) -> User | None:
    """Return the user with this id."""
    return session.get(User, user_id)


def by_name(session: Session, name: str) -> User | None:
    """Return the user of this name, which is in lower case."""
    return session.scalar(select(User).where(User.name == name))


def newest(session: Session, limit: int) -> list[User]:
    """Return who joined last, latest first."""
    return list(session.scalars(select(User).order_by(User.id.desc()).limit(limit)))


def counts(session: Session, user: User) -> dict[str, int]:
    """Return how many posts, followers and followed a user has."""
    return {
        "posts": _count(session, Post.author_id == user.id),
        "followers": _count(session, Follow.followed_id == user.id),
        "following": _count(session, Follow.follower_id == user.id),
    }


def join(session: Session, name: str, display_name: str, password: str) -> User:
    """Make an account. Raises InvalidUserError."""
    name = name.strip().lower()
    display_name = " ".join(display_name.split()) or name
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidUserError(
            "A name is 2 to 20 letters (a to z), digits or underscores, without spaces."
        )
    if name in _RESERVED or by_name(session, name) is not None:
        raise InvalidUserError(f"The name “{name}” is taken. Try another.")
    if len(display_name) > _DISPLAY_NAME_CHARS or not display_name.isprintable():
        raise InvalidUserError(f"Your full name may have {_DISPLAY_NAME_CHARS} characters.")
    if len(password) not in PASSWORD_LENGTH:
        raise InvalidUserError("A password has at least 8 and at most 128 characters.")
    user = User(
        name=name,
        display_name=display_name,
        avatar=AVATARS[sum(name.encode()) % len(AVATARS)],
        password_hash=generate_password_hash(password),
        joined_at=int(time.time()),
    )
    session.add(user)
    session.flush()
    return user


def prove(session: Session, name: str, password: str) -> User | None:
    """Return the user if the password is theirs; takes as long for a name that nobody has."""
    user = by_name(session, name.strip().lower())
    held = user.password_hash if user is not None else _nobodys_hash()
    if len(password) > PASSWORD_LENGTH[-1]:
        return None
    return user if check_password_hash(held, password) else None


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).where(condition)) or 0


@functools.cache
def _nobodys_hash() -> str:
    return generate_password_hash("nobody has this password")

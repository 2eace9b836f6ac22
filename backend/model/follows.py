"""Who reads whom."""

import time

from sqlalchemy.orm import Session

from backend.model.tables import Follow, User


class SelfFollowError(Exception):
    """Nobody follows themselves: their own posts are on their timeline anyway."""


def is_following(session: Session, follower: User, followed: User) -> bool:
    """Return whether one follows the other."""
    return session.get(Follow, (follower.id, followed.id)) is not None


def follow(session: Session, follower: User, followed: User) -> None:
    """Begin to follow; following twice is following. Raises SelfFollowError."""
    if follower.id == followed.id:
        raise SelfFollowError("You read your own posts already.")
    if not is_following(session, follower, followed):
        session.add(
            Follow(follower_id=follower.id, followed_id=followed.id, since=int(time.time()))
        )


def unfollow(session: Session, follower: User, followed: User) -> None:
    """Stop following; nothing happens when there is nothing to stop."""
    held = session.get(Follow, (follower.id, followed.id))
    if held is not None:
        session.delete(held)

"""The people and posts of a new database, so that the first visit finds somebody there."""

import time
from pathlib import Path

from sqlalchemy.orm import Session
from werkzeug.security import generate_password_hash

from backend.model.tables import Follow, Post, User

DEMO_PASSWORD = "timeline"  # noqa: S105  the sign-in page tells it to everybody

_USERS = (
    ("mira", "Mira Halloran", "avatar-1.svg", "Keeps the servers up and the kettle on. Oslo."),
    ("jonas", "Jonas Wirth", "avatar-2.svg", "Writes Flask by day, bread recipes by night."),
    ("leila", "Leila Nasser", "avatar-3.svg", "Browser engineer. Reads RFCs for fun, honestly."),
    ("tomas", "Tomás Ferreira", "avatar-4.svg", "Photographs bridges and packet captures."),
    ("yuki", "Yuki Arai", "avatar-5.svg", "Learning what happens between Enter and the page."),
    ("femi", "Femi Adeyemi", "avatar-6.svg", "Database person. SQLite is enough, until it isn't."),
)

_FOLLOWS = (
    ("mira", "jonas leila tomas"),
    ("jonas", "mira yuki femi"),
    ("leila", "mira tomas"),
    ("tomas", "leila yuki mira"),
    ("yuki", "mira jonas leila tomas femi"),
    ("femi", "jonas mira"),
)

# Lines of author, minutes before the seeding, text; oldest first, because ids grow with time.
_POSTS = Path(__file__).with_name("seed_posts.tsv")


def seed(session: Session) -> None:
    """Add the demo's people, whom they follow, and what they wrote."""
    now = int(time.time())
    # One hash for all: the password is public, so a salt for each would protect nobody.
    password_hash = generate_password_hash(DEMO_PASSWORD)
    users = {
        name: User(
            name=name,
            display_name=display_name,
            avatar=avatar,
            about=about,
            password_hash=password_hash,
            joined_at=now - 5 * 86_400,
        )
        for name, display_name, avatar, about in _USERS
    }
    session.add_all(users.values())
    session.flush()
    for follower, followed in _FOLLOWS:
        session.add_all(
            Follow(follower_id=users[follower].id, followed_id=users[name].id, since=now)
            for name in followed.split()
        )
    for line in _POSTS.read_text("utf-8").splitlines():
        author, minutes, text = line.split("\t")
        posted_at = now - 60 * int(minutes)
        session.add(Post(author_id=users[author].id, text=text, posted_at=posted_at))
        session.flush()  # one by one, so that ids follow the order of the lines

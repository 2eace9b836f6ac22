"""The tables, as SQLAlchemy maps them. Times are whole seconds since the epoch."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """The root of all tables."""


class User(Base):
    """Somebody who may sign in; `name` is the one in their address, /u/<name>."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)
    display_name: Mapped[str] = mapped_column(String(40))
    about: Mapped[str] = mapped_column(String(160), default="")
    avatar: Mapped[str] = mapped_column(String(40))
    """The name of a picture in the assets, such as `avatar-1.svg`."""
    password_hash: Mapped[str] = mapped_column(String(255))
    joined_at: Mapped[int]


class Post(Base):
    """One post; ids grow with time, so they order the pages and number the events."""

    __tablename__ = "posts"
    __table_args__ = (Index("posts_by_author", "author_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    text: Mapped[str] = mapped_column(String(280))
    posted_at: Mapped[int]

    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)


class Follow(Base):
    """One user reads another."""

    __tablename__ = "follows"

    follower_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    followed_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    since: Mapped[int]


class Upload(Base):
    """A file that somebody gave; its bytes are on disk under its id and never change."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    media_type: Mapped[str] = mapped_column(String(100))
    size_bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    uploaded_at: Mapped[int] = mapped_column(index=True)

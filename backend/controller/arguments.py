"""Numbers that a client gives, checked."""

from flask import request
from werkzeug.exceptions import BadRequest

MAX_ID = 2**53 - 1  # what SQLite and JavaScript both count exactly


def post_id(name: str) -> int | None:
    """Return the post id in a query argument, None when it is not there. Raises BadRequest."""
    text = request.args.get(name)
    return None if text is None else parse_id(text, f"“{name}”")


def parse_id(text: str, what: str) -> int:
    """Return a post id, which may be 0 for "before the first". Raises BadRequest."""
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > MAX_ID:
        raise BadRequest(f"{what} is the number of a post, such as 17.")
    return int(text)

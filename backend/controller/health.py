"""Whether the application can do its work, for whoever watches it."""

from flask import Blueprint, Response, jsonify
from sqlalchemy.exc import SQLAlchemyError

from backend.controller.caching import personal
from backend.controller.state import state
from backend.model import posts

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
def health() -> Response:
    """Answer 200 while the database answers, else 503."""
    try:
        with state().database.read() as session:
            posts.newest_id(session)
    except SQLAlchemyError:
        return personal((jsonify(status="the database does not answer"), 503))
    return personal(jsonify(status="ok"))

"""Files that anybody may give and take; streamed to disk and from it.

What was uploaded is never shown as a page of this site: it comes as an attachment, sandboxed.
"""

import tempfile
from datetime import UTC, datetime
from typing import IO

from flask import (
    Blueprint,
    Request,
    Response,
    jsonify,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from werkzeug.exceptions import NotFound

from backend.controller.answers import wants_json
from backend.controller.caching import CHECKED, personal
from backend.controller.session import check_csrf
from backend.controller.state import state
from backend.model.tables import Upload

blueprint = Blueprint("files", __name__)

_MEMORY_BYTES = 64 * 1024  # of one part; the rest goes to disk as it comes
_FORM_BYTES = 64 * 1024  # of an upload's form around its file
_SHOWN = 50


class StreamingRequest(Request):
    """A request whose uploads go to the disk that will keep them, and not to a small /tmp."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(state().uploads.folder))


@blueprint.get("/files")
def index() -> Response:
    """The latest files, and a form to add to them."""
    return _page()


@blueprint.post("/files")
def upload() -> Response:
    """Take the form's field `file`; 201 with JSON, or back to the list."""
    request.max_content_length = state().settings.upload_limit_bytes + _FORM_BYTES
    check_csrf()
    given = request.files.get("file")
    if given is None or not given.filename:
        return _page(422, error="Choose a file first; the form's field is “file”.")
    kept = state().uploads.keep(state().database, given.stream, given.filename, given.mimetype)
    if not wants_json():
        return personal(redirect(url_for("files.index"), 303))
    response = personal((jsonify(_values(kept)), 201))
    response.headers["Location"] = url_for("files.download", upload_id=kept.id)
    return response


@blueprint.get("/files/<upload_id>")
def download(upload_id: str) -> Response:
    """Give a file back, whole or in ranges."""
    with state().database.read() as session:
        found = state().uploads.by_id(session, upload_id)
    path = state().uploads.path(found) if found is not None else None
    if found is None or path is None or not path.is_file():
        raise NotFound("There is no such file; the oldest make room for new ones.")
    response = send_file(
        path,
        mimetype=found.media_type,
        as_attachment=True,
        download_name=found.name,
        etag=found.sha256,
        last_modified=datetime.fromtimestamp(found.uploaded_at, UTC),
    )
    response.headers["Cache-Control"] = CHECKED
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def _page(status: int = 200, *, error: str = "") -> Response:
    with state().database.read() as session:
        found = state().uploads.newest(session, _SHOWN)
        if wants_json():
            content = jsonify(files=[_values(upload) for upload in found], error=error or None)
            response = personal((content, status))
        else:
            limit_bytes = state().settings.upload_limit_bytes
            page = render_template("files.html", files=found, error=error, limit_bytes=limit_bytes)
            response = personal((page, status))
    response.vary.add("Accept")
    return response


def _values(upload: Upload) -> dict[str, object]:
    return {
        "id": upload.id,
        "name": upload.name,
        "media_type": upload.media_type,
        "size_bytes": upload.size_bytes,
        "sha256": upload.sha256,
        "uploaded_at": upload.uploaded_at,
        "url": url_for("files.download", upload_id=upload.id),
    }

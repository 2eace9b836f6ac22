"""Uploaded files: bytes on disk under a random id, what is known of them in the database."""

import hashlib
import re
import secrets
import time
from pathlib import Path
from typing import IO

from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from backend.model.database import Database
from backend.model.tables import Upload

_CHUNK_BYTES = 256 * 1024
_MAX_FILES = 200
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,49}/[\w!#$&^.+-]{1,50}", re.ASCII)  # RFC 6838 §4.2


class Uploads:
    """The folder of uploads; holds at most 200 files and `total_bytes`, the oldest go first."""

    def __init__(self, folder: Path, total_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._total_bytes = total_bytes

    def path(self, upload: Upload) -> Path:
        """Return where the bytes of an upload are."""
        return self.folder / upload.id

    def keep(self, database: Database, stream: IO[bytes], name: str, media_type: str) -> Upload:
        """Copy a stream to disk in bounded memory, and remember it."""
        upload_id = secrets.token_urlsafe(16)
        aside = self.folder / f"{upload_id}.part"
        try:
            sha256, size_bytes = _copy(stream, aside)
            aside.replace(self.folder / upload_id)
        finally:
            aside.unlink(missing_ok=True)
        upload = Upload(
            id=upload_id,
            name=_tame(name),
            media_type=_tame_type(media_type),
            size_bytes=size_bytes,
            sha256=sha256,
            uploaded_at=int(time.time()),
        )
        with database.write() as session:
            session.add(upload)
            session.flush()
            session.refresh(upload)
            session.expunge(upload)
            dropped = self._drop_oldest(session)
        for path in dropped:  # after the commit: a row without its file would be a broken link
            path.unlink(missing_ok=True)
        return upload

    def newest(self, session: Session, limit: int) -> list[Upload]:
        """Return the latest uploads, latest first."""
        return list(session.scalars(_newest_first().limit(limit)))

    def by_id(self, session: Session, upload_id: str) -> Upload | None:
        """Return the upload with this id."""
        return session.get(Upload, upload_id)

    def _drop_oldest(self, session: Session) -> list[Path]:
        dropped = []
        held_bytes = 0
        for position, upload in enumerate(session.scalars(_newest_first())):
            held_bytes += upload.size_bytes
            if position >= _MAX_FILES or held_bytes > self._total_bytes:
                dropped.append(self.path(upload))
                session.delete(upload)
        return dropped


def _newest_first() -> Select[Upload]:
    return select(Upload).order_by(Upload.uploaded_at.desc(), text("rowid DESC"))


def _copy(stream: IO[bytes], to: Path) -> tuple[str, int]:
    digest = hashlib.sha256()
    size_bytes = 0
    with to.open("xb") as file:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += file.write(chunk)
    return digest.hexdigest(), size_bytes


def _tame(name: str) -> str:
    """Return the last part of a name without what a header or a page could trip over."""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(char for char in last if char.isprintable()).strip()
    return kept[-200:] or "unnamed"


def _tame_type(media_type: str) -> str:
    """Return the type if it is one that a header may carry."""
    return media_type if _MEDIA_TYPE.fullmatch(media_type) else "application/octet-stream"

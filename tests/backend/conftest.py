"""Timeline on a database of its own for each test, and a browser's manners for its client."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.controller.state import State
from backend.factory import create_app
from backend.model.seed import DEMO_PASSWORD
from backend.settings import Settings

_TOKEN = re.compile(r'name="csrf" value="([^"]+)"')


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the data of a first start once: hashing a password is slow, as it should be."""
    folder = tmp_path_factory.mktemp("seeded")
    app = create_app(Settings(database=folder / "timeline.sqlite3"))
    state_of(app).database.close()
    return folder


@pytest.fixture
def settings(tmp_path: Path, seeded: Path) -> Settings:
    shutil.copytree(seeded, tmp_path / "data")
    return Settings(
        database=tmp_path / "data" / "timeline.sqlite3",
        upload_limit_bytes=200_000,
        uploads_total_bytes=400_000,
        max_streams=2,
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    app = create_app(settings)
    app.testing = True
    yield app
    state_of(app).database.close()


@pytest.fixture
def state(app: Flask) -> State:
    return state_of(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def mira(app: Flask) -> FlaskClient:
    client = app.test_client()
    assert sign_in(client, "mira").status_code == 303
    return client


def state_of(app: Flask) -> State:
    """Return the parts of a running application."""
    held = app.extensions["timeline"]
    assert isinstance(held, State)
    return held


def form_token(client: FlaskClient, path: str) -> str:
    """Return the token in the form of a page."""
    found = _TOKEN.search(client.get(path).text)
    assert found is not None
    return found[1]


def sign_in(
    client: FlaskClient, name: str, password: str = DEMO_PASSWORD, next_path: str = ""
) -> TestResponse:
    """Fill in the sign-in form and send it."""
    form = {"name": name, "password": password, "next": next_path}
    return client.post("/sign-in", data=form | {"csrf": form_token(client, "/sign-in")})

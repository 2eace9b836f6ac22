"""What holds for every endpoint, and how the application starts."""

import multiprocessing
import stat
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend.controller.state import State
from backend.factory import create_app
from backend.model import posts
from backend.settings import Settings, SettingsError
from tests.backend.conftest import state_of

ARGUMENTS = {"name": "mira", "upload_id": "none"}
_SHARED = {"/", "/u/<name>", "/api/posts"}


def every_address(app: Flask) -> list[tuple[str, str, str]]:
    """Return rule, method and address of everything that the application answers."""
    urls = app.url_map.bind("localhost")
    return [
        (rule.rule, method, urls.build(rule.endpoint, {n: ARGUMENTS[n] for n in rule.arguments}))
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
        if rule.rule != "/slow"
    ]


def test_every_answer_says_how_it_may_be_kept_and_what_it_may_load(
    app: Flask, client: FlaskClient, mira: FlaskClient
) -> None:
    seen = 0
    for who in (client, mira):
        for rule, method, address in every_address(app):
            response = who.open(address, method=method)
            policy = response.headers["Cache-Control"]
            shared = policy.startswith("public")
            response.close()
            assert shared == (
                method in {"GET", "HEAD"} and (rule in _SHARED or rule == "/favicon.ico")
            ), (method, address)
            assert shared or "no-store" in policy
            assert "default-src 'self'" in response.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.status_code < 500
            seen += 1
    assert seen > 60


def test_every_change_needs_the_sessions_token(app: Flask, mira: FlaskClient) -> None:
    changes = [(m, a) for _, m, a in every_address(app) if m not in {"GET", "HEAD", "OPTIONS"}]
    assert len(changes) >= 8
    for method, address in changes:
        for data in ({}, {"csrf": "guessed"}, {"csrf": "é"}):
            assert mira.open(address, method=method, data=data).status_code == 403, address


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 303)]
)
def test_a_change_that_another_site_began_is_refused(
    mira: FlaskClient, site: str, status: int
) -> None:
    token = mira.get("/api/me").get_json()["csrf"]
    form = {"csrf": token, "text": "Hello"}
    answer = mira.post("/posts", data=form, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == status


def test_a_link_from_another_site_still_works(mira: FlaskClient) -> None:
    assert mira.get("/timeline", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_flask_serves_no_static_files(client: FlaskClient) -> None:
    assert client.get("/static/manifest.json").status_code == 404


def test_the_secret_is_kept_for_its_owner_and_across_starts(app: Flask, settings: Settings) -> None:
    secret = settings.database.with_suffix(".secret")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_bytes()) >= 32
    again = create_app(settings)
    assert again.secret_key == app.secret_key == secret.read_bytes()
    state_of(again).database.close()


def _start(settings: Settings, barrier: object, answers: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    app = create_app(settings)
    found = len(app.test_client().get("/api/posts").get_json()["posts"])
    answers.put((app.secret_key, found))  # type: ignore[attr-defined]


def test_processes_that_start_at_once_make_one_database_and_one_secret(
    tmp_path: Path,
) -> None:
    settings = Settings(database=tmp_path / "new" / "timeline.sqlite3")
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(2), spawn.Queue()
    started = [
        spawn.Process(target=_start, args=(settings, barrier, answers), daemon=True)
        for _ in range(2)
    ]
    for process in started:
        process.start()
    found = [answers.get(timeout=40) for _ in started]
    for process in started:
        process.join(10)
        assert process.exitcode == 0
        process.close()
    assert len(set(found)) == 1


def test_a_second_start_seeds_nothing_again(settings: Settings, state: State) -> None:
    with state.database.read() as session:
        newest = posts.newest_id(session)
    again = state_of(create_app(settings))
    with again.database.read() as session:
        assert posts.newest_id(session) == newest > 0
    again.database.close()


def test_data_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="TIMELINE_DATABASE"):
        create_app(Settings(database=tmp_path / "file" / "timeline.sqlite3"))


def test_a_database_that_is_none_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "timeline.sqlite3"
    path.write_text("This is no database. " * 99)
    with pytest.raises(SettingsError, match="TIMELINE_DATABASE"):
        create_app(Settings(database=path))

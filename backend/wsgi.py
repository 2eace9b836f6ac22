"""What a WSGI server loads: `backend.wsgi:app`."""

from backend.factory import create_app
from backend.settings import Settings, SettingsError

try:
    app = create_app(Settings.from_environment())
except SettingsError as error:
    raise SystemExit(f"Timeline cannot start: {error}") from None

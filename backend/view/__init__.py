"""What people see: templates, the names of the assets they use, and the filters for their text."""

from flask import Flask

from backend.view import assets, text


def register(app: Flask) -> None:
    """Give the templates `asset` and their filters. Raises SettingsError without a manifest."""
    assets.manifest()  # read at the start, so that what is missing shows before the first visit
    app.jinja_env.globals["asset"] = assets.asset
    app.jinja_env.filters.update(
        rich=text.rich, iso=text.iso, moment=text.moment, day=text.day, file_size=text.file_size
    )

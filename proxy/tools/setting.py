"""What proxy.toml comes to, as far as the tools need it: the routes, and where the cache is."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.cache.purges import PURGES, Purges
from proxy.clock import Clock
from proxy.compose import Parts
from proxy.config.load import load
from proxy.config.schema import Config
from proxy.errors import CommandError
from proxy.observe.access_log import OFF
from proxy.process.privileges import make_folder, runtime_identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A configuration and what it comes to; `folder` is the cache's, `run_folder` the sockets'."""

    config: Config
    parts: Parts
    folder: Path
    run_folder: Path


def setting(path: Path) -> Setting:
    """Compile the configuration at `path`; nothing is opened for it. Raises ConfigError."""
    config = load(path)
    return setting_of(config, newest(config.server.state_dir / "run"))


def setting_of(config: Config, run_folder: Path) -> Setting:
    """Compile a configuration, for a generation with its sockets in `run_folder`."""
    quiet = config.model_copy(update={"log": config.log.model_copy(update={"access": OFF})})
    return Setting(
        config=config,
        parts=Parts(quiet, app_sockets(config, run_folder), Clock()),
        folder=config.cache_folder,
        run_folder=run_folder,
    )


def newest(folder: Path) -> Path:
    """Return the folder of the generation that serves now, or of none."""
    try:
        generations = [one for one in folder.iterdir() if one.name.isdigit()]
        return max(generations, key=lambda one: one.stat().st_mtime, default=folder)
    except OSError:
        return folder


def app_sockets(config: Config, run_folder: Path) -> Mapping[str, Sequence[Path]]:
    """Return where the applications of a running daemon listen."""
    # Those with a user of their own have a folder of their own beside it (process/state.py).
    folders = [run_folder, *run_folder.parent.glob(f"{run_folder.name}.*")]

    def place(process: str) -> Path:
        found = [path for folder in folders for path in folder.glob(f"{process}.*")]
        # Each process that takes the place of another has a number behind the dot: the last counts.
        newest_first = sorted(found, key=lambda path: path.lstat().st_mtime, reverse=True)
        return next(iter(newest_first), run_folder / f"{process}.sock")

    return {
        name: [place(f"{name}-{number}") for number in range(app.processes)]
        for name, app in config.app.items()
    }


def open_purges(setting: Setting) -> Purges:
    """Open the file of purges, or make it for those who will serve. Raises StartError."""
    config = setting.config
    identity = runtime_identity(config.server.user, config.server.group)
    path = setting.folder / PURGES
    is_new = not path.exists()
    if is_new:
        try:
            setting.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{setting.folder} cannot be made: {error.strerror}") from None
        make_folder(setting.folder, 0o700, identity)
    purges = Purges(setting.folder)
    if is_new and identity is not None:
        os.chown(path, identity.uid, identity.gid)
    return purges

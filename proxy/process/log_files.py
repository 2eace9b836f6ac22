"""The master's own log, and those that it makes for its workers."""

from pathlib import Path

from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.observe import logs
from proxy.observe.outlet import STDERR
from proxy.process.privileges import Identity, give_log


def open_error_log(config: Config) -> logs.ErrorLog:
    """Make [log] error the log of this process; raises StartError."""
    path = STDERR if config.log.error == "-" else str(config.log.error)
    try:
        return logs.configure(path, "master", config.log.level)
    except OSError as error:
        raise StartError(f"[log] error: {path} cannot be opened: {error.strerror}") from None


def give_logs(config: Config, identity: Identity | None) -> None:
    """Let workers write the logs that only root can create; raises StartError."""
    for path in (config.log.access, config.log.error):
        if isinstance(path, Path):
            give_log(path, identity)

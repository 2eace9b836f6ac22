"""One run of the daemon, from the configuration to the exit code."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from proxy.config.schema import Config
from proxy.errors import StartError
from proxy.observe import logs
from proxy.process.activation import activated_sockets, bound_by_systemd
from proxy.process.capabilities import withhold_capabilities
from proxy.process.log_files import give_logs, open_error_log
from proxy.process.master import Master
from proxy.process.privileges import (
    UMASK,
    Identity,
    forbid_new_privileges,
    refuse_root,
    runtime_identity,
)
from proxy.process.upgrade import inherited

# "-P" keeps a proxy.py in the working directory from standing in for this package.
WORKER_COMMAND = (sys.executable, "-P", "-m", "proxy.process.worker")

log = logging.getLogger(__name__)


def run(
    config: Config,
    worker_command: Sequence[str] = WORKER_COMMAND,
    *,
    watch: bool = False,
    allow_root: bool = False,
) -> int:
    """Run the daemon in the foreground until a signal ends it; returns the exit code.

    With `watch`, it reloads when a file changes, as with [server] dev. With `allow_root`, workers
    and applications may be root. `worker_command` is for tests. A failed start is told on standard
    error and returns 1.
    """
    inheritance = inherited(os.environ)
    try:
        identity = runtime_identity(config.server.user, config.server.group)
        if not allow_root:
            refuse_root(identity)
        _keep_power(identity)
        if identity is not None:
            _refuse_closed_paths(config)
        give_logs(config, identity)
        error_log = open_error_log(config)
        sockets = activated_sockets(os.environ)
        held = inheritance.bound if inheritance else bound_by_systemd(config.listen, sockets)
        master = Master(config, identity, error_log, worker_command, held)
        asyncio.run(master.main(inheritance, watch=watch))
    except StartError as error:
        if inheritance is not None:
            inheritance.say(failed=str(error))
        if config.log.error != "-":
            log.error("cannot start: %s", error)  # noqa: TRY400 - a message, no traceback
        print(f"proxyd cannot start: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    finally:
        for handler in logging.getLogger().handlers[:]:
            if isinstance(handler, logs.ErrorLog):  # a reload may have opened another one
                logging.getLogger().removeHandler(handler)
                handler.close()
    return 0


def _refuse_closed_paths(config: Config) -> None:
    """Raise StartError when workers or applications cannot get to what they need to start.

    What they would say of it themselves is that there is no such module.
    """
    from proxy.config.check import paths
    from proxy.config.check_users import runtime_identities

    identities, _ = runtime_identities(config)
    for finding in paths(config, identities):
        if finding.level == "error" and finding.key[0] in {"server", "app"}:
            raise StartError(f"{finding.text}; {finding.fix}")


def _keep_power(identity: Identity | None) -> None:
    """Let nothing that is started from here on have, or get, what this process may do."""
    try:
        powerful = withhold_capabilities()
    except OSError as error:
        raise StartError(
            f"capabilities cannot be kept from children: {error.strerror}; start proxyd as a user"
            " without any"
        ) from None
    if identity is not None or (powerful and os.geteuid() != 0):
        forbid_new_privileges()
    if identity is not None:
        os.umask(UMASK)  # root's own may close state_dir to whom it is for

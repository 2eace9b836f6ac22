"""The systemd units for one configuration: hardened as far as what proxyd does allows. Pure."""

from collections.abc import Iterable
from pathlib import Path

from proxy.config.schema import Config
from proxy.upstream.address import TcpAddress

# What a master that starts as root needs: to bind, to become somebody else, to give folders away,
# and to signal who is somebody else by then.
_ROOT_CAPABILITIES = (
    "CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL"
)
# A master that hangs is ended after this; it says twice as often that it does not.
_WATCHDOG_S = 30
# What an end may take beyond the requests in progress.
_END_S = 15


def service_unit(config: Config, command: str) -> str:
    """Return a .service file; `command` is the absolute path of proxyd."""
    file = config.source.file
    # A command line has variables as well.
    begin, end = (text.replace("$", "$$") for text in (quoted(command), quoted(str(file))))
    server = config.server
    lines = [
        "[Unit]",
        f"Description=proxyd, the web server of {file.parent}",
        "Documentation=man:systemd.service(5)",
        "After=network-online.target",
        "Wants=network-online.target",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={begin} run -c {end}",
        f"ExecReload={begin} reload -c {end}",
        f"WorkingDirectory={str(file.parent).replace('%', '%%')}",
        "Restart=always",
        f"WatchdogSec={_WATCHDOG_S}",
        "# The master hands SIGQUIT on: requests in progress are finished.",
        "KillMode=mixed",
        "KillSignal=SIGQUIT",
        f"TimeoutStopSec={config.timeouts.shutdown + _END_S:.0f}",
        "LimitNOFILE=1048576",
        "",
        *_who(config),
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "# What proxyd writes. Add what your application writes.",
        f"ReadWritePaths={' '.join(quoted(f'-{path}') for path in _written(config))}",
        *([] if server.user is None else ["UMask=0027"]),
        f"ProtectHome={'read-only' if _at_home(file) else 'yes'}",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def socket_unit(config: Config) -> str:
    """Return the .socket file beside it: systemd binds, so nothing of proxyd need be root."""
    streams = []
    for listen in config.listen:
        address = listen.address
        text = str(address) if isinstance(address, TcpAddress) else str(address.path)
        streams.append(f"ListenStream={text.replace('%', '%%')}")
    lines = [
        "[Unit]",
        f"Description=The sockets of proxyd, the web server of {config.folder}",
        "",
        "[Socket]",
        *streams,
        '# As with every listener of proxyd, "[::]" is IPv6 only.',
        "BindIPv6Only=ipv6-only",
        f"Backlog={max(listen.backlog for listen in config.listen)}",
        "NoDelay=yes",
        "",
        "[Install]",
        "WantedBy=sockets.target",
    ]
    return "\n".join(lines) + "\n"


def quoted(word: str) -> str:
    """Write one word of a unit's list so that systemd reads it as one, and as it is."""
    escaped = word.replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if set(word) & set(" \t'\"\\") else escaped


def _who(config: Config) -> Iterable[str]:
    if config.server.user is not None:
        yield f"# The master is root; the rest is {config.server.user}, by [server] user."
        yield f"CapabilityBoundingSet={_ROOT_CAPABILITIES}"
        return
    yield "# No process is root. Create the user, and let it own state_dir."
    yield "User=www-data"
    ports = [each.address.port for each in config.listen if isinstance(each.address, TcpAddress)]
    if any(0 < port < 1024 for port in ports):
        yield "# Ports below 1024 are systemd's to bind: see `proxyd systemd --socket`."
    yield "CapabilityBoundingSet="


def _written(config: Config) -> list[Path]:
    logs = [path for path in (config.log.access, config.log.error) if isinstance(path, Path)]
    return sorted({config.server.state_dir, *(path.parent for path in logs)})


def _at_home(file: Path) -> bool:
    return file.is_relative_to("/home") or file.is_relative_to("/root")

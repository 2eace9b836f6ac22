"""What `proxyd check` finds, on real folders, sockets and users."""

import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from proxy.config.access import Identity, as_user, user_name
from proxy.config.check import bind_failure, binding, check, covers
from proxy.config.finding import Finding
from proxy.config.load import parse
from proxy.config.schema import Config
from proxy.upstream.address import TcpAddress

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root can become another user")
as_somebody = pytest.mark.skipif(ROOT, reason="root may do everything")

WHO = "nobody" if ROOT else ""
STATIC = '[[route]]\npath = "/*"\nfiles = "static"\n'
UNIX_PRIVILEGED_PORTS = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")

Look = Callable[[str], list[str]]


@pytest.fixture
def listen() -> str:
    """Return a line with an address on which nobody listens."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return f'listen = [{{ address = "127.0.0.1:{trial.getsockname()[1]}" }}]'


@pytest.fixture
def site(tree: Path, listen: str) -> Callable[[str], Config]:
    """Return a reader of configurations in a folder with `static` in it; workers have no rights."""
    (tree / "static").mkdir()

    def site(text: str) -> Config:
        has_server = "server." in text or "[server]" in text
        user = f'server.user = "{WHO}"\n' if ROOT and not has_server else ""
        head = "" if "listen" in text else listen
        return parse(f"{user}{head}\n{text}", tree / "proxy.toml")

    return site


@pytest.fixture
def look(site: Callable[[str], Config]) -> Look:
    """Return a check of a text, without what these machines would always say."""

    def look(text: str) -> list[str]:
        return [said(finding) for finding in check(site(text)) if finding.key != ("server", "user")]

    return look


def said(finding: Finding) -> str:
    return f"{finding.level}: {finding.text} -> {finding.fix}"


def test_a_good_configuration_has_no_findings(look: Look) -> None:
    assert look(STATIC) == []


def test_a_folder_that_the_runtime_user_cannot_enter_is_named_with_the_way_out(
    look: Look, tree: Path
) -> None:
    (tree / "closed" / "static").mkdir(parents=True)
    (tree / "closed").chmod(0o000)
    (finding,) = look(STATIC.replace("static", "closed/static"))
    who, whose = ("nobody", "o") if ROOT else (user_name(os.geteuid()), "u")
    assert finding.startswith(f'error: the folder of files: the user "{who}" cannot enter ')
    assert f"{tree / 'closed'} (d--------- " in finding
    assert f"-> chmod {whose}+x {tree / 'closed'}" in finding
    assert (f", or: chown {who} {tree / 'closed'}" in finding) is ROOT


def test_a_folder_of_files_that_is_not_there_is_an_error(look: Look, tree: Path) -> None:
    (finding,) = look(STATIC.replace("static", "statc"))
    assert finding == (
        f"error: the folder of files: {tree / 'statc'} does not exist -> mkdir -p {tree / 'statc'}"
    )


def test_a_file_where_a_folder_should_be_is_an_error(look: Look, tree: Path) -> None:
    (tree / "file").write_text("x")
    (finding,) = look(STATIC.replace("static", "file"))
    assert f"{tree / 'file'} is not a folder" in finding


def test_a_link_to_nowhere_is_an_error(look: Look, tree: Path) -> None:
    (tree / "loop").symlink_to(tree / "loop")
    (finding,) = look(STATIC.replace("static", "loop"))
    assert f"{tree / 'loop'} leads nowhere" in finding


@as_somebody
def test_a_log_file_that_cannot_be_written_is_an_error(look: Look, tree: Path) -> None:
    (tree / "access.log").write_text("")
    (tree / "access.log").chmod(0o400)
    (finding,) = look(STATIC + '[log]\naccess = "access.log"')
    assert finding.startswith("error: the access log: the user ")
    assert f"cannot write to {tree / 'access.log'} (-r--------" in finding


@as_somebody
def test_a_log_file_in_a_folder_that_takes_none_is_an_error(look: Look, tree: Path) -> None:
    (tree / "log").mkdir(mode=0o555)
    (finding,) = look(STATIC + '[log]\nerror = "log/error.log"')
    assert f"cannot write into {tree / 'log'} (dr-xr-xr-x" in finding


@as_root
def test_logs_and_state_that_root_makes_for_the_user_need_not_be_writable_before(
    look: Look, tree: Path
) -> None:
    (tree / "log").mkdir(mode=0o755)
    assert look(STATIC + '[log]\nerror = "log/error.log"\naccess = "new/access.log"') == []


def test_a_log_file_below_a_closed_folder_is_an_error(look: Look, tree: Path) -> None:
    (tree / "log").mkdir(mode=0o000)
    (finding,) = look(STATIC + '[log]\naccess = "log/access.log"')
    assert finding.startswith("error: the access log: the user ")
    assert f"cannot enter {tree / 'log'} (d---------" in finding


@as_somebody
def test_a_state_folder_that_cannot_be_written_is_an_error(look: Look, tree: Path) -> None:
    (tree / "var").mkdir(mode=0o555)
    (finding,) = look(STATIC)
    assert finding.startswith("error: state_dir: the user ")
    assert f"cannot write into {tree / 'var'}" in finding


def test_a_state_folder_below_a_closed_one_is_an_error(look: Look, tree: Path) -> None:
    (tree / "run").mkdir(mode=0o000)
    user = f'user = "{WHO}"\n' if ROOT else ""
    (finding,) = look(STATIC + f'[server]\n{user}state_dir = "run/proxyd/state"')
    assert finding.startswith("error: state_dir: the user ")
    assert f"cannot enter {tree / 'run'}" in finding


def test_an_upstream_s_socket_that_is_not_there_yet_is_a_warning(look: Look, tree: Path) -> None:
    (finding,) = look(
        'upstream.old.servers = ["unix:old.sock"]\n[[route]]\npath = "/*"\nto = "old"'
    )
    assert finding.startswith(f"warning: nothing listens on {tree / 'old.sock'} yet")


def test_an_upstream_s_socket_that_may_not_be_used_is_an_error(look: Look, tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tree / "old.sock"))
        (tree / "old.sock").chmod(0o400)
        (finding,) = look(
            'upstream.old.servers = ["unix:old.sock", "a:1"]\n[[route]]\npath = "/*"\nto = "old"'
        )
    assert f"cannot write to {tree / 'old.sock'} (sr--------" in finding


APP = 'app.site.wsgi = "site.wsgi:app"\n[[route]]\npath = "/*"\nto = "site"\n'


@pytest.mark.parametrize("module", ["pages/wsgi.py", "pages/wsgi/__init__.py"])
def test_a_module_below_the_folder_is_found_and_not_imported(
    look: Look, tree: Path, module: str
) -> None:
    (tree / module).parent.mkdir(parents=True)
    (tree / module).write_text("raise SystemExit('imported')")
    assert look(APP.replace("site.wsgi:", "pages.wsgi:")) == []


def test_an_installed_module_is_found(look: Look) -> None:
    assert look(APP.replace("site.wsgi:", "proxy.config.load:")) == []


def test_a_module_that_is_nowhere_is_a_warning(look: Look, tree: Path) -> None:
    (finding,) = look(APP.replace("site.wsgi:", "pages.wsgi:"))
    assert finding == (
        f'warning: the module "pages.wsgi" is neither below {tree} nor installed -> look for '
        f"{tree / 'pages/wsgi.py'}; the part before the colon is a module"
    )


def test_a_module_that_the_runtime_user_cannot_read_is_an_error(look: Look, tree: Path) -> None:
    (tree / "pages.py").write_text("")
    (tree / "pages.py").chmod(0o200)
    (finding,) = look(APP.replace("site.wsgi:", "pages:"))
    assert f'the application\'s module: the user "{WHO}"' in finding or not ROOT
    assert f"cannot read {tree / 'pages.py'}" in finding


def test_an_address_that_is_taken_is_a_warning(look: Look) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        (finding,) = look(f'listen = [{{ address = "127.0.0.1:{port}" }}]\n{STATIC}')
    assert finding == (
        f"warning: somebody listens on 127.0.0.1:{port} already, perhaps proxyd itself -> "
        f"see who: ss -ltnp 'sport = :{port}'"
    )


def test_an_address_that_the_machine_does_not_have_is_an_error(look: Look) -> None:
    (finding,) = look(f'listen = [{{ address = "192.0.2.1:8080" }}]\n{STATIC}')
    assert finding.startswith("error: no interface of this machine has the address 192.0.2.1")


def test_a_name_without_an_address_is_an_error(look: Look) -> None:
    (finding,) = look(f'listen = [{{ address = "no-such-host.invalid:8080" }}]\n{STATIC}')
    assert finding.startswith('error: "no-such-host.invalid" has no address')


def test_ipv4_and_ipv6_of_one_port_do_not_stand_in_each_other_s_way(look: Look) -> None:
    assert look('listen = [{ address = "0.0.0.0:0" }, { address = "[::]:0" }]\n' + STATIC) == []


def test_a_port_of_root_s_is_an_error_for_others(nobody: Identity | None) -> None:
    found = as_user(nobody, partial(list_binding, TcpAddress("127.0.0.1", 1)))
    free_from = int(UNIX_PRIVILEGED_PORTS.read_text()) if UNIX_PRIVILEGED_PORTS.exists() else 1024
    if free_from <= 1:
        assert found == []  # this system has no such ports
    else:
        (finding,) = found
        assert finding.text == "only root may listen on ports such as 1"
        assert "setcap cap_net_bind_service=+ep /" in finding.fix


def list_binding(address: TcpAddress) -> list[Finding]:
    return list(binding(("listen", 0, "address"), address))


@pytest.mark.parametrize(
    ("failure", "level", "text"),
    [
        (PermissionError(13, "x"), "error", "only root may listen on ports such as 80"),
        (OSError(5, "Input/output error"), "error", "cannot listen on a:80: Input/output error"),
    ],
)
def test_a_failure_to_bind_is_explained(failure: OSError, level: str, text: str) -> None:
    finding = bind_failure(("listen",), TcpAddress("a", 80), failure)
    assert (finding.level, finding.text) == (level, text)


def test_a_unix_socket_to_listen_on_needs_its_folder(look: Look, tree: Path) -> None:
    (finding,) = look('listen = [{ address = "unix:run/p.sock" }]\n' + STATIC)
    assert finding.startswith(f"error: the socket's folder: {tree / 'run'} does not exist")


def test_a_unix_socket_does_not_take_the_place_of_a_file(look: Look, tree: Path) -> None:
    (tree / "p.sock").write_text("precious")
    (finding,) = look('listen = [{ address = "unix:p.sock" }]\n' + STATIC)
    assert finding.startswith(f"error: {tree / 'p.sock'} is there, and is not a socket")


def test_a_unix_socket_that_was_left_behind_is_fine(look: Look, tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(tree / "p.sock"))
    assert look('listen = [{ address = "unix:p.sock" }]\n' + STATIC) == []


def test_a_proxy_protocol_that_nobody_may_speak_is_an_error(look: Look) -> None:
    (finding,) = look('listen = [{ address = "127.0.0.1:0", proxy_protocol = true }]\n' + STATIC)
    assert finding.startswith("error: nobody could connect")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_trust_in_everybody_is_a_warning(look: Look, network: str) -> None:
    (finding,) = look(f'server.trusted_proxies = ["{network}"]\n' + STATIC)
    assert finding.startswith(f"warning: {network} is everybody")


def test_a_route_behind_one_that_takes_everything_is_a_warning(
    site: Callable[[str], Config],
) -> None:
    config = site(STATIC + STATIC.replace("/*", "/static/*"))
    (finding,) = [found for found in check(config) if found.key[0] == "route"]
    assert finding.key == ("route", 1, "path")
    line = config.source.line(("route", 0))
    assert finding.text == f"this route never answers: /* in line {line} takes its requests"


@pytest.mark.parametrize(
    ("earlier", "later", "covered"),
    [
        ('path = "/*"', 'path = "/a"', True),
        ('path = "/a/*"', 'path = "/a/b/*"', True),
        ('path = "/a/*"', 'path = "/a/b"', True),
        ('path = "/a/*"', 'path = "/a"', True),
        ('path = "/a/*"', 'path = "/ab"', False),
        ('path = "/a/*"', 'path = "/*"', False),
        ('path = "/a"', 'path = "/a"', True),
        ('path = "/a"', 'path = "/a/*"', False),
        ('path = "/*"\nhost = "a.example"', 'path = "/a"', False),
        ('path = "/*"', 'path = "/a"\nhost = "a.example"', True),
        ('path = "/*"\nhost = "a.example"', 'path = "/a"\nhost = "a.example"', True),
        (
            'path = "/*"\nhost = "a.example"',
            'path = "/a"\nhost = ["a.example", "b.example"]',
            False,
        ),
        ('path = "/*"\nhost = "*.example"', 'path = "/a"\nhost = ["a.example", "b.example"]', True),
        ('path = "/*"\nhost = "*.example"', 'path = "/a"\nhost = "*.a.example"', True),
        ('path = "/*"\nhost = "*.a.example"', 'path = "/a"\nhost = "*.example"', False),
    ],
)
def test_a_route_covers_another_when_it_takes_each_of_its_requests(
    earlier: str, later: str, *, covered: bool
) -> None:
    routes = "\n".join(f'[[route]]\nfiles = "."\n{route}' for route in (earlier, later))
    assert covers(*parse(routes, Path("proxy.toml")).route) is covered


def test_an_app_or_upstream_that_no_route_leads_to_is_a_warning(look: Look) -> None:
    text = 'upstream.old.servers = ["a:1"]\napp.site.wsgi = "proxy.cli:main"\n'
    assert look(text + STATIC) == [
        'warning: no route leads to [upstream.old] -> add a [[route]] with to = "old"',
        'warning: no route leads to [app.site] -> add a [[route]] with to = "site"',
    ]


def identity_findings(config: Config) -> list[str]:
    return [said(found) for found in check(config) if found.text.find("Python itself") < 0]


TO_SHOP = '[[route]]\npath = "/*"\nto = "shop"\n'


@as_root
def test_root_without_a_user_is_a_warning(site: Callable[[str], Config]) -> None:
    (finding,) = identity_findings(site("server.workers = 1\n" + STATIC))
    assert finding.startswith("warning: started as root without `user`, proxyd refuses to start")


@as_root
def test_an_unknown_user_is_an_error_with_the_nearest(site: Callable[[str], Config]) -> None:
    (finding,) = identity_findings(site('server.user = "nobdy"\n' + STATIC))
    assert finding == ('error: there is no user "nobdy" on this machine -> did you mean "nobody"?')
    (finding,) = identity_findings(site('server.user = "zzqqxx"\n' + STATIC))
    assert finding.endswith("-> useradd --system zzqqxx")


@as_root
def test_an_unknown_group_is_an_error(site: Callable[[str], Config]) -> None:
    text = f'server.user = "nobody"\nserver.group = "zzqqxx"\n{STATIC}'
    (finding,) = identity_findings(site(text))
    assert finding == (
        'error: there is no group "zzqqxx" on this machine -> groupadd --system zzqqxx'
    )


@as_root
def test_a_group_without_a_user_is_an_error(site: Callable[[str], Config]) -> None:
    (finding,) = identity_findings(site('server.group = "sys"\n' + STATIC))
    assert finding.startswith("error: `group` is without `user`")


@as_root
def test_a_group_takes_the_place_of_the_user_s_own(
    site: Callable[[str], Config], tree: Path
) -> None:
    (tree / "static").chmod(0o750)
    os.chown(tree / "static", 0, 3)
    text = f'server.user = "nobody"\nserver.group = "sys"\n{STATIC}'
    assert identity_findings(site(text)) == []


@as_root
def test_root_by_name_is_an_error_and_an_application_has_a_user_of_its_own(
    site: Callable[[str], Config], tree: Path
) -> None:
    (tree / "shop.py").write_text("app = None\n")
    (tree / "shop.py").chmod(0o600)
    text = 'server.user = "nobody"\n[app.shop]\nwsgi = "shop:app"\nuser = "{}"\n' + TO_SHOP
    found = identity_findings(site(text.format("root")))
    assert any('error: "root" is root, which none but the master' in each for each in found)
    (finding,) = identity_findings(site(text.format("daemon")))
    assert f'the user "daemon" cannot read {tree / "shop.py"}' in finding


@as_somebody
def test_a_user_is_of_no_effect_without_root(site: Callable[[str], Config]) -> None:
    (finding,) = identity_findings(site('server.user = "root"\n' + STATIC))
    assert finding.startswith("warning: `user` has no effect: not started as root")


@as_root
def test_an_interpreter_that_the_runtime_user_cannot_reach_is_an_error(
    site: Callable[[str], Config], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "venv").mkdir(mode=0o700)
    (tree / "venv" / "python").symlink_to(sys.executable)
    copy = tree / "venv" / "python3"
    copy.write_text("")
    monkeypatch.setattr(sys, "executable", str(copy))
    (finding,) = [found for found in check(site(STATIC)) if "Python itself" in found.text]
    assert f"cannot enter {tree / 'venv'}" in finding.text


def test_findings_come_in_the_order_of_the_file(site: Callable[[str], Config]) -> None:
    text = 'upstream.old.servers = ["unix:x"]\n[[route]]\npath = "/*"\nfiles = "no"\n'
    lines = [site(text).source.line(found.key) for found in check(site(text))]
    assert lines == sorted(lines)

"""The command line, in this process and as a real one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxy import __version__
from proxy.cli import app, main
from proxy.config.reference import json_schema, reference
from proxy.config.schema import Config
from proxy.errors import ConfigError, StartError
from proxy.process import control_client, daemon

PROXYD = Path(sys.executable).with_name("proxyd")
GOOD = '[[listen]]\naddress = "127.0.0.1:0"\n[[route]]\npath = "/*"\nfiles = "static"\n'


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a good proxy.toml, which is also the present one."""
    (tmp_path / "static").mkdir()
    (tmp_path / "proxy.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def proxyd(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROXYD, *arguments], cwd=cwd, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.usefixtures("site")
def test_check_says_what_would_run_and_ends_with_0() -> None:
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 0, result.output
    assert "proxy.toml is valid" in result.output
    assert "listens on  127.0.0.1:0" in result.output
    assert "route       /* → files in " in result.output
    assert "no errors" in result.output


def test_check_shows_each_finding_with_its_place_and_the_way_out(site: Path) -> None:
    (site / "proxy.toml").write_text(GOOD.replace("static", "statc"))
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 2
    assert "error: proxy.toml:5: route[0].files\n" in result.output
    assert f"  the folder of files: {site / 'statc'} does not exist\n" in result.output
    assert f"  mkdir -p {site / 'statc'}\n" in result.output
    assert "1 error, " in result.output


def test_check_lists_apps_upstreams_hosts_and_listeners(site: Path) -> None:
    (site / "other.toml").write_text(
        """
        [server]
        trusted_proxies = ["10.0.0.0/8"]
        [[listen]]
        address = "[::1]:0"
        proxy_protocol = true
        [app.site]
        wsgi = "proxy.cli:main"
        processes = 2
        threads = 1
        [upstream.old]
        servers = ["127.0.0.1:9000", "localhost:9001"]
        [[route]]
        path = "/old/*"
        host = ["a.example", "*.b.example"]
        to = "old"
        [[route]]
        path = "/*"
        to = "site"
        """
    )
    output = CliRunner().invoke(app, ["check", "-c", "other.toml"]).output
    assert "listens on  [::1]:0 (PROXY protocol)\n" in output
    assert "app         site: proxy.cli:main under waitress, 2 processes, 1 thread each\n" in output
    assert "upstream    old: 127.0.0.1:9000, localhost:9001\n" in output
    assert "route       a.example, *.b.example /old/* → old\n" in output


def test_text_in_brackets_is_not_taken_for_a_style(site: Path) -> None:
    (site / "proxy.toml").write_text(GOOD.replace('"static"', '"[bold]x[/bold]"'))
    result = CliRunner().invoke(app, ["check"])
    assert "[bold]x[/bold]" in result.output


def test_schema_prints_the_json_schema() -> None:
    result = CliRunner().invoke(app, ["schema"])
    assert json.loads(result.output) == json_schema()


def test_reference_prints_the_table_of_the_readme() -> None:
    assert CliRunner().invoke(app, ["reference"]).output == reference() + "\n"


def test_version_names_proxyd_and_what_it_stands_on() -> None:
    result = proxyd("version")
    assert result.returncode == 0
    assert result.stdout.splitlines()[0] == f"proxyd {__version__}, from its sources"
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "proxyd",
        "Python",
        "uvloop",
        "httptools",
        "waitress",
    ]


def test_version_is_the_same_in_this_process() -> None:
    assert f"proxyd {__version__}, " in CliRunner().invoke(app, ["version"]).output


def test_version_does_not_wait_for_a_web_server() -> None:
    code = (
        "import sys\nsys.argv = ['proxyd', 'version']\nfrom proxy.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in sys.modules if name in "
        "('uvloop', 'asyncio', 'rich', 'proxy.config.schema', 'proxy.process.daemon')])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_wrong_configuration_ends_with_2_and_no_traceback(site: Path) -> None:
    (site / "proxy.toml").write_text(GOOD + "[server]\nworker = 1\n")
    for command in ("run", "check"):
        result = proxyd(command, cwd=site)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr == (
            'proxyd: proxy.toml:7: server.worker: there is no such key; did you mean "workers"?\n'
        )


def test_a_missing_configuration_ends_with_2_and_a_beginning(tmp_path: Path) -> None:
    result = proxyd("run", cwd=tmp_path)
    assert result.returncode == 2
    assert f"proxyd: there is no {tmp_path / 'proxy.toml'}\n" in result.stderr
    assert "[[route]]" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["check", "--nonsense"], ["check", "-c"], ["check", "extra"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = proxyd(*arguments)
    assert result.returncode == 2
    assert "Error" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_lists_the_commands_that_exist_and_no_others() -> None:
    result = proxyd("--help")
    assert result.returncode == 0
    commands = (
        "run",
        "check",
        "reload",
        "upgrade",
        "stop",
        "status",
        "lab",
        "systemd",
        "schema",
        "version",
    )
    for command in commands:
        assert command in result.stdout
    assert "reference" not in result.stdout


def test_a_reader_who_leaves_is_not_an_error_to_talk_about() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [PROXYD, "schema"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(writer)
    assert result.returncode == 1
    assert result.stderr == ""


@pytest.mark.parametrize(("failure", "code"), [(StartError("no"), 1), (ConfigError("no"), 2)])
def test_an_intended_failure_is_a_message_and_an_exit_code(
    failure: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_with(failure, monkeypatch) == code
    assert capsys.readouterr().err == "proxyd: no\n"


def test_an_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(KeyboardInterrupt(), monkeypatch) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["reload"], "reload"),
        (["upgrade"], "upgrade"),
        (["stop"], "stop"),
        (["stop", "--now"], "stop now"),
    ],
)
def test_a_command_goes_to_the_daemon_of_the_state_folder(
    arguments: list[str], asked: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(folder: Path, name: str, tell: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
        assert (folder, name) == (site / "var", asked)
        tell("one moment")
        return "done", {}

    monkeypatch.setattr(control_client, "command", command)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stdout == "done\n"
    assert result.stderr == "one moment\n"


@pytest.mark.usefixtures("site")
def test_status_is_for_people_and_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    status = {
        "version": "1", "pid": 5, "uptime_s": 1.0, "config": "proxy.toml",
        "listeners": ["http://[::1]"], "generations": [],
    }  # fmt: skip
    monkeypatch.setattr(control_client, "command", lambda *_: ("", status))
    assert "proxyd 1, pid 5, for 1s" in CliRunner().invoke(app, ["status"]).stdout
    found = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert found.pop("traffic")["requests"] == 0
    assert found == status


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("command", ["reload", "upgrade", "stop", "status"])
def test_without_a_daemon_commands_end_with_1_and_the_way_to_start_one(command: str) -> None:
    result = proxyd(command)
    assert result.returncode == 1
    assert result.stderr.startswith("proxyd: no proxyd runs with the state_dir ")


def test_systemd_gets_units_with_this_very_command(site: Path) -> None:
    unit = proxyd("systemd", cwd=site)
    assert f"ExecStart={PROXYD} run -c {site / 'proxy.toml'}\n" in unit.stdout
    assert "ListenStream=127.0.0.1:0\n" in proxyd("systemd", "--socket", cwd=site).stdout


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.usefixtures("site")
def test_run_hands_the_configuration_to_the_master_and_ends_with_its_code(
    code: int, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Config] = []

    def run(config: Config, *, watch: bool, allow_root: bool) -> int:
        given.append(config)
        assert not watch
        assert allow_root  # PROXYD_ALLOW_ROOT of conftest.py
        return code

    monkeypatch.setattr(daemon, "run", run)
    monkeypatch.setattr(sys, "argv", ["proxyd", "run", "-c", "proxy.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert given[0].folder == site


def run_with(failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the version command, which fails so; return the exit code."""

    def fail(_: str) -> None:
        raise failure

    monkeypatch.setattr("proxy.cli.put", fail)
    monkeypatch.setattr(sys, "argv", ["proxyd", "version"])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code

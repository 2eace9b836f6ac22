"""The whole daemon but the worker: real masters, real applications, real signals."""

import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.process.running import Daemon, alive, connects, newest_socket, wait_for

Start = Callable[..., Daemon]

WHOLE = """
[server]
workers = 1
[[listen]]
address = "127.0.0.1:0"
[app.timeline]
wsgi = "timeline:app"
threads = 2
[[route]]
path = "/*"
to = "timeline"
"""
TWO = WHOLE.replace("workers = 1", "workers = 2").replace("threads = 2", "processes = 2")
# Without the control process, which is most of what such a start costs.
ONE = WHOLE + '[control]\naddress = "off"\n'


def test_it_starts_applications_then_workers_and_says_where_they_are(daemon: Start) -> None:
    running = daemon(TWO)
    running.wait_until_ready()
    told = re.sub(r"\d+$", "N", running.errors, flags=re.MULTILINE)
    assert "proxyd: listening http://127.0.0.1:N\n" in told
    assert "proxyd: route /* timeline: timeline:app under waitress\n" in told
    for name in ("app timeline 1", "app timeline 2", "worker 1", "worker 2", "master"):
        assert f"proxyd: {name} pid N\n" in told
    given = running.ask_worker()
    assert given["config"] == str(running.folder / "proxy.toml")
    assert given["apps"] == {
        "timeline": [
            str(running.folder / "var" / "run" / "1" / f"timeline-{n}.sock") for n in (0, 1)
        ]
    }
    assert [listener["index"] for listener in given["listeners"]] == [0]
    assert running.app_pid(0) != running.app_pid(1)
    assert int((running.folder / "var" / "proxyd.pid").read_text()) == running.process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_fast_stop_ends_every_process_and_removes_every_file(
    daemon: Start, number: signal.Signals
) -> None:
    running = daemon(TWO)
    running.wait_until_ready()
    pids = running.pids()
    assert len(pids) == 5
    assert running.end(number) == 0
    assert not any(alive(pid) for pid in pids)
    assert running.files() == set()


def test_a_second_ctrl_c_changes_nothing(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    running.process.send_signal(signal.SIGINT)
    running.process.send_signal(signal.SIGINT)
    assert running.end(signal.SIGINT) == 0
    assert running.files() == set()


def test_ctrl_c_in_a_terminal_reaches_the_master_only(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    groups = {os.getpgid(pid) for pid in running.pids()}
    assert len(groups) == 3


def test_a_graceful_stop_waits_for_requests_and_needs_the_application_until_then(
    daemon: Start,
) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    running.process.send_signal(signal.SIGQUIT)
    wait_for((running.folder / "signals").exists, "the worker's SIGQUIT")
    assert running.app_pid() in running.pids()
    (running.folder / "requests-done").touch()
    assert running.process.wait(timeout=20) == 0
    assert (running.folder / "signals").read_text() == "0 SIGQUIT\n"
    assert running.files() == set()


def test_a_graceful_stop_ends_at_its_limit(daemon: Start) -> None:
    running = daemon(ONE + '[timeouts]\nshutdown = "300ms"\n')
    running.wait_until_ready()
    assert running.end(signal.SIGQUIT) == 0
    assert "worker 1 did not end within 2.3 s and is killed" in running.errors


def test_a_graceful_stop_becomes_fast_when_asked_again(daemon: Start) -> None:
    running = daemon(ONE + '[timeouts]\nshutdown = "10m"\n')
    running.wait_until_ready()
    running.process.send_signal(signal.SIGQUIT)
    wait_for((running.folder / "signals").exists, "the worker's SIGQUIT")
    assert running.end(signal.SIGTERM) == 0
    assert running.files() == set()


def test_nothing_survives_a_master_that_is_killed(daemon: Start) -> None:
    running = daemon(TWO)
    running.wait_until_ready()
    pids = running.pids()
    running.process.kill()
    running.process.wait()
    wait_for(lambda: not any(map(alive, pids)), "the end of every child")
    assert running.files() == {"proxyd.pid", "control.sock", "master.sock"}
    again = daemon(TWO)
    wait_for(lambda: again.errors.count("proxyd: master") == 2, "a new start after the kill")


def test_a_killed_worker_and_a_killed_application_are_replaced(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    worker, app = running.ask_worker()["pid"], running.app_pid()
    os.kill(worker, signal.SIGKILL)
    os.kill(app, signal.SIGKILL)
    running.wait_for_error("worker 1 runs again")
    running.wait_for_error("app timeline runs again")
    assert f"worker 1 (pid {worker}) ended: killed by SIGKILL" in running.errors
    assert f"app timeline (pid {app}) ended: killed by SIGKILL" in running.errors
    assert running.ask_worker()["pid"] != worker
    assert running.app_pid() != app


def test_a_replaced_worker_answers_what_waited_on_its_socket(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    worker = running.ask_worker()["pid"]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: not alive(worker), "the worker's end")
    assert running.ask_worker()["pid"] != worker


def test_a_worker_that_hangs_leaves_its_stack_in_the_log_and_is_replaced(daemon: Start) -> None:
    running = daemon(ONE + '[timeouts]\nheartbeat = "1s"\n')
    running.wait_until_ready()
    worker = running.ask_worker("/hang")["pid"]
    running.wait_for_error(f"worker 1 (pid {worker}) is replaced: it has not moved for 1 s")
    assert re.search(r'INFO worker 1:   File ".*worker\.py", line \d+ in <module>', running.errors)
    running.wait_for_error("worker 1 runs again")
    assert running.ask_worker()["pid"] != worker


def test_a_worker_that_was_stopped_is_replaced_as_well(daemon: Start) -> None:
    running = daemon(ONE + '[timeouts]\nheartbeat = "1s"\n')
    running.wait_until_ready()
    os.kill(running.ask_worker()["pid"], signal.SIGSTOP)
    running.wait_for_error("worker 1 runs again")


def test_an_application_that_ends_itself_is_restarted_with_its_exit_code_told(
    daemon: Start,
) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    connection = running.ask_app()
    connection.request("GET", "/exit")
    running.wait_for_error("ended: exit code 3")
    connection.close()
    running.wait_for_error("app timeline runs again")


def test_an_application_broken_while_it_ran_is_tried_again_until_it_is_whole(
    daemon: Start,
) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    source = running.folder / "timeline.py"
    whole = source.read_text()
    source.write_text("import nothing_like_it\n")
    os.kill(running.app_pid(), signal.SIGKILL)
    running.wait_for_error("app timeline ended at its start: exit code 78; the log says why")
    source.write_text(whole)
    running.wait_for_error("app timeline runs again")


def test_what_an_application_prints_is_in_the_log_under_its_name(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    connection = running.ask_app()
    connection.request("GET", "/say")
    connection.getresponse().read()
    connection.close()
    running.wait_for_error("INFO app timeline: said by the app\n")
    assert running.end() == 0
    assert "INFO app timeline: half a line\n" in running.errors


def test_an_application_that_cannot_be_loaded_ends_the_start(daemon: Start) -> None:
    running = daemon(ONE.replace("timeline:app", "timeline:nothing"))
    assert running.process.wait(timeout=20) == 1
    assert (
        'INFO app timeline: module "timeline" has no "nothing"; it has: answer, app, events\n'
        in running.errors
    )
    assert running.errors.endswith(
        "proxyd cannot start: app timeline ended at its start: exit code 78; "
        'the log says why; correct it, or wsgi = "timeline:nothing" in [app.timeline]\n'
    )
    assert "Traceback" not in running.errors
    assert running.files() == set()


def test_an_application_that_never_listens_ends_the_start_at_its_timeout(
    daemon: Start, folder: Path
) -> None:
    (folder / "sleeper.py").write_text("import time\ntime.sleep(600)\n")
    slow = ONE.replace("threads = 2", 'start_timeout = "500ms"')
    running = daemon(slow.replace("timeline:app", "sleeper:app"))
    assert running.process.wait(timeout=20) == 1
    assert "app timeline was not ready within 0.5 s; look at its output" in running.errors
    assert running.files() == set()


def test_a_worker_that_fails_ends_the_start_and_the_applications(
    daemon: Start, folder: Path
) -> None:
    (folder / "worker-fails").touch()
    running = daemon(TWO)
    assert running.process.wait(timeout=20) == 1
    assert re.search(r"cannot start: worker \d ended at its start: exit code 5", running.errors)
    assert running.files() == set()


def test_a_signal_during_the_start_ends_it(daemon: Start, folder: Path) -> None:
    (folder / "sleeper.py").write_text("import time\nprint('asleep')\ntime.sleep(600)\n")
    running = daemon(ONE.replace("timeline:app", "sleeper:app"))
    running.wait_for_error("app timeline: asleep")
    assert running.end(signal.SIGINT) == 0
    assert running.files() == set()


def test_a_second_daemon_on_the_same_state_folder_is_refused(daemon: Start) -> None:
    first = daemon(WHOLE)
    first.wait_until_ready()
    second = daemon(WHOLE)
    assert second.process.wait(timeout=20) == 1
    assert f"another proxyd (pid {first.process.pid}) runs with the state_dir" in second.errors
    assert first.ask_worker()
    assert first.files() == {"proxyd.pid", "control.sock", "master.sock", "timeline-0.1"}


def test_an_address_in_use_is_told_before_anything_is_started(daemon: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        running = daemon(ONE.replace(":0", f":{other.getsockname()[1]}"))
        assert running.process.wait(timeout=20) == 1
    assert "another program does" in running.errors
    assert "app timeline" not in running.errors
    assert running.files() == set()


def test_logs_are_reopened_and_workers_told_to(daemon: Start) -> None:
    running = daemon(ONE + '[log]\nerror = "error.log"\n')
    log = running.folder / "error.log"
    running.wait_until_ready()
    log.rename(running.folder / "error.log.1")
    running.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: log.exists() and "logs reopened" in log.read_text(), "the new log")
    wait_for((running.folder / "signals").exists, "the worker's SIGUSR1")
    assert (running.folder / "signals").read_text() == "0 SIGUSR1\n"


def test_a_failed_start_is_in_the_log_file_as_well(daemon: Start) -> None:
    running = daemon(ONE.replace("timeline:app", "absent:app") + '[log]\nerror = "error.log"\n')
    assert running.process.wait(timeout=20) == 1
    assert "cannot start: app timeline" in (running.folder / "error.log").read_text()
    assert running.errors.startswith("proxyd cannot start: app timeline")


def test_a_log_that_cannot_be_opened_ends_the_start(daemon: Start) -> None:
    running = daemon(ONE + '[log]\nerror = "no/such/folder/error.log"\n')
    assert running.process.wait(timeout=20) == 1
    assert "no/such/folder" in running.errors
    assert "Traceback" not in running.errors


def test_a_hang_up_reloads_with_the_configuration_as_it_is_now(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    (running.folder / "requests-done").touch()
    first = running.ask_worker()
    (running.folder / "proxy.toml").write_text(ONE + '[log]\nerror = "error.log"\n')
    running.process.send_signal(signal.SIGHUP)
    log = running.folder / "error.log"
    wait_for(lambda: log.exists() and "generation 1 has ended" in log.read_text(), "the reload")
    second = running.ask_worker()
    assert second["pid"] != first["pid"]
    assert "error.log" in second["config_text"]
    assert second["apps"]["timeline"] == [str(running.folder / "var/run/2/timeline-0.sock")]
    assert not (running.folder / "var/run/1").exists()
    assert running.end() == 0
    assert running.files() == set()


def test_a_worker_that_dies_after_a_refused_reload_gets_what_was_checked(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    (running.folder / "proxy.toml").write_text("broken")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for_error("the reload failed, what runs goes on")
    os.kill(running.ask_worker()["pid"], signal.SIGKILL)
    running.wait_for_error("worker 1 runs again")
    assert running.ask_worker()["config_text"] == ONE


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('user = "nobody"', "`user` cannot change while proxyd runs"),
        ('state_dir = "elsewhere"', "`state_dir` cannot change while proxyd runs"),
    ],
)
def test_what_only_a_new_start_can_change_is_refused(daemon: Start, line: str, told: str) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    first = running.ask_worker()
    (running.folder / "proxy.toml").write_text(ONE.replace("[server]", f"[server]\n{line}"))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for_error(told)
    assert running.ask_worker()["pid"] == first["pid"]


def test_an_application_that_only_fails_is_not_deployed(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    first = running.ask_worker()
    (running.folder / "timeline.py").write_text("def app(environ, start_response):\n    oops\n")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for_error("app timeline answered GET / with 500")
    assert running.ask_worker()["pid"] == first["pid"]
    assert not (running.folder / "var/run/2").exists()


def test_an_address_in_use_refuses_the_reload(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f'[[listen]]\naddress = "127.0.0.1:{other.getsockname()[1]}"\n'
        (running.folder / "proxy.toml").write_text(ONE + taken)
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_error("another program does")
    assert running.ask_worker()


def test_a_stop_in_the_middle_of_a_reload_ends_both_generations(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    (running.folder / "timeline.py").write_text("import time\nprint('asleep')\ntime.sleep(600)\n")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for_error("app timeline: asleep")
    assert running.end() == 0
    assert running.files() == set()


def test_signals_that_come_faster_than_reloads_do_not_pile_up(daemon: Start) -> None:
    running = daemon(ONE)
    running.wait_until_ready()
    (running.folder / "requests-done").touch()
    for _ in range(50):
        running.process.send_signal(signal.SIGHUP)
        running.ask_worker()
    running.wait_for_error("generation 2 has ended")
    assert "generation 9 serves" not in running.errors
    assert running.end() == 0
    assert running.files() == set()


def test_old_generations_do_not_pile_up(daemon: Start) -> None:
    running = daemon(ONE + '[timeouts]\nshutdown = "10m"\n')
    running.wait_until_ready()
    for number in range(2, 7):
        running.process.send_signal(signal.SIGHUP)
        running.wait_for_error(f"generation {number} serves")
    running.wait_for_error("generation 1 has ended")
    assert "generation 2 has ended" not in running.errors
    assert running.end() == 0
    assert running.files() == set()


def test_a_state_folder_too_deep_for_sockets_is_no_hindrance(daemon: Start) -> None:
    deep = "/".join(["deep" * 10] * 4)
    running = daemon(ONE.replace("workers = 1", f'workers = 1\nstate_dir = "{deep}"'))
    running.wait_until_ready()
    (path,) = running.ask_worker()["apps"]["timeline"]
    assert connects(newest_socket(Path(path).parent))
    assert running.end() == 0
    assert not Path(path).parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_user_that_does_not_exist_ends_the_start(daemon: Start) -> None:
    running = daemon(ONE.replace("workers = 1", 'workers = 1\nuser = "no-such-user"'))
    assert running.process.wait(timeout=20) == 1
    assert running.errors.startswith(
        'proxyd cannot start: [server] user = "no-such-user": there is no such user'
    )


@pytest.mark.parametrize("switch", ["dev", "--watch"])
def test_in_development_a_changed_file_is_a_reload(daemon: Start, switch: str) -> None:
    if switch == "dev":
        running = daemon(ONE.replace("[server]", "[server]\ndev = true"))
    else:
        running = daemon(ONE, watch=True)
    running.wait_until_ready()
    source = running.folder / "timeline.py"
    whole = source.read_text()
    source.write_text("import nothing_like_it\n")
    running.wait_for_error("timeline.py changed")
    running.wait_for_error("the reload failed, what runs goes on")
    source.write_text(whole + "# mended\n")
    running.wait_for_error("generation 1 has ended")
    assert running.ask_worker()["apps"]["timeline"][0].endswith("/run/2/timeline-0.sock")


def test_systemd_hears_of_the_start_of_reloads_and_of_the_end(
    daemon: Start, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(short / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")
        running = daemon(ONE)
        assert systemd.recv(4096).startswith(b"READY=1\n")
        assert systemd.recv(4096) == systemd.recv(4096) == b"WATCHDOG=1"
        running.wait_until_ready()
        (running.folder / "requests-done").touch()
        running.process.send_signal(signal.SIGHUP)
        told: list[bytes] = []
        # Read all the time, as systemd does: the queue of a socket holds few datagrams.
        while "generation 1 has ended" not in running.errors:
            told.append(systemd.recv(4096))
        running.process.terminate()
        while not told or not told[-1].startswith(b"STOPPING=1"):
            told.append(systemd.recv(4096))
        states = [each.partition(b"=")[0] for each in told if each != b"WATCHDOG=1"]
        assert states == [b"RELOADING", b"READY", b"STOPPING"]

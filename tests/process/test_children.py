"""Supervision: the back-off, what counts as started, and the end of a whole group."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from proxy.errors import StartError
from proxy.process.children import Backoff, Child, Unfit, reason_of
from tests.process.running import alive, wait_for


class Script:
    """A program that runs a few lines of Python and is ready when it has printed something."""

    name = "script"
    start_timeout_s = 20.0

    def __init__(self, source: str) -> None:
        self.source = source
        self.said = b""

    async def spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", self.source, stdin=PIPE, stdout=PIPE, start_new_session=True
        )

    async def ready(self, process: Process) -> None:
        assert process.stdout is not None
        self.said = await process.stdout.readline()
        if not self.said:
            await asyncio.Event().wait()

    async def failing(self, process: Process) -> Unfit:
        never: asyncio.Future[Unfit] = asyncio.get_running_loop().create_future()
        return await never

    async def drained(self, process: Process) -> None:
        pass

    def advice(self, code: int | None) -> str:
        return f"advice for {code}"


@pytest.mark.parametrize(
    ("lives_s", "delays_s"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.4]),
        ([0] * 9, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]),
        ([0, 0, 3.9, 8, 0], [0.1, 0.2, 0.4, 0.1, 0.2]),
        ([0] * 8 + [29.9, 30], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 0.1]),
        ([5] * 9, [0.1] * 9),
        ([0, 0, 0, 5, 5, 5], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]),
        ([0, 0, 0, 8, 8], [0.1, 0.2, 0.4, 0.1, 0.1]),
        ([3600], [0.1]),
    ],
)
def test_early_deaths_make_the_next_start_later(
    lives_s: list[float], delays_s: list[float]
) -> None:
    backoff = Backoff()
    assert [backoff.after(lived_s) for lived_s in lives_s] == pytest.approx(delays_s)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "exit code 0"),
        (78, "exit code 78"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
    ],
)
def test_the_end_of_a_process_is_told_in_words(code: int, reason: str) -> None:
    assert reason_of(code) == reason


async def test_a_process_that_ends_before_it_is_ready_did_not_start() -> None:
    child = Child(Script("raise SystemExit(7)"))
    with pytest.raises(StartError, match="script ended at its start: exit code 7; advice for 7"):
        await child.start()
    assert child.pid is None


async def test_a_process_that_is_not_ready_in_time_is_ended() -> None:
    program = Script("import time; time.sleep(600)")
    program.start_timeout_s = 0.3
    child = Child(program)
    with pytest.raises(StartError, match=r"not ready within 0\.3 s; advice for None"):
        await child.start()
    assert child.pid is None


async def test_a_program_that_does_not_exist_is_told() -> None:
    class Missing(Script):
        async def spawn(self) -> Process:
            return await asyncio.create_subprocess_exec("/no/such/program")

    with pytest.raises(StartError, match=r"script cannot be started: .*No such file"):
        await Child(Missing("")).start()


async def test_a_process_that_ignores_its_signal_is_killed_with_all_of_its_group() -> None:
    script = Script(
        "import signal, subprocess\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen(['sleep', '600'])\n"
        "print(other.pid, flush=True)\n"
        "signal.pause()\n"
    )
    child = Child(script)
    await child.start()
    assert alive(int(script.said))
    await child.stop(signal.SIGTERM, 0.2)
    assert child.pid is None
    wait_for(lambda: not alive(int(script.said)), "the end of the whole group")


async def test_a_stopped_child_is_not_started_again(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    child = Child(Script(f"open({str(marks)!r}, 'a').write('x'); print(1, flush=True); input()"))
    await child.start()
    child.watch()
    await child.stop(signal.SIGTERM, 5)
    child.send(signal.SIGTERM)
    assert marks.read_text() == "x"
    assert child.restarts == 0


async def test_a_child_that_dies_is_started_again_until_it_is_stopped() -> None:
    child = Child(Script("print(1, flush=True); input()"))
    await child.start()
    child.watch()
    first = child.pid
    assert first is not None
    child.send(signal.SIGKILL)
    async with asyncio.timeout(20):
        while child.pid in {None, first}:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
    assert child.restarts == 1
    assert not alive(first)
    await child.stop(signal.SIGTERM, 5)


class Wearing(Script):
    """One whose process is unfit when the test says so."""

    def __init__(self, *, serves: bool) -> None:
        super().__init__("print(1, flush=True); input()")
        self.unfit = asyncio.Event()
        self.left = asyncio.Event()
        self.leaving = asyncio.Event()
        self.serves = serves

    async def failing(self, process: Process) -> Unfit:
        await self.unfit.wait()
        self.unfit.clear()
        return Unfit(reason="it is worn", leave=self.leave, serves=self.serves)

    async def leave(self) -> None:
        self.leaving.set()
        await self.left.wait()


async def test_a_worn_process_ends_when_nobody_uses_it_and_its_successor_runs() -> None:
    program = Wearing(serves=True)
    child = Child(program)
    await child.start()
    child.watch()
    first = child.pid
    assert first is not None
    program.unfit.set()
    async with asyncio.timeout(20):
        await program.leaving.wait()
    assert child.pid != first
    assert child.pids == {first, child.pid}
    assert alive(first)
    program.left.set()
    async with asyncio.timeout(20):
        while len(child.pids) == 2:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
    assert not alive(first)
    await child.stop(signal.SIGTERM, 5)


@pytest.mark.parametrize("serves", [True, False])
async def test_a_process_without_a_successor_stays_only_if_it_serves(serves: bool) -> None:
    program = Wearing(serves=serves)
    child = Child(program)
    await child.start()
    child.watch()
    first = child.pid
    assert first is not None
    works, program.source = program.source, "raise SystemExit(3)"
    program.unfit.set()
    if serves:
        async with asyncio.timeout(20):
            while program.unfit.is_set() or program.said:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert child.pid == first
        program.source = works
        program.unfit.set()
        program.left.set()
    else:
        await asyncio.to_thread(wait_for, lambda: not alive(first), "its end")
        program.source = works
    async with asyncio.timeout(20):
        while child.pid in {None, first}:  # noqa: ASYNC110 - another process's doing
            await asyncio.sleep(0.01)
    await child.stop(signal.SIGTERM, 5)


async def test_a_stop_ends_the_process_that_leaves_as_well() -> None:
    program = Wearing(serves=True)
    child = Child(program)
    await child.start()
    child.watch()
    program.unfit.set()
    async with asyncio.timeout(20):
        await program.leaving.wait()
    pids = child.pids
    assert len(pids) == 2
    await child.stop(signal.SIGTERM, 5)
    assert not any(map(alive, pids))

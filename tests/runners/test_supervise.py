"""Processes that end with the one that started them, whatever ends that."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A command with a child in a process group of its own, both of which write their ids.
COMMAND = """
import os, signal, subprocess, sys, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"], process_group=0)
open({pids!r} + ".tmp", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({pids!r} + ".tmp", {pids!r})
time.sleep(60)
"""


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


@contextlib.contextmanager
def supervised(folder: Path, stubborn: bool = False) -> Iterator[tuple["subprocess.Popen[bytes]", list[int]]]:
    """A parent, which runs a supervised command; and the command's processes."""
    pids = folder / "pids"
    command = [sys.executable, "-c", COMMAND.format(stubborn=stubborn, pids=str(pids))]
    parent = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-m', 'penstock.runners.supervise', *{command!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            wait_for(pids.exists)
            yield process, [int(pid) for pid in pids.read_text().split()]
        finally:
            process.kill()


pytestmark = [pytest.mark.linux, pytest.mark.slow]


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_command_ends_with_a_parent_that_is_killed(tmp_path: Path, stubborn: bool):
    with supervised(tmp_path, stubborn) as (parent, pids):
        assert all(map(is_alive, pids))
        parent.kill()
        wait_for(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_command_and_what_it_started(tmp_path: Path, number: signal.Signals):
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", COMMAND.format(stubborn=False, pids=str(pids))]
    with subprocess.Popen([sys.executable, "-m", "penstock.runners.supervise", *command]) as process:
        wait_for(pids.exists)
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())


def test_a_command_ends_when_its_supervisor_is_killed(tmp_path: Path):
    """Only the kernel is left to end it; what it started in turn it must end itself."""
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", COMMAND.format(stubborn=False, pids=str(pids))]
    with subprocess.Popen([sys.executable, "-m", "penstock.runners.supervise", *command]) as process:
        wait_for(pids.exists)
        process.kill()
    command_pid, child = (int(pid) for pid in pids.read_text().split())
    wait_for(lambda: not is_alive(command_pid))
    os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(("line", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 128 + 9)])
def test_the_exit_code_is_the_commands(line: str, code: int):
    ended = subprocess.run([sys.executable, "-m", "penstock.runners.supervise", "sh", "-c", line], timeout=20)
    assert ended.returncode == code

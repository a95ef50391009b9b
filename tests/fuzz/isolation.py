"""Runs cases in child processes, so that one that crashes, hangs or takes the memory is seen, and named."""

import faulthandler
import json
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

_CASES = 500  # that a child does before it is replaced
_TIMERS = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
_ADDRESSES = 6 << 30  # bytes of address space more than at the start: saves the machine, and is no criterion


@dataclass(frozen=True)
class Limits:
    """What a case may take.

    Attributes:
      seconds: Of the processor, so that a busy machine is no hang.
      waiting: Seconds of the clock, for what waits and computes nothing.
      memory: Bytes of resident memory more than at the start.
    """

    seconds: float = 10
    waiting: float = 90
    memory: int = 512 << 20


@dataclass
class Result:
    """What came of a case.

    Attributes:
      number: The case's.
      outcome: What came out; empty where the process ended or the library raised what it should not.
      wrong: What must not be.
    """

    number: int
    outcome: str = ""
    wrong: list[str] = field(default_factory=list)

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "Result":
        return cls(**json.loads(line))


Examine = Callable[[int], tuple[str, list[str]]]


def run(numbers: Sequence[int], examine: Examine, results: Path, fill: int, limits: Limits) -> None:
    """Examines every case.

    Args:
      numbers: The cases.
      examine: Gives what came out of a case, and what of it is wrong.
      results: Gets a line for every case, in their order.
      fill: The byte that freed memory is filled with before every case.
      limits: What a case may take.
    """
    done = 0
    results.touch()
    while done < len(numbers):
        part = numbers[done : done + _CASES]
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                _examine_all(part, examine, results, fill, limits, errors)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            done = results.read_bytes().count(b"\n")
            if status:
                errors.seek(0)
                words = errors.read().decode(errors="replace")
                with results.open("a") as lines:
                    lines.write(Result(numbers[done], wrong=[_epitaph(status, words, limits)]).to_line())
                done += 1


def _examine_all(
    numbers: Sequence[int], examine: Examine, results: Path, fill: int, limits: Limits, errors: IO[bytes]
) -> None:
    """The child: examines until its memory grew, and ends without what its parent would do at its end."""
    status = 1
    try:
        faulthandler.disable()  # pytest's would tell the terminal of what is a result here
        os.dup2(errors.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for number in _TIMERS.values():
            signal.signal(number, signal.SIG_DFL)  # ends the process, whatever native code it is in
        at_start = _peak()
        with results.open("a") as lines:
            for number in numbers:
                _fill_heap(fill)
                signal.setitimer(signal.ITIMER_PROF, limits.seconds)
                signal.setitimer(signal.ITIMER_REAL, limits.waiting)
                result = _guarded(number, examine)
                for timer in _TIMERS:
                    signal.setitimer(timer, 0)
                taken = _peak() - at_start
                if taken > limits.memory:
                    result.wrong.append(f"memory: {taken >> 20} MB were taken, at most {limits.memory >> 20} expected")
                lines.write(result.to_line())
                lines.flush()
                if taken > limits.memory // 4:  # the peak stays: the next case needs a process of its own
                    break
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _guarded(number: int, examine: Examine) -> Result:
    try:
        return Result(number, *examine(number))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)  # the last one that is not an installed library's
        frame = [each for each in frames if os.path.exists(each.filename) and "site-packages" not in each.filename][-1]
        place = f"{os.path.basename(frame.filename)}, line {frame.lineno}, in {frame.name}"
        return Result(number, wrong=[f"exception: {type(error).__name__}: {error} ({place})"])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _fill_heap(fill: int) -> None:
    """Leaves freed memory behind that is full of one byte, in blocks of the sizes that decoders ask for."""
    blocks = [bytes([fill]) * (size - 64) for size in (512, 4096, 16384, 65536, 262144, 1 << 20) for _ in range(2)]
    del blocks


def _epitaph(status: int, words: str, limits: Limits) -> str:
    if status == -signal.SIGPROF:
        return f"hang: no end within {limits.seconds:g} s of computing"
    if status == -signal.SIGALRM:
        return f"hang: no end within {limits.waiting:g} s of waiting"
    last = ""
    with suppress(IndexError):
        last = [line for line in re.split(r"[\r\n]+", words) if line.strip()][-1]
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return f"crash: {name}: {last[-300:]}"

"""A process that runs the command line for every line of JSON that it reads, and kills it where it is told to.

It imports everything once and forks, so that a run costs no imports. A line holds `arguments`, and may hold

- `at`: the end of a path. The run is killed before that file gets its name, or after (`when`).
- `after`: a number of seconds, after which the run is killed.
- `pid`: a file that the run's process id is written to.
- `stop`: as `at`, but the run is only stopped there; it goes on when the next line has been done.

For every line its exit code is written (negative: by a signal; null: stopped).
"""

import json
import os
import signal
import sys
import threading
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import tensorflow  # noqa: F401

import penstock.pipeline.beam  # noqa: F401
from penstock.runners import cli, direct, run  # noqa: F401


def arm(order: dict[str, Any]) -> None:
    """Makes this process kill or stop itself, or tells who may."""
    if "pid" in order:
        with open(order["pid"], "w") as file:
            file.write(str(os.getpid()))
    if "after" in order:
        timer = threading.Timer(order["after"], os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    end, what = (order["stop"], signal.SIGSTOP) if "stop" in order else (order.get("at"), signal.SIGKILL)
    rename = os.replace

    def replace(source: Any, target: Any) -> None:
        hit = end is not None and str(target).endswith(end)
        if hit and order["when"] == "before":
            os.kill(os.getpid(), what)
        rename(source, target)
        if hit and order["when"] == "after":
            os.kill(os.getpid(), what)

    os.replace = replace


def start(order: dict[str, Any]) -> int:
    """Forks a run; returns the process id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.dup2(2, 1)
        arm(order)
        cli.main(order["arguments"], standalone_mode=False)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 71
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Obeys until there are no more lines."""
    stopped: list[int] = []
    for line in sys.stdin:
        child = start(json.loads(line))
        _, status = os.waitpid(child, os.WUNTRACED)
        codes: list[int | None] = []
        if os.WIFSTOPPED(status):
            stopped.append(child)
            codes.append(None)
        else:
            codes.append(os.waitstatus_to_exitcode(status))
            for other in stopped:
                os.kill(other, signal.SIGCONT)
                codes.append(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
            stopped.clear()
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    main()

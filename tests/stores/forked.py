"""The command line in forked processes, which imported everything before: see tests/runners/crash.py."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from helpers import REPOSITORY


class Forks:
    """Runs the command line again and again, in a process each.

    Args:
      folder: Gets what the runs write to standard output and error, in `log`, and their process ids, in `pid`.
      environment: Further variables.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = folder / "pid"
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "tests/runners/crash.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **environment},
            )

    def start(self, *arguments: object) -> None:
        """Begins a run of the command line."""
        assert self._process.stdin
        order = {"arguments": [str(argument) for argument in arguments], "pid": str(self.pid)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """The exit code of the run that was begun; negative where it was killed."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, f"the process ended, see {self.log}"
        code: int = json.loads(line)[0]
        return code

    def __call__(self, *arguments: object) -> int:
        self.start(*arguments)
        return self.wait()

    def said(self) -> str:
        """What the runs wrote so far."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

"""What the command line asks when it is interrupted."""

import io
import sys

import pytest

from penstock.runners.reporter import Interrupt
from penstock.runners.terminal import reporter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Interrupted(Terminal):
    def readline(self, _: int | None = -1) -> str:
        raise KeyboardInterrupt


def ask(monkeypatch: pytest.MonkeyPatch, answers: io.StringIO, shown: io.StringIO, quiet: bool = False) -> Interrupt:
    monkeypatch.setattr(sys, "stdin", answers)
    monkeypatch.setattr(sys, "stderr", shown)
    with reporter(quiet) as hears:
        return hears.interrupted()


@pytest.mark.parametrize(
    ("answers", "choice"),
    [
        ("c\n", Interrupt.CANCEL),
        ("d\n", Interrupt.DETACH),
        (" Follow \n", Interrupt.FOLLOW),
        ("what?\n\nd\n", Interrupt.DETACH),
        ("", Interrupt.CANCEL),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, answers: str, choice: Interrupt, quiet: bool):
    shown = Terminal()
    assert ask(monkeypatch, Terminal(answers), shown, quiet) is choice
    assert "(c)ancel the job, (d)etach" in shown.getvalue()


def test_who_interrupts_the_question_cancels(monkeypatch: pytest.MonkeyPatch):
    assert ask(monkeypatch, Interrupted(), Terminal()) is Interrupt.CANCEL


@pytest.mark.parametrize(("answers", "shown"), [(io.StringIO, Terminal), (Terminal, io.StringIO)])
def test_where_there_is_no_terminal_the_job_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, answers: type[io.StringIO], shown: type[io.StringIO]
):
    output = shown()
    assert ask(monkeypatch, answers("d\n"), output) is Interrupt.CANCEL
    assert "ancel the job" not in output.getvalue()

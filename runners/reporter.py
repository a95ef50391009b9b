"""What is told of a run while it goes, and asked when it is interrupted."""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from ..pipeline.build.progress import Progress

if TYPE_CHECKING:
    from ..pipeline.planned_run import PlannedRun
    from .job_record import JobRecord


MAKING = "making"  # the stage in which examples are made


class Interrupt(Enum):
    """What an interrupted command is to do with its job."""

    CANCEL = "cancel"
    DETACH = "detach"
    FOLLOW = "follow"


class Reporter(Protocol):
    """Is told how a run goes."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def planned(self, planned: "PlannedRun") -> None:
        """The plan is made."""

    def settled(self, planned: "PlannedRun") -> None:
        """The plan is another one, since `features` needs another layout."""

    def submitted(self, record: "JobRecord") -> None:
        """An engine that goes on without this process has the job."""

    def warn(self, warnings: Sequence[str]) -> None:
        """What was found to warn of beside what the plan tells: by the engine, or when `features` was traced."""

    def progress(self, progress: Progress) -> None:
        """The units are so far by now."""

    def committed(self, warnings: Sequence[str]) -> None:
        """The dataset is committed; what was found to warn of since it was planned."""

    def interrupted(self) -> Interrupt:
        """The user interrupts the command, whose job could go on without it: asks what is to be done."""


class Silent:
    """A reporter that says nothing, and cancels what is interrupted."""

    def stage(self, text: str) -> None:
        pass

    def planned(self, planned: "PlannedRun") -> None:
        pass

    def settled(self, planned: "PlannedRun") -> None:
        pass

    def submitted(self, record: "JobRecord") -> None:
        pass

    def warn(self, warnings: Sequence[str]) -> None:
        pass

    def progress(self, progress: Progress) -> None:
        pass

    def committed(self, warnings: Sequence[str]) -> None:
        pass

    def interrupted(self) -> Interrupt:
        return Interrupt.CANCEL


class Both:
    """A reporter that shows and asks, and one that listens, as one."""

    def __init__(self, shown: Reporter, listens: Reporter) -> None:
        self._shown = shown
        self._reporters: Sequence[Reporter] = (shown, listens)

    def stage(self, text: str) -> None:
        for reporter in self._reporters:
            reporter.stage(text)

    def planned(self, planned: "PlannedRun") -> None:
        for reporter in self._reporters:
            reporter.planned(planned)

    def settled(self, planned: "PlannedRun") -> None:
        for reporter in self._reporters:
            reporter.settled(planned)

    def submitted(self, record: "JobRecord") -> None:
        for reporter in self._reporters:
            reporter.submitted(record)

    def warn(self, warnings: Sequence[str]) -> None:
        for reporter in self._reporters:
            reporter.warn(warnings)

    def progress(self, progress: Progress) -> None:
        for reporter in self._reporters:
            reporter.progress(progress)

    def committed(self, warnings: Sequence[str]) -> None:
        for reporter in self._reporters:
            reporter.committed(warnings)

    def interrupted(self) -> Interrupt:
        return self._shown.interrupted()

"""An engine that goes on without the process that submits to it, as far as tests can tell: a thread of this process."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.runners.direct import make_runner, pipeline_options
from penstock.runners.engine import EngineOptions, JobState


class Job:
    """A job that begins when it is let go, and whose waiting may be interrupted first."""

    url = "https://engine.example.com/jobs/1"

    def __init__(self, job_id: str, work: Callable[[], object]) -> None:
        self.job_id = job_id
        self.go = threading.Event()
        self.interruptions = 0
        self.counted: Mapping[str, int] = {}
        self._work = work
        self._state = JobState.RUNNING
        self._why = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.go.wait()
        if self._state.is_final:
            return
        try:
            self._work()
            self._state = JobState.DONE
        except Exception as error:
            self._why, self._state = str(error), JobState.FAILED

    def state(self) -> JobState:
        return self._state

    def wait(self) -> None:
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt
        self._thread.join()
        if self._state is not JobState.DONE:
            raise PenstockError(self._why or self._state.value)

    def counters(self) -> Mapping[str, int]:
        return self.counted

    def cancel(self) -> None:
        if not self._state.is_final:
            self._state = JobState.CANCELLED
        self.go.set()


class Elsewhere:
    """The engine; what it was given is in `jobs`."""

    name = "elsewhere"
    is_here = False
    is_detachable = True

    def __init__(self) -> None:
        self.options = EngineOptions()
        self.jobs: dict[str, Job] = {}
        self.starts = True  # whether jobs begin at once
        self.cancels = False  # whether jobs are cancelled at once
        self.interruptions = 0

    def check(self, request: object) -> Sequence[str]:
        return ()

    def check_plan(self, request: object, planned: object, count_stages: Callable[[], int]) -> Sequence[str]:
        return ()

    def submit(self, build: Callable[[Any], object], name: str) -> Job:
        import apache_beam as beam

        options = pipeline_options(1, [])
        pipeline = beam.Pipeline(runner=make_runner(options), options=options)
        build(pipeline)
        job = self.jobs[name] = Job(name, lambda: pipeline.run().wait_until_finish())
        job.interruptions = self.interruptions
        if self.cancels:
            job.cancel()
        elif self.starts:
            job.go.set()
        return job

    def find(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise RequestError(f"no such job: {job_id}")
        return self.jobs[job_id]

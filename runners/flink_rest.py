"""A Flink cluster by its REST API: what it says of itself, and its jobs, which go on without this process."""

import base64
import json
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..pipeline.build.progress import NAMESPACE
from ..pipeline.errors import PenstockError, RequestError
from .engine import JobState
from .failures import cause_in_words

_ANSWER = 15.0  # seconds that the cluster may take to answer
_GONE = 300.0  # seconds for which it may not answer: a JobManager that is started again
_POLL = 1.0  # seconds between two looks at a job
_METRICS = "__metricscontainers"  # the accumulator of Beam's metrics, as JSON
_SUM = "beam:metric:user:sum_int64:v1"
_STATES = {
    "FINISHED": JobState.DONE,
    "FAILED": JobState.FAILED,
    "CANCELED": JobState.CANCELLED,
}  # others, RESTARTING and SUSPENDED among them, are no job's last


class FlinkRest:
    """The REST API of a cluster.

    Attributes:
      address: Its URL, such as `http://localhost:8081`.
    """

    def __init__(self, master: str) -> None:
        """Raises RequestError where a master is no `host:port`, nor the URL of one."""
        address = master if re.match("https?://", master) else f"http://{master}"
        if not re.fullmatch(r"https?://[^][\s/@:]+(:\d+)?/?|https?://\[[0-9a-fA-F:]+\](:\d+)?/?", address):
            raise RequestError(
                f"--flink-master: expected the address of Flink's REST API, such as host:8081, found {master!r}"
            )
        self.address = address.rstrip("/")

    def get(self, path: str) -> Any:
        """What a path answers.

        Raises:
          OSError: it does not answer, or not as Flink does (`urllib.error.HTTPError`: by an error's number).
        """
        return self._ask(urllib.request.Request(f"{self.address}{path}"))

    def patch(self, path: str) -> Any:
        """Asks for a change. Raises OSError as `get` does."""
        return self._ask(urllib.request.Request(f"{self.address}{path}", method="PATCH"))

    def find_jobs(self, name: str) -> list[str]:
        """The ids of the jobs of a name."""
        return [job["jid"] for job in self.get("/jobs/overview")["jobs"] if job["name"] == name]

    def _ask(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=_ANSWER) as answer:
            content = answer.read()
        try:
            return json.loads(content) if content else {}
        except ValueError as error:
            raise OSError(f"expected JSON from {request.full_url}, found {content[:80]!r}") from error


class FlinkJob:
    """A job on a cluster: a `RunningJob` that whoever knows its id can follow."""

    def __init__(self, rest: FlinkRest, job_id: str) -> None:
        self._rest = rest
        self.job_id = job_id
        self.url: str | None = f"{rest.address}/#/job/running/{job_id}/overview"

    def state(self) -> JobState:
        """Raises PenstockError where the cluster does not answer, or no longer knows the job."""
        try:
            return _STATES.get(self._rest.get(f"/jobs/{self.job_id}")["state"], JobState.RUNNING)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise self._unreachable(error) from error
            raise PenstockError(
                f"expected job {self.job_id} on the Flink cluster {self._rest.address}, which does not know it: its "
                "JobManager was started again without high availability, or removed what ended long ago; run again "
                "to resume"
            ) from error
        except (OSError, KeyError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> PenstockError:
        return PenstockError(
            f"expected an answer from the Flink cluster {self._rest.address}, found: {error}; the job "
            f"{self.job_id} may go on without"
        )

    def wait(self) -> None:
        """Waits for the job's end, and meanwhile for a JobManager that is being started again.

        Raises:
          PenstockError: it failed or was cancelled; or the cluster does not answer any more.
        """
        answered = time.monotonic()
        while True:
            try:
                state = self.state()
                answered = time.monotonic()
            except PenstockError as error:
                forgotten = isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 404
                if forgotten or time.monotonic() - answered > _GONE:
                    raise
                state = JobState.RUNNING
            if state is JobState.DONE:
                return
            if state is JobState.CANCELLED:
                raise PenstockError(f"the Flink job {self.job_id} was cancelled")
            if state is JobState.FAILED:
                raise PenstockError(f"the Flink job {self.job_id} failed: {self._cause()}")
            time.sleep(_POLL)

    def _cause(self) -> str:
        try:
            return cause_in_words(root_exception(self._rest.get(f"/jobs/{self.job_id}/exceptions")))
        except OSError as error:
            return f"its cause is not known, for the cluster does not answer ({error})"

    def counters(self) -> Mapping[str, int]:
        """Penstock's counters, as far as the tasks have told them; {} where the cluster does not answer."""
        try:
            return read_counters(self._rest.get(f"/jobs/{self.job_id}/accumulators"))
        except (OSError, KeyError, ValueError):
            return {}

    def cancel(self) -> None:
        """Asks the cluster to cancel it."""
        try:
            self._rest.patch(f"/jobs/{self.job_id}?mode=cancel")
        except urllib.error.HTTPError as error:
            if error.code not in (404, 409):  # it has ended by itself
                raise self._unreachable(error) from error
        except OSError as error:
            raise self._unreachable(error) from error


def root_exception(answer: Mapping[str, Any]) -> str:
    """The stack trace that failed a job, from /jobs/ID/exceptions of Flink 1 or 2; empty: there is none."""
    entries: Sequence[Mapping[str, Any]] = (answer.get("exceptionHistory") or {}).get("entries") or ()
    newest = entries[0].get("stacktrace") if entries else None
    return str(newest or answer.get("root-exception") or "")


def read_counters(answer: Mapping[str, Any]) -> dict[str, int]:
    """Penstock's counters, from /jobs/ID/accumulators: Beam keeps all that its transforms measure in one of these."""
    counters: Counter[str] = Counter()
    for accumulator in answer.get("user-task-accumulators", ()):
        if accumulator["name"] != _METRICS:
            continue
        for info in json.loads(accumulator["value"])["metrics"].get("attempted", ()):
            labels = info.get("labels", {})
            if info["urn"] == _SUM and labels.get("NAMESPACE") == NAMESPACE:
                counters[labels["NAME"]] += read_varint(base64.b64decode(info["payload"]))
    return dict(counters)


def read_varint(encoded: bytes) -> int:
    """A count as protobuf and Beam write it: seven bits a byte, the lowest first."""
    return sum((byte & 0x7F) << (7 * place) for place, byte in enumerate(encoded))

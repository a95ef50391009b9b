"""A job of Dataflow, followed by the service's REST API: its state, its counters, why it failed."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..pipeline.build.progress import NAMESPACE
from ..pipeline.errors import PenstockError
from ..pipeline.storage import files
from .engine import JobState
from .failures import cause_in_words

_STATES = {
    "JOB_STATE_DONE": JobState.DONE,
    "JOB_STATE_FAILED": JobState.FAILED,
    "JOB_STATE_CANCELLED": JobState.CANCELLED,
    "JOB_STATE_DRAINED": JobState.CANCELLED,
    "JOB_STATE_UPDATED": JobState.CANCELLED,
}


class DataflowService:
    """The REST API of Dataflow: the jobs of a project in a region."""

    def __init__(self, project: str, region: str, endpoint: str, credentials: Any) -> None:
        """Asks nothing yet.

        Args:
          project: The project's id.
          region: The region.
          endpoint: The API's URL.
          credentials: Google's credentials.
        """
        self.project = project
        self.region = region
        self._place = {"project_id": project, "location": region}
        self._settings = {
            "credentials": credentials,
            "transport": "rest",
            "client_options": {"api_endpoint": endpoint.rstrip("/")},
        }

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "DataflowService":
        """The service that options of Beam's lead to, by name."""
        return cls(options["project"], options["region"], options["dataflow_endpoint"], find_credentials(options))

    @cached_property
    def _jobs(self) -> Any:
        from google.cloud import dataflow_v1beta3 as dataflow

        return dataflow.JobsV1Beta3Client(**self._settings)

    @cached_property
    def _messages(self) -> Any:
        from google.cloud import dataflow_v1beta3 as dataflow

        return dataflow.MessagesV1Beta3Client(**self._settings)

    @cached_property
    def _metrics(self) -> Any:
        from google.cloud import dataflow_v1beta3 as dataflow

        return dataflow.MetricsV1Beta3Client(**self._settings)

    def state(self, job_id: str) -> str:
        """The name of a job's state, such as JOB_STATE_RUNNING."""
        job = self._ask(self._jobs.get_job, {"job_id": job_id})
        return str(job.current_state.name)

    def find(self, name: str) -> str:
        """The id of the newest job of a name.

        Raises:
          PenstockError: there is none.
        """
        jobs = list(self._ask(self._jobs.list_jobs, {"name": name}))
        if not jobs:
            raise PenstockError(f"no job is named {name}; a template's job is there once Dataflow has started it")
        return str(max(jobs, key=lambda job: job.create_time).id)

    def errors(self, job_id: str) -> list[str]:
        """What the service and the workers said went wrong, from the first."""
        request = {"job_id": job_id, "minimum_importance": "JOB_MESSAGE_ERROR"}
        messages = sorted(self._ask(self._messages.list_job_messages, request), key=lambda message: message.time)
        return [str(message.message_text) for message in messages]

    def counters(self, job_id: str) -> dict[str, int]:
        """Penstock's counters, summed over the steps of the job: what is committed, else what workers told so far."""
        totals: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for metric in self._ask(self._metrics.get_job_metrics, {"job_id": job_id}).metrics:
            context = metric.name.context
            if metric.name.origin == "user" and context.get("namespace") == NAMESPACE and metric.scalar is not None:
                totals[context.get("tentative") == "true"][metric.name.name] += int(metric.scalar)
        return {name: max(totals[False][name], totals[True][name]) for name in sorted(totals[False] | totals[True])}

    def cancel(self, job_id: str) -> None:
        """Asks for a job's end."""
        self._ask(self._jobs.update_job, {"job_id": job_id, "job": {"requested_state": "JOB_STATE_CANCELLED"}})

    def _ask(self, method: Callable[..., Any], request: Mapping[str, Any]) -> Any:
        """One request, made again where the service is not well.

        Raises:
          PenstockError: it was refused, or stays unanswered.
        """
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.api_core.retry import Retry
        from google.auth.exceptions import GoogleAuthError

        try:
            return method({**self._place, **request}, retry=Retry(initial=1, maximum=30, timeout=300), timeout=60)
        except (GoogleAPICallError, RetryError, GoogleAuthError, OSError) as error:
            raise PenstockError(f"Dataflow refuses or does not answer: {in_words(error)}") from error


@dataclass
class DataflowJob:
    """A job that Dataflow has taken: it goes on whether this process does or not.

    Attributes:
      job_id: The job's id.
      service: Where it is.
      poll: Seconds between two looks at it.
      patience: Seconds to wait after a failure for a message that says why.
    """

    job_id: str
    service: DataflowService
    poll: float = 5.0
    patience: float = 50.0

    @property
    def url(self) -> str:
        """The job's page in the console."""
        service = self.service
        return (
            f"https://console.cloud.google.com/dataflow/jobs/{service.region}/{self.job_id}?project={service.project}"
        )

    def state(self) -> JobState:
        return _STATES.get(self.service.state(self.job_id), JobState.RUNNING)

    def wait(self) -> None:
        while not (state := self.state()).is_final:
            time.sleep(self.poll)
        if state is JobState.CANCELLED:
            raise PenstockError(f"the job was cancelled: {self.url}")
        if state is JobState.FAILED:
            raise PenstockError(f"{self._cause()}; see {self.url}")

    def _cause(self) -> str:
        """Why the job failed: the service tells it some time after it told that."""
        end = time.monotonic() + self.patience
        while not (errors := self.service.errors(self.job_id)) and time.monotonic() < end:
            time.sleep(min(self.poll, 2.0))
        return find_cause(errors) if errors else "the job failed, and Dataflow does not say why"

    def counters(self) -> Mapping[str, int]:
        return self.service.counters(self.job_id)

    def cancel(self) -> None:
        try:
            self.service.cancel(self.job_id)
        except PenstockError:
            if not self.state().is_final:  # else it ended meanwhile
                raise


@dataclass(frozen=True)
class WrittenTemplate:
    """A job that was written as a template (--template_location), for another to start.

    Attributes:
      job_id: Its name: it has no id yet.
      location: Where the template is.
    """

    job_id: str
    location: str
    url: None = field(default=None, init=False)

    def state(self) -> JobState:
        return JobState.RUNNING

    def wait(self) -> None:
        raise PenstockError(
            f"{self.location} is the template of a job that nobody has started; start it by the template"
        )

    def counters(self) -> Mapping[str, int]:
        return {}

    def cancel(self) -> None:
        files.remove_files([self.location])


def find_credentials(options: Mapping[str, Any]) -> Any:
    """Google's credentials by options of Beam's, by name, as Beam itself looks for them.

    Raises:
      DefaultCredentialsError: there are none.
    """
    import google.auth
    from google.auth import credentials as kinds
    from google.auth import impersonated_credentials

    if options["no_auth"]:
        anonymous: Any = kinds.AnonymousCredentials  # typed by halves
        return anonymous()
    scopes = options["gcp_oauth_scopes"]
    credentials, _ = google.auth.default(scopes=scopes)
    if not options["impersonate_service_account"]:
        return credentials
    *delegates, principal = options["impersonate_service_account"].split(",")
    impersonated: Any = impersonated_credentials.Credentials
    return impersonated(credentials, principal, scopes, delegates)


def find_cause(messages: Sequence[str]) -> str:
    """What made a job fail, from what Dataflow said of it: an exception of a worker, or the service's last words."""
    for message in messages:
        if "Traceback (most recent call last)" in message:
            return cause_in_words(message)
    telling = [message for message in messages if "work item" not in message] or list(messages)
    _, _, causes = telling[-1].rpartition("Causes: ")
    return _shortened(re.sub(r"^(?:S\d+:\S+ failed\., )+", "", causes))


def in_words(error: BaseException) -> str:
    """The first line of what Google's libraries say."""
    message = getattr(error, "message", None) or str(error)
    return _shortened(f"{type(error).__name__}: {message}".strip().splitlines()[0])


def _shortened(words: str) -> str:
    words = words.strip().rstrip(".;")
    return words if len(words) <= 500 else f"{words[:500]}…"

"""Tells OpenLineage's receivers of a run: that it begins, and how it ends. Whatever becomes of that, the run goes on.

Events are sent by the OpenLineage client, an extra, from a thread of its own. The command sends them, whatever engine
the job is on: workers send nothing.
"""

import datetime
import os
import queue
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..pipeline.errors import RequestError
from ..pipeline.planned_run import PlannedRun, RunRequest
from .engine import Engine
from .follow import Detached, Result
from .job_record import JobRecord
from .reporter import Reporter, Silent

if TYPE_CHECKING:
    from .openlineage_events import RunSubject

_PATIENCE = 10.0  # seconds that a command waits at its end for events to be sent
_TIMEOUT = 5.0  # seconds for a receiver's answer
_RETRIES = {"total": 2, "backoff_factor": 0.5, "allowed_methods": ["POST"], "status_forcelist": [500, 502, 503, 504]}
_ENDPOINT = "api/v1/lineage"  # of a receiver of which only the host is given
_KEY, _DISABLED = "OPENLINEAGE_API_KEY", "OPENLINEAGE_DISABLED"
_CONFIGURING = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")
_MISSING = "expected OpenLineage's client, found it not installed, or too old; pip install 'penstock[openlineage]'"


@dataclass(frozen=True)
class LineageOptions:
    """Where events go.

    Attributes:
      target: A URL, or a file that gets an event a line; None: as the environment says, and nowhere if it says nothing.
      warn: Is told in words if events could not be sent.
    """

    target: str | None
    warn: Callable[[str], None]


def trace_run(
    options: LineageOptions, request: RunRequest, engine: Engine, run: Callable[[Reporter], Result]
) -> Result:
    """Runs a recipe, and sends events of it.

    Args:
      options: Where they go.
      request: What is asked for.
      engine: Where it runs.
      run: Runs it, and tells the reporter that it is given how it goes.

    Returns:
      What `run` gives; what it raises is raised.

    Raises:
      RequestError: there is no sending to where they were to go.
    """
    result = _trace(options, lambda sender: Lineage.of_run(sender, request, engine), run)
    assert result
    return result


def trace_job(options: LineageOptions, dataset: str, follow: Callable[[Reporter], Result | None]) -> Result | None:
    """Follows a job that another command has begun, and sends the event of its end; see `trace_run`."""
    return _trace(options, lambda sender: Lineage.of_job(sender, dataset), follow)


def _trace(
    options: LineageOptions,
    make: Callable[["Sender"], "Lineage | None"],
    work: Callable[[Reporter], Result | None],
) -> Result | None:
    """Does some work, and sends events of it, if there is anywhere to send them to."""
    client = _make_client(options)
    if client is None:
        return work(Silent())
    sender = Sender(client)
    try:
        lineage = make(sender)
    except Exception as error:
        options.warn(f"OpenLineage cannot be told of this run: {type(error).__name__}: {error}")
        lineage = None
    if lineage is None:
        return work(Silent())
    try:
        result = work(lineage)
        lineage.ended(result)
        return result
    except Detached:
        raise
    except BaseException as error:
        lineage.failed(error)
        raise
    finally:
        if failure := sender.close():
            options.warn(f"OpenLineage was not told of all: {failure}")


def _make_client(options: LineageOptions) -> Any:
    """The OpenLineage client; None where nothing is to be sent."""
    target, environment = options.target, os.environ
    if environment.get(_DISABLED, "").strip().lower() == "true":
        return None
    if target is None and not is_configured(environment):
        return None
    config = None if target is None else {"transport": transport_config(target, environment)}
    try:
        from openlineage.client.client import OpenLineageClient

        from . import openlineage_events

        assert openlineage_events
        return OpenLineageClient(config=config)
    except ImportError as error:
        if target is not None:
            raise RequestError(f"--openlineage: {_MISSING}") from error
        options.warn(f"OPENLINEAGE_* variables say where events go: {_MISSING}")
    except Exception as error:  # whatever a transport raises; what was asked for by the option is checked above
        options.warn(f"OpenLineage's client cannot be made: {type(error).__name__}: {error}")
    return None


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether OpenLineage's own variables of the environment say where events go."""
    return any(name.startswith(_CONFIGURING) and value for name, value in environment.items())


def transport_config(target: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """How the OpenLineage client is to send to a target.

    Args:
      target: A URL, or a file's path.
      environment: May have OPENLINEAGE_API_KEY.

    Raises:
      RequestError: the URL has no host, or has a password in it; or the file cannot be written.
    """
    if target.startswith(("http://", "https://")):
        parts = urlsplit(target)
        if not parts.hostname or parts.username is not None:
            raise RequestError(
                "--openlineage: expected a URL with a host and without a password, found another one; give a key by "
                f"{_KEY}"
            )
        key = environment.get(_KEY)
        return {
            "type": "http",
            "url": f"{parts.scheme}://{parts.netloc}",
            "endpoint": parts.path.strip("/") or _ENDPOINT,
            "timeout": _TIMEOUT,
            "retry": _RETRIES,
            **({"auth": {"type": "api_key", "apiKey": key}} if key else {}),
        }
    try:
        with open(target, "ab"):
            pass
    except OSError as error:
        raise RequestError(f"--openlineage: expected a URL, or a file that can be written, found: {error}") from error
    return {"type": "file", "log_file_path": os.path.abspath(target), "append": True}


class Sender:
    """Sends events in their order, from a thread of its own: a receiver that is slow holds nothing up."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waiting: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._send_all, name="openlineage", daemon=True)
        self._thread.start()

    def send(self, make_event: Callable[[], Any]) -> None:
        """Sends an event, which is made in the thread: what goes wrong there harms nobody."""
        self._waiting.put(make_event)

    def close(self) -> str | None:
        """Waits for what is to be sent, but not for long; what went wrong, in words, or None."""
        self._waiting.put(None)
        self._thread.join(_PATIENCE)
        return f"no answer within {_PATIENCE:g} seconds" if self._thread.is_alive() else self._failure

    def _send_all(self) -> None:
        """Sends until there is no more."""
        for make_event in iter(self._waiting.get, None):
            self._try(lambda make_event=make_event: self._client.emit(make_event()))  # type: ignore[misc]
        self._try(lambda: self._client.close(_PATIENCE))

    def _try(self, send: Callable[[], Any]) -> None:
        try:
            send()
        except Exception as error:  # whatever a transport raises
            self._failure = f"{type(error).__name__}: {error}"


class Lineage(Silent):
    """A reporter that sends events of a run.

    On an engine that goes on without this process, the run's id follows from its job's record, so that all commands
    that follow the job have the same: its beginning is told once the engine has it.
    """

    def __init__(self, sender: Sender, subject: "RunSubject", waits_for_job: bool, is_begun: bool) -> None:
        """Sends nothing yet.

        Args:
          sender: Sends.
          subject: The run.
          waits_for_job: Whether it begins once an engine has its job, and not once it is planned.
          is_begun: Whether another command has told of its beginning.
        """
        self._sender = sender
        self._subject = subject
        self._waits_for_job = waits_for_job
        self._is_begun = is_begun
        self._began = datetime.datetime.now(datetime.UTC)

    @classmethod
    def of_run(cls, sender: Sender, request: RunRequest, engine: Engine) -> "Lineage":
        """Of a run that this command begins."""
        from . import openlineage_events as events

        recipe = request.recipe
        inputs = [events.dataset_name(request.input), *events.table_names(recipe.recipe.source)]
        subject = events.RunSubject(
            run_id=str(uuid.uuid4()),
            output=request.output,
            engine=engine.name,
            description=str(recipe.metadata["description"]),
            inputs=inputs,
            parent=events.parent_facet(os.environ),
            namespace=events.job_namespace(os.environ),
        )
        return cls(sender, subject, engine.is_detachable, False)

    @classmethod
    def of_job(cls, sender: Sender, dataset: str) -> "Lineage | None":
        """Of the job that another command has begun for a dataset; None where there is none."""
        from . import openlineage_events as events

        record = JobRecord.find(dataset)
        if record is None:
            return None
        subject = events.RunSubject(
            run_id=_run_id(record),
            output=dataset,
            engine=record.engine,
            description=None,
            inputs=(),
            parent=events.parent_facet(os.environ),
            namespace=events.job_namespace(os.environ),
        )
        return cls(sender, subject, True, True)

    def planned(self, planned: PlannedRun) -> None:
        if not self._waits_for_job:
            self._begin()

    def submitted(self, record: JobRecord) -> None:
        self._subject = replace(self._subject, run_id=_run_id(record))
        self._begin()

    def ended(self, result: Result | None) -> None:
        """The run has ended well; without a result, its job was cancelled."""
        self._begin()
        if result is None:
            self._send(lambda events, subject: events.end_event(subject, None))
        else:
            self._send(lambda events, subject: events.complete_event(subject, result.manifest))

    def failed(self, error: BaseException) -> None:
        """The run has failed, or its user interrupted it."""
        self._begin()
        failure = None if isinstance(error, KeyboardInterrupt) else error
        self._send(lambda events, subject: events.end_event(subject, failure))

    def _begin(self) -> None:
        """Sends that the run has begun, unless that was told."""
        if not self._is_begun:
            self._is_begun = True
            self._send(lambda events, subject: events.start_event(subject, self._began))

    def _send(self, make: Callable[[Any, "RunSubject"], Any]) -> None:
        from . import openlineage_events

        subject = self._subject
        self._sender.send(lambda: make(openlineage_events, subject))


def _run_id(record: JobRecord) -> str:
    """The UUID of a job's run."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, record.run))

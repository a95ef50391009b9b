"""The in-process engine's worker processes, none of which ends unnoticed.

Where one that Beam starts ends before its time (by a signal, for want of memory), the runner fails when the others have
done all that they were dealt; or never, where that one had not yet answered.
"""

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2_grpc, beam_provision_api_pb2, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.local_job_service import BeamFnLoggingServicer
from apache_beam.utils import thread_pool_executor
from google.protobuf import json_format, text_format

from ..pipeline.errors import PenstockError
from ..pipeline.storage.child_process import end_in_words

_URN = "penstock:env:worker_process:v1"
_MODULE = "apache_beam.runners.worker.sdk_worker_main"
_LOOK = 0.5  # seconds between two looks at a process


class WatchingRunner(FnApiRunner):
    """FnApiRunner that fails when one of its worker processes does, and gives them the pipeline's options."""

    def __init__(self, encoded_options: Any) -> None:
        """Starts nothing.

        Args:
          encoded_options: The pipeline's options, as a protobuf Struct.
        """
        self._group = _Group(encoded_options)
        super().__init__(provision_info=self._group)

    def run_via_runner_api(self, pipeline_proto: Any, options: PipelineOptions) -> Any:
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.urn = _URN
        try:
            return super().run_via_runner_api(pipeline_proto, options)
        except Exception as error:  # whatever came of it that answers and data were missing
            if self._group.failure is None:
                raise
            raise PenstockError(self._group.failure) from error


class _Group(ExtendedProvisionInfo):
    """What all workers of a pipeline are given: its options, and each other's failure.

    Attributes:
      failure: How the first one ended that did so before its time; None: none has.
    """

    def __init__(self, encoded_options: Any) -> None:
        super().__init__(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded_options))
        self.failure: str | None = None
        self._lock = threading.Lock()

    def for_environment(self, env: object) -> "_Group":
        return self

    def fail(self, failure: str) -> None:
        """Tells all workers that one has failed: this is what the run ends for, unless another did before."""
        with self._lock:
            self.failure = self.failure or failure


@WorkerHandler.register_environment(_URN, bytes)
class _WorkerProcess(GrpcWorkerHandler):
    """A worker process, which is watched until the runner is done with it."""

    def __init__(self, command: bytes, state: Any, provision_info: _Group, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._group = provision_info
        self._is_closing = threading.Event()
        self._watcher = threading.Thread(name="watch_worker", target=self._watch, daemon=True)

    def start_worker(self) -> None:
        self._logging = grpc.server(thread_pool_executor.shared_unbounded_instance())
        port = self._logging.add_insecure_port("localhost:0")
        beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(BeamFnLoggingServicer(), self._logging)
        self._logging.start()
        environment = {
            **os.environ,
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
                endpoints_pb2.ApiServiceDescriptor(url=f"localhost:{port}")
            ),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self._group.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        self._process = subprocess.Popen([sys.executable, "-m", _MODULE], env=environment)
        self._watcher.start()

    def _watch(self) -> None:
        """Ends the process, and whatever waits for it, when one of the group has ended before it was told to."""
        while not self._is_closing.wait(_LOOK):
            if (code := self._process.poll()) is not None:
                self._group.fail(_in_words(self._process.pid, code))
            if self._group.failure is None:
                continue
            self._process.kill()
            self.data_conn.close()
            try:
                self.control_conn.abort(RuntimeError(self._group.failure))
            except RuntimeError:  # a request was sent meanwhile: the next look finds it
                continue

    def close(self) -> None:
        self._is_closing.set()
        if self._group.failure:
            self._process.kill()
        super().close()

    def stop_worker(self) -> None:
        self._watcher.join()
        self._process.wait()
        self._logging.stop(0)


def _in_words(pid: int, code: int) -> str:
    """What to say of a worker process that ended before its time, with an exit code as `subprocess` gives it."""
    advice = "; if the system ended it for want of memory, take fewer --workers or --threads"
    return (
        f"expected worker processes to last as long as the run, found that one ({pid}) {end_in_words(code)}"
        f"{advice if code == -signal.SIGKILL else ''}"
    )

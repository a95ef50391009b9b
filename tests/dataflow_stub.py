"""Dataflow's REST API and the part of Cloud Storage's that a submission uses, in this process, at one port."""

import base64
import bz2
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import google_crc32c
from helpers import REPOSITORY

PROJECT, REGION, BUCKET = "my-project", "europe-west1", "staging"
_JOBS = f"/v1b3/projects/{PROJECT}/locations/{REGION}/jobs"


class DataflowStub:
    """A project's jobs, and a bucket.

    Attributes:
      jobs: The jobs that were submitted, as JSON, by id.
      objects: What is in the bucket, by name.
      states: The state of a job at each look at it, the last one from then on.
      messages: What is said of each job's errors: (time, text).
      metrics: The job's metrics, as JSON.
      refusal: Answers each request to submit a job with a status and a message; None: takes it.
      failures: How many of the next looks at a job are answered by 503.
      permissions: What is allowed in the bucket.
      on_submit: Is told of a job that is taken.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.states = ["JOB_STATE_DONE"]
        self.messages: list[tuple[str, str]] = []
        self.metrics: list[dict[str, Any]] = []
        self.refusal: tuple[int, str] | None = None
        self.failures = 0
        self.permissions = ["storage.buckets.get", "storage.objects.create", "storage.objects.get"]
        self.on_submit: Callable[[dict[str, Any]], None] = lambda job: None
        self.looks = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"stub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self._server.server_address[1]}"  # Beam speaks REST to `localhost` alone

    @property
    def arguments(self) -> list[str]:
        """The options that lead here, which are all that a job must have."""
        return [
            f"--project={PROJECT}",
            f"--region={REGION}",
            f"--temp_location=gs://{BUCKET}/temp",
            "--sdk_container_image=example.test/penstock:1",
            f"--dataflow_endpoint={self.url}",
            "--no_auth",
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def staged(self, name: str) -> bytes:
        """The one staged file of a name."""
        (content,) = (content for path, content in self.objects.items() if path.endswith(f"/{name}"))
        return content

    def take(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Takes a job, which gets an id."""
        number = len(self.jobs) + 1
        job = entry | {"id": f"2026-01-01_00_00_00-{number}", "createTime": f"2026-01-01T00:00:{number:02}Z"}
        self.jobs[job["id"]] = job
        self.on_submit(job)
        return job

    def look(self, job_id: str) -> dict[str, Any]:
        """A job as it is by now."""
        if self.jobs[job_id].get("requestedState"):
            state = "JOB_STATE_CANCELLED"
        else:
            state = self.states[min(self.looks, len(self.states) - 1)]
            self.looks += 1
        return self.jobs[job_id] | {"currentState": state}


class WorkingStub(DataflowStub):
    """A stub whose jobs are run by a process."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.environment: dict[str, str] = {}
        self.states = ["JOB_STATE_PENDING"]
        self.on_submit = self.start
        self.said = ""

    def start(self, job: dict[str, Any]) -> None:
        self.worker = threading.Thread(target=self.work, args=(job,))
        self.worker.start()

    def work(self, job: dict[str, Any]) -> None:
        self.folder.mkdir()
        (self.folder / "pipeline.pb").write_bytes(self.read_pipeline(job))
        (self.folder / "options.json").write_text(json.dumps(job["environment"]["sdkPipelineOptions"]))
        worker = [
            sys.executable,
            REPOSITORY / "tests/dataflow_worker.py",
            "pipeline.pb",
            "options.json",
            "counted.json",
        ]
        environment = os.environ | self.environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        ended = subprocess.run(worker, cwd=self.folder, env=environment, capture_output=True, text=True)
        self.said = ended.stderr
        if ended.returncode:
            self.messages = [("2026-01-01T00:00:00Z", f"Error message from worker: {ended.stderr}")]
            self.states.append("JOB_STATE_FAILED")
        else:
            self.metrics = [*counters(json.loads((self.folder / "counted.json").read_text()))]
            self.states.append("JOB_STATE_DONE")

    def read_pipeline(self, job: dict[str, Any]) -> bytes:
        """What was staged for a job."""
        return self.staged("pipeline.pb")


class _Handler(BaseHTTPRequestHandler):
    stub: DataflowStub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self._path
        if path == f"/storage/v1/b/{BUCKET}":
            self._answer({"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})
        elif path == f"/storage/v1/b/{BUCKET}/iam/testPermissions":
            self._answer(
                {"permissions": [each for each in self._query["permissions"] if each in self.stub.permissions]}
            )
        elif path.startswith("/storage/v1/b/"):
            self._answer_error(404, "no such object")
        elif self.stub.failures and path.startswith(_JOBS):
            self.stub.failures -= 1
            self._answer_error(503, "unwell")
        elif path == _JOBS:
            (name,) = self._query["name"]
            self._answer({"jobs": [job for job in self.stub.jobs.values() if job["name"] == name]})
        elif match := re.fullmatch(rf"{_JOBS}/([^/]+)(/messages|/metrics)?", path):
            self._answer_job(match[1], match[2])
        else:
            self._answer_error(404, f"nothing at {path}")

    def _answer_job(self, job_id: str, part: str | None) -> None:
        if job_id not in self.stub.jobs:
            self._answer_error(404, f"({job_id}): Information about job {job_id} could not be found in our system.")
        elif part == "/messages":
            messages = [
                {"id": str(number), "time": time, "messageText": text, "messageImportance": "JOB_MESSAGE_ERROR"}
                for number, (time, text) in enumerate(self.stub.messages)
            ]
            self._answer({"jobMessages": messages})
        elif part == "/metrics":
            self._answer({"metricTime": "2026-01-01T00:00:00Z", "metrics": self.stub.metrics})
        else:
            self._answer(self.stub.look(job_id))

    def do_POST(self) -> None:
        body = self._body()
        if self._path == _JOBS:
            if self.stub.refusal:
                self._answer_error(*self.stub.refusal)
                return
            self._answer(self.stub.take(json.loads(body)))
        else:  # an upload begins
            name = json.loads(body).get("name") or self._query["name"][0]
            location = f"{self.stub.url}/resumable?name={urllib.parse.quote(name, safe='')}"
            self._send(200, b"", {"Location": location})

    def do_PUT(self) -> None:
        body = self._body()
        if match := re.fullmatch(rf"{_JOBS}/([^/]+)", self._path):
            self.stub.jobs[match[1]] |= json.loads(body)
            self._answer(self.stub.jobs[match[1]])
            return
        name = self._query["name"][0]
        self.stub.objects[name] = self.stub.objects.get(name, b"") + body
        if (self.headers.get("Content-Range") or "*/1").endswith("/*"):  # more is to come
            self._send(308, b"", {"Range": f"bytes=0-{len(self.stub.objects[name]) - 1}"})
        else:
            content = self.stub.objects[name]
            checksum = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
            self._answer({"name": name, "bucket": BUCKET, "size": str(len(content)), "crc32c": checksum})

    @property
    def _path(self) -> str:
        return urllib.parse.urlsplit(self.path).path

    @property
    def _query(self) -> dict[str, list[str]]:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, entry: Any) -> None:
        self._send(200, json.dumps(entry).encode(), {"Content-Type": "application/json"})

    def _answer_error(self, status: int, message: str) -> None:
        entry = {"error": {"code": status, "message": message}}
        self._send(status, json.dumps(entry).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def pickled(pipeline: Any) -> Iterator[tuple[str, bytes]]:
    """What a pipeline's proto holds in pickles, unpacked, by the name of the transform or the coder."""
    from apache_beam.portability.api import beam_runner_api_pb2

    def unpacked(payload: bytes) -> bytes:
        for unpack in (bz2.decompress, zlib.decompress):
            try:
                return unpack(base64.b64decode(payload))
            except (ValueError, OSError, zlib.error):
                continue
        return payload

    for transform in pipeline.components.transforms.values():
        payloads = [transform.spec.payload]
        if transform.spec.urn == "beam:transform:pardo:v1":
            entry = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            payloads += [entry.do_fn.payload]
            payloads += [side.view_fn.payload for side in entry.side_inputs.values()]
            payloads += [side.window_mapping_fn.payload for side in entry.side_inputs.values()]
        elif transform.spec.urn.startswith("beam:transform:combine"):
            entry = beam_runner_api_pb2.CombinePayload.FromString(transform.spec.payload)
            payloads += [entry.combine_fn.payload]
        for payload in payloads:
            yield transform.unique_name, unpacked(payload)
    for name, coder in pipeline.components.coders.items():
        yield name, unpacked(coder.spec.payload)


def counters(values: dict[str, int], *, tentative: bool = False, step: str = "Make") -> Sequence[dict[str, Any]]:
    """Metrics as the service tells them, of counters of Penstock's."""
    context = {"namespace": "penstock", "step": step} | ({"tentative": "true"} if tentative else {})
    return [
        {"name": {"origin": "user", "name": name, "context": context}, "scalar": value}
        for name, value in values.items()
    ]

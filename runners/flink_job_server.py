"""Beam's job server for Flink: a Java process that turns a pipeline into a job of Flink's and submits it.

It needs Java, and a jar that Beam publishes for each version of Flink.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urljoin, urlsplit

import grpc
from apache_beam.options.pipeline_options import JobServerOptions, PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2_grpc
from apache_beam.runners.portability.flink_runner import FlinkJarJobServer
from apache_beam.utils.subprocess_server import JavaJarServer, pick_port

from ..pipeline.errors import PenstockError, RequestError

_OLDEST_JAVA = 11
_ANSWER = 30.0  # seconds that a server of jars may take to answer
_START = 120.0  # seconds that the job server may take until it answers
_STARTS = 3  # each by another port
_STOP = 15.0  # seconds that it may take to end
_LAST_LINES = 5  # of its log, to be told where it does not start
_OPENED = (  # what Flink's and Beam's serializers reflect on, which Java closes since version 16
    "java.lang",
    "java.lang.reflect",
    "java.net",
    "java.io",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "sun.nio.ch",
)
_CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.min_reconnect_backoff_ms", 200),  # it is expected not to answer at first
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 200),
]
_VERSION_FILE = ".flink-runtime.version.properties"  # in Flink's jars, and in what holds their content
_RUNNER_JAR = re.compile(r"beam-runners-flink-(\d+\.\d+)-(?:job-server-)?(\d+\.\d+\.\d+)\.jar")


def find_java(options: PipelineOptions) -> str:
    """The Java that runs the job server: the one that an option names, JAVA_HOME's, or the first in PATH.

    Raises:
      RequestError: there is none, or it is too old.
    """
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    home = os.environ.get("JAVA_HOME")
    named = os.path.join(home, "bin", "java") if home and launcher == "java" else launcher
    java = shutil.which(named)
    if java is None:
        raise RequestError(
            f"--runner flink: expected Java {_OLDEST_JAVA} or later, which runs Beam's job server, found no {named}; "
            "install it (Debian: apt install openjdk-17-jre-headless), or set JAVA_HOME"
        )
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = java_version(output)
    if version is None or version < _OLDEST_JAVA:
        found = f"Java {version}" if version else f"what says {output.strip()[:200]!r} of its version"
        raise RequestError(
            f"--runner flink: expected Java {_OLDEST_JAVA} or later, which runs Beam's job server, found {found} at "
            f"{java}; set JAVA_HOME to a later one"
        )
    return java


def java_version(output: str) -> int | None:
    """The feature version that `java -version` tells: 17 of `17.0.15`, 8 of `1.8.0_392`; None: it tells none."""
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match[1]) if match else None


def find_jar(named: str | None, options: PipelineOptions) -> str:
    """The job server's jar: the one that is named, by a path or a URL, else the one that Beam publishes.

    What is downloaded is kept where Beam keeps it.

    Args:
      named: A path or a URL; None: Beam's own for the `flink_version` among the options.
      options: Beam's.

    Returns:
      Its path.

    Raises:
      RequestError: it is not there, or cannot be downloaded.
    """
    job_server_options = options.view_as(JobServerOptions)
    folder: str = job_server_options.jar_cache_dir or JavaJarServer.JAR_CACHE
    url: str
    if named is None:
        url = FlinkJarJobServer(options).path_to_jar()
    elif urlsplit(named).scheme in ("http", "https"):
        url = named
    elif zipfile.is_zipfile(named):
        return os.path.abspath(named)
    else:
        found = "a file that is none" if os.path.exists(named) else "nothing"
        raise RequestError(f"--flink-job-server-jar: expected a jar, or the URL of one, found {found} at {named}")
    path = os.path.join(folder, os.path.basename(urlsplit(url).path))
    if os.path.exists(path):
        return path
    try:
        _download(url, path)
    except OSError as error:
        raise RequestError(
            f"--runner flink: expected Beam's job server for Flink, found neither {path} nor an answer at {url} "
            f"({error}); download it elsewhere and name it by --flink-job-server-jar, or put it there"
        ) from error
    return path


def _download(url: str, path: str) -> None:
    """Downloads a file, whole or not at all; from Google's mirror where Maven Central does not answer."""
    urls = [url]
    if url.startswith(JavaJarServer.MAVEN_CENTRAL_REPOSITORY):
        urls.append(url.replace(JavaJarServer.MAVEN_CENTRAL_REPOSITORY, JavaJarServer.GOOGLE_MAVEN_MIRROR))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    first: OSError | None = None
    for each in urls:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path), suffix=".tmp", delete=False) as file:
            try:
                with urllib.request.urlopen(each, timeout=_ANSWER) as answer:
                    shutil.copyfileobj(answer, file, 1 << 20)
                    expected = answer.headers.get("Content-Length")
                if expected and file.tell() != int(expected):
                    raise OSError(f"expected {expected} bytes, found {file.tell()}")
                os.replace(file.name, path)
                return
            except OSError as error:
                os.unlink(file.name)
                first = first or error
    assert first is not None
    raise first


@dataclass(frozen=True)
class JarVersions:
    """What a job server's jar was made of, as far as it tells.

    Attributes:
      flink: Flink's version, such as `1.20.5`.
      runner: The version of Flink that Beam's runner in it is made for, such as `1.20`.
      beam: Beam's version.
    """

    flink: str | None = None
    runner: str | None = None
    beam: str | None = None


def read_versions(jar: str) -> JarVersions:
    """Reads versions from a jar, its name, and the jars that its manifest names beside it."""
    flink = None
    runner, beam = runner_versions([jar])
    for path in (jar, *_class_path(jar)):
        if runner is None:
            runner, beam = runner_versions([path])
        if flink is None and (path == jar or "flink" in os.path.basename(path)):
            flink = _flink_version(path)
    return JarVersions(flink, runner, beam)


def runner_versions(jars: Sequence[str]) -> tuple[str, str] | tuple[None, None]:
    """The versions of Flink and Beam that the name of Beam's runner tells, where it is among some jars."""
    for jar in jars:
        if named := _RUNNER_JAR.fullmatch(os.path.basename(jar)):
            return named[1], named[2]
    return None, None


def _flink_version(jar: str) -> str | None:
    """Flink's version, where a jar holds Flink."""
    try:
        with zipfile.ZipFile(jar) as opened:
            content = opened.read(_VERSION_FILE).decode()
    except (KeyError, OSError, zipfile.BadZipFile):
        return None
    match = re.search(r"^project\.version\s*=\s*(\S+)$", content, re.MULTILINE)
    return match[1] if match else None


def _class_path(jar: str) -> list[str]:
    """The jars that a jar's manifest names."""
    try:
        with zipfile.ZipFile(jar) as opened:
            manifest = opened.read("META-INF/MANIFEST.MF").decode()
    except (KeyError, OSError, zipfile.BadZipFile):
        return []
    unfolded = re.sub(r"\r?\n ", "", manifest)
    match = re.search(r"^Class-Path: *(.*?)\r?$", unfolded, re.MULTILINE)
    urls = match[1].split() if match else []
    return [unquote(urlsplit(urljoin(f"file://{os.path.abspath(jar)}", url)).path) for url in urls]


@dataclass(frozen=True)
class ServerOptions:
    """How a job server is started.

    Attributes:
      java: Path of Java.
      jar: Path of its jar.
      master: Flink's address, or `[local]`.
      properties: Options for Java.
      config: Flink's configuration for the jobs; empty: the cluster's own.
    """

    java: str
    jar: str
    master: str
    properties: Sequence[str] = ()
    config: Mapping[str, str] = field(default_factory=dict)


class JobServer:
    """A job server of this process's, which ends with it.

    Attributes:
      endpoint: Where it answers, such as `localhost:8099`.
      jobs: Its interface.
      folder: A folder that goes with it.
    """

    def __init__(self, options: ServerOptions) -> None:
        """Starts it.

        Raises:
          PenstockError: it ended, or does not answer.
        """
        for start in range(1, _STARTS + 1):
            self._start(options)
            try:
                self._wait()
                return
            except BaseException as error:
                # It ends so, without a word, where another process has taken its port since that was free.
                is_taken = isinstance(error, PenstockError) and self._process.poll() == 0
                self.stop()
                if not is_taken or start == _STARTS:
                    raise

    def _start(self, options: ServerOptions) -> None:
        """Starts it by a port that is free, and does not wait for it."""
        (port,) = pick_port(None)
        self.endpoint = f"localhost:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-", ignore_cleanup_errors=True)
        self.folder = self._folder.name
        self._log = os.path.join(self.folder, "log")
        if options.config:
            with open(os.path.join(self.folder, "config.yaml"), "w") as config:
                config.writelines(f"{key}: {value}\n" for key, value in options.config.items())
        command = server_command(options, port, self.folder)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "penstock.runners.supervise", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which knows what to do
            )
        self._channel = grpc.insecure_channel(self.endpoint, _CHANNEL)
        self.jobs = beam_job_api_pb2_grpc.JobServiceStub(self._channel)

    def _wait(self) -> None:
        deadline = time.monotonic() + _START
        ready = grpc.channel_ready_future(self._channel)
        try:
            while self._process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(grpc.FutureTimeoutError):
                    ready.result(0.2)
                    return
        finally:
            ready.cancel()
        code = self._process.poll()
        found = f"no answer after {_START:g} seconds" if code is None else f"that it ended with code {code}"
        raise PenstockError(f"expected Beam's job server to start, found {found}; its last words: {self.last_words()}")

    def last_words(self) -> str:
        """The last lines of its log."""
        lines = []
        with (
            contextlib.suppress(OSError),
            open(self._log, errors="replace") as log,
        ):  # gone with a server that is stopped
            lines = [line.strip() for line in log if line.strip()]
        return " | ".join(lines[-_LAST_LINES:]) or "none"

    def stop(self) -> None:
        """Ends it, if it has not ended, and removes what it left."""
        self._channel.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()


def server_command(options: ServerOptions, port: int, folder: str) -> list[str]:
    """The command that runs a job server; other machines cannot reach it, and it writes into one folder alone."""
    return [
        options.java,
        f"-Djava.io.tmpdir={folder}",
        *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
        *options.properties,
        "-jar",
        options.jar,
        f"--flink-master={options.master}",
        "--job-host=localhost",
        f"--job-port={port}",
        "--artifact-port=0",
        "--expansion-port=0",
        f"--artifacts-dir={os.path.join(folder, 'artifacts')}",
        *([f"--flink-conf-dir={folder}"] if options.config else []),
    ]

"""A standalone Flink cluster on this machine: a JobManager and TaskManagers, each a process of its own.

`make test-engines` installs Flink in .engines/. Everything listens on the loopback address alone.
"""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engines.jars import thin_jar
from engines.processes import descendants, kill, wait_until
from helpers import REPOSITORY, free_port

INSTALLED = REPOSITORY / ".engines"
FLINK = INSTALLED / "flink"
JOB_SERVER = INSTALLED / "flink-job-server"
CONFIG = REPOSITORY / "runners/flink/config.yaml"
# What Flink's own scripts give to Java 17.
OPENED = [
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    *(
        f"--add-opens=java.base/{package}=ALL-UNNAMED"
        for package in (
            "java.lang",
            "java.lang.invoke",
            "java.lang.reflect",
            "java.io",
            "java.net",
            "java.nio",
            "java.text",
            "java.time",
            "java.util",
            "java.util.concurrent",
            "java.util.concurrent.atomic",
            "java.util.concurrent.locks",
            "sun.nio.ch",
            "sun.nio.cs",
            "sun.security.action",
            "sun.util.calendar",
        )
    ),
]
LOGGING = """
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""
JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_READY = 90.0  # seconds within which a process is there


def flink_jars() -> list[Path]:
    """Flink's lib/, with Beam's jars in it: workers are started anew for every stage where these come with the job."""
    return [*sorted((FLINK / "lib").glob("*.jar")), *sorted(JOB_SERVER.glob("*.jar"))]


def flink_job_server(folder: Path) -> Path:
    """Writes the jar of a job server, which consists of Beam's jars and Flink's own."""
    own = [jar for pattern in ("flink-dist-*.jar", "log4j-*.jar") for jar in (FLINK / "lib").glob(pattern)]
    jars = sorted([*JOB_SERVER.glob("*.jar"), *own])
    return thin_jar(folder / "flink.jar", "org.apache.beam.runners.flink.FlinkJobServerDriver", jars)


class FlinkCluster:
    """A cluster while it is needed.

    Args:
      folder: For configuration, logs and what Flink writes.
      task_managers: How many to begin with.
      options: Further lines of the configuration.
      environment: Further variables for TaskManagers, and so for their workers.
    """

    def __init__(
        self,
        folder: Path,
        task_managers: int = 2,
        options: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._conf = folder / "conf"
        self._logs = folder / "log"
        self._temporary = folder / "tmp"
        for path in (self._conf, self._logs, self._temporary):
            path.mkdir(parents=True)
        shutil.copy(CONFIG, self._conf / "config.yaml")
        (self._conf / "log4j.properties").write_text(LOGGING)
        self.port = free_port()
        self._options = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": "localhost",
            "jobmanager.memory.process.size": "1024m",
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": "localhost",
            "cluster.registration.error-delay": "500 ms",
            "heartbeat.interval": 2000,  # a dead process is missed after two of them
            "rest.address": "localhost",
            "rest.bind-address": "localhost",
            "rest.port": self.port,
            "io.tmp.dirs": self._temporary,
            **(options or {}),
        }
        self._environment = {**os.environ, "FLINK_PLUGINS_DIR": str(FLINK / "plugins"), **(environment or {})}
        self._parameters = {name: self._resources(name) for name in ("JM", "TM")}
        self._started = 0
        self._workers: set[int] = set()  # processes of TaskManagers that were killed
        self.job_manager = self._start(JOB_MANAGER, "JM", "jobmanager", "--executionMode", "cluster")
        self.task_managers = [self._start_task_manager() for _ in range(task_managers)]
        self.wait()

    @property
    def address(self) -> str:
        """The JobManager's, as in --flink-master."""
        return f"localhost:{self.port}"

    def ask(self, path: str) -> Any:
        """What Flink's REST API answers."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as response:
            return json.loads(response.read())

    def wait(self) -> None:
        """Waits until all TaskManagers that should be there are."""
        wait_until(lambda: self._registered() == len(self.task_managers), _READY, "TaskManagers that have registered")

    def _registered(self) -> int:
        for process in (self.job_manager, *self.task_managers):
            if process.poll() is not None:
                raise RuntimeError(f"expected a cluster, found a process that ended:\n{self.logs()}")
        try:
            overview = self.ask("/overview")
        except (OSError, ValueError):
            return -1
        return int(overview["taskmanagers"])

    def kill_task_manager(self, number: int = 0) -> list[int]:
        """Kills one; returns the processes that it had started."""
        victim = self.task_managers.pop(number)
        workers = descendants(victim.pid)
        self._workers.update(workers)
        victim.kill()
        victim.wait()
        return workers

    def add_task_manager(self) -> None:
        self.task_managers.append(self._start_task_manager())

    def restart_job_manager(self) -> None:
        """Kills it and starts another one at the same port."""
        self.job_manager.kill()
        self.job_manager.wait()
        self.job_manager = self._start(JOB_MANAGER, "JM", "jobmanager", "--executionMode", "cluster")
        self.wait()

    def logs(self, characters: int = 6000) -> str:
        """The end of each process's log."""
        ends = {path.name: path.read_text(errors="replace")[-characters:] for path in sorted(self._logs.iterdir())}
        return "\n".join(f"--- {name}\n{end}" for name, end in ends.items())

    def stray_files(self) -> list[str]:
        """What workers left in the working directories of their TaskManagers."""
        folders = self.folder.glob("*-taskmanager")
        return [str(path) for folder in folders for path in folder.iterdir()]

    def close(self) -> None:
        """Stops all processes, those of workers too."""
        processes = [*self.task_managers, self.job_manager]
        for process in processes:
            self._workers.update(descendants(process.pid))
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in self._workers:
            kill(pid)

    def _resources(self, name: str) -> tuple[list[str], list[str]]:
        """What Flink's scripts compute from the configuration: options of Java, and further ones of its own."""
        jars = [FLINK / "bin/bash-java-utils.jar", *flink_jars()]
        command = ["java", "-cp", ":".join(map(str, jars)), "org.apache.flink.runtime.util.bash.BashJavaUtils"]
        command += [f"GET_{name}_RESOURCE_PARAMS", "--configDir", str(self._conf), *self._dynamic()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        prefix = "BASH_JAVA_UTILS_EXEC_RESULT:"
        lines = [line.removeprefix(prefix).split() for line in done.stdout.splitlines() if line.startswith(prefix)]
        if done.returncode or len(lines) != 2:
            raise RuntimeError(f"expected two lines of parameters, found\n{done.stdout}{done.stderr}"[-3000:])
        return lines[0], lines[1]

    def _dynamic(self) -> list[str]:
        return [part for name, value in self._options.items() for part in ("-D", f"{name}={value}")]

    def _start_task_manager(self) -> "subprocess.Popen[bytes]":
        return self._start(TASK_MANAGER, "TM", "taskmanager")

    def _start(self, main: str, kind: str, name: str, *arguments: str) -> "subprocess.Popen[bytes]":
        java, own = self._parameters[kind]
        self._started += 1
        classes = ":".join(map(str, flink_jars()))
        logging = f"-Dlog4j.configurationFile=file:{self._conf / 'log4j.properties'}"
        command = ["java", *java, *OPENED, logging, "-cp", classes, main, "--configDir", str(self._conf)]
        command += [*arguments, *own, *self._dynamic()]
        working = self.folder / f"{self._started}-{name}"
        working.mkdir()
        with (self._logs / f"{self._started}-{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=working,
                env=self._environment,
            )

"""Java, the job server's jar, and its process: with jars and a `java` of the tests' own."""

import os
import re
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.utils.subprocess_server import JavaJarServer

from penstock.pipeline.errors import PenstockError, RequestError
from penstock.runners.flink_job_server import (
    JarVersions,
    JobServer,
    ServerOptions,
    find_jar,
    find_java,
    java_version,
    read_versions,
    server_command,
)

VERSION_FILE = ".flink-runtime.version.properties"


def executable(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def jar(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in entries.items():
            opened.writestr(name, content)
    return path


def flink_jar(path: Path, version: str) -> Path:
    return jar(path, **{VERSION_FILE: f"# a comment\nproject.version={version}\nscala.binary.version=2.12\n"})


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("command not found", None),
    ],
)
def test_javas_version_is_read(said: str, version: int | None):
    assert java_version(said) == version


def test_java_is_that_of_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    java = executable(tmp_path / "bin/java", "echo 'openjdk version \"17.0.15\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert find_java(PipelineOptions([])) == str(java)
    other = executable(tmp_path / "other", "echo 'openjdk version \"21\"' >&2")
    assert find_java(PipelineOptions([f"--job_server_java_launcher={other}"])) == str(other)


def test_a_java_that_is_missing_or_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RequestError, match=r"expected Java 11 or later, .* found no .*/bin/java; install it"):
        find_java(PipelineOptions([]))
    java = executable(tmp_path / "bin/java", "echo 'java version \"1.8.0_392\"' >&2")
    with pytest.raises(RequestError, match=f"expected Java 11 or later, .* found Java 8 at {java}; set JAVA_HOME"):
        find_java(PipelineOptions([]))


def test_a_jar_that_is_named_is_taken(tmp_path: Path):
    named = jar(tmp_path / "server.jar", a="b")
    assert find_jar(str(named), PipelineOptions([])) == str(named)
    with pytest.raises(RequestError, match=r"--flink-job-server-jar: expected a jar, .* found nothing at"):
        find_jar(str(tmp_path / "none.jar"), PipelineOptions([]))
    (tmp_path / "text").write_text("no jar")
    with pytest.raises(RequestError, match="found a file that is none at"):
        find_jar(str(tmp_path / "text"), PipelineOptions([]))


def test_beams_jar_is_taken_from_beams_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import apache_beam

    name = f"beam-runners-flink-1.20-job-server-{apache_beam.__version__}.jar"
    cached = jar(tmp_path / name, a="b")
    monkeypatch.setattr(JavaJarServer, "JAR_CACHE", str(tmp_path))
    assert find_jar(None, PipelineOptions(["--flink_version=1.20"])) == str(cached)


def test_a_jar_is_downloaded_whole_or_not_at_all(tmp_path: Path):
    """From a server that is there, and one that is not; nothing else stays in the cache."""
    served, cache = tmp_path / "served", tmp_path / "cache"
    served.mkdir()
    jar(served / "server.jar", a="b" * 100_000)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(served)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        url = f"http://127.0.0.1:{server.stdout.readline().split(' port ')[1].split()[0]}/server.jar"
        options = PipelineOptions([f"--jar_cache_dir={cache}"])
        try:
            path = Path(find_jar(url, options))
            assert path.read_bytes() == (served / "server.jar").read_bytes()
            with pytest.raises(RequestError, match=r"neither .*/none\.jar nor an answer at .*404"):
                find_jar(url.replace("server.jar", "none.jar"), options)
        finally:
            server.terminate()
    assert [each.name for each in cache.iterdir()] == ["server.jar"]
    assert find_jar(url, options) == str(path)  # though the server is gone
    with pytest.raises(RequestError, match="download it elsewhere and name it by --flink-job-server-jar"):
        find_jar(url.replace("server.jar", "other.jar"), options)


def test_a_jar_tells_its_versions(tmp_path: Path):
    assert read_versions(str(flink_jar(tmp_path / "a.jar", "1.20.1"))) == JarVersions("1.20.1", None, None)
    published = jar(tmp_path / "beam-runners-flink-1.20-job-server-2.77.0.jar", a="b")
    assert read_versions(str(published)) == JarVersions(None, "1.20", "2.77.0")


def test_a_jar_tells_the_versions_of_those_that_its_manifest_names(tmp_path: Path):
    flink_jar(tmp_path / "flink-dist-1.20.5.jar", "1.20.5")
    jar(tmp_path / "beam-runners-flink-1.19-2.70.0.jar", a="b")
    path = f"file:{tmp_path}/beam-runners-flink-1.19-2.70.0.jar flink-dist-1.20.5.jar"
    line = f"Class-Path: {path}"
    folded = "\r\n ".join([line[:60], line[60:]])
    thin = jar(tmp_path / "thin.jar", **{"META-INF/MANIFEST.MF": f"Manifest-Version: 1.0\r\n{folded}\r\n\r\n"})
    assert read_versions(str(thin)) == JarVersions("1.20.5", "1.19", "2.70.0")


def test_the_job_server_listens_on_this_machine_alone():
    command = server_command(ServerOptions("java", "a.jar", "http://host:8081", ["-Xmx1g"]), 8099, "/tmp/x")
    assert command[0] == "java"
    assert command.index("-Xmx1g") < command.index("-jar")
    assert {"--job-host=localhost", "--job-port=8099", "--flink-master=http://host:8081"} <= set(command)
    assert not any(argument.startswith("--flink-conf-dir") for argument in command)
    embedded = server_command(ServerOptions("java", "a.jar", "[local]", (), {"a.b": "c"}), 8099, "/tmp/x")
    assert "--flink-conf-dir=/tmp/x" in embedded


def test_a_job_server_that_does_not_start_says_why(tmp_path: Path):
    java = executable(tmp_path / "java", "echo 'Error: could not find the main class'", "exit 3")
    with pytest.raises(PenstockError, match="found that it ended with code 3; its last words: Error: could not find"):
        JobServer(ServerOptions(str(java), "a.jar", "[local]"))


def test_a_job_server_whose_port_is_taken_gets_another_one(tmp_path: Path):
    java = executable(tmp_path / "java", f'echo "$@" >> {tmp_path}/started', "exit 0")
    with pytest.raises(PenstockError, match="found that it ended with code 0; its last words: none"):
        JobServer(ServerOptions(str(java), "a.jar", "[local]"))
    ports = re.findall(r"--job-port=(\d+)", (tmp_path / "started").read_text())
    assert len(set(ports)) == 3


@pytest.mark.slow
def test_a_job_server_that_is_not_waited_for_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    java = executable(tmp_path / "java", f"echo $$ > {tmp_path}/pid", "exec sleep 60")
    monkeypatch.setattr("penstock.runners.flink_job_server._START", 3.0)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(PenstockError, match="found no answer after 3 seconds"):
        JobServer(ServerOptions(str(java), "a.jar", "[local]"))
    assert list(folder.iterdir()) == []
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)

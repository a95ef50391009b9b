"""The image, without Docker: its Dockerfile's steps, run in folders, and then a job by nothing but the image."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engines.base_images import debian_with_python
from engines.dockerfile import Image, build, command_in, in_image, link_file, new_container
from engines.flink_cluster import INSTALLED
from engines.jobs import expect_same
from helpers import REPOSITORY, free_port
from stores.servers import process

pytestmark = [pytest.mark.slow, pytest.mark.linux]

USER, HOME = 10001, "/home/penstock"
SECONDS = 240.0  # that a job may take
DATA = "/data"  # where input and output are in the image
UNPINNED = {"penstock", "pip"}  # our own, and what comes with Python


def beam_image(root: Path) -> None:
    """Beam's boot, where Beam's images have it."""
    folder = root / "opt/apache/beam"
    folder.mkdir(parents=True)
    shutil.copy2(INSTALLED / "bin/container", folder / "boot")


def java_image(root: Path) -> None:
    """This machine's Java, where Temurin's images have it."""
    java = shutil.which("java")
    assert java is not None
    home = Path(java).resolve().parent.parent
    shutil.copytree(home, root / "opt/java/openjdk", symlinks=True, copy_function=link_file)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """What the Dockerfile comes to; gigabytes, which are removed at the end."""
    assert os.geteuid() == 0, "expected to be root, who can mount folders and change roots, found another user"
    bases = {"python:": debian_with_python, "apache/beam_python": beam_image, "eclipse-temurin:": java_image}
    uv = [str(Path(sys.executable).parent / "uv"), "cache", "dir"]
    cache = Path(subprocess.run(uv, check=True, capture_output=True, text=True).stdout.strip())
    work = tmp_path_factory.mktemp("image")
    yield build(REPOSITORY / "Dockerfile", bases, {"/root/.cache/uv": cache}, work)
    shutil.rmtree(work)


def test_the_image_has_what_the_lock_pins_compiled_and_is_not_roots(image: Image):
    assert in_image(image, ["id", "-u"]).strip() == str(USER)
    assert in_image(image, ["penstock", "--version"]).startswith("penstock, version ")
    in_image(image, ["java", "-version"])
    pins = set(re.findall(r"^([a-z0-9-]+)==", (REPOSITORY / "requirements-image.lock").read_text(), re.MULTILINE))
    listing = in_image(image, ["pip", "--disable-pip-version-check", "list", "--format=freeze"])
    installed = {line.split("==")[0] for line in listing.splitlines()}
    assert {re.sub(r"[._]", "-", name).lower() for name in installed} - pins == UNPINNED
    for user in (str(USER), "12345"):  # any user of group 0
        in_image(replace(image, user=user), ["touch", f"{HOME}/{user}", f"/tmp/{user}"])
    layer = image.layers[0]
    packages = layer / f"opt/penstock/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for name in ("penstock/pipeline", "apache_beam/runners/worker", "tensorflow"):
        assert list((packages / name / "__pycache__").glob("*.pyc")), name
    left = [name for name in ("build", "root", "wheel") for _ in layer.glob(f"{name}/*")]
    assert left == [], "expected no file of the build's in the image"


@pytest.fixture
def container(image: Image, tmp_path: Path) -> Callable[[Path], list[str]]:
    """A pool on this machine which, for a worker, starts a container by its entry point: as engines do by Docker."""

    def container_(data: Path) -> list[str]:
        program = tmp_path / "container"
        command = command_in(new_container(image, tmp_path / "worker"), image.entry_point, {DATA: data})
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)
        module = "apache_beam.runners.worker.worker_pool_main"
        return [sys.executable, "-m", module, f"--container_executable={program}"]

    return container_


@pytest.fixture
def sidecar(image: Image, tmp_path: Path) -> Callable[[Path], list[str]]:
    """A pool in the image, as it stands beside a TaskManager in Kubernetes: its root is read-only."""
    command, writable = ["penstock-worker", "--worker_pool"], ["/tmp", HOME]
    worker = new_container(image, tmp_path / "worker")
    return lambda data: command_in(worker, command, {DATA: data}, writable=writable)


@pytest.mark.parametrize("workers", ["container", "sidecar"])
def test_a_launcher_and_workers_of_the_image_make_the_same_dataset(
    request: pytest.FixtureRequest,
    workers: str,
    image: Image,
    shapes: Path,
    recipes: Path,
    reference: Callable[[Path, str], str],
    tmp_path: Path,
):
    data, recipe = tmp_path / "data", recipes / "images.py"
    shutil.copytree(shapes, data / "raw")
    shutil.copy2(recipe, data)
    for path in (data, *data.rglob("*")):
        os.chown(path, USER, 0)
    command, port = request.getfixturevalue(workers)(data), free_port()
    with process([*command, f"--service_port={port}"], tmp_path / "pool", port):
        run = ["penstock", "run", "images.py", "--input", f"{DATA}/raw", "--output", f"{DATA}/dataset"]
        beam = ["--job_endpoint=embed", "--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
        line = [*run, "--runner", "PortableRunner", "--", *beam]
        launcher = replace(new_container(image, tmp_path / "launcher"), folder=DATA)
        in_image(launcher, line, {DATA: data}, seconds=SECONDS)
    expect_same(str(data / "dataset"), reference(recipe, str(shapes)))
    (log,) = (tmp_path / "pool").glob("*.log")
    assert "Starting worker with command" in log.read_text()

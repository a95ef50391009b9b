"""What is built from the repository: the wheel, the source distribution, and the pins of the image."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from helpers import REPOSITORY

FOLDERS = ("src/penstock", "pipeline", "transforms", "runners")
DEPLOYED = ("runners/kubernetes/", "runners/dataflow/Dockerfile")  # what is used from the repository
INPUTS = ("LICENSE", "README.md", "pyproject.toml", *FOLDERS)
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((REPOSITORY / name).read_text()))


def uv(*arguments: str, cwd: Path) -> None:
    command = [str(Path(sys.executable).parent / "uv"), *arguments]
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel that `uv build` makes of the source distribution that it makes of the repository."""
    copy, out = tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("dist")
    for name in INPUTS:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(REPOSITORY / name, copy / name)
    uv("build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(out), cwd=copy)
    return out


def listed(*patterns: str) -> list[str]:
    """The repository's files, those that git ignores left out."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (REPOSITORY / name).is_file()]


def packaged() -> set[str]:
    """The files that make up the package, by their names in the wheel."""
    names = [name for name in listed(*FOLDERS) if not name.startswith(DEPLOYED)]
    return {name.removeprefix("src/") if name.startswith("src/") else f"penstock/{name}" for name in names}


def test_the_wheel_holds_every_file_of_the_package_and_no_other(built: Path):
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if not name.startswith("penstock-")} == packaged()


def test_the_wheel_has_the_command_and_the_license(built: Path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (name for name in archive.namelist() if name.endswith("dist-info/entry_points.txt"))
        (license_file,) = (name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
        assert "penstock = penstock.runners.cli:main" in archive.read(entry_points).decode()
        assert archive.read(license_file) == (REPOSITORY / "LICENSE").read_bytes()


def test_the_images_lock_has_the_pins_that_are_tested_and_no_tools_of_development():
    tested, image = pins("requirements.lock"), pins("requirements-image.lock")
    assert {name: version for name, version in image.items() if tested.get(name, version) != version} == {}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["prepare"], *extras["s3"], *extras["gcs"], "setuptools"]
    assert {re.split("[^A-Za-z0-9-]", each)[0] for each in needed} - set(image) == set()
    assert not {"pytest", "mypy", "ruff", "pytest-xdist"} & set(image)


def test_the_dockerfile_has_the_versions_of_the_lock_and_the_makefile():
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    uv_version = re.search(r"^UV_VERSION := (\S+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert version is not None
    assert uv_version is not None
    assert f"ARG BEAM_VERSION={pins('requirements-image.lock')['apache-beam']}\n" in dockerfile
    assert f'image.version="{version[1]}"' in dockerfile
    assert f"uv=={uv_version[1]} " in dockerfile


def test_hadolint_finds_nothing():
    hadolint = shutil.which("hadolint", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    assert hadolint is not None
    done = subprocess.run([hadolint, *listed("*Dockerfile")], cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")

"""What is built from the repository: the wheel, the source distribution, and the pins of the image."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import REPOSITORY, Committed

FOLDERS = ("src/penstock", "pipeline", "transforms", "runners")
DEPLOYED = ("runners/kubernetes/", "runners/dataflow/Dockerfile")  # what is used from the repository
INPUTS = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", *FOLDERS)
PIN = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((REPOSITORY / name).read_text()))


def uv(*arguments: str, cwd: Path) -> None:
    command = [str(Path(sys.executable).parent / "uv"), *arguments]
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def copy_of_repository(folder: Path) -> Path:
    """Copies what packages are made of, without what earlier builds left, into an empty folder."""
    for name in INPUTS:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(
                REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy2(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel that `uv build` makes of the source distribution that it makes of the repository."""
    copy, out = copy_of_repository(tmp_path_factory.mktemp("repository")), tmp_path_factory.mktemp("dist")
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


def files_and_sizes(names: Iterable[tuple[str, int]]) -> dict[str, int]:
    return {name: size for name, size in names if name.startswith("penstock/") and "__pycache__" not in name}


@pytest.mark.slow
def test_an_install_from_the_repository_has_the_files_of_the_wheel(built: Path, tmp_path: Path):
    (wheel,) = built.glob("*.whl")
    copy, target = tmp_path / "copy", tmp_path / "target"
    copy.mkdir()
    arguments = ("--offline", "--no-deps", "--no-build-isolation", "--python", sys.executable, "--target", str(target))
    uv("pip", "install", *arguments, str(copy_of_repository(copy)), cwd=tmp_path)
    installed = [path for path in target.rglob("*") if path.is_file()]
    expected = files_and_sizes((each.filename, each.file_size) for each in zipfile.ZipFile(wheel).infolist())
    found = files_and_sizes((str(path.relative_to(target)), path.stat().st_size) for path in installed)
    assert found == expected


def environment(built: Path, extra: str, folder: Path) -> Path:
    """The programs of a new environment with the wheel in it, in the versions of the lock: from the package index."""
    (wheel,) = built.glob("*.whl")
    uv("venv", "--quiet", "--python", sys.executable, str(folder), cwd=folder.parent)
    lock = str(REPOSITORY / "requirements.lock")
    uv("pip", "install", "--python", str(folder / "bin/python"), "--constraint", lock, f"{wheel}{extra}", cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def bare(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with `penstock` and nothing of `penstock[prepare]`."""
    return environment(built, "", tmp_path_factory.mktemp("bare") / "venv")


def start(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program that must not see this process's Penstock."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [*map(str, command)], cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("inspect", "DATASET"),
        ("log", "DATASET"),
        ("verify", "DATASET", "--no-graph"),
        ("load", "DATASET", "--adapter", "numpy", "--seconds", "0.1"),
        ("prune", "DATASET"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_reads_a_dataset_runs_without_what_prepares(
    arguments: tuple[str, ...], bare: Path, committed: Committed, tmp_path: Path
):
    done = start(
        bare / "penstock", *(str(committed.path) if each == "DATASET" else each for each in arguments), cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not measured" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "recipe.py", "--input", "SOURCE", "--output", "made"),
        ("run", "recipe.py", "--input", "SOURCE", "--output", "made", "--dry-run"),
        ("check", "recipe.py", "--input", "SOURCE"),
        ("demo",),
        ("attach", "DATASET"),
        ("diff", "DATASET"),
        ("verify", "DATASET"),
        ("export", "DATASET", "made"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_prepares_says_in_one_sentence_what_to_install(
    arguments: tuple[str, ...], bare: Path, committed: Committed, tmp_path: Path
):
    (tmp_path / "recipe.py").write_text(
        "from penstock import Images, Recipe\nrecipe = Recipe(source=Images('images/*'))\n"
    )
    paths = {"SOURCE": str(committed.source), "DATASET": str(committed.path)}
    done = start(bare / "penstock", *(paths.get(each, each) for each in arguments), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    assert re.fullmatch(r"error: expected .+; pip install 'penstock\[prepare\]'\n", done.stderr), done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_a_dataset_is_loaded_without_what_prepares(bare: Path, committed: Committed, tmp_path: Path):
    program = (
        "import sys, penstock\n"
        f"batch = next(iter(penstock.open_dataset({str(committed.path)!r}).numpy('train', 4)))\n"
        "print(penstock.__version__, len(batch['image']), 'tensorflow' in sys.modules)\n"
    )
    done = start(bare / "python", "-c", program, cwd=tmp_path)
    assert done.stdout == "0.1.0 4 False\n", done.stderr


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel(built: Path, tmp_path: Path):
    programs = environment(built, "[prepare]", tmp_path / "venv")
    done = start(programs / "penstock", "demo", tmp_path / "demo", "--examples", "30", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "demo/dataset/_DATASET.json").is_file()


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

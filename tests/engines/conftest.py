"""A Flink cluster, a job server for it, and a store, started once; and what they said where a test fails."""

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import pytest
from engines.flink_cluster import INSTALLED, FlinkCluster, flink_job_server
from engines.jobs import Job
from stores import canaries, servers
from stores.data import raw_data, upload
from stores.servers import Store

from penstock.pipeline.planned_run import RunRequest
from penstock.pipeline.planning.recipe import load_recipe
from penstock.runners.run import run

LOGS = pytest.StashKey[dict[str, Callable[[], str]]]()  # who tells what the servers said


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("engines")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test failed, the report has the logs of its job and of the servers."""
    report = yield
    if report.failed and item.path.parent == Path(__file__).parent:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        for log in sorted(folder.glob("*.log")) if folder else ():
            report.sections.append((log.name, log.read_text(errors="replace")[-12_000:]))
        for name, said in item.config.stash.get(LOGS, {}).items():
            report.sections.append((name, said()))
    return report


@pytest.fixture(scope="session")
def logs(pytestconfig: pytest.Config) -> dict[str, Callable[[], str]]:
    """By a server's name, what gives the end of its log."""
    return pytestconfig.stash.setdefault(LOGS, {})


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that speaks as S3 does; no file but its own, and no object, may hold its credentials in the end."""
    folder, secrets = tmp_path_factory.mktemp("servers"), set[str]()
    with (
        canaries.searched(servers.versitygw(folder / "versitygw"), secrets) as store,
        pytest.MonkeyPatch.context() as own,
    ):
        for name, value in store.variables().items():
            own.setenv(name, value)
        yield store
    hits = canaries.find_in(canaries.local_files(tmp_path_factory.getbasetemp(), folder), secrets)
    assert not hits, f"expected no credential in any file, found some in {hits}"


@pytest.fixture(scope="session")
def raw(s3: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Drawn images and tables: by a place's name, the same files there."""
    local = raw_data(tmp_path_factory.mktemp("raw"))
    return {"local": str(local), "s3": upload(local, s3.uri("engines", "raw"))}


@pytest.fixture(scope="session")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the recipes, in whose folder jobs are run."""
    return shutil.copytree(Path(__file__).parent / "recipes", tmp_path_factory.mktemp("own") / "recipes")


@pytest.fixture
def new_output(s3: Store, tmp_path: Path) -> Callable[[str], str]:
    """A dataset's folder at a place, for this test alone."""
    return lambda place: str(tmp_path / "dataset") if place == "local" else s3.uri(f"{tmp_path.name}/dataset")


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], str]:
    """The dataset that the in-process runner makes by a recipe of an input, made when it is first asked for."""

    @cache
    def reference_(recipe: Path, source: str) -> str:
        output = str(tmp_path_factory.mktemp("reference") / "dataset")
        with pytest.MonkeyPatch.context() as own:
            own.syspath_prepend(recipe.parent)  # as it is where the command line is run in that folder
            assert run(RunRequest(load_recipe(str(recipe)), source, output)).status == "committed"
        return output

    return reference_


@pytest.fixture(scope="session")
def environment(s3: Store, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of servers and workers: this interpreter, Beam's boot, the store's credentials, a home."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    boot = str(INSTALLED / "bin/container")
    own = {"PATH": path, "PENSTOCK_BOOT": boot, "HOME": str(tmp_path_factory.mktemp("home"))}
    modules = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return {**s3.variables(), **own, **modules}


@pytest.fixture(scope="session")
def flink(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], logs: dict[str, Callable[[], str]]
) -> Iterator[FlinkCluster]:
    """A JobManager and two TaskManagers, whose workers reach the store."""
    own = {"TASK_MANAGER": "yes"}  # by which a recipe can tell where it is
    cluster = FlinkCluster(tmp_path_factory.mktemp("flink"), environment={**environment, **own})
    logs["Flink"] = cluster.logs
    try:
        yield cluster
    finally:
        del logs["Flink"]
        cluster.close()


@pytest.fixture(scope="session")
def flink_jar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the jar that --flink-job-server-jar names."""
    return flink_job_server(tmp_path_factory.mktemp("job-server"))


@pytest.fixture
def on_flink(flink: FlinkCluster, flink_jar: Path, new_output: Callable[[str], str]) -> Callable[..., Job]:
    """A job for the cluster, which has all of its TaskManagers."""
    flink.wait()

    def on_flink_(recipe: Path, source: str, output: str, *beam: str) -> Job:
        engine = ("--runner", "flink", "--flink-master", flink.address, "--flink-job-server-jar", str(flink_jar))
        return Job(recipe, source, new_output(output), engine, beam)

    return on_flink_

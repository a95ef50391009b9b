"""Servers of object stores for the tests, and the environment that leads to them."""

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from stores import canaries, servers
from stores.proxy import Proxy
from stores.servers import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("stores")


SECRETS = pytest.StashKey[set[str]]()  # the credentials of all stores that were started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that printed or logged a credential has failed."""
    report = yield
    printed = [(name, text.encode()) for name, text in report.sections]
    if hits := canaries.find_in(printed, item.config.stash.get(SECRETS, set())):
        report.outcome = "failed"
        report.longrepr = f"expected no credential in what a test prints, found one in: {', '.join(hits)}"
    return report


@pytest.fixture(scope="session")
def secrets(pytestconfig: pytest.Config) -> set[str]:
    """The credentials of all stores that were started so far."""
    return pytestconfig.stash.setdefault(SECRETS, set())


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory, secrets: set[str]) -> Iterator[Path]:
    """Where servers keep data, logs and credentials. At the end all other files of the tests are searched for these."""
    folder = tmp_path_factory.mktemp("servers")
    yield folder
    hits = canaries.find_in(canaries.local_files(tmp_path_factory.getbasetemp(), folder), secrets)
    assert not hits, f"expected no credential in any file, found some in {hits}"


@pytest.fixture(scope="session")
def s3(server_folder: Path, secrets: set[str]) -> Iterator[Store]:
    with canaries.searched(servers.versitygw(server_folder / "versitygw"), secrets) as store:
        yield store


@pytest.fixture(scope="session")
def gcs(server_folder: Path, secrets: set[str]) -> Iterator[Store]:
    with canaries.searched(servers.fake_gcs_server(server_folder / "fake-gcs-server"), secrets) as store:
        yield store


@pytest.fixture(scope="session")
def azure(server_folder: Path, secrets: set[str]) -> Iterator[Store]:
    with canaries.searched(servers.azurite(server_folder / "azurite"), secrets) as store:
        yield store


@pytest.fixture(scope="session")
def careless_s3(server_folder: Path, secrets: set[str]) -> Iterator[Store]:
    """S3 that ignores conditions."""
    with canaries.searched(servers.s3rver(server_folder / "s3rver"), secrets) as store:
        yield store


@pytest.fixture(scope="session")
def careless_gcs(server_folder: Path, secrets: set[str]) -> Iterator[Store]:
    """GCS that ignores conditions."""
    with canaries.searched(servers.gcp_storage_emulator(server_folder / "gcp-storage-emulator"), secrets) as store:
        yield store


@pytest.fixture(params=["s3", "gcs", "azure"])
def store(request: pytest.FixtureRequest, use: Callable[..., None]) -> Store:
    """Each store that keeps conditions, with the environment that leads to it."""
    chosen: Store = request.getfixturevalue(request.param)
    use(chosen)
    return chosen


@pytest.fixture(params=["careless_s3", "careless_gcs"])
def careless(request: pytest.FixtureRequest, use: Callable[..., None]) -> Store:
    """Each store that ignores conditions, with the environment that leads to it."""
    chosen: Store = request.getfixturevalue(request.param)
    use(chosen)
    return chosen


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the variables that lead to a store, or by a proxy to it."""

    def use_(store: Store, proxy: Proxy | None = None) -> None:
        for name, value in store.variables(proxy.port if proxy else None).items():
            monkeypatch.setenv(name, value)

    return use_


@pytest.fixture
def proxied() -> Iterator[Callable[..., Proxy]]:
    """Puts proxies in front of stores for as long as a test runs."""
    with contextlib.ExitStack() as stack:

        def proxied_(store: Store, **options: object) -> Proxy:
            proxy = Proxy(store.port, **options)  # type: ignore[arg-type]
            stack.callback(proxy.close)
            return proxy

        yield proxied_


@pytest.fixture(scope="session")
def folder_names() -> Callable[[], str]:
    """Names of folders that no other test uses."""
    numbers = iter(range(1, 1_000_000))
    return lambda: f"t{next(numbers)}"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second without a byte is a stall; eight tries, and short pauses between them."""
    from penstock.pipeline.storage import stores

    monkeypatch.setenv("PENSTOCK_STORE_TIMEOUT", "1")
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "8")
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.002)

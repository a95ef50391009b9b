"""Stores for the tests of a session, and the environment that leads to them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stores import servers
from stores.proxy import Proxy
from stores.servers import Store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("stores")


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where servers keep data, logs and credentials."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def s3(server_folder: Path) -> Iterator[Store]:
    with servers.versitygw(server_folder / "versitygw") as store:
        yield store


@pytest.fixture(scope="session")
def gcs(server_folder: Path) -> Iterator[Store]:
    with servers.fake_gcs_server(server_folder / "fake-gcs-server") as store:
        yield store


@pytest.fixture(scope="session")
def azure(server_folder: Path) -> Iterator[Store]:
    with servers.azurite(server_folder / "azurite") as store:
        yield store


@pytest.fixture(scope="session")
def careless_s3(server_folder: Path) -> Iterator[Store]:
    """S3 that ignores conditions."""
    with servers.s3rver(server_folder / "s3rver") as store:
        yield store


@pytest.fixture(scope="session")
def careless_gcs(server_folder: Path) -> Iterator[Store]:
    """GCS that ignores conditions."""
    with servers.gcp_storage_emulator(server_folder / "gcp-storage-emulator") as store:
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
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half a second without a byte is a stall, and the pauses between tries are short."""
    from penstock.pipeline.storage import stores

    monkeypatch.setattr(stores, "_STALL", 0.5)
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.002)
    stores._bucket.cache_clear()
    yield
    stores._bucket.cache_clear()

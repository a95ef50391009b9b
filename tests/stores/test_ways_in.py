"""The ways in which docs/stores.md says that credentials and endpoints are given, each on a server that checks them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from stores.servers import Store

from penstock.pipeline.storage import files


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment that leads nowhere yet, and an empty home."""
    for name in os.environ:
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "STORAGE_EMULATOR_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def works(folder_names: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets variables, and writes and reads by a URI; `{folder}` stands for a new folder."""

    def works_(uri: str, **variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        place = uri.format(folder=folder_names())
        files.write_bytes(place, b"content")
        assert files.read_bytes(place) == b"content"
        assert [info.uri for info in files.list_folder(place.rpartition("/")[0])] == [place]

    return works_


def test_a_profile_of_aws(works: Callable[..., None], s3: Store, server_folder: Path):
    variables = s3.variables()
    path = server_folder / "credentials"
    path.write_text(
        f"[default]\naws_access_key_id = none\naws_secret_access_key = none\n"
        f"[team]\naws_access_key_id = {variables['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {variables['AWS_SECRET_ACCESS_KEY']}\n"
    )
    endpoint = {"AWS_ENDPOINT_URL_S3": variables["AWS_ENDPOINT_URL"]}
    works("s3://prepared/{folder}/file", AWS_SHARED_CREDENTIALS_FILE=str(path), AWS_PROFILE="team", **endpoint)
    with pytest.raises(PermissionError):
        works("s3://prepared/{folder}/file", AWS_PROFILE="default")


def test_a_service_account_in_a_variable(works: Callable[..., None], gcs: Store):
    variables = gcs.variables()
    key = Path(variables["GOOGLE_APPLICATION_CREDENTIALS"]).read_text()
    base = {"GOOGLE_BASE_URL": variables["GOOGLE_BASE_URL"]}
    works("gs://prepared/{folder}/file", GOOGLE_SERVICE_ACCOUNT_KEY=key, **base)


def test_an_emulator_of_gcs(works: Callable[..., None], careless_gcs: Store):
    url = careless_gcs.variables()["STORAGE_EMULATOR_HOST"]
    works("gs://prepared/{folder}/file", STORAGE_EMULATOR_HOST=url)
    works("gs://prepared/{folder}/file", STORAGE_EMULATOR_HOST=url.removeprefix("http://"))


def test_a_connection_string_of_azure(works: Callable[..., None], azure: Store):
    variables = azure.variables()
    parts = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": variables["AZURE_STORAGE_ACCOUNT_NAME"],
        "AccountKey": variables["AZURE_STORAGE_ACCOUNT_KEY"],
        "BlobEndpoint": variables["AZURE_STORAGE_ENDPOINT"],
    }
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    works("az://prepared/{folder}/file", AZURE_STORAGE_CONNECTION_STRING=text)


def test_an_account_of_azure_in_the_uri(works: Callable[..., None], azure: Store):
    variables = azure.variables()
    account = variables.pop("AZURE_STORAGE_ACCOUNT_NAME")
    works(f"abfss://prepared@{account}.dfs.core.windows.net/{{folder}}/file", **variables)


def test_no_credentials_at_all(works: Callable[..., None], s3: Store):
    endpoint = {"AWS_ENDPOINT_URL": s3.variables()["AWS_ENDPOINT_URL"]}
    with pytest.raises(PermissionError):
        works("s3://prepared/{folder}/file", AWS_SKIP_SIGNATURE="true", **endpoint)

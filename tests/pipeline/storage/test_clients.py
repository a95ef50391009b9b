"""Clients heed the environment as the providers' own tools do; credentials come from there alone and go nowhere."""

import json
import os
import pickle
import signal
import sys
from pathlib import Path

import pytest
from s3_stub import SECRET

from penstock.pipeline.errors import RequestError
from penstock.pipeline.storage import clients, files, stores


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in {each for names in clients.SETTINGS.values() for each in names}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    stores._bucket.cache_clear()
    return tmp_path


def _config(uri: str) -> dict[str, object]:
    client = stores.locate(uri)[0].client
    return {
        str(name).removeprefix("aws_").removeprefix("azure_storage_"): value for name, value in client.config.items()
    }


def _s3_settings() -> dict[str, object]:
    return clients._s3("b", {name: os.environ.get(name) for name in clients.SETTINGS["s3"]})[0]


def _write(path: Path, content: str) -> None:
    path.write_text(content)


def test_keys_of_the_environment_come_before_a_profile(home, monkeypatch):
    _write(home / ".aws/credentials", f"[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert _s3_settings() == {"region": "eu-central-1"}, "the keys are left to obstore, which reads the environment"


@pytest.mark.parametrize("name", [None, "work"])
def test_keys_of_a_profile_are_used(name, home, monkeypatch):
    _write(
        home / ".aws/credentials",
        f"[{name or 'default'}]\naws_access_key_id=AKIAFILE\naws_secret_access_key={SECRET}\n",
    )
    _write(home / ".aws/config", f"[{'profile ' + name if name else 'default'}]\nregion = eu-north-1\n")
    if name:
        monkeypatch.setenv("AWS_PROFILE", name)
    config = _config("s3://b/k")
    assert (config["access_key_id"], config["secret_access_key"], config["region"]) == (
        "AKIAFILE",
        SECRET,
        "eu-north-1",
    )


def test_files_elsewhere_are_read(home, monkeypatch):
    _write(home / "elsewhere", f"[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key={SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "elsewhere"))
    assert _config("s3://b/k")["access_key_id"] == "AKIAFILE"


def test_a_profile_that_takes_boto3_says_so(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setenv("AWS_PROFILE", "sso")
    _write(home / ".aws/config", "[profile sso]\nsso_session = x\nsso_account_id = 1\n")
    with pytest.raises(
        RequestError, match=r"profile sso has no keys .* install penstock\[s3\], or set AWS_ACCESS_KEY_ID"
    ):
        files.read_bytes("s3://b/k")


def test_no_credentials_at_all_are_said_soon(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", s3.url)
    with pytest.raises(PermissionError, match=r"s3://b/k: expected credentials .* AWS_SKIP_SIGNATURE=true"):
        files.read_bytes("s3://b/k")
    assert len(s3.requests) <= 2 * 3


def test_public_data_is_read_without_credentials(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    s3.objects["b"]["x"] = b"1"
    assert files.read_bytes("s3://b/x") == b"1"


def test_a_profile_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "none")
    with pytest.raises(RequestError, match=r"AWS_PROFILE: expected a profile in .* found none named none"):
        files.read_bytes("s3://b/k")


def test_files_that_are_no_profiles_are_refused_without_their_content(home):
    _write(home / ".aws/credentials", f"aws_secret_access_key={SECRET}\n")
    with pytest.raises(RequestError, match="found MissingSectionHeaderError") as caught:
        files.read_bytes("s3://b/k")
    assert SECRET not in str(caught.value)


def test_another_endpoint_is_asked_by_path_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    expected = {"region": "us-east-1", "endpoint": "http://127.0.0.1:9"}
    assert _s3_settings() == expected | {"virtual_hosted_style_request": False}
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert _s3_settings() == expected
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example")
    assert _s3_settings()["endpoint"] == "https://s3.example"


@pytest.mark.parametrize(
    ("name", "uri"),
    [("AWS_ENDPOINT_URL", "s3://b/k"), ("GOOGLE_BASE_URL", "gs://b/k"), ("AZURE_STORAGE_ENDPOINT", "az://b/k")],
)
@pytest.mark.parametrize("endpoint", ["127.0.0.1:7070", "http://", "http://a host"])
def test_an_endpoint_that_cannot_be_one_is_refused(endpoint, name, uri, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv(name, endpoint)
    with pytest.raises(RequestError, match="expected the environment to name an endpoint such as http://"):
        files.read_bytes(uri)


def test_an_account_of_azure_that_nobody_names_is_asked_for():
    with pytest.raises(RequestError, match=r"az://b: .*; set AZURE_STORAGE_ACCOUNT_NAME"):
        files.read_bytes("az://b/k")


@pytest.mark.parametrize("host", ["127.0.0.1:9", "http://127.0.0.1:9"])
def test_an_emulator_of_gcs_is_asked_without_credentials(host, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "1")
    with pytest.raises(files.UnreachableError, match="no connection"):
        files.read_bytes("gs://b/k")


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), ("[]", "expected a JSON object"), ("nothing", "expected a JSON object")],
)
def test_credentials_of_google_that_cannot_be_read_are_named(content, words, home, monkeypatch):
    if content:
        _write(home / "key.json", content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "key.json"))
    with pytest.raises(RequestError, match=f"GOOGLE_APPLICATION_CREDENTIALS: .*key.json: {words}"):
        files.read_bytes("gs://b/k")


def test_a_key_of_google_that_is_none_is_not_told(home, monkeypatch):
    key = {"type": "service_account", "private_key": SECRET, "client_email": "a@b", "private_key_id": "1"}
    _write(home / "key.json", json.dumps(key))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(home / "key.json"))
    with pytest.raises((RequestError, OSError)) as caught:
        files.read_bytes("gs://b/k")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ("AccountName=acc;AccountKey=a2V5", {"account_name": "acc", "account_key": "a2V5"}),
        ("AccountName=acc;SharedAccessSignature=sig=1&se=2", {"account_name": "acc", "sas_key": "sig=1&se=2"}),
        (
            "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5==;EndpointSuffix=core.chinacloudapi.cn",
            {"account_key": "a2V5==", "endpoint": "https://acc.blob.core.chinacloudapi.cn"},
        ),
        (
            "BlobEndpoint=http://127.0.0.1:1/acc/;AccountName=acc;AccountKey=a2V5",
            {"endpoint": "http://127.0.0.1:1/acc"},
        ),
        ("UseDevelopmentStorage=true", {"use_emulator": True}),
        ("", {}),
    ],
)
def test_a_connection_string_of_azure_is_read(connection, expected):
    assert expected.items() <= clients._azure_connection(connection).items()


@pytest.mark.parametrize(
    ("uri", "name", "endpoint"),
    [
        ("abfss://data@acc.dfs.core.windows.net/k", "acc", None),
        ("az://data@acc/k", "acc", None),
        ("abfss://data@acc.dfs.core.chinacloudapi.cn/k", "acc", "https://acc.blob.core.chinacloudapi.cn"),
    ],
)
def test_an_account_of_azure_may_be_in_the_uri(uri, name, endpoint, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    config = _config(uri)
    assert config["account_name"] == name
    assert config.get("endpoint") == endpoint


def test_what_is_pickled_or_printed_has_no_credentials(s3, monkeypatch):
    s3.objects["b"]["x"] = b"1"
    file = files.open_remote("s3://b/x")
    bucket = stores.locate("s3://b/x")[0]
    for text in (pickle.dumps(file).decode("latin1"), repr(file), repr(bucket), str(vars(file))):
        assert SECRET not in text
        assert "AKIATEST" not in text
    assert pickle.loads(pickle.dumps(file)).read_at(1, 0) == b"1"
    with pytest.raises(TypeError, match="credentials"):
        pickle.dumps(bucket)


def test_a_forked_process_reads_and_so_does_its_own_child(s3):
    """Of a library whose threads a fork leaves behind, which would wait for them for ever."""
    s3.objects["b"]["x"] = b"1"
    with files.open_read("s3://b/x") as file:

        def expect(depth: int) -> None:
            assert files.read_bytes("s3://b/x") == b"1"
            process = os.fork()
            if not process:
                signal.alarm(30)
                status = 1
                try:
                    file.seek(0)
                    assert file.read() == b"1"
                    assert len(files.list_folder("s3://b")) == 1
                    if depth:
                        expect(depth - 1)
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(process, 0)[1] == 0

        expect(1)
    assert files.read_bytes("s3://b/x") == b"1"


class TestWebServers:
    def test_files_are_read_by_their_addresses(self, s3):
        s3.objects["b"]["a b/ü+%.txt"] = b"1234"
        uri = f"{s3.url}/b/a%20b/%C3%BC+%25.txt"
        assert files.read_bytes(uri) == b"1234"
        assert files.size(uri) == 4
        assert files.describe(uri).uri == uri
        assert files.read_range(uri, 1, 3) == b"23"
        with files.open_read(uri) as file:
            assert file.read() == b"1234"

    def test_a_server_that_refuses_heads_is_asked_for_a_byte(self, s3, monkeypatch):
        s3.objects["b"]["x"] = b"1234"
        handler = s3._server.RequestHandlerClass
        apply = handler._apply
        monkeypatch.setattr(
            handler, "_apply", lambda self, kind, *args: (405, b"", {}) if kind == "head" else apply(self, kind, *args)
        )
        assert files.size(f"{s3.url}/b/x") == 4

    def test_a_server_that_knows_no_ranges_gives_all(self, s3, monkeypatch):
        s3.objects["b"]["x"] = bytes(range(256)) * 5000
        handler = s3._server.RequestHandlerClass
        apply = handler._apply

        def forgetful(self, *args):
            del self.headers["range"]
            return apply(self, *args)

        monkeypatch.setattr(handler, "_apply", forgetful)
        with files.open_read(f"{s3.url}/b/x") as file:
            assert file.read() == bytes(range(256)) * 5000
            file.seek(-1, 2)
            assert file.read() == b"\xff"

    def test_a_server_that_leads_elsewhere_is_followed(self, s3, monkeypatch):
        s3.objects["b"]["new"] = b"1234"
        handler = s3._server.RequestHandlerClass
        apply = handler._apply

        def lead(self, kind, bucket, key, *args):
            return (302, b"", {"Location": "/b/new"}) if key == "old" else apply(self, kind, bucket, key, *args)

        monkeypatch.setattr(handler, "_apply", lead)
        assert files.read_bytes(f"{s3.url}/b/old") == b"1234"
        assert files.open_remote(f"{s3.url}/b/old").read_at(2, 1) == b"23"

    def test_an_etag_that_matches_nothing_is_not_asked_for(self, s3, monkeypatch):
        s3.objects["b"]["x"] = b"1234"
        monkeypatch.setattr("s3_stub.etag", lambda content: 'W/"weak"')
        seen = []
        handler = s3._server.RequestHandlerClass
        apply = handler._apply
        monkeypatch.setattr(
            handler, "_apply", lambda self, *args: (seen.append(self.headers.get("if-match")), apply(self, *args))[1]
        )
        assert files.open_remote(f"{s3.url}/b/x").read_at(2, 1) == b"23"
        assert seen == [None, None]

    def test_nothing_is_written_or_listed_there(self, s3):
        uri = f"{s3.url}/b/x"
        for call in (
            lambda: files.write_bytes(uri, b""),
            lambda: files.remove(uri),
            lambda: files.create_exclusive(uri, b""),
        ):
            with pytest.raises(RequestError, match=r"can only be read|found a web server"):
                call()
        with pytest.raises(RequestError, match="found a web server"):
            files.list_folder(uri)
        assert s3.requests == []

    def test_addresses_that_are_signed_are_refused_and_not_told(self, s3):
        with pytest.raises(RequestError) as caught:
            files.read_bytes(f"{s3.url}/b/x?X-Amz-Signature={SECRET}")
        assert SECRET not in str(caught.value)

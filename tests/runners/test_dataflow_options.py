"""What is refused before anything is done; the sentence says what to do."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from dataflow_stub import DataflowStub
from helpers import request

from penstock.pipeline.errors import RequestError
from penstock.runners.dataflow_options import expect_credentials
from penstock.runners.engine import EngineOptions, make_engine

GIVEN = {
    "project": "my-project",
    "region": "europe-west1",
    "temp_location": "gs://bucket/temp",
    "sdk_container_image": "example.test/penstock:1",
}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataflowStub]:
    stub = DataflowStub()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", stub.url)
    yield stub
    stub.close()


def check(arguments: list[str], source: str = "gs://raw/pets", output: str = "gs://prepared/pets", **options: Any):
    engine = make_engine("dataflow", EngineOptions(beam_arguments=arguments, **options))
    return engine.check(request(SimpleNamespace(), source, output))  # type: ignore[arg-type]


def given(**changed: str | None) -> list[str]:
    return [f"--{name}={value}" for name, value in (GIVEN | changed).items() if value is not None]


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(RequestError, match=r"found none of them; add --project=PROJECT --region=REGION .* --sdk_con"):
        check([])


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_missing_is_named(name: str):
    with pytest.raises(RequestError, match=rf"found others missing; add --{name}="):
        check(given(**{name: None}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--setup_file=./setup.py"], "found --setup_file; install it there, and leave the option out"),
        (["--requirements_file=r.txt"], "found --requirements_file"),
        (["--extra_package=a.whl"], "found --extra_packages"),
        (["--sdk_location=/beam.tar.gz"], "found --sdk_location=/beam.tar.gz; leave it out"),
        (["--save_main_session"], "found --save_main_session"),
        (["--pickle_library=dill"], "--pickle_library; leave it out"),
        (["--s3_secret_access_key=xyz"], "found --s3_secret_access_key, which everyone who may see the job could read"),
        (["--azure_connection_string=xyz"], "found --azure_connection_string"),
        (["--streaming"], "expected options of a batch job, found --streaming"),
        (["--update"], "found --update"),
        (["--job_name=My_Job"], "lower-case letters, digits and hyphens, .* found 'My_Job'"),
        (["--job_name=job-"], "found 'job-'"),
        (["--staging_location=/tmp/staging"], "--staging_location: expected gs://BUCKET/FOLDER, found /tmp/staging"),
        (["--runner=FlinkRunner"], "use --runner before"),
        (["--no_such_option=1"], "found --no_such_option=1, which Beam would discard"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: list[str], words: str):
    with pytest.raises(RequestError, match=words):
        check([*given(), *arguments])


@pytest.mark.parametrize("project", ["My Project", "123456789"])
def test_a_projects_name_or_number_is_not_its_id(project: str):
    with pytest.raises(RequestError, match="expected a project's id"):
        check(given(project=project))


@pytest.mark.parametrize("location", ["gs://bucket", "s3://bucket/temp", "/tmp/temp", "gs://B/temp"])
def test_files_are_staged_in_a_folder_of_a_bucket(location: str):
    with pytest.raises(RequestError, match=rf"--temp_location: expected gs://BUCKET/FOLDER, found {location}"):
        check(given(temp_location=location))


@pytest.mark.parametrize("uri", ["raw/pets", "/data/pets", "file:///data/pets", "memory://raw/pets"])
def test_a_place_of_this_machine_is_none_that_workers_reach(uri: str):
    with pytest.raises(RequestError, match=rf"--input: expected a place that workers of Dataflow reach.* found {uri}"):
        check(given(), source=uri)
    with pytest.raises(RequestError, match="--output: expected a place that workers"):
        check(given(), output=uri)


def test_options_of_another_engine_are_refused():
    with pytest.raises(RequestError, match="found --flink-master; leave it out"):
        check(given(), flink_master="host:8081")


def test_missing_credentials_are_missed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    begun = time.monotonic()
    with pytest.raises(RequestError, match="found none; log in with `gcloud auth application-default login`"):
        check(given())
    assert time.monotonic() - begun < 15


def test_expired_credentials_are_no_credentials(monkeypatch: pytest.MonkeyPatch):
    from google.auth.exceptions import RefreshError

    class Expired:
        def refresh(self, request: object) -> None:
            raise RefreshError("Reauthentication is needed.")

    monkeypatch.setattr("penstock.runners.dataflow_options.find_credentials", lambda options: Expired())
    with pytest.raises(RequestError, match=r"good still, found: RefreshError: Reauthentication is needed; log in with"):
        expect_credentials({"no_auth": False})


def test_a_bucket_that_is_not_there_is_missed_before_the_run(stub: DataflowStub):
    arguments = [*stub.arguments, "--staging_location=gs://elsewhere/x"]
    with pytest.raises(RequestError, match=r"expected a bucket to stage the job in, found elsewhere: NotFound: .*"):
        check(arguments)


def test_a_bucket_that_may_not_be_written_is_missed_before_the_run(stub: DataflowStub):
    stub.permissions.remove("storage.objects.create")
    with pytest.raises(RequestError, match=r"found staging, where you lack storage\.objects\.create; get the role"):
        check(stub.arguments)


def test_a_store_that_needs_credentials_of_its_own_is_warned_of(stub: DataflowStub):
    assert check(stub.arguments) == []
    (warning,) = check(stub.arguments, source="s3://raw/pets")
    assert "s3:// needs its credentials in the image" in warning

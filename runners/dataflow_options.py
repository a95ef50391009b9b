"""What a job of Dataflow needs of its options and its credentials, looked at before anything is done."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..pipeline.errors import RequestError
from ..pipeline.storage import files
from .dataflow_job import find_credentials, in_words

_REQUIRED = {
    "project": "--project=PROJECT",
    "region": "--region=REGION (such as europe-west1)",
    "temp_location": "--temp_location=gs://BUCKET/FOLDER",
    "sdk_container_image": "--sdk_container_image=IMAGE (with this version of Penstock in it)",
}
_INSTALLING = ("setup_file", "requirements_file", "extra_packages", "files_to_stage", "prebuild_sdk_container_engine")
_SECRET = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token", "azure_connection_string")
_STAGING = ("storage.buckets.get", "storage.objects.create", "storage.objects.get")
_STREAMING = ("streaming", "update", "create_from_snapshot", "transform_name_mapping")
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]*[a-z0-9]"
_JOB_NAME = r"[a-z](?:[-a-z0-9]*[a-z0-9])?"


def check_complete(options: Mapping[str, Any]) -> None:
    """Looks whether a job could be submitted with some options of Beam's, by name.

    Raises:
      RequestError: some are missing, cannot be right, or would put into the job what is not to be in it.
    """
    expect_options(options, tuple(_REQUIRED))
    for name in _INSTALLING:
        if options[name]:
            raise RequestError(
                f"--runner dataflow: expected all that workers need in the image, found --{name}; install it there, "
                "and leave the option out"
            )
    if options["sdk_location"] not in ("default", "container"):
        raise RequestError(
            f"--runner dataflow: expected Beam in the image, found --sdk_location={options['sdk_location']}; leave it "
            "out"
        )
    if options["save_main_session"] or options["pickle_library"] not in ("default", "cloudpickle"):
        raise RequestError(
            "--runner dataflow: expected a recipe that travels as Penstock pickles it, found --save_main_session or "
            "--pickle_library; leave it out"
        )
    for name in _SECRET:
        if options[name]:
            raise RequestError(
                f"--runner dataflow: expected no credential in the options, found --{name}, which everyone who may see "
                "the job could read; put it into the image's environment, or use the workers' service account"
            )
    for name in _STREAMING:
        if options[name]:
            raise RequestError(f"--runner dataflow: expected options of a batch job, found --{name}; leave it out")
    if not re.fullmatch(_PROJECT, options["project"]):
        raise RequestError(
            f"--project: expected a project's id such as my-project-1, found {options['project']!r}; its name and its "
            "number are other things"
        )
    for name in ("temp_location", "staging_location"):
        if options[name] and not re.fullmatch(r"gs://[a-z0-9][-_a-z0-9.]+[a-z0-9]/.*", options[name]):
            raise RequestError(f"--{name}: expected gs://BUCKET/FOLDER, found {options[name]}")
    if options["job_name"] and not re.fullmatch(_JOB_NAME, options["job_name"]):
        raise RequestError(
            f"--job_name: expected lower-case letters, digits and hyphens, a letter first and no hyphen last, found "
            f"{options['job_name']!r}; change it, or leave it out"
        )


def expect_options(options: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raises RequestError where options are missing."""
    missing = [_REQUIRED[name] for name in names if not options[name]]
    if missing:
        raise RequestError(
            f"--runner dataflow: expected {', '.join(f'--{name}' for name in names)} after `--`, found "
            f"{'none of them' if len(missing) == len(names) else 'others missing'}; add {' '.join(missing)}"
        )


def check_reachable(option: str, uri: str) -> None:
    """Raises RequestError where workers cannot be where a URI leads."""
    if files.is_local(uri) or uri.startswith(("file://", "memory://")):
        raise RequestError(
            f"{option}: expected a place that workers of Dataflow reach, such as gs://bucket/folder, found {uri}, "
            "which is on this machine; copy it with `gcloud storage cp --recursive`, or leave out --runner dataflow"
        )


def expect_credentials(options: Mapping[str, Any]) -> None:
    """Looks for credentials of Google Cloud, and whether they are good still: Beam takes half a minute to find none.

    Raises:
      RequestError: there are none, or they have expired.
    """
    if options["no_auth"]:
        return
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.auth.transport.requests import Request

    login = "log in with `gcloud auth application-default login`"
    try:
        find_credentials(options).refresh(Request())
    except DefaultCredentialsError:
        raise RequestError(
            f"--runner dataflow: expected credentials of Google Cloud, found none; {login}, or set "
            "GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account"
        ) from None
    except GoogleAuthError as error:
        raise RequestError(
            f"--runner dataflow: expected credentials of Google Cloud that are good still, found: {in_words(error)}; "
            f"{login}"
        ) from None


def expect_bucket(options: Mapping[str, Any]) -> None:
    """Looks for the bucket where the pipeline is staged: Beam tries for minutes to write where there is none.

    Raises:
      RequestError: it is not there, or what Beam does there is not allowed.
    """
    from google.api_core.exceptions import GoogleAPICallError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage import Client

    location = options["staging_location"] or options["temp_location"]
    name = location.removeprefix("gs://").partition("/")[0]
    try:
        bucket = Client(options["project"], credentials=find_credentials(options)).get_bucket(name, timeout=30)
        missing = {*_STAGING}
        try:
            missing -= {*bucket.test_iam_permissions(_STAGING, timeout=30)}
        except NotFound:  # an emulator, which knows no permissions
            missing = set()
    except (GoogleAPICallError, GoogleAuthError, OSError) as error:
        raise RequestError(
            f"--temp_location: expected a bucket to stage the job in, found {name}: {in_words(error)}; make it with "
            f"`gcloud storage buckets create gs://{name} --location={options['region']}`, or get the role Storage "
            "Admin for it (Beam looks at the bucket before it writes)"
        ) from error
    if missing:
        raise RequestError(
            f"--temp_location: expected a bucket to stage the job in, found {name}, where you lack "
            f"{', '.join(sorted(missing))}; get the role Storage Admin for it"
        )

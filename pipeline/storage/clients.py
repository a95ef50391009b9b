"""obstore's clients, by scheme: which environment they heed and where credentials come from.

Credentials come from the environment and from each provider's own chain: keys, tokens and roles of the environment, the
instance's metadata, and the files that the provider's own tools write. obstore knows most of that. The rest is read
here or by the provider's library: profiles in ~/.aws, Azure's connection strings, Google's federated identities.
"""

import configparser
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ..errors import RequestError

SCHEMES = ("s3", "gs", "az", "abfss", "https", "http", "file", "memory")
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_CONFIG_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_SKIP_SIGNATURE",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_BASE_URL",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_SKIP_SIGNATURE",
        "STORAGE_EMULATOR_HOST",
    ),
    "az": (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_USE_EMULATOR",
    ),
}
"""The environment variables that lead to another client. obstore heeds more of them; these are looked at each call."""
_AWS_ROLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_EMULATED_AZURE = "http://127.0.0.1:10000"


@dataclass
class _Library:
    """obstore's library, which cannot be used in a process that was forked after its threads began: it would hang.

    Such a process loads a copy of its own.
    """

    _process: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make_ready(self) -> None:
        """Sees to it that `import obstore` gives what this process can use."""
        with self._lock:
            if self._process is None:
                os.register_at_fork(after_in_child=self._free_lock)
            elif self._process != os.getpid():
                _load_another_obstore()
            self._process = os.getpid()

    def _free_lock(self) -> None:
        self._lock = threading.Lock()  # a thread that is no more may have had it


_LIBRARY = _Library()


def _load_another_obstore() -> None:
    """Imports obstore anew, with a copy of its compiled part: a file that is loaded is never loaded again."""
    compiled = "obstore._obstore"
    original = Path(str(sys.modules[compiled].__file__))
    for name in [name for name in sys.modules if name.partition(".")[0] == "obstore"]:
        del sys.modules[name]
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        copy = Path(folder, original.name)
        copy.write_bytes(original.read_bytes())
        loader = importlib.machinery.ExtensionFileLoader(compiled, str(copy))
        spec = importlib.util.spec_from_file_location(compiled, copy, loader=loader)
        assert spec
        sys.modules[compiled] = module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    sys.modules[compiled].__file__ = str(original)  # for a process that is forked from this one
    importlib.import_module("obstore")


def make_client(scheme: str, authority: str, env: Mapping[str, str | None], stall: float, retries: int) -> Any:
    """A client.

    Args:
      scheme: One of `SCHEMES`.
      authority: The bucket, container or host.
      env: The values of the scheme's `SETTINGS`.
      stall: Seconds after which a connection that shows no byte is given up.
      retries: How many times it makes a request again itself.

    Raises:
      RequestError: credentials are asked for that cannot be had.
    """
    _LIBRARY.make_ready()
    from obstore import store

    if scheme == "memory":
        return store.MemoryStore()
    if scheme == "file":
        return store.LocalStore("/")
    make = {"s3": _s3, "gs": _gs, "az": _azure, "abfss": _azure}.get(scheme)
    config, endpoint = make(authority, env) if make else ({}, f"{scheme}://{authority}")
    if endpoint and not re.fullmatch(r"https?://[^\s/?#]\S*", endpoint):  # with which the client would panic
        raise RequestError(
            f"{scheme}://{authority}: expected the environment to name an endpoint such as http://host:7070, found "
            "another"  # which is not told: it may hold a password
        )
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(stall, 10)),
            "read_timeout": timedelta(seconds=stall),
            "timeout": timedelta(seconds=10 * stall),
        },
        "retry_config": {"max_retries": retries, "retry_timeout": timedelta(seconds=max(180, 6 * stall))},
    }
    try:
        match scheme:
            case "s3":
                return store.S3Store(authority, **config, **options)
            case "gs":
                return store.GCSStore(authority, **config, **options)
            case "az" | "abfss":
                return store.AzureStore(authority.partition("@")[0], **config, **options)
        return store.HTTPStore.from_url(f"{scheme}://{authority}/", **options)
    except Exception as error:  # obstore's own, and ValueError
        said = str(error).strip().partition("\n")[0]
        advice = "; set AZURE_STORAGE_ACCOUNT_NAME" if "Account must be specified" in said else ""
        raise RequestError(
            f"{scheme}://{authority}: expected credentials and settings that work, found: {said}{advice}"
        ) from None


def _s3(bucket: str, env: Mapping[str, str | None]) -> tuple[dict[str, Any], str]:
    """The settings of Amazon S3, or of what speaks as it does at AWS_ENDPOINT_URL; and where that is."""
    endpoint = env["AWS_ENDPOINT_URL_S3"] or env["AWS_ENDPOINT_URL"] or ""
    config: dict[str, Any] = {}
    region = env["AWS_REGION"] or env["AWS_DEFAULT_REGION"]
    elsewhere = any(env[name] for name in _AWS_ROLES) and not env["AWS_PROFILE"]
    if not (env["AWS_ACCESS_KEY_ID"] or elsewhere or _is_true(env["AWS_SKIP_SIGNATURE"])):
        profile = _aws_profile(env)
        config |= _aws_credentials(env["AWS_PROFILE"] or "default", profile)
        region = region or profile.get("region")
    config["region"] = region or "us-east-1"
    if endpoint:
        config["endpoint"] = endpoint
        if env["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] is None:
            config["virtual_hosted_style_request"] = False
    return config, endpoint


def _aws_profile(env: Mapping[str, str | None]) -> dict[str, str]:
    """What the files in ~/.aws say of the profile AWS_PROFILE, or the default one.

    Raises:
      RequestError: AWS_PROFILE names one that is not there, or the files cannot be read.
    """
    name = env["AWS_PROFILE"] or "default"
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", strict=False)
    paths = [
        env["AWS_CONFIG_FILE"] or os.path.expanduser("~/.aws/config"),
        env["AWS_SHARED_CREDENTIALS_FILE"] or os.path.expanduser("~/.aws/credentials"),
    ]
    try:
        parser.read(paths, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        kind = type(error).__name__  # its own words may hold a line of the file
        raise RequestError(f"expected profiles as AWS writes them in {' and '.join(paths)}, found {kind}") from None
    settings = {
        k: v for section in (f"profile {name}", name) if parser.has_section(section) for k, v in parser.items(section)
    }
    if env["AWS_PROFILE"] and not settings:
        raise RequestError(f"AWS_PROFILE: expected a profile in {' or '.join(paths)}, found none named {name}")
    return settings


def _aws_credentials(name: str, profile: Mapping[str, str]) -> dict[str, Any]:
    """The credentials of a profile: its keys, or what boto3 makes of it; nothing where it has none.

    Raises:
      RequestError: it takes boto3, which is not installed or gets none.
    """
    if {"aws_access_key_id", "aws_secret_access_key"} <= profile.keys():
        keys = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key"}
        keys |= {"aws_session_token": "session_token"}
        return {ours: profile[theirs] for theirs, ours in keys.items() if theirs in profile}
    if not any(key.startswith("sso_") or key in ("role_arn", "credential_process") for key in profile):
        return {}
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise RequestError(
            f"the AWS profile {name} has no keys of its own, and boto3, which gets them, is not installed: "
            f"install penstock[s3], or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    try:
        return {"credential_provider": Boto3CredentialProvider(boto3.Session(profile_name=name))}
    except Exception as error:  # botocore's, of many kinds
        raise RequestError(
            f"the AWS profile {name}: boto3 gets no credentials: {type(error).__name__}; run aws sso login"
        ) from None


def _gs(bucket: str, env: Mapping[str, str | None]) -> tuple[dict[str, Any], str]:
    """The settings of Google Cloud Storage, or of the emulator at STORAGE_EMULATOR_HOST; and where that is."""
    emulator = env["STORAGE_EMULATOR_HOST"]
    if emulator and not env["GOOGLE_BASE_URL"]:
        endpoint = emulator if "://" in emulator else f"http://{emulator}"
        # with skip_signature alone, obstore asks the machine's metadata for a token before each write
        key = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        return {"service_account_key": json.dumps({"gcs_base_url": endpoint, **key})}, endpoint
    config: dict[str, Any] = {}
    path = env["GOOGLE_APPLICATION_CREDENTIALS"]
    if path and not env["GOOGLE_SERVICE_ACCOUNT"] and _google_type(path) not in ("service_account", "authorized_user"):
        try:
            from obstore.auth.google import GoogleCredentialProvider
        except ImportError:
            raise RequestError(
                "GOOGLE_APPLICATION_CREDENTIALS is of a kind that takes the package google-auth, which is not "
                "installed: install penstock[gcs]"
            ) from None
        config["credential_provider"] = GoogleCredentialProvider()
    return config, env["GOOGLE_BASE_URL"] or ""


def _google_type(path: str) -> str:
    """Of which kind the credentials in a file are.

    Raises:
      RequestError: the file cannot be read, or is no JSON object.
    """
    try:
        return str(json.loads(Path(path).read_bytes()).get("type"))
    except OSError as error:
        raise RequestError(f"GOOGLE_APPLICATION_CREDENTIALS: {path}: {error.strerror}") from None
    except (ValueError, AttributeError):
        raise RequestError(
            f"GOOGLE_APPLICATION_CREDENTIALS: {path}: expected a JSON object, found something else"
        ) from None


def _azure(authority: str, env: Mapping[str, str | None]) -> tuple[dict[str, Any], str]:
    """The settings of `container`, in AZURE_STORAGE_ACCOUNT_NAME, or `container@account.dfs.core.windows.net`.

    Returns:
      They, and where the account is, if it is not at Azure.
    """
    host = authority.partition("@")[2]
    config: dict[str, Any] = _azure_connection(env["AZURE_STORAGE_CONNECTION_STRING"] or "")
    if env["AZURE_STORAGE_USE_EMULATOR"]:
        return config, _EMULATED_AZURE
    if host:
        config["account_name"], _, domain = host.partition(".")
        if domain.partition(".")[2] not in ("", "core.windows.net"):
            config.setdefault("endpoint", f"https://{host.replace('.dfs.', '.blob.')}")
    return config, str(env["AZURE_STORAGE_ENDPOINT"] or config.get("endpoint", ""))


def _azure_connection(text: str) -> dict[str, Any]:
    """The settings that a connection string of Azure's portal stands for."""
    parts = {
        name.lower(): value for name, _, value in (part.strip().partition("=") for part in text.split(";")) if value
    }
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        return {"use_emulator": True, "endpoint": f"{_EMULATED_AZURE}/devstoreaccount1"}
    names = {"accountname": "account_name", "accountkey": "account_key", "sharedaccesssignature": "sas_key"}
    config = {ours: parts[theirs] for theirs, ours in names.items() if theirs in parts}
    suffix = parts.get("endpointsuffix", "core.windows.net")
    endpoint = parts.get("blobendpoint")
    if not endpoint and suffix != "core.windows.net" and "accountname" in parts:
        endpoint = f"{parts.get('defaultendpointsprotocol', 'https')}://{parts['accountname']}.blob.{suffix}"
    return config | ({"endpoint": endpoint.rstrip("/")} if endpoint else {})


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in ("1", "true", "yes", "on")

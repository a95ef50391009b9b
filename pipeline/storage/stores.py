"""Clients of object stores, by scheme and bucket: where credentials, timeouts, retries and request counts are decided.

obstore makes one request a call and retries nothing itself: retries are made here, where it is known whether an earlier
try may have been applied, and where each is counted. Credentials come from the environment and the provider's own
chain; none is in a URI, a message or a pickle.
"""

import collections
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any, NoReturn, TypeVar

from ..errors import RequestError

T = TypeVar("T")
SCHEMES = ("s3", "gs", "az", "abfss", "https", "http", "file", "memory")
_TRIES = 10
_PATIENCE = 180.0  # seconds after which no further try is made
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0  # seconds
_STALL = 30.0  # seconds without a byte
_SETTINGS = {
    "s3": (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_SKIP_SIGNATURE",
    ),
    "gs": (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SKIP_SIGNATURE",
        "GOOGLE_BASE_URL",
        "STORAGE_EMULATOR_HOST",
    ),
    "az": (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_STORAGE_USE_EMULATOR",
        "AZURE_STORAGE_SAS_KEY",
    ),
}
_PERMANENT = re.compile(r"\b(?:status(?: code)?:? )(4(?!08|29)\d\d)\b")


class StoreError(OSError):
    """A store did not do what it was asked, and asking again does not help or did not."""


class UnreachableError(StoreError):
    """A store did not answer as it should, however often it was asked."""


class TryAgain(Exception):
    """A request failed in a way that only its caller knows to be passing."""


class VersionMismatch(StoreError):
    """A file was to be replaced, and another version of it is there by now."""


@dataclass
class RequestCounts:
    """How many requests this process made of stores, by kind (get, put, list, head, delete, copy), and "retry"."""

    _counts: collections.Counter[str] = field(default_factory=collections.Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str) -> None:
        """Counts one."""
        with self._lock:
            self._counts[kind] += 1

    def snapshot(self) -> dict[str, int]:
        """The counts until now."""
        with self._lock:
            return dict(self._counts)


COUNTS = RequestCounts()


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket's client.

    Attributes:
      root: The URI that keys are appended to: "s3://bucket/".
      client: The obstore store.
      ordered: Whether it lists keys in the order of their bytes, and from any key on.
    """

    root: str
    client: Any = field(compare=False)
    ordered: bool = True

    def uri(self, key: str) -> str:
        """The URI of a key."""
        return self.root + key

    def call(self, kind: str, key: str, request: Callable[[], T], read_back: Callable[[], T | None] | None = None) -> T:
        """Makes a request until it succeeds or asking again does not help.

        Args:
          kind: What it is counted as.
          key: What it is about.
          request: Makes it once. May be repeated though it was applied.
          read_back: What the answer would have been, if an earlier try was applied and its answer lost; called where
            the request fails after such a try.

        Raises:
          OSError: FileNotFoundError, PermissionError, FileExistsError, VersionMismatch or StoreError.
        """
        start = time.monotonic()
        for tries in range(1, _TRIES + 1):
            COUNTS.add(kind)
            try:
                return request()
            except Exception as error:
                waited = time.monotonic() - start
                if not _is_transient(error) or tries == _TRIES or waited > _PATIENCE:
                    if tries > 1 and read_back and (answer := read_back()) is not None:
                        return answer
                    _raise(error, self.uri(key), tries, waited)
            COUNTS.add("retry")
            time.sleep(random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries))
        raise AssertionError("the last try returns or raises")


def locate(uri: str) -> tuple[Bucket, str]:
    """The bucket's client and the key of a URI such as s3://bucket/key.

    Raises:
      RequestError: nobody knows the scheme, or the URI holds a password.
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise RequestError(f"expected a path, or a URI with one of {known}, found {redact(uri)}")
    authority, _, key = rest.partition("/")
    if (scheme == "file") == bool(authority):
        after = "a path that begins with /" if scheme == "file" else "a bucket"
        raise RequestError(f"expected {after} behind {scheme}://, found {redact(uri)}")
    if ":" in authority.partition("@")[0] and "@" in authority:
        raise RequestError(f"{redact(uri)}: expected no password in a URI; set the provider's environment variables")
    settings = tuple(os.environ.get(name) for name in _SETTINGS.get("az" if scheme == "abfss" else scheme, ()))
    return _bucket(scheme, authority, settings, os.getpid()), key


def plain_etag(etag: str | None) -> str:
    """An ETag without its quotes and its mark of weakness, which stores give or leave out at will; "" for none."""
    return (etag or "").removeprefix("W/").strip('"')


def redact(text: str) -> str:
    """A text without what URIs may hold of secrets: passwords and query strings."""
    text = re.sub(r"(?<=://)[^/\s@:]*:[^/\s@]*@", "…@", text)
    return re.sub(r"(https?://[^\s?\"'()]+)\?[^\s\"'()]*", r"\1?…", text)


@lru_cache(maxsize=64)
def _bucket(scheme: str, authority: str, settings: tuple[str | None, ...], process: int) -> Bucket:
    """The client of a bucket; a forked process makes its own, since threads and sockets do not come with it."""
    from obstore import store  # only for those who need it

    env = dict(zip(_SETTINGS.get("az" if scheme == "abfss" else scheme, ()), settings, strict=True))
    root = f"{scheme}://{authority}/"
    if scheme == "memory":
        return Bucket(root, _memory(authority), ordered=False)
    if scheme == "file":
        return Bucket(root, store.LocalStore("/"), ordered=False)
    options: dict[str, Any] = {
        "client_options": {"connect_timeout": "10s", "read_timeout": f"{_STALL}s", "timeout": "300s"},
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=_PATIENCE)},
    }
    make = {"s3": _s3, "gs": _gs, "az": _az, "abfss": _az}.get(scheme)
    if make is None:
        options["client_options"]["allow_http"] = scheme == "http"
        return Bucket(root, store.HTTPStore.from_url(root, **options))
    ordered = not authority.endswith("--x-s3")  # S3's directory buckets list in no order
    return Bucket(root, make(authority, env, options), ordered)


@cache
def _memory(name: str) -> Any:
    from obstore.store import MemoryStore

    return MemoryStore()


def _s3(bucket: str, env: dict[str, str | None], options: dict[str, Any]) -> Any:
    """A client of Amazon S3, or of what speaks as it does at AWS_ENDPOINT_URL."""
    from obstore.store import S3Store

    endpoint = env["AWS_ENDPOINT_URL_S3"] or env["AWS_ENDPOINT_URL"]
    config: dict[str, Any] = {"region": env["AWS_REGION"] or env["AWS_DEFAULT_REGION"] or "us-east-1"}
    if endpoint:
        config["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
        if env["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] is None:
            config["virtual_hosted_style_request"] = False
    return S3Store(bucket, **config, **options)


def _gs(bucket: str, env: dict[str, str | None], options: dict[str, Any]) -> Any:
    """A client of Google Cloud Storage, or of the emulator at STORAGE_EMULATOR_HOST."""
    from obstore.store import GCSStore

    config: dict[str, Any] = {}
    if emulator := env["STORAGE_EMULATOR_HOST"]:
        config = {"base_url": emulator if "://" in emulator else f"http://{emulator}", "skip_signature": True}
    if str(config.get("base_url") or env["GOOGLE_BASE_URL"]).startswith("http://"):
        options["client_options"]["allow_http"] = True
    return GCSStore(bucket, **config, **options)


def _az(authority: str, env: dict[str, str | None], options: dict[str, Any]) -> Any:
    """A client of Azure: `container` of AZURE_STORAGE_ACCOUNT_NAME, or `container@account.dfs.core.windows.net`."""
    from obstore.store import AzureStore

    container, _, host = authority.partition("@")
    config: dict[str, Any] = {"account_name": host.partition(".")[0]} if host else {}
    endpoint = env["AZURE_STORAGE_ENDPOINT"] or ""
    if endpoint.startswith("http://") or env["AZURE_STORAGE_USE_EMULATOR"]:
        options["client_options"]["allow_http"] = True
    return AzureStore(container, **config, **options)


def _is_transient(error: Exception) -> bool:
    """Whether the same request may succeed when it is made again."""
    from obstore.exceptions import GenericError

    said = str(error)  # an upload in parts is gone where the answer to its completion was lost
    return (isinstance(error, GenericError) and not _PERMANENT.search(said)) or "NoSuchUpload" in said


def _raise(error: Exception, uri: str, tries: int, seconds: float) -> NoReturn:
    """Raises the OSError, of one line, that stands for an error of obstore."""
    from obstore import exceptions

    after = f" (after {tries} tries in {seconds:.0f} s)" if tries > 1 else ""
    said = redact(str(error).strip().partition("\n")[0])
    place = redact(uri)
    match error:
        case FileNotFoundError() | exceptions.NotFoundError():
            raise FileNotFoundError(f"{place}: nothing is there, or there is no such bucket{after}") from None
        case exceptions.AlreadyExistsError():
            raise FileExistsError(f"{place}: is there already{after}") from None
        case exceptions.PreconditionError():
            raise VersionMismatch(f"{place}: another version is there by now{after}") from None
        case exceptions.PermissionDeniedError() | exceptions.UnauthenticatedError() | PermissionError():
            raise PermissionError(f"{place}: refused: {said}; check the credentials{after}") from None
        case _ if _is_transient(error):
            raise UnreachableError(f"{place}: {said}{after}") from None
        case exceptions.BaseError() | ValueError():
            raise StoreError(f"{place}: {said}{after}") from None
    raise error

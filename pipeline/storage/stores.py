"""Clients of object stores, by scheme and bucket: where credentials, timeouts, retries and request counts are decided.

obstore makes one request a call and retries nothing itself: retries are made here, where it is known whether an earlier
try may have been applied, and where each is counted. Credentials come from the environment and the provider's own
chain; none is in a URI, a message or a pickle.
"""

import collections
import html
import itertools
import logging
import os
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import Any, NoReturn, TypeVar

from ..errors import RequestError
from . import clients

T = TypeVar("T")
_TRIES = 10
_PATIENCE = 180.0  # seconds after which no further try is made, or a few stalls
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 15.0  # seconds
_SILENCE = 5.0  # seconds for which a request is made again before that is logged
_LOG_INTERVAL = 30.0  # seconds between two such lines
_STALL = 30.0  # seconds without a byte
_UPLOAD_STALLS = 4  # as long as so many stalls the answer to an upload may take: nothing comes while its bytes are sent
_LIMITS = ("PENSTOCK_STORE_TIMEOUT", "PENSTOCK_STORE_TRIES")  # instead of _STALL and _TRIES
_LONG_BODY = 256 << 10  # bytes
_METADATA_TRIES = 3  # of instances' metadata, which is not there at all on other machines
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>|\"(?:reason|code)\": ?\"([A-Za-z]+)\"|\(code: ([A-Za-z]+)\)")
_EXPLAINED = re.compile(r"<Message>([^<]*)</Message>|\"message\": ?\"([^\"]*)\"")
_LOCAL = ("Generic InMemory error", "Generic LocalFileSystem error")
_KNOWN = re.compile(r"^Generic \w+ error: (?:(?:[\w ]*: )?Error performing .*? in \S+ - )?")  # not worth a word
_LOST = re.compile(r"HttpError \{\s*kind: (\w+)")
_LOST_WORDS = {
    "Connect": "no connection",
    "Decode": "the answer makes no sense",
    "Interrupted": "the connection was lost",
    "Timeout": "no answer in time",
}
_METADATA = ("/latest/api/token", "/latest/meta-data", "computeMetadata", "metadata/identity", "//169.254.170.2")
_PASSING = {
    "ConditionalRequestConflict",
    "InternalError",
    "NoSuchUpload",
    "OperationAborted",
    "OperationTimedOut",
    "RequestTimeout",
    "ServerBusy",
    "SlowDown",
    "rateLimitExceeded",
    "userRateLimitExceeded",
}
_DENIED = "AccessDenied"
_NO_USER = "XAdminUserNotFound"  # versitygw's word, with status 404
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
SIGNATURE = r"\?(?:\S*&)?(?:sv=20\d\d-\d\d-\d\d|x-(?:amz|goog)-signature=)"  # of a link, whatever its scheme and case
_SIGNED = re.compile(SIGNATURE + r"[^\s\"'()]*", re.IGNORECASE)
_RENAME = "; a key with an empty part, . or .., or a control character cannot be read: rename the object"
_REGION = "; set AWS_REGION to the bucket's region"
_ADVICE = {
    "redirect": _REGION,
    "the region": _REGION,
    "400 Bad Request": "; check the region, the credentials and this machine's clock",
    "(no connection)": "; check the network, and the endpoint that the environment names",
    "parse path": _RENAME,
    "invalid path": _RENAME,
}
_OBSTORE_KINDS = ("BaseError", "GenericError", "InvalidPathError", "JoinError", "NotSupportedError")


class StoreError(OSError):
    """A store did not do what it was asked, and asking again does not help or did not."""


class UnreachableError(StoreError):
    """A store did not answer as it should, however often it was asked."""


class TryAgain(Exception):
    """A request failed in a way that only its caller knows to be passing."""


class FileTooLargeError(OSError):
    """A file has more bytes than it may have."""


class VersionMismatch(StoreError):
    """A file was to be replaced, and another version of it is there by now."""


@dataclass
class RequestCounts:
    """How many requests this process made of stores, by kind (get, put, list, head, delete), and "retry"."""

    _counts: collections.Counter[str] = field(default_factory=collections.Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, number: int = 1) -> None:
        """Counts one, or some."""
        with self._lock:
            self._counts[kind] += number

    def snapshot(self) -> dict[str, int]:
        """The counts until now."""
        with self._lock:
            return dict(self._counts)

    def free_lock(self) -> None:
        """Makes a lock anew: a thread that had it may not be there, in a process that was forked."""
        self._lock = threading.Lock()


@dataclass
class _RetryLog:
    """Logs now and then that requests are made again, so that what waits for a store is not taken for what hangs."""

    _next: float = 0.0  # when there may be another line

    def add(self, uri: str, failure: "_Failure", tries: int, most: int, waited: float) -> None:
        """Takes note of a request that failed and is made again."""
        now = time.monotonic()
        if waited >= _SILENCE and now >= self._next:
            self._next = now + _LOG_INTERVAL
            logging.getLogger(__name__).warning(
                "%s: %s; tried %d of %d times in %.0f s, trying again", redact(uri), failure.said, tries, most, waited
            )


_RETRY_LOG = _RetryLog()
COUNTS = RequestCounts()
os.register_at_fork(after_in_child=COUNTS.free_lock)


@dataclass(frozen=True)
class Bucket:
    """A bucket's clients, each made when it is first needed.

    Attributes:
      root: The URI that keys are appended to: "s3://bucket/".
      make: Makes an obstore store: how many stalls it waits for an answer, and whether it makes requests again itself.
      ordered: Whether it lists keys in the order of their bytes, and from any key on.
    """

    root: str
    make: Callable[[int, bool], Any] = field(compare=False, repr=False)
    ordered: bool = True

    @cached_property
    def client(self) -> Any:
        """The obstore store, which makes each request once."""
        return self.make(1, False)

    @cached_property
    def _writer(self) -> Any:
        return self.make(_UPLOAD_STALLS, False)

    def writer(self, content: bytes) -> Any:
        """The one to write some content by: what takes a while to send is waited for longer."""
        return self._writer if len(content) > _LONG_BODY else self.client

    @property
    def copier(self) -> Any:
        """The one to have the store copy by, which may take as long as sending would."""
        return self._writer

    @cached_property
    def patient(self) -> Any:
        """One for calls that take several requests, each of which it makes again itself."""
        return self.make(_UPLOAD_STALLS, True)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a bucket's client may hold credentials, and is not pickled: pass on the URI")

    def uri(self, key: str) -> str:
        """The URI of a key."""
        return self.root + (urllib.parse.quote(key) if self.root.startswith("http") else key)

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
        stall, most = _limits(*(os.environ.get(name) for name in _LIMITS))
        patience = max(_PATIENCE, 6 * stall * (_UPLOAD_STALLS if kind == "put" else 1))
        for tries in itertools.count(1):
            COUNTS.add(kind)
            try:
                return request()
            except Exception as error:
                failure = _Failure.of(error)
                waited = time.monotonic() - start
                last = tries >= (min(most, _METADATA_TRIES) if failure.of_metadata else most)
                if not failure.passing or last or waited > patience:
                    if tries > 1 and read_back and (answer := read_back()) is not None:
                        return answer
                    raise failure.as_error(self.uri(key), tries, waited) from None
            COUNTS.add("retry")
            _RETRY_LOG.add(self.uri(key), failure, tries, most, waited)
            time.sleep(random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries))
        raise AssertionError("the last try returns or raises")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a request failed.

    Attributes:
      error: What obstore, or the request itself, raised.
      kind: The name of the error's class.
      status: The HTTP status, where the store answered.
      code: The store's own word for it, or "".
      said: In words, on one line, without secrets.
    """

    error: Exception
    kind: str
    status: int | None
    code: str
    said: str

    @classmethod
    def of(cls, error: Exception) -> "_Failure":
        """Reads an error of obstore: a sentence, the answer's body and, behind them, pages for programmers."""
        said, _, debug = str(error).partition("\n\nDebug source:")
        status, code, explained = (pattern.search(said) for pattern in (_STATUS, _CODE, _EXPLAINED))
        words = said.partition("\n")[0].partition("<?xml")[0].strip(" :")
        if not any(place in words for place in _METADATA):
            words = _KNOWN.sub("", words)
        if explained and (message := explained[1] or explained[2]):
            words = f"{words}: {html.unescape(message)}"
        if lost := _LOST.search(debug):
            words = f"{words} ({_LOST_WORDS.get(lost[1], lost[1])})"
        return cls(
            error,
            type(error).__name__,
            int(status[1]) if status else None,
            (code[1] or code[2] or code[3] or "") if code else "",
            redact(" ".join(words.split())),
        )

    @property
    def of_metadata(self) -> bool:
        """Whether credentials were asked for that only the provider's own machines have."""
        return any(place in self.said for place in _METADATA)

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed when it is made again."""
        if self.kind == "TryAgain" or self.code in _PASSING:
            return True
        if self.kind != "GenericError" or "redirect" in self.said or str(self.error).startswith(_LOCAL):
            return False
        if self.status is None:  # no answer, one that was cut off, or what became of one of many keys to be deleted
            return self.code != _DENIED
        return (self.status >= 500 and self.status != 501) or self.status in (408, 425, 429) or self.of_metadata

    def as_error(self, uri: str, tries: int, seconds: float) -> Exception:
        """The OSError, of one line, that stands for it; other programs' errors are left as they are."""
        after = f" (after {tries} tries in {seconds:.0f} s)" if tries > 1 else ""
        place = redact(uri)
        if self.of_metadata:
            return PermissionError(
                f"{place}: expected credentials in the environment or of this machine, found none{after}; set the "
                f"provider's variables, AWS_SKIP_SIGNATURE=true or GOOGLE_SKIP_SIGNATURE=true for public data"
            )
        match self.kind, self.status:
            case _ if self.code == _NO_USER or (self.status is None and self.code == _DENIED):
                return PermissionError(f"{place}: the store refused access{after}; check credentials and permissions")
            case ("FileNotFoundError" | "NotFoundError", _) | ("GenericError", 404):
                missing = "there is no such bucket" if self.code in _NO_BUCKET else "nothing is there"
                return FileNotFoundError(f"{place}: {missing}{after}")
            case "AlreadyExistsError", 409 if self.code not in ("", "BlobAlreadyExists"):
                return StoreError(f"{place}: {self.said} ({self.code}){after}")
            case "AlreadyExistsError", _:
                return FileExistsError(f"{place}: is there already{after}")
            case "PreconditionError", _:
                return VersionMismatch(f"{place}: another version is there by now{after}")
            case ("PermissionDeniedError" | "UnauthenticatedError" | "PermissionError", _) | (
                "GenericError",
                401 | 403,
            ):
                why = f" ({self.code})" if self.code else ""
                return PermissionError(
                    f"{place}: the store refused access{why}{after}; check credentials and permissions"
                )
            case "TryAgain", _:
                return UnreachableError(f"{place}: {self.said}{after}")
        if self.kind in _OBSTORE_KINDS or (self.kind == "ValueError" and "parse path" in self.said):
            advice = next((each for words, each in _ADVICE.items() if words in self.said), "")
            kind = UnreachableError if self.passing else StoreError
            return kind(f"{place}: {self.said}{after}{advice}")
        return self.error


def locate(uri: str) -> tuple[Bucket, str]:
    """The bucket's client and the key of a URI such as s3://bucket/key.

    Raises:
      RequestError: nobody knows the scheme, or the URI holds a password.
    """
    scheme, _, rest = uri.partition("://")
    if scheme not in clients.SCHEMES:
        known = ", ".join(f"{each}://" for each in clients.SCHEMES)
        raise RequestError(f"expected a path, or a URI with one of {known}, found {redact(uri)}")
    authority, _, key = rest.partition("/")
    if (scheme == "file") == bool(authority):
        after = "a path that begins with /" if scheme == "file" else "a bucket"
        raise RequestError(f"expected {after} behind {scheme}://, found {redact(uri)}")
    if "@" in authority and (":" in authority.partition("@")[0] or scheme in ("http", "https")):
        raise RequestError(f"{redact(uri)}: expected no password in a URI; set the provider's environment variables")
    if "?" in key and _SIGNED.search(key):
        raise RequestError(f"{redact(uri)}: expected no signature in a URI; set the provider's environment variables")
    if scheme in ("http", "https"):
        if "?" in key or "#" in key:
            raise RequestError(f"{redact(uri)}: expected an address without ? and #, which nobody need sign in to read")
        key = urllib.parse.unquote(key)
    names = _settings(scheme)
    return _bucket(scheme, authority, tuple(os.environ.get(name) for name in names), os.getpid()), key


def _settings(scheme: str) -> tuple[str, ...]:
    return clients.SETTINGS.get("az" if scheme == "abfss" else scheme, ()) + _LIMITS


def _limits(timeout: str | None, tries: str | None) -> tuple[float, int]:
    """Seconds without a byte that are a stall, and how many tries are made."""
    try:
        limits = float(timeout or _STALL), int(tries or _TRIES)
    except ValueError:
        limits = 0.0, 0
    if not 0 < limits[0] < 1e6 or limits[1] < 1:
        raise RequestError(
            f"{' and '.join(_LIMITS)}: expected seconds and a number of tries above 0, found {timeout!r} and {tries!r}"
        )
    return limits


def plain_etag(etag: str | None) -> str:
    """An ETag without its quotes, which stores give or leave out at will; "" for none."""
    return (etag or "").replace('"', "")


def redact(text: str) -> str:
    """A text without what URIs may hold of secrets: passwords, web addresses' query strings, signatures."""
    text = re.sub(r"(?<=://)[^/\s@:]*:[^/\s@]*@|(?<=http://|ttps://)[^/\s@]*@", "…@", text)
    text = _SIGNED.sub("?…", text)
    return re.sub(r"(https?://[^\s?\"'()]+)\?[^\s\"'()]*", r"\1?…", text)


@lru_cache(maxsize=64)
def _bucket(scheme: str, authority: str, settings: tuple[str | None, ...], process: int) -> Bucket:
    """The client of a bucket; a forked process makes its own, since threads and sockets do not come with it."""
    root = f"{scheme}://{authority}/"
    if scheme == "memory":
        memory = _memory(authority)
        return Bucket(root, lambda *_: memory, ordered=False)
    env = dict(zip(_settings(scheme), settings, strict=True))
    stall, tries = _limits(*(env[name] for name in _LIMITS))

    def make(stalls: int, retries: bool) -> Any:
        return clients.make_client(scheme, authority, env, stalls * stall, tries - 1 if retries else 0)

    # S3's directory buckets list in no order
    return Bucket(root, make, ordered=scheme != "file" and not authority.endswith("--x-s3"))


_MEMORY = threading.Lock()


def _memory(name: str) -> Any:
    """The memory of a name: one of the process, whoever asks for it first and at the same time."""
    with _MEMORY:
        return _make_memory(name)


@cache
def _make_memory(name: str) -> Any:
    return clients.make_client("memory", name, {}, _STALL, 0)

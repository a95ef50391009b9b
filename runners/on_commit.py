"""What is told of a commit: a command or a URL gets the manifest. Whatever becomes of it, the dataset is committed."""

import http.client
import ipaddress
import json
import os
import shlex
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..pipeline.errors import RequestError
from ..pipeline.formats import paths
from ..pipeline.storage import files

if TYPE_CHECKING:
    from .follow import Result

MANIFEST = "PENSTOCK_MANIFEST"  # the environment variable with the manifest's URI
_TRIES = 3  # of a POST
_PAUSE, _TIMEOUT = 1.0, 30.0  # seconds between two tries, and for an answer
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # statuses after which another try may help


def check_hook(hook: str) -> None:
    """Checks before any work what is to be told of the commit.

    Args:
      hook: A command with its arguments, as a shell would split it, or a URL.

    Raises:
      RequestError: the command is not there, or the URL is not one of https.
    """
    if not _is_url(hook):
        try:
            words = shlex.split(hook)
        except ValueError as error:
            raise RequestError(f"--on-commit: expected a command or a URL, found {hook!r}: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise RequestError(
                f"--on-commit: expected a command that is there, or a URL, found {(words or [hook])[0]!r}; give the "
                "program's path, or sh -c '...' for a line of the shell"
            )
        return
    try:
        parts = urllib.parse.urlsplit(hook)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise RequestError(f"--on-commit: expected a URL, found one that cannot be read: {error}") from error
    if not host or parts.username is not None:
        raise RequestError("--on-commit: expected a URL with a host and without a password, found another one")
    if parts.scheme != "https" and not _is_loopback(host):
        raise RequestError(f"--on-commit: expected https://, found {parts.scheme}://{host}, which others can read")


def call_hook(hook: str, dataset: str, generation: str) -> str | None:
    """Tells of a commit.

    A command gets the manifest's JSON on its standard input, and its URI in the environment; what it prints goes to
    standard error. A URL gets both by a POST, which is tried three times.

    Args:
      hook: As `check_hook` takes it.
      dataset: The dataset's URI.
      generation: The generation that is committed.

    Returns:
      What went wrong, in words; None: nothing.
    """
    uri = files.join(files.absolute(dataset), generation, paths.MANIFEST)
    try:
        content = files.read_bytes(uri)
        if _is_url(hook):
            _post(hook, uri, dataset, generation, content)
            return None
        environment = os.environ | {MANIFEST: uri}
        ended = subprocess.run(shlex.split(hook), input=content, stdout=2, env=environment, check=False)
    except KeyboardInterrupt:
        return "it was interrupted"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{type(error).__name__}: {_without_url(error)}"
    if ended.returncode < 0:
        return f"expected exit code 0, found it ended by signal {-ended.returncode}"
    return f"expected exit code 0, found {ended.returncode}" if ended.returncode else None


def tell_of_commit(hook: str | None, dataset: str, result: "Result", warn: Callable[[str], None]) -> str | None:
    """Tells of what a run has committed, if it has, and warns where that fails.

    Args:
      hook: As `check_hook` takes it; None: nobody is told.
      dataset: The dataset's URI.
      result: What came of the run.
      warn: Is told in words what went wrong.

    Returns:
      What went wrong; None: nothing.
    """
    if hook is None or result.status != "committed":
        return None
    failure = call_hook(hook, dataset, result.manifest.generation)
    if failure is not None:
        warn(f"{dataset} is committed, but --on-commit failed: {failure}")
    return failure


def _post(url: str, uri: str, dataset: str, generation: str, manifest: bytes) -> None:
    """POSTs the manifest, its URI, and what it is of.

    Raises:
      OSError: the last try failed.
    """
    body = {"manifest_uri": uri, "dataset": dataset, "generation": generation, "manifest": json.loads(manifest)}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(_NoRedirects)
    for last in (*[False] * (_TRIES - 1), True):
        try:
            with opener.open(request, timeout=_TIMEOUT):
                return
        except OSError as error:
            if last or (isinstance(error, urllib.error.HTTPError) and error.code not in _AGAIN):
                raise
        time.sleep(_PAUSE)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would turn a POST into a GET, or lead elsewhere than the user said."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _without_url(error: BaseException) -> str:
    """What an error says, without the URL: a token may be in it."""
    if isinstance(error, urllib.error.HTTPError):
        return f"expected status 200, found {error.code} {error.reason}"
    return str(error.reason) if isinstance(error, urllib.error.URLError) else str(error)


def _is_url(hook: str) -> bool:
    return hook.startswith(("http://", "https://"))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

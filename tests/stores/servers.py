"""Servers of object stores on this machine, each with a folder, a free port and credentials of its own.

`make test-stores` installs them in .stores/. They listen on 127.0.0.1 alone.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from helpers import REPOSITORY, free_port

INSTALLED = REPOSITORY / ".stores"
BUCKETS = ("raw", "prepared")
REGION = "us-east-1"
_READY = 60.0  # seconds within which a server answers


class ServerError(Exception):
    """A server did not start."""


@dataclass(frozen=True)
class Store:
    """A store that a server answers for.

    Attributes:
      name: The server's.
      scheme: Of its URIs.
      port: Where the server listens.
      environment: The variables that lead a client there, credentials among them. `{url}` stands for the server.
      wrong: Variables that change the credentials to ones that the server does not know.
      secrets: What must not be found anywhere.
      objects: The folder in which the server keeps a file for each object; None where it does not.
      json_port: Where GCS's JSON API is, which Google's own client speaks; without credentials.
    """

    name: str
    scheme: str
    port: int
    environment: Mapping[str, str] = field(repr=False)
    wrong: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: Sequence[str] = field(default=(), repr=False)
    objects: Path | None = None
    processes: Sequence["subprocess.Popen[bytes]"] = field(default=(), repr=False)
    json_port: int | None = None

    def uri(self, path: str, bucket: str = "prepared") -> str:
        return f"{self.scheme}://{bucket}/{path}"

    def variables(self, port: int | None = None) -> dict[str, str]:
        """The environment, with the server itself behind it or a proxy at another port."""
        url = f"http://127.0.0.1:{port or self.port}"
        return {name: value.replace("{url}", url) for name, value in self.environment.items()}


@contextlib.contextmanager
def process(
    command: Sequence[object], folder: Path, port: int, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server while it is needed; what it writes goes to `log` in its folder.

    Raises:
      ServerError: it ended, or did not listen in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{Path(str(command[0])).name}.log"
    path = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
    with log.open("ab") as output:
        started = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**path, **environment},
        )
    try:
        _wait_for(started, port, log)
        yield started
    finally:
        started.terminate()
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _wait_for(started: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + _READY
    while time.monotonic() < end:
        if started.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:]
    raise ServerError(f"{log.name}: expected a server at port {port} within {_READY:g} s, found\n{tail}")


def ask(method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """One request to a server's own interface."""
    request = urllib.request.Request(url, body or None, dict(headers or {}), method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        content: bytes = response.read()
        return content


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[Store]:
    """S3 with conditions; objects are files."""
    port, objects = free_port(), folder / "objects"
    for bucket in BUCKETS:
        (objects / bucket).mkdir(parents=True)
    access, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
    command = [INSTALLED / "bin/versitygw", "--port", f"127.0.0.1:{port}", "--keep-alive", "posix", objects]
    with process(command, folder, port, ROOT_ACCESS_KEY=access, ROOT_SECRET_KEY=secret) as started:
        wrong = {"AWS_SECRET_ACCESS_KEY": secret[::-1]}
        yield Store(
            "versitygw", "s3", port, s3_environment(access, secret), wrong, (access, secret), objects, (started,)
        )


@contextlib.contextmanager
def s3rver(folder: Path) -> Iterator[Store]:
    """S3 that ignores conditions. Its credentials cannot be chosen."""
    port, objects = free_port(), folder / "objects"
    objects.mkdir(parents=True)
    command: list[object] = [INSTALLED / "node_modules/.bin/s3rver", "-d", objects, "-a", "127.0.0.1", "-p", port]
    for bucket in BUCKETS:
        command += ["--configure-bucket", bucket]
    with process([*command, "--no-vhost-buckets"], folder, port) as started:
        yield Store("s3rver", "s3", port, s3_environment("S3RVER", "S3RVER"), processes=(started,))


def s3_environment(access: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": "{url}",
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
    }


@contextlib.contextmanager
def fake_gcs_server(folder: Path) -> Iterator[Store]:
    """GCS with conditions, in memory."""
    port = free_port()
    binary = INSTALLED / "bin/fake-gcs-server"
    command = [binary, "-scheme", "http", "-host", "127.0.0.1", "-port", port, "-backend", "memory"]
    key, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    with process(command, folder, port) as started, _xml_api(folder, port, key) as (own_port, process_):
        account, stranger = (str(_account(folder / name, each)) for name, each in (("own", key), ("other", other)))
        environment = {"GOOGLE_APPLICATION_CREDENTIALS": account, "GOOGLE_BASE_URL": "{url}"}
        wrong = {"GOOGLE_APPLICATION_CREDENTIALS": stranger}
        lines = _pem(key).splitlines()[1:-1]
        processes = (started, process_)
        yield Store("fake-gcs-server", "gs", own_port, environment, wrong, lines, None, processes, port)


@contextlib.contextmanager
def gcp_storage_emulator(folder: Path) -> Iterator[Store]:
    """GCS that ignores conditions, in memory."""
    port = free_port()
    script = INSTALLED / "python/bin/gcp-storage-emulator"
    command = [script, "start", "--host", "127.0.0.1", "--port", port, "--in-memory"]
    with process(command, folder, port) as started, _xml_api(folder, port) as (own_port, process_):
        environment = {"STORAGE_EMULATOR_HOST": "{url}"}
        yield Store("gcp-storage-emulator", "gs", own_port, environment, processes=(started, process_))


@contextlib.contextmanager
def _xml_api(
    folder: Path, upstream: int, key: rsa.RSAPrivateKey | None = None
) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The port and the process of an emulator's XML API; with a key, it lets in who has it."""
    for bucket in BUCKETS:
        url, entry = f"http://127.0.0.1:{upstream}/storage/v1/b?project=test", json.dumps({"name": bucket})
        ask("POST", url, entry.encode(), {"Content-Type": "application/json"})
    port = free_port()
    command: list[object] = [sys.executable, Path(__file__).with_name("gcs_xml.py"), port, upstream]
    if key is not None:
        public = folder / "public.pem"
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(encoding, form))
        command.append(public)
    with process(command, folder / "xml", port) as started:
        yield port, started


def _account(path: Path, key: rsa.RSAPrivateKey) -> Path:
    """Writes the key file of a service account; such files alone may hold a secret."""
    entry = {
        "type": "service_account",
        "client_email": "penstock@test",
        "private_key_id": "1",
        "private_key": _pem(key),
    }
    path.write_text(json.dumps(entry))
    return path


def _pem(key: rsa.RSAPrivateKey) -> str:
    encoding, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, private, serialization.NoEncryption()).decode()


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Store]:
    """Azure's blobs, in memory."""
    port, account = free_port(), "penstock"
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    script = INSTALLED / "node_modules/.bin/azurite-blob"
    command = [script, "--blobHost", "127.0.0.1", "--blobPort", port, "--inMemoryPersistence", "--disableTelemetry"]
    command += ["--skipApiVersionCheck", "--silent"]
    with process(command, folder, port, AZURITE_ACCOUNTS=f"{account}:{key}") as started:
        for container in BUCKETS:
            _create_container(port, account, key, container)
        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": account,
            "AZURE_STORAGE_ACCOUNT_KEY": key,
            "AZURE_STORAGE_ENDPOINT": f"{{url}}/{account}",
        }
        wrong = {"AZURE_STORAGE_ACCOUNT_KEY": base64.b64encode(secrets.token_bytes(64)).decode()}
        yield Store("azurite", "az", port, environment, wrong, (key,), processes=(started,))


def _create_container(port: int, account: str, key: str, name: str) -> None:
    """A container, by a request that is signed with the account's key."""
    date = formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    resource = f"/{account}/{account}/{name}\nrestype:container"
    signed = hmac.new(base64.b64decode(key), f"PUT{chr(10) * 12}{headers}{resource}".encode(), hashlib.sha256)
    ask(
        "PUT",
        f"http://127.0.0.1:{port}/{account}/{name}?restype=container",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Content-Length": "0",
            "Authorization": f"SharedKey {account}:{base64.b64encode(signed.digest()).decode()}",
        },
    )

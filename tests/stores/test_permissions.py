"""The policies in docs/stores.md: each is enough, and none of the output's actions can be left out."""

import copy
import datetime
import hashlib
import hmac
import json
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers import REPOSITORY, Cli
from stores import servers

from penstock.pipeline import open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats.manifest import Manifest
from penstock.pipeline.storage import files

pytestmark = pytest.mark.slow

FIELDS = 'source=Csv("*.csv"), features=features, splits={{"train": {train}, "test": {test}}}'
FUNCTIONS = """
from penstock.pipeline import Csv
from penstock.transforms import numeric

def features(inputs):
    return {"height": numeric.standardize(inputs, "height")}
"""


def policies() -> list[dict[str, Any]]:
    """Of the input, of the output, of training, as the page has them."""
    page = (REPOSITORY / "docs/stores.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


@dataclass(frozen=True)
class Gateway:
    """A server whose owner sets the policies of its buckets, and one other user."""

    url: str
    owner: tuple[str, str]
    user: tuple[str, str]

    def allow(self, bucket: str, policy: dict[str, Any]) -> None:
        """Replaces a bucket's policy; what it allows, the user may."""
        entry = copy.deepcopy(policy)
        for statement in entry["Statement"]:
            statement["Principal"] = {"AWS": [self.user[0]]}
        url, body = f"{self.url}/{bucket}?policy=", json.dumps(entry).encode()
        servers.ask("PUT", url, body, signed("PUT", url, *self.owner, body))


def signed(method: str, url: str, access: str, secret: str, body: bytes) -> dict[str, str]:
    """The headers of a request that is signed as S3 asks (Signature Version 4)."""
    parts, moment = urlsplit(url), datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": moment}
    names = ";".join(headers)
    lines = [method, parts.path, parts.query, *(f"{name}:{value}" for name, value in headers.items()), "", names]
    canonical = "\n".join([*lines, headers["x-amz-content-sha256"]])
    steps = (moment[:8], servers.REGION, "s3", "aws4_request")
    scope, key = "/".join(steps), f"AWS4{secret}".encode()
    for step in steps:
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": authorization}


@pytest.fixture(scope="module")
def gateway(server_folder: Path) -> Iterator[Gateway]:
    folder, port = server_folder / "permissions", servers.free_port()
    owner, user = (("owner", secrets.token_hex(20)), ("user", secrets.token_hex(20)))
    for path in ("iam", *(f"objects/{bucket}" for bucket in servers.BUCKETS)):
        (folder / path).mkdir(parents=True)
    binary: Sequence[object] = [servers.INSTALLED / "bin/versitygw"]
    command = [*binary, "--port", f"127.0.0.1:{port}", "--keep-alive", "--iam-dir", folder / "iam", "posix"]
    variables = {"ROOT_ACCESS_KEY": owner[0], "ROOT_SECRET_KEY": owner[1]}
    with servers.process([*command, folder / "objects"], folder, port, **variables):
        url = f"http://127.0.0.1:{port}"
        login = ["admin", "--access", owner[0], "--secret", owner[1], "--endpoint-url", url]
        new = ["create-user", "--access", user[0], "--secret", user[1], "--role", "user"]
        subprocess.run([str(part) for part in (*binary, *login, *new)], check=True, capture_output=True)
        yield Gateway(url, owner, user)


@pytest.fixture
def become(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, str]], None]:
    """Sets the environment of a user."""

    def become_(user: tuple[str, str]) -> None:
        for name, value in servers.s3_environment(*user).items():
            monkeypatch.setenv(name, value.replace("{url}", gateway.url))

    return become_


@pytest.fixture
def start(cli: Cli, gateway: Gateway, become: Callable[..., None]) -> Callable[..., Any]:
    """Runs a recipe on what is in s3://raw, as the user."""
    become(gateway.owner)
    files.write_bytes("s3://raw/people/1.csv", b"height\n" + b"".join(b"%d.5\n" % n for n in range(20)))
    gateway.allow("raw", policies()[0])
    become(gateway.user)

    def start_(output: str, train: float = 0.5) -> Any:
        recipe = cli.recipe(FIELDS.format(train=train, test=1 - train), FUNCTIONS)
        return cli("run", recipe, "--input", "s3://raw/people", "--output", output)

    return start_


def test_a_run_needs_no_more(start: Callable[..., Any], gateway: Gateway, cli: Cli):
    gateway.allow("prepared", policies()[1])
    output = "s3://prepared/enough"
    for train in (0.5, 0.7):
        ended = start(output, train)
        assert ended.exit_code == 0, ended.output
    pruned = cli("prune", output, "--yes")
    assert pruned.exit_code == 0, pruned.output
    generation = Manifest.load(output).generation
    assert set(files.list_names(output)) == {"_DATASET.json", generation}
    assert "_work" not in files.list_names(files.join(output, generation))


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"])
def test_a_run_needs_no_less(start: Callable[..., Any], gateway: Gateway, action: str):
    policy = policies()[1]
    for statement in policy["Statement"]:
        statement["Action"] = [each for each in statement["Action"] if each != action] or ["s3:GetBucketAcl"]
    gateway.allow("prepared", policy)
    ended = start(f"s3://prepared/{action.partition(':')[2]}")
    assert ended.exit_code == 2, ended.output
    assert ended.stderr.splitlines()[-1].startswith("error: --output: ")
    assert "the store refused access" in ended.stderr


def test_training_needs_no_more(start: Callable[..., Any], gateway: Gateway, become: Callable[..., None], cli: Cli):
    output = "s3://prepared/trained"
    become(gateway.owner)
    assert start(output).exit_code == 0
    become(gateway.user)
    gateway.allow("prepared", policies()[2])
    assert list(verify(output)) == []
    dataset = open_dataset(output, verify=True)
    assert sum(len(batch["height"]) for split in dataset.splits for batch in dataset.numpy(split)) == 20
    commands = (
        ("inspect", output),
        ("load", output, "--adapter", "numpy", "--seconds", 0.1, "--cache-dir", cli.folder / "cache"),
        ("export", output, cli.folder / "exported"),
    )
    for command in commands:
        ended = cli(*command)
        assert ended.exit_code == 0, ended.output
    with pytest.raises(PermissionError):
        files.write_bytes(files.join(output, "_DATASET.json"), b"")
    with pytest.raises(PermissionError):
        files.remove_files([files.join(output, "_DATASET.json")])

"""Stores that fail as a test says."""

from collections.abc import Iterator

import pytest
from s3_stub import SECRET, S3Stub

from penstock.pipeline.storage import stores


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Stub]:
    """An S3 server with the buckets `b` and `c`; half a second without a byte is a stall, and pauses are short."""
    stub = S3Stub("b", "c")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", stub.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("PENSTOCK_STORE_TIMEOUT", "0.5")
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.001)
    yield stub
    stub.close()

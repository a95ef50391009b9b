"""What is an example's fault, and what is its store's."""

import errno
from collections.abc import Callable
from typing import Any

import pytest

from penstock.pipeline.errors import PenstockError
from penstock.pipeline.prepare import payloads
from penstock.pipeline.prepare.payloads import PayloadReader, Payloads, is_remote, read_payloads, unreadable
from penstock.pipeline.sources.listing import Reference
from penstock.pipeline.sources.quarantine import QuarantinedExample
from penstock.pipeline.storage import files
from penstock.pipeline.storage.files import UnreachableError

Refuse = Callable[[str, OSError], None]


def reference(name: str, scheme: str = "s3://b", mask: str | None = None) -> Reference:
    return Reference(name, f"{scheme}/{name}", 4, mask=mask)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Makes reading of some URIs fail: those that begin as told."""
    failures: dict[str, OSError] = {}

    def read(uri: str, *_: Any) -> bytes:
        for prefix, error in failures.items():
            if uri.startswith(prefix):
                raise error
        return b"data"

    monkeypatch.setattr(files, "read_bytes", read)
    monkeypatch.setattr(files, "read_range", lambda uri, begin, end: read(uri)[begin:end])
    return failures.__setitem__


def test_payloads_are_read_from_a_store_and_a_disk(tmp_path: Any):
    (tmp_path / "mask.png").write_bytes(b"mask")
    files.write_bytes("memory://payloads/a.jpg", b"image")
    example = Reference("a.jpg", "memory://payloads/a.jpg", 5, mask=str(tmp_path / "mask.png"))
    assert read_payloads(example, 1 << 20) == PayloadReader(1 << 20)(example) == Payloads(b"image", b"mask")
    assert Payloads(b"image", b"mask").size == 9
    assert is_remote(example)
    assert is_remote(Reference("a", "/a", 1, mask="s3://b/m"))
    assert not is_remote(Reference("a", "/a", 1, mask="/m"))


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), PermissionError("no"), OSError("bad request")])
def test_an_object_that_cannot_be_read_costs_its_example(fail: Refuse, error: OSError):
    read = PayloadReader(1 << 20)
    fail("s3://b/bad", error)
    assert read(reference("good")) == Payloads(b"data")
    for _ in range(100):
        outcome = read(reference("bad"))
        assert isinstance(outcome, QuarantinedExample)
        assert outcome.stage == "read"
        assert outcome.code == ("missing" if isinstance(error, FileNotFoundError) else "unreadable")
        assert "s3://b/bad" in outcome.message or str(error) in outcome.message
        assert read(reference("good")) == Payloads(b"data")


def test_objects_that_are_gone_are_never_the_store_s_fault(fail: Refuse):
    read = PayloadReader(1 << 20)
    fail("s3://b/", FileNotFoundError("gone"))
    assert all(isinstance(read(reference(str(number))), QuarantinedExample) for number in range(100))


def test_a_store_that_does_not_answer_fails_the_run(fail: Refuse):
    fail("s3://b/", UnreachableError("s3://b/x: no answer (after 10 tries in 60 s)"))
    with pytest.raises(PenstockError, match=r"expected the store to answer.*after 10 tries.*run again"):
        PayloadReader(1 << 20)(reference("x"))


def test_a_store_that_refuses_what_it_gave_before_fails_the_run(fail: Refuse):
    read = PayloadReader(1 << 20)
    read(reference("good"))
    fail("s3://b/", PermissionError("s3://b/x: refused"))
    with pytest.raises(PenstockError, match=r"let objects be read as before.*credentials"):
        read(reference("x"))


def test_a_store_that_refuses_everything_from_the_start_fails_the_run(fail: Refuse):
    read = PayloadReader(1 << 20)
    fail("s3://b/", PermissionError("s3://b/x: refused"))
    for number in range(payloads._IN_A_ROW - 1):
        assert isinstance(read(reference(str(number))), QuarantinedExample)
    with pytest.raises(PenstockError, match="32 in a row that cannot, the last one: s3://b/x: refused"):
        read(reference("x"))


def test_servers_of_the_web_may_each_be_gone(fail: Refuse):
    read = PayloadReader(1 << 20)
    fail("https://gone.example", UnreachableError("no answer"))
    for number in range(100):
        assert isinstance(read(reference(str(number), "https://gone.example")), QuarantinedExample)
        assert read(reference("x", "https://there.example")) == Payloads(b"data")
    fail("https://", UnreachableError("no answer"))
    for number in range(payloads._IN_A_ROW - 1):
        assert isinstance(read(reference(str(number), "https://there.example")), QuarantinedExample)
    with pytest.raises(PenstockError, match="in a row"):
        read(reference("x", "https://there.example"))


def test_files_of_a_disk_cost_their_examples_however_many(fail: Refuse):
    read = PayloadReader(1 << 20)
    fail("/data", PermissionError("no"))
    assert all(isinstance(read(reference(str(number), "/data")), QuarantinedExample) for number in range(100))


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_machine_at_its_limit_is_no_example_s_fault(code: int):
    with pytest.raises(PenstockError, match="at its limit"):
        unreadable(reference("x", "/data"), OSError(code, "too many"))

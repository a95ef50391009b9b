"""Whatever goes wrong with a request, what was asked for is done once, or a clear error says why not."""

import contextlib
import itertools
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from s3_stub import FAULTS, SECRET, STATUSES, S3Stub, etag

from penstock.pipeline.storage import files, objects, remote_files, stores
from penstock.pipeline.storage.files import FileVersion, UnreachableError, VersionMismatch

FEW = ("429", "reset", "stall", "lost", "cut")
CONTENT = bytes(range(256)) * 4000  # bytes: more than a part of the tests


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(objects, "PART", 300_000)
    monkeypatch.setattr(remote_files, "PART", 300_000)
    monkeypatch.setattr(remote_files, "_FIRST_READ", 100_000)


def _fails(stub: S3Stub, fault: str, times: int = 2, kind: str | None = None) -> None:
    """The next requests, or the next of a kind, fail."""
    left = itertools.chain([fault] * times, itertools.repeat(None))
    stub.fault = lambda asked: next(left) if kind in (None, asked) else None


def _keep(stub: S3Stub, *keys: str) -> None:
    stub.objects["b"] = dict.fromkeys(keys, CONTENT)


def _read_sequentially(uri: str) -> bytes:
    with files.open_read(uri) as file:
        return b"".join(iter(lambda: file.read(70_001), b""))


READS = {
    "read_bytes": (files.read_bytes, CONTENT),
    "read_range": (lambda uri: files.read_range(uri, 5, 999_999), CONTENT[5:999_999]),
    "open_read": (_read_sequentially, CONTENT),
    "open_remote": (lambda uri: files.open_remote(uri).read_at(9, 3), CONTENT[3:12]),
    "read_versioned": (lambda uri: files.read_versioned(uri)[0], CONTENT),
    "size": (files.size, len(CONTENT)),
    "exists": (files.exists, True),
    "list_folder": (lambda uri: [info.uri for info in files.list_folder(uri[:-2])], ["s3://b/d/x"]),
    "list_names": (lambda uri: files.list_names(uri[:-2]), ["x"]),
}


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("read", READS)
def test_a_read_is_made_again(read, fault, s3):
    _keep(s3, "d/x")
    function, expected = READS[read]
    function("s3://b/d/x")
    requests = len(s3.requests)
    _fails(s3, fault, 1 if fault == "stall" else 3)
    assert function("s3://b/d/x") == expected
    if not (fault == "cut" and read in ("size", "exists")):  # the answers have no body
        assert len(s3.requests) > 2 * requests
    assert not any(isinstance(value, str) and SECRET in value for value in vars(s3).values())


def _create_in_parts(uri: str) -> None:
    with files.create(uri) as file:
        file.write(CONTENT)


WRITES = {
    "write_bytes": lambda uri: files.write_bytes(uri, CONTENT),
    "create": _create_in_parts,
    "create_exclusive": lambda uri: files.create_exclusive(uri, CONTENT),
}


@pytest.mark.parametrize("fault", FEW)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_is_made_again(write, fault, s3):
    _fails(s3, fault, 1 if fault == "stall" else 3)
    WRITES[write]("s3://b/d/x")
    assert s3.objects["b"] == {"d/x": CONTENT}


@pytest.mark.parametrize("fault", FEW)
def test_a_copy_is_made_again_and_by_the_store_alone(fault, s3):
    _keep(s3, "d/x")
    s3.objects["b"]["e/x"] = b"before"
    _fails(s3, fault, 1 if fault == "stall" else 3)
    files.link_or_copy("s3://b/d/x", "s3://b/e/x", len(CONTENT))
    assert s3.objects["b"] == {"d/x": CONTENT, "e/x": CONTENT}
    assert {*s3.requests} == {"copy"}


def test_what_a_store_cannot_copy_is_read_and_written(s3, monkeypatch):
    _keep(s3, "x")
    files.link_or_copy("s3://b/x", "s3://c/x", len(CONTENT))
    monkeypatch.setattr(objects, "_MOST_COPIED", 1_000_000)
    files.link_or_copy("s3://b/x", "s3://b/y", len(CONTENT))
    assert "copy" not in s3.requests
    assert (s3.objects["b"], s3.objects["c"]) == ({"x": CONTENT, "y": CONTENT}, {"x": CONTENT})


def test_what_is_gone_is_not_copied(s3):
    with pytest.raises(FileNotFoundError, match="s3://b/x: nothing is there"):
        files.link_or_copy("s3://b/x", "s3://b/y", 1)
    assert not s3.objects["b"]


@pytest.mark.parametrize("fault", ["503", "lost", "cut", "reset"])
@pytest.mark.parametrize("kind", ["create", "part", "complete"])
def test_each_request_of_an_upload_in_parts_is_made_again(kind, fault, s3):
    _fails(s3, fault, 2, kind)
    _create_in_parts("s3://b/x")
    assert s3.objects["b"] == {"x": CONTENT}
    assert s3.requests.count("part") >= 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_removal_is_made_again(fault, s3):
    _keep(s3, *"xyz")
    s3.objects["b"]["d/1"] = b""
    _fails(s3, fault, 1 if fault == "stall" else 3)
    files.remove_files(["s3://b/x", "s3://b/y", "s3://b/none"])
    files.remove("s3://b/d")
    assert s3.objects["b"] == {"z": CONTENT}


def test_a_listing_of_many_pages_tells_every_key_once_whatever_is_cut(s3):
    names = [f"d/{i:04}" for i in range(2500)]
    s3.objects["b"] = dict.fromkeys(names, b"1")
    rng = random.Random(3)
    s3.fault = lambda kind: rng.choice([*[None] * 6, "cut", "500", "reset"])
    assert [info.uri for info in files.list_folder("s3://b/d")] == [f"s3://b/{name}" for name in names]
    assert {info.etag for info in files.list_folder("s3://b/d")} == {etag(b"1").strip('"')}


@pytest.mark.parametrize("fault", STATUSES)
def test_each_status_that_passes_is_asked_again(fault, s3):
    _fails(s3, fault, 4)
    files.write_bytes("s3://b/x", b"1")
    _fails(s3, fault, 4)
    assert files.read_bytes("s3://b/x") == b"1"


def test_a_creation_that_was_applied_unheard_is_ones_own(s3):
    _fails(s3, "lost", 1)
    version = files.create_exclusive("s3://b/x", b"mine")
    assert files.read_versioned("s3://b/x") == (b"mine", version)
    assert s3.requests == ["put", "put", "get", "get"]


def test_a_creation_that_another_was_before_is_not_ones_own(s3):
    def other_first(kind: str) -> str:
        s3.objects["b"]["x"] = b"theirs"
        s3.fault = lambda kind: None
        return "reset"

    s3.fault = other_first
    with pytest.raises(FileExistsError, match="s3://b/x: is there already"):
        files.create_exclusive("s3://b/x", b"mine")
    assert s3.objects["b"]["x"] == b"theirs"


def test_the_same_content_of_another_is_not_ones_own_where_every_answer_came(s3):
    files.create_exclusive("s3://b/x", b"same")
    with pytest.raises(FileExistsError):
        files.create_exclusive("s3://b/x", b"same")
    assert "get" not in s3.requests


def test_a_replacement_that_was_applied_unheard_is_ones_own(s3):
    first = files.create_exclusive("s3://b/x", b"1")
    _fails(s3, "lost", 1)
    second = files.replace_exactly("s3://b/x", b"2", first)
    _fails(s3, "503", 2)
    with pytest.raises(VersionMismatch, match="another version is there by now"):
        files.replace_exactly("s3://b/x", b"3", first)
    assert files.read_versioned("s3://b/x") == (b"2", second)


@pytest.mark.parametrize("replacing", [False, True])
def test_of_several_who_write_at_once_one_wins_whatever_is_lost(replacing, s3):
    rng = random.Random(7)
    for number in range(12):
        uri = f"s3://b/{number}"
        s3.fault = lambda kind: None
        version = files.create_exclusive(uri, b"base") if replacing else None
        s3.fault = lambda kind: rng.choice(["429", "reset", "lost", "cut"]) if rng.random() < 0.3 else None

        def write(writer: int, uri: str = uri, version: FileVersion | None = version) -> bytes | None:
            content = f"{uri} by {writer}".encode()
            try:
                files.replace_exactly(uri, content, version) if version else files.create_exclusive(uri, content)
            except (FileExistsError, VersionMismatch):
                return None
            return content

        with ThreadPoolExecutor(4) as pool:
            winners = [content for content in pool.map(write, range(4)) if content]
        assert winners == [s3.objects["b"][str(number)]]


def _answer_once(stub: S3Stub, monkeypatch: pytest.MonkeyPatch, status: int, body: str) -> None:
    handler = stub._server.RequestHandlerClass
    apply, answers = handler._apply, iter([(status, body.encode(), {})])
    monkeypatch.setattr(handler, "_apply", lambda self, *args: next(answers, None) or apply(self, *args))


@pytest.mark.parametrize("body", ["<Error><Code>ConditionalRequestConflict</Code></Error>", ""])
def test_a_conflict_of_creations_is_not_there_already(body, s3, monkeypatch):
    _answer_once(s3, monkeypatch, 409, body)
    files.create_exclusive("s3://b/x", b"1")
    assert s3.objects["b"] == {"x": b"1"}


def test_a_conflict_of_replacements_is_tried_again(s3, monkeypatch):
    version = files.create_exclusive("s3://b/x", b"1")
    _answer_once(s3, monkeypatch, 409, "<Error><Code>ConditionalRequestConflict</Code></Error>")
    files.replace_exactly("s3://b/x", b"2", version)
    assert s3.objects["b"] == {"x": b"2"}


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        (
            403,
            "AccessDenied",
            PermissionError,
            r"s3://b/x: the store refused access \(AccessDenied\); check credentials",
        ),
        (401, "ExpiredToken", PermissionError, r"refused access \(ExpiredToken\)"),
        (400, "InvalidArgument", stores.StoreError, "s3://b/x: .*400 Bad Request: Why not; check the region"),
        (501, "NotImplemented", stores.StoreError, "501 Not Implemented: Why not"),
        (404, "NoSuchBucket", FileNotFoundError, "s3://b/x: there is no such bucket"),
        (404, "NoSuchKey", FileNotFoundError, "s3://b/x: nothing is there"),
        (301, "PermanentRedirect", stores.StoreError, "set AWS_REGION"),
    ],
)
def test_what_asking_again_does_not_help_is_said_at_once(status, code, error, words, s3, monkeypatch):
    _keep(s3, "x")
    body = f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>Why not</Message><Key>{SECRET}</Key></Error>"
    _answer_once(s3, monkeypatch, status, body)
    with pytest.raises(error, match=words) as caught:
        files.read_bytes("s3://b/x")
    assert len(s3.requests) == 1
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_wrong_region_is_named_with_what_to_do(s3, monkeypatch):
    _keep(s3, "x")
    message = "the region &#34;eu-west-1&#34; is wrong; expecting &#34;us-east-1&#34;"
    code = "AuthorizationHeaderMalformed"
    _answer_once(s3, monkeypatch, 400, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")
    with pytest.raises(stores.StoreError, match='"eu-west-1" is wrong; expecting "us-east-1"; set AWS_REGION'):
        files.read_bytes("s3://b/x")


def test_who_waits_for_a_store_is_told_why_and_not_at_each_request(s3, monkeypatch, caplog):
    monkeypatch.setattr(stores, "_RETRY_LOG", stores._RetryLog())
    monkeypatch.setattr(stores, "_SILENCE", 0.0)
    _keep(s3, "x")
    _fails(s3, "503", 5)
    assert files.read_bytes("s3://b/x") == CONTENT
    (line,) = caplog.messages
    assert re.fullmatch(r"s3://b/x: .*503.*; tried 1 of 10 times in 0 s, trying again", line)
    caplog.clear()
    monkeypatch.setattr(stores, "_SILENCE", 100.0)
    monkeypatch.setattr(stores, "_RETRY_LOG", stores._RetryLog())
    _fails(s3, "503", 5)
    assert files.read_bytes("s3://b/x") == CONTENT
    assert not caplog.messages


def test_a_store_that_never_answers_is_not_asked_in_another_way(s3, monkeypatch):
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "3")
    _keep(s3, "x")
    _fails(s3, "503", 1000)
    with pytest.raises(UnreachableError):
        files.open_read("s3://b/x")
    assert s3.requests == ["get"] * 3


def test_an_endpoint_where_nobody_is_says_what_to_check(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "2")
    with pytest.raises(
        UnreachableError, match=r"no connection\) \(after 2 tries .*check the network, and the endpoint"
    ):
        files.read_bytes("s3://b/x")


def test_a_request_that_times_out_at_the_store_is_made_again(s3, monkeypatch):
    _answer_once(s3, monkeypatch, 400, "<Error><Code>RequestTimeout</Code></Error>")
    files.write_bytes("s3://b/x", b"1")
    assert s3.objects["b"] == {"x": b"1"}


@pytest.mark.parametrize("fault", ["503", "reset", "cut"])
def test_a_store_that_never_answers_is_given_up(fault, s3, monkeypatch):
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "4")
    _keep(s3, "x")
    _fails(s3, fault, 1000)
    before = stores.COUNTS.snapshot()
    with pytest.raises(UnreachableError, match=r"s3://b/x: .* \(after 4 tries in 0 s\)") as caught:
        files.read_range("s3://b/x", 0, 10)
    assert "\n" not in str(caught.value)
    after = stores.COUNTS.snapshot()
    assert after["get"] - before.get("get", 0) == 4
    assert after["retry"] - before.get("retry", 0) == 3


@pytest.mark.parametrize("write", WRITES)
def test_an_upload_may_take_longer_than_a_stall(write, s3, monkeypatch):
    """Nothing comes from the store while it is sent a body: by a slow line, for longer than a read may take."""
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "1")
    _fails(s3, "late", 1, "part" if write == "create" else "put")
    WRITES[write]("s3://b/x")
    assert s3.objects["b"] == {"x": CONTENT}
    _fails(s3, "late", 1, "get")
    with pytest.raises(UnreachableError, match="no answer in time"):
        files.read_bytes("s3://b/x")
    _fails(s3, "late", 1, "put")
    with pytest.raises(UnreachableError, match="no answer in time"):
        files.write_bytes("s3://b/short", b"1")


def test_a_failed_upload_shows_nothing(s3, monkeypatch):
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "2")
    _fails(s3, "503", 1000, "part")
    with pytest.raises(UnreachableError):
        _create_in_parts("s3://b/x")
    assert s3.objects["b"] == {}
    assert s3.uploads == {}, "it is left behind"


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(s3):
    _keep(s3, "x")
    with files.open_read("s3://b/x") as file:
        file.read(10)
        s3.objects["b"]["x"] = CONTENT[::-1]
        with pytest.raises(VersionMismatch, match="s3://b/x"):
            file.read()


def test_a_body_that_is_cut_off_goes_on_where_it_was(s3, monkeypatch):
    monkeypatch.setattr(objects, "PART", 10_000)
    _keep(s3, "x")
    sent = []
    handler = s3._server.RequestHandlerClass
    send = handler._send
    monkeypatch.setattr(
        handler, "_send", lambda self, *args, **kw: (sent.append(len(args[1])), send(self, *args, **kw))
    )
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "2")
    _fails(s3, "cut", 6)
    assert files.read_bytes("s3://b/x") == CONTENT, "tries are counted of what brings nothing"
    assert sent[0] == len(CONTENT)
    assert all(later < 0.8 * earlier for earlier, later in itertools.pairwise(sent))


@pytest.mark.parametrize("key", ["d//x", "d/./x", "d/a\tb"])
def test_a_folder_with_a_key_that_cannot_be_read_says_which(key, s3):
    _keep(s3, "d/ok", key)
    with pytest.raises(
        stores.StoreError, match=r"s3://b/d: .*; a key with an empty part.*: rename the object"
    ) as caught:
        files.list_folder("s3://b/d")
    assert key.replace("\t", " ") in str(caught.value)
    assert len(s3.requests) == 1


def test_an_empty_object_is_read_by_every_way(s3):
    s3.objects["b"]["x"] = b""
    assert files.read_bytes("s3://b/x") == b""
    assert _read_sequentially("s3://b/x") == b""
    assert files.open_remote("s3://b/x").read_at(5, 0) == b""
    assert files.sha256("s3://b/x")[1] == 0


def test_requests_are_counted_by_kind(s3):
    before = stores.COUNTS.snapshot()
    _create_in_parts("s3://b/x")
    files.write_bytes("s3://b/y", b"1")
    files.read_bytes("s3://b/x")
    files.exists("s3://b/z")
    files.list_folder("s3://b")
    files.remove_files(["s3://b/x", "s3://b/y"])
    after = stores.COUNTS.snapshot()
    counted = {
        kind: after.get(kind, 0) - before.get(kind, 0) for kind in ("put", "get", "head", "list", "delete", "retry")
    }
    assert counted == {"put": 7, "get": 1, "head": 1, "list": 2, "delete": 1, "retry": 0}
    uploads = ("put", "create", "part", "complete")
    assert counted["put"] == sum(s3.requests.count(kind) for kind in uploads)
    assert len(s3.requests) == sum(counted.values())


def test_a_small_object_is_read_by_one_request(s3):
    s3.objects["b"]["x"] = b"1234"
    assert _read_sequentially("s3://b/x") == b"1234"
    assert s3.requests == ["get"]


def test_a_file_may_be_read_back_and_forth(s3):
    _keep(s3, "x")
    rng = random.Random(0)
    with files.open_read("s3://b/x") as file:
        for _ in range(30):
            at = rng.randrange(len(CONTENT) + 10)
            file.seek(at)
            for count in (7, 130_000, rng.randrange(400_000)):
                assert file.read(count) == CONTENT[at : at + count]
                at += count


def test_a_read_that_failed_may_be_made_again(s3, monkeypatch):
    monkeypatch.setenv("PENSTOCK_STORE_TRIES", "1")
    _keep(s3, "x")
    with remote_files.SequentialFile("s3://b/x") as file:
        content = file.read(100_000)
        _fails(s3, "503", 5)
        for _ in range(60):
            with contextlib.suppress(UnreachableError):
                content += file.read(50_001)
    assert content == CONTENT


def test_conditions_are_probed(s3):
    assert files.probe_conditions("s3://b/d")
    assert s3.objects["b"] == {}


@pytest.mark.parametrize("ignored", ["if-none-match", "if-match"])
def test_a_store_that_ignores_conditions_is_told(ignored, s3, monkeypatch):
    handler = s3._server.RequestHandlerClass
    apply = handler._apply

    def forgetful(self, *args):
        del self.headers[ignored]
        return apply(self, *args)

    monkeypatch.setattr(handler, "_apply", forgetful)
    assert not files.probe_conditions("s3://b/d")
    assert s3.objects["b"] == {}


def test_a_store_that_knows_no_conditions_is_told(s3, monkeypatch):
    handler = s3._server.RequestHandlerClass
    apply = handler._apply

    def ignorant(self, *args):
        if self.headers.get("if-none-match"):
            return 501, b"<Error><Code>NotImplemented</Code></Error>", {}
        return apply(self, *args)

    monkeypatch.setattr(handler, "_apply", ignorant)
    assert not files.probe_conditions("s3://b/d")

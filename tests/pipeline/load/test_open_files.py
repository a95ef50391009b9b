import errno
import pickle
import resource
from typing import Any

import pytest
from stored_datasets import write

from penstock.pipeline.load import open_dataset, open_files
from penstock.pipeline.load.open_files import OpenFiles, open_limit


class _File:
    def __init__(self, name: str) -> None:
        self.name = name


def _open(files: OpenFiles, name: str, size: int = 0) -> Any:
    found = files.find(name)
    return files.open(name, lambda: (_File(name), size)) if found is None else found


def test_those_used_longest_ago_are_let_go() -> None:
    files = OpenFiles(3)
    first = _open(files, "a")
    for name in "bcdef":
        _open(files, name)
        assert _open(files, "a") is first
    assert [name for name in "abcdef" if files.find(name)] == ["a", "e", "f"]


def test_what_is_in_memory_has_a_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "KEPT_BYTES", 100)
    files = OpenFiles(10)
    for name, size in {"a": 60, "b": 0, "c": 60, "d": 500}.items():
        _open(files, name, size)
    assert [name for name in "abcd" if files.find(name)] == ["b", "d"]


def test_of_what_is_in_memory_that_used_longest_ago_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_files, "KEPT_BYTES", 100)
    files = OpenFiles(10)
    for name in "abac":
        _open(files, name, 50)
    assert [name for name in "abc" if files.find(name)] == ["a", "c"]


def test_where_no_descriptor_is_left_all_are_let_go() -> None:
    files = OpenFiles(10)
    _open(files, "a")

    def make() -> tuple[Any, int]:
        if len(files):
            raise OSError(errno.EMFILE, "Too many open files")
        return _File("b"), 0

    assert files.open("b", make).name == "b"
    with pytest.raises(FileNotFoundError):
        files.open("c", lambda: (open("/nowhere/file"), 0))  # noqa: SIM115
    assert files.find("b")


def test_the_limit_leaves_descriptors_to_others() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
        assert open_limit() == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_pickles_empty() -> None:
    files = OpenFiles()
    _open(files, "a")
    assert len(pickle.loads(pickle.dumps(files))) == 0


def test_all_readers_of_a_dataset_share_the_limit(tmp_path: Any) -> None:
    dataset = open_dataset(write(tmp_path, sizes=(2,) * 8))
    dataset._open_files = OpenFiles(3)
    sources = [dataset.source("train", features=features) for features in (False, True) for _ in range(3)]
    for number in range(16):
        assert {int(source[number]["row"]) for source in sources} == {number}
    assert len(dataset._open_files) == 3

"""The search that all tests of this folder end with finds what it looks for."""

import base64
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from stores import canaries
from stores.servers import Store

from penstock.pipeline.storage import files

SECRET = "wJalr/XUtn+FEMI=K7MDENG"


@pytest.mark.parametrize("form", [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode()])
def test_a_secret_is_found_in_each_of_its_forms(form: str):
    contents = [("log", f"key={form};".encode()), (f"folder/{form}", b""), ("other", SECRET[:-1].encode())]
    assert canaries.find_in(contents, [SECRET]) == ["log", f"folder/{form}"]
    assert canaries.find_in(contents, []) == []


def test_objects_and_files_are_searched(store: Store, folder_names: Callable[[], str], tmp_path: Path):
    uri = store.uri(f"{folder_names()}/file")
    files.write_bytes(uri, SECRET.encode())
    assert canaries.find_in(canaries.objects(store), [SECRET]) == [uri]
    files.remove(uri)
    (tmp_path / "left" / "out").mkdir(parents=True)
    for path in (tmp_path / "left" / "out" / "file", tmp_path / "file"):
        path.write_text(SECRET)
    assert canaries.find_in(canaries.local_files(tmp_path, tmp_path / "left"), [SECRET]) == [str(tmp_path / "file")]

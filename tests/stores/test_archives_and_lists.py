"""Members of archives in stores, and objects of several stores that a list names: what is asked for, what changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import list_images, stored, tar, zipped
from stores.servers import Store

from penstock.pipeline import Images, references
from penstock.pipeline.sources.listed_payload import read_payload
from penstock.pipeline.storage import files, stores
from penstock.transforms.outcome import Rejected


def requests() -> dict[str, int]:
    """The requests that were made so far, by kind."""
    counts = stores.COUNTS.snapshot()
    return {kind: counts.get(kind, 0) for kind in ("get", "head", "list")}


def code(uri: str, size: int = -1, etag: str = "") -> str:
    """Why a payload is not taken."""
    with pytest.raises(Rejected) as caught:
        read_payload(uri, size, etag)
    return caught.value.code


@pytest.mark.parametrize("pack", [tar, zipped, stored])
def test_members_are_indexed_and_read_by_ranges(
    store: Store, folder_names: Callable[[], str], pack: Callable[..., bytes]
) -> None:
    root = store.uri(folder_names())
    contents = {f"{number % 3}/{number:03}.jpg": bytes([number]) * 1000 for number in range(200)}
    uri = files.join(root, "a b+c.arc")
    files.write_bytes(uri, pack(contents))
    before = requests()
    references = list_images(Images("*.arc!/**/*.jpg"), root).references
    indexed = requests()
    assert [reference.key for reference in references] == sorted(f"a b+c.arc!/{name}" for name in contents)
    assert indexed["get"] - before["get"] <= 3
    found = {reference.key.partition("!/")[2]: read_payload(reference.uri, reference.size) for reference in references}
    assert found == contents
    assert requests()["get"] - indexed["get"] == len(contents)
    assert {kind: requests()[kind] for kind in ("head", "list")} == {kind: indexed[kind] for kind in ("head", "list")}
    files.write_bytes(uri, pack({name: content[::-1] + b"-" for name, content in contents.items()}))
    assert code(references[0].uri) == "changed"
    files.remove(uri)
    assert code(references[0].uri) in ("missing", "changed")  # Azure looks at the condition first


def test_a_list_of_two_stores_is_not_listed(
    s3: Store, gcs: Store, use: Callable[..., None], folder_names: Callable[[], str], tmp_path: Path
) -> None:
    use(s3)
    use(gcs)
    name, infos = folder_names(), []
    for number in range(20):
        uri = (s3 if number % 2 else gcs).uri(f"{name}/{number:02}, ü #%+.jpg")
        files.write_bytes(uri, b"%02d" % number)
        infos.append(files.describe(uri))
    rows = [{"uri": info.uri, "size": info.size, "etag": info.etag} for info in infos]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = requests()
    found = list_images(Images(uris=references("list.jsonl")), str(tmp_path)).references
    assert requests() == before
    assert {reference.uri: reference.etag for reference in found} == {info.uri: info.etag for info in infos}
    contents = {reference.uri: read_payload(reference.uri, reference.size, reference.etag) for reference in found}
    assert [contents[info.uri] for info in infos] == [b"%02d" % number for number in range(20)]
    after = requests()
    assert (after["get"] - before["get"], after["head"], after["list"]) == (20, before["head"], before["list"])
    for info in infos[:2]:
        files.write_bytes(info.uri, b"xx")
        assert code(info.uri, info.size, info.etag) == "changed"
        files.remove(info.uri)
        assert code(info.uri, info.size, info.etag) == "missing"

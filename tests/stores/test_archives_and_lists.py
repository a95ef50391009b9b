"""Members of archives in stores, and objects of several stores that a list names: what is asked for, what changed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import draw, list_images, request, stored, tar, zipped
from stores.data import shards, upload
from stores.servers import Store

from penstock.pipeline import Images, Recipe, references, sibling
from penstock.pipeline.sources.listed_payload import read_payload
from penstock.pipeline.storage import files, stores
from penstock.runners.run import run
from penstock.transforms import image
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


@pytest.mark.slow
def test_shards_are_those_of_a_local_run(store: Store, folder_names: Callable[[], str], tmp_path: Path) -> None:
    raw = draw(tmp_path / "drawn", 30, (24, 16), masks=True)
    local, root = tmp_path / "in", store.uri(folder_names())
    local.mkdir()
    for number, pack in enumerate((tar, zipped)):
        members = {}
        for path in sorted((raw / "images").iterdir())[number::2]:
            members[f"{path.stem}.jpg"] = path.read_bytes()
            members[f"{path.stem}.seg.png"] = (raw / "masks" / path.name).read_bytes()
            members[f"{path.stem}.json"] = json.dumps({"class": path.stem.partition("_")[0]}).encode()
        (local / f"{number}.arc").write_bytes(pack(members))
    upload(local, root)
    source = Images("*.arc!/*.jpg", mask="{dir}/{stem}.seg.png", label=sibling(".json", "class"))
    recipe = Recipe(source=source, prepare=[image.resize(12, 8)], splits={"train": 0.7, "test": 0.3}, shards=2)
    expected = run(request(recipe, local, tmp_path / "local", "7" * 64)).manifest
    made = run(request(recipe, root, store.uri(folder_names()), "7" * 64)).manifest  # type: ignore[arg-type]
    assert (made.written, made.quarantined) == (30, 0)
    assert shards(made) == shards(expected)


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

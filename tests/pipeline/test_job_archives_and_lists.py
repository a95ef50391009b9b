"""Whole runs on images in archives, and on images that a list names: examples, quarantine, and what is read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import LABEL, Committed, draw, run_job, stored, tar, zipped

from penstock.pipeline import Images, Recipe, by_column, references, sibling
from penstock.pipeline.storage import files
from penstock.pipeline.storage.stores import COUNTS
from penstock.transforms import image


def make(recipe: Recipe, source: Path, output: Path, **options: Any) -> Committed:
    return Committed(output, source, run_job(recipe, source, output, **options).manifest)


def recipe(source: Any, **options: Any) -> Recipe:
    return Recipe(source=source, prepare=[image.resize(8, 6)], **options)


def by_stem(made: Committed) -> dict[str, tuple[Any, ...]]:
    """What is stored of each image, whatever its key."""
    return {
        Path(example["key"].decode()).stem: tuple(value for name, value in sorted(example.items()) if name != "key")
        for split in made.manifest.splits
        for example in made.examples(split)
    }


def members(raw: Path, image_suffix: str = ".png") -> dict[str, bytes]:
    """Images as WebDataset packs them: with masks and labels beside them."""
    packed = {}
    for path in sorted((raw / "images").iterdir()):
        packed[f"{path.stem}{image_suffix}"] = path.read_bytes()
        packed[f"{path.stem}.seg.png"] = (raw / "masks" / path.name).read_bytes()
        packed[f"{path.stem}.cls"] = path.stem.partition("_")[0].encode()
    return packed


def write_list(uri: str, rows: Sequence[Mapping[str, Any]]) -> None:
    files.write_bytes(uri, "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_members_of_archives_come_out_as_files_do(tmp_path: Path):
    raw = draw(tmp_path / "raw", 12, masks=True)
    folder = recipe(Images("images/*.png", mask="masks/{stem}.png", label=LABEL), splits={"train": 0.7, "test": 0.3})
    expected = by_stem(make(folder, raw, tmp_path / "folder"))
    assert len(expected) == 12
    source = Images("*.arc!/*_???.png", mask="{dir}/{stem}.seg.png", label=sibling(".cls"))
    for number, pack in enumerate((tar, zipped, stored)):
        packed = tmp_path / f"packed-{number}"
        packed.mkdir()
        (packed / "0.arc").write_bytes(pack(members(raw)))
        made = make(recipe(source, splits={"train": 0.7, "test": 0.3}), packed, tmp_path / f"out-{number}")
        assert (made.manifest.read, made.manifest.written) == (12, 12)
        assert by_stem(made) == expected
        assert all(example["key"].startswith(b"0.arc!/") for example in made.examples("train"))


def test_a_list_of_several_stores_gives_what_it_names(tmp_path: Path):
    raw = draw(tmp_path / "raw", 12)
    paths = sorted((raw / "images").iterdir())
    rows = []
    for number, path in enumerate(paths):
        uri = str(path) if number % 2 else f"memory://listed-{tmp_path.name}/{number}/{path.name}"
        files.write_bytes(uri, path.read_bytes())
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        rows.append(
            {
                "uri": uri,
                "size": path.stat().st_size,
                "etag": md5,
                "class": number % 3,
                "split": "test" if number < 4 else "train",
                "age": 0.5 * number,
            }
        )
    write_list(str(tmp_path / "in" / "list.jsonl"), rows)
    source = Images(uris=references("list.jsonl", label="class", columns=["split", "age"]))
    before = COUNTS.snapshot()
    made = make(recipe(source, splits=by_column("split", ["train", "test"])), tmp_path / "in", tmp_path / "out")
    after = COUNTS.snapshot()
    assert {name: split.examples for name, split in made.manifest.splits.items()} == {"train": 8, "test": 4}
    assert made.manifest.features["label"].dtype == "int64"
    found = {
        Path(example["key"].decode()).stem: example for each in ("train", "test") for example in made.examples(each)
    }
    for row, path in zip(rows, paths, strict=True):
        example = found[path.stem]
        assert (example["label"], example["age"], example["split"]) == (row["class"], row["age"], row["split"].encode())
    assert after.get("list", 0) == before.get("list", 0)  # no object is listed, or asked for before it is read
    assert after.get("head", 0) == before.get("head", 0)


def test_what_a_list_says_and_is_not_so_is_quarantined(tmp_path: Path):
    raw = draw(tmp_path / "raw", 8)
    names = sorted(path.name for path in (raw / "images").iterdir())
    rows: list[dict[str, Any]] = [{"uri": f"images/{name}"} for name in names]
    rows[0]["size"] = 7
    rows[1]["etag"] = hashlib.md5(b"other").hexdigest()
    rows.append({"uri": "images/none.png"})
    rows.append({"uri": "ftp://host/1.png"})
    write_list(str(raw / "list.jsonl"), rows)
    made = make(recipe(Images(uris="list.jsonl")), raw, tmp_path / "out", max_quarantined="4")
    assert (made.manifest.read, made.manifest.written, made.manifest.quarantined) == (10, 6, 4)
    reasons = {(line["key"], line["stage"], line["code"]) for line in made.quarantine}
    assert reasons == {
        (f"images/{names[0]}", "read", "changed"),
        (f"images/{names[1]}", "read", "changed"),
        ("images/none.png", "read", "missing"),
        ("ftp://host/1.png", "plan", "unsupported_uri"),
    }


def test_members_that_cannot_be_read_are_quarantined(tmp_path: Path):
    raw = draw(tmp_path / "raw", 8)
    data = bytearray(stored({path.name: path.read_bytes() for path in sorted((raw / "images").iterdir())}))
    data[data.index(b"IDAT") + 9] ^= 0xFF
    at = data.rindex(b"PK\1\2")
    data[at + 8] |= 1
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(data)
    made = make(recipe(Images("*.zip!/*.png")), tmp_path / "in", tmp_path / "out", max_quarantined="2")
    assert (made.manifest.read, made.manifest.written) == (8, 6)
    lines = made.quarantine
    assert {(line["stage"], line["code"]) for line in lines} == {("read", "damaged_member"), ("plan", "encrypted")}
    assert all("#" not in line["uri"] and line["uri"].endswith(line["key"]) for line in lines)


@pytest.mark.parametrize("limit", [None, 100])
def test_a_limit_holds_where_no_size_is_known(tmp_path: Path, limit: int | None):
    raw = draw(tmp_path / "raw", 4)
    large = raw / "images" / "large.png"
    large.write_bytes((raw / "images" / "cat_001.png").read_bytes() + bytes(5000))
    write_list(str(raw / "list.jsonl"), [{"uri": f"images/{path.name}"} for path in (raw / "images").iterdir()])
    options = {} if limit is None else {"max_bytes": 5000}
    made = make(recipe(Images(uris="list.jsonl", **options)), raw, tmp_path / "out", max_quarantined="1")
    assert [line["code"] for line in made.quarantine] == ([] if limit is None else ["too_large"])


def test_equal_members_are_duplicates(tmp_path: Path):
    raw = draw(tmp_path / "raw", 6)
    packed = {path.name: path.read_bytes() for path in sorted((raw / "images").iterdir())}
    packed["zebra_999.png"] = packed["cat_001.png"]
    (raw / "a.tar").write_bytes(tar(packed))
    made = make(recipe(Images("a.tar!/*.png"), deduplicate=True), raw, tmp_path / "out")
    assert (made.manifest.written, made.manifest.filtered) == (6, 1)

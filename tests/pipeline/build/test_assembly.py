"""Units of images that are put together from what a base has stored: their files are those of a run on all input."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from delta_plans import begin_delta, unchanged, written
from helpers import LABEL, draw, run_job
from PIL import Image

from penstock.pipeline import Csv, Images, PenstockError, Recipe, join
from penstock.pipeline.build import stored_images, units
from penstock.pipeline.build.units import make_units
from penstock.pipeline.formats import paths
from penstock.pipeline.formats.manifest import stored_file
from penstock.pipeline.formats.pointer import Pointer
from penstock.pipeline.prepare.images import ImagePreparer
from penstock.transforms import image, numeric
from penstock.transforms.outcome import Rejected, keep


def describe_pixels(example: dict[str, Any]) -> dict[str, Any]:
    """Adds floats that float32 cannot hold, to some examples ones that it can."""
    pixels = np.asarray(example["image"], np.float64)
    level = float(pixels.mean()) / 255
    if level > 0.53:
        raise Rejected("bright", "it is")
    return {**example, "level": level, "corner": pixels[0, 0] / 7, "halves": [0.5, 1.5], "text": f"é{level:.2f}"}


def features(inputs: Any) -> dict[str, Any]:
    import tensorflow_transform as tft

    return {
        "image": image.standardize(inputs, "image"),
        "mask": inputs["mask"],
        "label": tft.compute_and_apply_vocabulary(inputs["label"]),
        "weight": numeric.standardize(inputs, "weight"),
        "level": tft.scale_to_z_score(inputs["level"]),
        "bucket": numeric.bucketize(inputs, "weight", 3),
    }


def recipe(**fields: Any) -> Recipe:
    source = join(Images("images/*.png", mask="masks/{stem}.png", label=LABEL), Csv("more.csv"), on="name")
    standard = {
        "source": source,
        "prepare": [keep(lambda example: example["count"] != 3, "three"), describe_pixels],
        "features": features,
        "splits": {"train": 0.7, "test": 0.3},
        "shards": 2,
    }
    return Recipe(**{**standard, **fields})


def draw_palette(path: Path, number: int) -> None:
    """A mask whose palette depends on the number."""
    mask = Image.open(path).convert("P")
    mask.putpalette([0, 0, 0, *(30 * number % 256, 100, 7) * 3] + [0] * 700)
    mask.save(path)


def list_more(raw: Path, changed: tuple[str, ...] = ()) -> None:
    names = sorted(path.name for path in (raw / "images").iterdir())
    lines = [
        f"{name},{(int(name[4:7]) + (name in changed)) / 10},{int(name[4:7]) % 5},word{int(name[4:7]) % 3}"
        for name in names
    ]
    (raw / "more.csv").write_text("\n".join(["name,weight,count,word", *lines]) + "\n")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """40 images with masks, whose palettes differ in some; two are broken, some are filtered."""
    raw = draw(tmp_path / "raw", 40, masks=True)
    for number in (5, 6, 17):
        draw_palette(next((raw / "masks").glob(f"*_{number:03d}.png")), number)
    for name in ("cat_001.png", "dog_012.png"):
        (raw / "images" / name).write_bytes(b"no image")
    list_more(raw)
    return raw


def change(raw: Path) -> None:
    """Two files go, two come, one gets another content, one another mask, one another label, one another value."""
    draw(raw / "new", 44, masks=True, seed=1)
    for number in (40, 41, 9, 17):
        for folder in ("images", "masks"):
            if (folder, number) not in (("images", 17), ("masks", 9)):
                new = next((raw / "new" / folder).glob(f"*_{number:03d}.png"))
                shutil.copy(new, raw / folder / new.name)
    shutil.rmtree(raw / "new")
    for name in ("cat_002.png", "dog_012.png"):
        for folder in ("images", "masks"):
            (raw / folder / name).unlink()
    for folder in ("images", "masks"):
        (raw / folder / "cat_004.png").rename(raw / folder / "cow_004.png")
    list_more(raw, ("cat_007.png",))


def base_of(recipe: Recipe, raw: Path, tmp_path: Path) -> Path:
    """A committed generation."""
    return tmp_path / "base" / run_job(recipe, raw, tmp_path / "base", max_quarantined="50%").manifest.generation


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often images were prepared, by their keys."""
    counts: Counter[str] = Counter()
    call = ImagePreparer.__call__

    def counting(self: ImagePreparer, reference: Any, *arguments: Any) -> Any:
        counts[reference.key] += 1
        return call(self, reference, *arguments)

    monkeypatch.setattr(ImagePreparer, "__call__", counting)
    return counts


def journals(root: str) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(Path(root, paths.UNITS).glob("*.json"))]


KINDS = {
    "as they are": {},
    "compressed": {"compression": "gzip"},
    "raw, in one unit": {"encode": {"image": image.raw(), "mask": image.raw()}, "shards": 1},
    "without statistics of columns": {"features": None},
}


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_put_together_as_if_they_were_prepared(kind: str, raw: Path, tmp_path: Path, prepared: Counter[str]):
    fields = KINDS[kind]
    base = base_of(recipe(**fields), raw, tmp_path)
    change(raw)
    full = begin_delta(recipe(**fields), raw, tmp_path / "full", tmp_path, max_quarantined="50%")
    list(make_units(full.make, range(len(full.order))))
    delta = begin_delta(
        recipe(**fields), raw, tmp_path / "delta", tmp_path, base, unchanged(base), max_quarantined="50%"
    )
    prepared.clear()
    list(make_units(delta.make, range(len(delta.order))))
    names = ("cat_040", "cat_041", "dog_009", "cat_017", "cow_004", "cat_007")
    assert prepared == dict.fromkeys((f"images/{name}.png" for name in names), 1)
    assert journals(delta.make.root) == journals(full.make.root)
    assert written(delta.make.root) == written(full.make.root)


def delta_of(recipe: Recipe, raw: Path, tmp_path: Path, base: Path) -> Any:
    """A job on changed input, whose units take over what they can."""
    change(raw)
    return begin_delta(recipe, raw, tmp_path / "delta", tmp_path, base, unchanged(base), max_quarantined="50%")


def test_the_base_keeps_what_shards_do_not_tell(raw: Path, tmp_path: Path):
    base = base_of(recipe(shards=1), raw, tmp_path)
    tables = [pa.ipc.open_file(path.read_bytes()).read_all() for path in sorted((base / paths.KEPT).glob("0*.arrow"))]
    rows = {row["key"]: row for table in tables for row in table.to_pylist()}
    weights = {key: dict(row["doubles"] or ()).get("weight") for key, row in rows.items()}
    assert weights["images/cat_010.png"] is None  # 1.0 is a float32
    assert weights["images/cat_007.png"] == [0.7]
    assert all("halves" not in dict(row["doubles"] or ()) for row in rows.values())
    seen = {key: {kind for kind, _ in json.loads(row.get("seen") or "[]")} for key, row in rows.items()}
    assert {key for key, kinds in seen.items() if "mask_colour" in kinds} == {
        f"images/{name}.png" for name in ("cat_005", "dog_006", "cat_017")
    } & {*rows}


def test_what_units_have_alike_is_not_kept(tmp_path: Path):
    raw = draw(tmp_path / "raw", 9, masks=True)
    source = Images("images/*.png", mask="masks/{stem}.png", label=LABEL)
    base = base_of(Recipe(source=source, splits={"train": 1.0}, shards=1), raw, tmp_path)
    table = pa.ipc.open_file((base / paths.unit_hashes(0)).read_bytes()).read_all()
    assert table.schema.names == ["content_hash", "key", "label", "split"]


@pytest.mark.parametrize(("name", "most"), [("as they are", 5), ("without others", 0)])
def test_few_pixels_are_decoded_to_be_counted(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
):
    base = base_of(recipe(shards=1), raw, tmp_path)
    decoded = []
    count = stored_images._counts_of
    monkeypatch.setattr(stored_images, "_counts_of", lambda *arguments: decoded.append(1) or count(*arguments))
    if most:
        delta = delta_of(recipe(shards=1), raw, tmp_path, base)
    else:
        options = {"max_quarantined": "50%"}
        delta = begin_delta(recipe(shards=1), raw, tmp_path / "delta", tmp_path, base, unchanged(base), **options)
    list(make_units(delta.make, range(len(delta.order))))
    assert len(decoded) <= most
    assert bool(decoded) == bool(most)


def without_column(path: Path, column: str) -> None:
    """Takes a column out of a unit's hashes, as if they had been written before there was any."""
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    if column in table.schema.names:
        replace_kept(path, encode_hashes_of(table.drop_columns(column)))


def encode_hashes_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def replace_kept(path: Path, content: bytes) -> None:
    """Writes another content of a unit's file, and lets the base say that it is so."""
    base = path.parent.parent
    old, new = (stored_file(f"{path.parent.name}/{path.name}", each) for each in (path.read_bytes(), content))
    path.write_bytes(content)
    replace_in(base / paths.JOURNALS, {old.sha256: new.sha256, f'"bytes": {old.bytes}': f'"bytes": {new.bytes}'})


def replace_in(path: Path, words: dict[str, str]) -> None:
    """Replaces words in that line of the journals that has the first of them; the manifest says that it is so."""
    before = path.read_bytes()
    first = next(iter(words))
    lines = before.decode().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if first in line:
            for old, new in words.items():
                lines[number] = lines[number].replace(old, new)
    path.write_text("".join(lines))
    manifest = path.parent.parent / paths.MANIFEST
    entry = json.loads(manifest.read_text())
    journals = entry["units"]
    stored = stored_file(journals["path"], path.read_bytes())
    entry["units"] = {**journals, "bytes": stored.bytes, "sha256": stored.sha256}
    content = json.dumps(entry).encode()
    manifest.write_bytes(content)
    (path.parent.parent / paths.MANIFEST_SHA256).write_bytes(Pointer.to(entry["generation"], content).manifest_sum())


def test_images_that_cannot_be_told_apart_are_prepared_again(raw: Path, tmp_path: Path, prepared: Counter[str]):
    base = base_of(recipe(shards=1), raw, tmp_path)
    without_column(base / paths.unit_hashes(0), "seen")
    delta = delta_of(recipe(shards=1), raw, tmp_path, base)
    full = begin_delta(recipe(shards=1), raw, tmp_path / "full", tmp_path, max_quarantined="50%")
    list(make_units(full.make, range(len(full.order))))
    in_split = next(json.loads(line)["read"] for line in (base / paths.JOURNALS).read_text().splitlines())
    prepared.clear()
    list(make_units(delta.make, range(len(delta.order))))
    assert in_split - 3 <= len(prepared) < 42
    assert written(delta.make.root) == written(full.make.root)


def test_filtered_images_that_nobody_lists_are_prepared_again(
    raw: Path, tmp_path: Path, prepared: Counter[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(units, "LISTED", 1)
    steps = [keep(lambda example: example["count"] != 3, "three"), keep(lambda example: example["count"] != 1, "one")]
    several = recipe(shards=1, prepare=steps, features=None, splits={"train": 1.0})
    base = base_of(several, raw, tmp_path)
    prepared.clear()
    options = {"max_quarantined": "50%"}
    delta = begin_delta(several, raw, tmp_path / "delta", tmp_path, base, unchanged(base), **options)
    list(make_units(delta.make, [0]))
    listed = [json.loads(line)["key"] for line in (base / paths.unit_filtered(0)).read_text().splitlines()]
    assert len(listed) == 2
    numbers = [number for number in range(40) if number % 5 in (1, 3) and number not in (1,)]
    assert {int(key[-7:-4]) for key in prepared} == {*numbers} - {int(key[-7:-4]) for key in listed}
    kept = written(str(base))
    assert all(kept[path] == content for path, content in written(delta.make.root).items() if path != paths.INPUTS)


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_damaged_record_is_refused(raw: Path, tmp_path: Path, compression: str | None):
    damaged = recipe(shards=1, compression=compression)
    base = base_of(damaged, raw, tmp_path)
    for shard in (base / "data").iterdir():
        content = bytearray(shard.read_bytes())
        content[len(content) // 2] ^= 1
        shard.write_bytes(content)
    delta = delta_of(damaged, raw, tmp_path, base)
    with pytest.raises(PenstockError, match=r"damaged or truncated.*; run `penstock verify`, remove"):
        list(make_units(delta.make, range(len(delta.order))))

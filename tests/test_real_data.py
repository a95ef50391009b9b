"""The real data of `../shared/data`: what its README says about it must come out."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers import REPOSITORY, Committed, draw, pixels, run_job
from PIL import Image

from penstock.pipeline import Images, Recipe, by_list, references, sibling
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.planning.recipe import load_recipe
from penstock.transforms import image


def run_example(name: str, source: Path, output: Path) -> Committed:
    from penstock.pipeline.planned_run import RunRequest
    from penstock.runners.run import run

    loaded = load_recipe(str(REPOSITORY / "examples" / f"{name}.py"))
    return Committed(output, source, run(RunRequest(loaded, str(source), str(output))).manifest)


@pytest.mark.slow
def test_pets_come_out_with_their_masks(real_data: Path, tmp_path: Path):
    pets = run_example("pets", real_data / "pets", tmp_path)
    manifest = pets.manifest
    assert manifest.read == 600 == manifest.written + manifest.quarantined + manifest.filtered
    assert manifest.quarantined <= 6
    labels = json.loads((tmp_path / manifest.statistics.file.path).read_text())["labels"]
    totals = sum((Counter(counts) for counts in labels.values()), Counter())
    assert set(totals) == {"Abyssinian", "american_bulldog", "Bengal"}
    assert all(count >= 195 for count in totals.values())
    for split in manifest.splits:
        for example in pets.examples(split)[:40]:
            key = example["key"].decode()
            stem = Path(key).stem
            original = Image.open(pets.source / key).convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)
            difference = np.abs(pixels(example["image"]).astype(int) - np.asarray(original).astype(int))
            assert difference.mean() < 8, key  # a JPEG, and no other photo: those differ by 60 and more
            trimap = Image.open(pets.source / "annotations" / "trimaps" / f"{stem}.png")
            expected = np.asarray(trimap.resize((128, 128), Image.Resampling.NEAREST))
            assert np.array_equal(pixels(example["mask"])[:, :, 0], expected), key
            assert set(np.unique(expected)) <= {1, 2, 3}
            assert stem.startswith(example["label"].decode())
    assert list(verify(str(tmp_path))) == []


@pytest.mark.slow
def test_pets_in_archives_and_by_a_list_are_those_in_the_folder(real_data: Path, tmp_path: Path):
    pets, stem = real_data / "pets", r"(?P<label>.+)_\d+"
    photos = sorted((pets / "images").glob("*.jpg"))
    masks = {photo: pets / "annotations" / "trimaps" / f"{photo.stem}.png" for photo in photos}
    photos = [photo for photo in photos if masks[photo].exists()]

    def by_stem(name: str, source: Images, root: Path) -> dict[str, tuple[bytes, bytes, bytes]]:
        recipe = Recipe(source=source, prepare=[image.resize(64, 64)], splits={"train": 0.8, "test": 0.2})
        output = tmp_path / "out" / name
        made = Committed(output, root, run_job(recipe, root, output).manifest)
        assert made.manifest.quarantined == 0
        return {
            Path(example["key"].decode()).stem: (example["image"], example["mask"], example["label"])
            for split in made.manifest.splits
            for example in made.examples(split)
        }

    raw = tmp_path / "raw"
    raw.mkdir()
    with zipfile.ZipFile(raw / "pets.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for photo in photos:
            archive.write(photo, f"images/{photo.name}")
            archive.write(masks[photo], f"trimaps/{photo.stem}.png")
    for number in range(3):
        with tarfile.open(raw / f"{number}.tar", "w") as archive:
            for photo in photos[number::3]:
                archive.add(photo, f"./{photo.stem}.jpg")
                archive.add(masks[photo], f"./{photo.stem}.seg.png")
                label = photo.stem.rpartition("_")[0].encode()
                info = tarfile.TarInfo(f"./{photo.stem}.cls")
                info.size = len(label)
                archive.addfile(info, io.BytesIO(label))
    rows = [
        {
            "uri": str(photo),
            "mask": str(masks[photo]),
            "label": photo.stem.rpartition("_")[0],
            "size": photo.stat().st_size,
            "etag": hashlib.md5(photo.read_bytes()).hexdigest(),
        }
        for photo in photos
    ]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), raw / "list.parquet")
    expected = by_stem("folder", Images("images/*.jpg", mask="annotations/trimaps/{stem}.png", label=stem), pets)
    zipped = Images("pets.zip!/images/*.jpg", mask="pets.zip!/trimaps/{stem}.png", label=stem)
    tarred = Images("*.tar!/*.jpg", mask="{dir}/{stem}.seg.png", label=sibling(".cls"))
    listed = Images(uris=references("list.parquet", mask="mask", label="label"))
    assert len(expected) > 590
    for name, source in {"zip": zipped, "tar": tarred, "list": listed}.items():
        assert by_stem(name, source, raw) == expected, name


@pytest.mark.slow
def test_clothes_keep_the_folders_splits(real_data: Path, tmp_path: Path):
    clothing = run_example("clothing", real_data / "clothing", tmp_path)
    splits = {name: split.examples for name, split in clothing.manifest.splits.items()}
    assert splits == {"train": 700, "validation": 146, "test": 144}
    assert clothing.manifest.features["image"].shape == (224, 224, 3)
    for split in splits:
        for example in clothing.examples(split):
            folders = example["key"].decode().split("/")
            assert folders[0] == split
            assert folders[1] == example["label"].decode()


def test_pets_splits_by_their_lists(real_data: Path, tmp_path: Path):
    from helpers import plan_job

    lists = by_list({"train": "annotations/trainval.txt", "test": "annotations/test.txt"})
    plan = plan_job(
        Recipe(source=Images("images/*.jpg"), prepare=[image.resize(8, 8)], splits=lists), real_data / "pets"
    )
    assert {name: split.examples for name, split in plan.splits.items()} == {"train": 300, "test": 298}
    assert sum(plan.inventory.filtered.values()) == 2


@pytest.mark.parametrize("isolate", [None, pytest.param(20.0, marks=pytest.mark.slow)])
def test_hostile_files_among_good_ones(real_data: Path, tmp_path: Path, isolate: float | None):
    hostile = real_data / "hostile"
    raw = draw(tmp_path / "raw", 50, (30, 20))
    (raw / "hostile").symlink_to(hostile)
    recipe = Recipe(source=Images("**/*"), prepare=[image.resize(16, 16)], shards=3)
    result = run_job(recipe, raw, tmp_path / "dataset", max_quarantined="100%", isolate=isolate)
    dataset = Committed(tmp_path / "dataset", raw, result.manifest)
    files = sum(path.is_file() for path in hostile.rglob("*"))
    assert result.manifest.read == 50 + files
    assert files >= 209
    keys = [example["key"].decode() for example in dataset.examples("train")]
    assert len(keys) == result.manifest.written
    assert sum(key.startswith("images/") for key in keys) == 50
    lines = [
        json.loads(line)
        for file in result.manifest.quarantine
        for line in (dataset.path / file.path).read_text().splitlines()
    ]
    assert len(lines) == result.manifest.read - len(keys)
    assert {line["key"] for line in lines} | set(keys) == {
        *(f"hostile/{path.relative_to(hostile)}" for path in hostile.rglob("*") if path.is_file()),
        *(f"images/{path.name}" for path in (raw / "images").iterdir()),
    }
    assert not {line["code"] for line in lines} & {"decoder_died", "decoder_timeout", "prepare_error"}
    bombs = [line["code"] for line in lines if "/bombs/" in line["key"]]
    assert "too_many_pixels" in bombs
    assert not any("/bombs/" in key and "decompression" in key for key in keys)

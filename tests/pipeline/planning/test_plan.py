"""What is found out before any work: splits, shards, the first examples, and what does not fit."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import LABEL, draw, plan_job, request, save

from penstock.pipeline import Images, Recipe, RequestError, by_folder, by_hash, by_list, by_path, table
from penstock.transforms import image
from penstock.transforms.outcome import Rejected, keep

SOURCE = Images("images/*.png", label=LABEL)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("raw"), 24, masks=True)


def counts(plan: Any) -> dict[str, int]:
    return {name: split.examples for name, split in plan.splits.items()}


def test_the_plan_counts_what_would_be_made(raw: Path):
    plan = plan_job(Recipe(source=SOURCE, splits={"train": 0.75, "test": 0.25}, shards={"train": 3, "test": 1}), raw)
    assert plan.inventory.read == 24
    assert sum(counts(plan).values()) == 24
    assert {name: split.shards for name, split in plan.splits.items()} == {"train": 3, "test": 1}
    labels = [split.labels for split in plan.splits.values()]
    assert sum(found.get("cat", 0) for found in labels) == 16
    assert sum(found.get("dog", 0) for found in labels) == 8
    assert sum(split.input_bytes for split in plan.splits.values()) == sum(
        path.stat().st_size for path in (raw / "images").iterdir()
    )
    assert set(plan.features) == {"key", "image", "label"}
    assert plan.estimate.output_bytes > 0


def test_shards_are_of_equal_size_and_never_empty(raw: Path):
    plan = plan_job(Recipe(source=SOURCE, shards=7), raw)
    sizes = [unit.examples for unit, _ in plan.units]
    assert sum(sizes) == 24
    assert max(sizes) - min(sizes) <= 1
    assert plan_job(Recipe(source=SOURCE, shards=1000), raw).splits["train"].shards == 24
    assert plan_job(Recipe(source=SOURCE), raw).splits["train"].shards == 1


def test_an_examples_place_does_not_depend_on_the_others_split(raw: Path, tmp_path: Path):
    """Adding files keeps the order of those that were there."""

    def keys(root: Path) -> list[str]:
        units = plan_job(Recipe(source=SOURCE, shards=1), root).units
        return [reference.key for _, references in units for reference in references]

    before = keys(raw)
    assert before != sorted(before)  # shuffled
    shutil.copytree(raw / "images", tmp_path / "images")
    for number in range(30):
        save(tmp_path / "images" / f"more_{number}.png", np.zeros((8, 6, 3)))
    assert [key for key in keys(tmp_path) if "more" not in key] == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": Images("photos/*.jpg")}, "expected images at .*photos/.*found none"),
        ({"splits": {"train": 0.999999, "rare": 0.000001}}, r"split 'rare' would be empty \(found \{'train': 24"),
        ({"splits": by_folder()}, r"statistics=...\): expected .* one of \['images'\], found 'train'"),
        ({"splits": by_path(r"(images/.)"), "statistics": "images/c"}, "found the split 'images/"),
        ({"splits": by_path(r"im(.*)_"), "statistics": "ages/cat"}, "expected names of letters, digits"),
        ({"splits": by_list({"train": "no.txt"})}, "expected a UTF-8 list at .*no.txt"),
        ({"splits": by_hash({"train": 1.0}, group=r"horse_\d")}, "find the group in every key, found nothing in"),
        ({"shards": {"train": 1, "test": 1}}, r"shards=...\): expected a number for each split of \['train'\]"),
        ({"source": Images("images/*.png", label=table("no.csv"))}, "expected a UTF-8 list at .*no.csv"),
        ({"source": Images("images/*.png", label="horse_.*")}, "24 are left out: 24 by label_missing"),
        ({"source": Images("images/*.png", mask="no/{stem}.png")}, "expected masks at .*no/"),
        ({"encode": {"imgae": image.png()}}, r"encode=...\): expected names of images .*found \['imgae'\]"),
        ({"encode": {"label": image.png()}}, r"encode=...\): expected names of images"),
        ({"prepare": [keep(lambda example: False, "all")]}, "filters left all out"),
        ({"prepare": [lambda example: 1 / 0]}, "none of the first 24 examples could be prepared.*ZeroDivisionError"),
        ({"prepare": [lambda example: None]}, r"expected it to return the example.*found NoneType"),
    ],
)
def test_what_does_not_fit_is_named(raw: Path, fields: dict[str, Any], message: str):
    with pytest.raises(RequestError, match=message):
        plan_job(Recipe(**{"source": SOURCE, **fields}), raw)


def test_an_input_that_is_not_there(tmp_path: Path):
    with pytest.raises(RequestError, match="--input: expected a folder, found nothing at"):
        plan_job(Recipe(source=SOURCE), tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match="--input: expected a folder, found a file at"):
        plan_job(Recipe(source=SOURCE), tmp_path / "file")


@pytest.mark.parametrize("output", ["", "dataset", "images", "link"])
def test_the_output_is_not_within_the_input(raw: Path, tmp_path: Path, output: str):
    (tmp_path / "link").symlink_to(raw)
    with pytest.raises(RequestError, match="--output: expected a folder outside of --input"):
        plan_job(Recipe(source=SOURCE), raw, tmp_path / "link" / "x" if output == "link" else raw / output)


def test_the_output_holds_nothing_of_anybody_else(raw: Path, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RequestError, match=r"expected an empty folder, .* found 'thesis.tex'"):
        plan_job(Recipe(source=SOURCE), raw, tmp_path)
    for output in (tmp_path / "thesis.tex", tmp_path / "thesis.tex" / "dataset"):
        with pytest.raises(RequestError, match="--output: expected"):
            plan_job(Recipe(source=SOURCE), raw, output)
    assert plan_job(Recipe(source=SOURCE), raw, tmp_path / "new" / "dataset").inventory.read == 24
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "place", ["https://h/x?X-Amz-Signature=secret", "s3://user:secret@b/x", "foo://user:secret@b/x"]
)
def test_what_is_secret_in_an_address_is_not_told(raw: Path, tmp_path: Path, place: str):
    for source, output in ((place, tmp_path), (raw, place)):
        with pytest.raises(RequestError, match=r"…|h/x") as caught:
            plan_job(Recipe(source=SOURCE), source, output)
        assert "secret" not in str(caught.value)


def test_sizes_that_differ_are_named_with_what_to_do(tmp_path: Path):
    for number in range(6):
        save(tmp_path / "images" / f"{number}.png", np.zeros((4 + number, 4, 3)))
    with pytest.raises(RequestError, match=r"expected 'image' to have one dtype and shape.*add image.resize\(height"):
        plan_job(Recipe(source=Images("images/*.png")), tmp_path)
    assert plan_job(Recipe(source=Images("images/*.png"), prepare=[image.resize(4, 4)]), tmp_path).inventory.read == 6


def test_the_first_examples_agree_on_their_features(raw: Path):
    def sometimes(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "even": 1} if int(example["key"][-7:-4]) % 2 else example

    def half(example: dict[str, Any]) -> dict[str, Any]:
        number = int(example["key"][-7:-4])
        return {**example, "half": number / 2 if number % 2 else number // 2}

    with pytest.raises(RequestError, match="expected all examples to have the same features"):
        plan_job(Recipe(source=SOURCE, prepare=[sometimes]), raw)
    assert plan_job(Recipe(source=SOURCE, prepare=[half]), raw).features["half"].dtype == "float32"


def test_bad_examples_are_no_reason_not_to_begin(raw: Path):
    def mostly_bad(example: dict[str, Any]) -> dict[str, Any]:
        if int(example["key"][-7:-4]) % 8:
            raise Rejected("bad", "bad")
        return example

    assert plan_job(Recipe(source=SOURCE, prepare=[mostly_bad]), raw).inventory.read == 24


def test_examples_in_no_list_are_filtered(raw: Path, tmp_path: Path):
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw" / "train.txt").write_text("cat_001\ncat_002\n")
    (tmp_path / "raw" / "test.txt").write_text("dog_000\nnobody\n")
    splits = by_list({"train": "train.txt", "test": "test.txt"})
    plan = plan_job(Recipe(source=SOURCE, splits=splits), tmp_path / "raw")
    assert counts(plan) == {"train": 2, "test": 1}
    assert sum(plan.inventory.filtered.values()) == 21
    assert len(plan.inventory.warnings) == 1


def test_every_file_that_matters_is_in_the_digest(raw: Path, tmp_path: Path):
    shutil.copytree(raw, tmp_path / "raw")
    lists = tmp_path / "raw" / "train.txt"
    lists.write_text("cat_001\n")
    recipe = Recipe(source=SOURCE, splits=by_list({"train": "train.txt"}))
    before = plan_job(recipe, tmp_path / "raw").inventory.digest
    assert plan_job(recipe, tmp_path / "raw").inventory.digest == before
    lists.write_text("cat_002\n")
    assert plan_job(recipe, tmp_path / "raw").inventory.digest != before


def test_why_all_images_are_left_out_is_told_with_examples(raw: Path):
    with pytest.raises(RequestError) as raised:
        plan_job(Recipe(source=Images("images/*.png", mask="masks/{dir}/{stem}.png")), raw)
    words = str(raised.value)
    assert "of 24 examples, 24 are left out: 24 by mask_missing (images/cat_001.png: " in words
    assert "expected its mask at masks/images/cat_001.png, found none; images/cat_002.png: " in words
    assert "change the splits" not in words


@pytest.mark.parametrize("splits", [by_folder(), {"train": 1.0}])
def test_why_no_image_has_a_label_is_told(raw: Path, splits: Any):
    with pytest.raises(RequestError, match=r"24 by label_missing \(images/cat_001.png: expected a label by 'x'"):
        plan_job(Recipe(source=Images("images/*.png", label="x"), splits=splits), raw)


def test_a_list_of_a_split_is_part_of_the_digest_whatever_its_name(tmp_path: Path):
    draw(tmp_path, 4)
    recipe = Recipe(source=Images("images/*.png"), splits=by_list({"train": "train[1].txt"}))
    digests = set()
    for names in ("cat_001", "cat_002"):
        (tmp_path / "train[1].txt").write_text(names)
        digests.add(plan_job(recipe, tmp_path).inventory.digest)
    assert len(digests) == 2


def test_bars_beside_letterboxed_images_are_told_of(raw: Path):
    step = image.resize(8, 8, fit="letterbox")
    (warning,) = plan_job(Recipe(source=SOURCE, prepare=[step]), raw).inventory.warnings
    assert "count in the mean, deviation and quantiles of 'image'" in warning


def test_another_image_of_another_size_is_to_be_named(tmp_path: Path):
    for number, size in enumerate([(4, 6), (5, 6)]):
        save(tmp_path / f"{number}.png", np.zeros((*size, 3)))

    def add(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "depth": example["image"].convert("L")}

    with pytest.raises(
        RequestError, match=r"expected 'depth' to have .*add image.resize\(.*names=\('image', 'depth'\)"
    ):
        plan_job(Recipe(source=Images("*.png"), prepare=[add, image.resize(4, 4)]), tmp_path)
    steps = [add, image.resize(4, 4, names=("image", "depth"))]
    assert plan_job(Recipe(source=Images("*.png"), prepare=steps), tmp_path).features["depth"].shape == (4, 4, 1)


def test_duplicates_with_other_masks_are_told(tmp_path: Path):
    draw(tmp_path, 3, masks=True)
    shutil.copy(tmp_path / "images/cat_001.png", tmp_path / "images/cat_009.png")
    shutil.copy(tmp_path / "masks/cat_002.png", tmp_path / "masks/cat_009.png")
    recipe = Recipe(source=Images("images/*.png", mask="masks/{stem}.png"), deduplicate=True)
    (warning,) = plan_job(recipe, tmp_path).inventory.warnings
    assert warning.startswith("1 images that are left out as duplicates contradict the mask of the one that stays")
    shutil.copy(tmp_path / "masks/cat_001.png", tmp_path / "masks/cat_009.png")
    assert plan_job(recipe, tmp_path).inventory.warnings == []


def test_how_the_input_is_spelled_does_not_matter(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from penstock.pipeline.job import plan

    monkeypatch.chdir(raw.parent)
    recipe = Recipe(source=Images("images/*.png", label=LABEL, mask="masks/{stem}.png"), shards=2)
    planned = [
        plan(request(recipe, source, tmp_path, hash="0" * 64))
        for source in (raw, f"{raw}/", f"{raw}/./images/..", raw.name, f"./{raw.name}//")
    ]
    first, *others = [(each.generation_id, list(each.plan.units)) for each in planned]
    assert all(other == first for other in others)
    assert first[1][0][1][0].uri.startswith(f"{raw}/images/")


def test_the_units_that_read_most_come_first(tmp_path: Path):
    for number in range(9):
        save(tmp_path / f"{number}.png", np.random.default_rng(number).integers(0, 256, (8 + 8 * number, 8, 3)))
    recipe = Recipe(source=Images("*.png"), prepare=[image.resize(4, 4)], shards=3, shuffle=None)
    assert plan_job(recipe, tmp_path).units.largest_first() == [2, 1, 0]

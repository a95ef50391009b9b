"""Croissant metadata: small, the same for the same shards, valid to its own library, and true."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Committed, Made, contents, draw, run_job, standard_recipe

from penstock.pipeline import Csv, Recipe, RequestError, open_dataset
from penstock.pipeline.commit.verify import verify
from penstock.pipeline.formats import croissant
from penstock.pipeline.formats.features import Feature
from penstock.pipeline.formats.manifest import Shard, SplitEntry, StoredFile
from penstock.pipeline.planning.recipe import load_recipe

METADATA = {
    "license": "https://spdx.org/licenses/CC0-1.0",
    "url": "https://example.com/pets",
    "citeAs": "@misc{pets}",
    "datePublished": "2024-02-29",
    "creator": [{"@type": "Person", "name": "Ada"}, {"@type": "Organization", "name": "Guild"}],
    "keywords": ["pets", "masks"],
}
ROWS = "a,x:y,split,größe n\n" + "".join(f"{i},{i / 3},{'uv'[i % 2]},w{i}\n" for i in range(40)) + "7,,,\n"
SPLITS = {"train": 0.7, "test.2": 0.3}


def splits(shards: int, suffix: str = "tfrecord") -> dict[str, SplitEntry]:
    names = [f"0123456789abcdef/data/train-{i:05d}-of-{shards:05d}.{suffix}" for i in range(shards)]
    return {"train": SplitEntry(shards, tuple(Shard(StoredFile(name, 1, 10, "5" * 64), None) for name in names))}


def encoded(of: dict[str, SplitEntry], features: dict[str, Feature] | None = None) -> bytes:
    metadata = {"name": "pets", "description": "Pets."}
    sums = StoredFile("SHA256SUMS", None, 100, "a" * 64)
    return croissant.encode(metadata, "0123456789abcdef", features or {}, of, sums)


def fields(features: dict[str, Feature]) -> dict[str, Any]:
    """The fields by name, that of the split left out."""
    _, examples = json.loads(encoded(splits(1), features))["recordSet"]
    return {field["name"]: field for field in examples["field"][1:]}


def test_it_does_not_grow_with_the_shards():
    few, many = (encoded(splits(count)) for count in (1, 50_000))
    assert len(many) - len(few) == len("50000") - len("1")
    assert croissant.encode_checksums(splits(2)).decode() == (
        f"{'5' * 64}  data/train-00000-of-00002.tfrecord\n{'5' * 64}  data/train-00001-of-00002.tfrecord\n"
    )


@pytest.mark.parametrize(
    ("suffix", "formats"),
    [
        ("parquet", "application/x-parquet"),
        ("tfrecord", "https://www.tensorflow.org/tutorials/load_data/tfrecord"),
        ("tfrecord.gz", ["https://www.tensorflow.org/tutorials/load_data/tfrecord", "application/gzip"]),
    ],
)
def test_the_file_set_says_what_shards_are(suffix: str, formats: object):
    _, shards = json.loads(encoded(splits(1, suffix)))["distribution"]
    assert (shards["encodingFormat"], shards["includes"]) == (formats, [f"data/train-*.{suffix}"])


def test_fields_have_the_types_that_are_stored():
    found = fields(
        {
            "key": Feature("key", "string", ()),
            "image": Feature("image", "uint8", (4, 6, 3), "jpeg"),
            "depth": Feature("image", "uint16", (4, 6, 1), "raw"),
            "label": Feature("label", "int64", ()),
            "box": Feature("number", "float32", (2, 4)),
            "tags": Feature("text", "string", (None,), optional=True),
        }
    )
    types = {name: field["dataType"] for name, field in found.items()}
    assert types == {
        "key": "sc:Text",
        "image": "sc:ImageObject",
        "depth": "cr:UInt16",
        "label": "cr:Int64",
        "box": "cr:Float32",
        "tags": "sc:Text",
    }
    shapes = {name: field["arrayShape"] for name, field in found.items() if field.get("isArray")}
    assert shapes == {"depth": "4,6,1", "box": "2,4", "tags": "-1"}
    assert found["tags"]["description"] == "text; may be missing"
    assert found["image"]["source"]["extract"] == {"column": "image"}


def test_a_feature_may_be_called_split():
    _, examples = json.loads(encoded(splits(1), {"split": Feature("text", "string", ())}))["recordSet"]
    assert [field["@id"] for field in examples["field"]] == ["examples/split_", "examples/split"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("licence", "MIT", "one of the properties name, description, license"),
        ("license", "", "for 'license' a string"),
        ("keywords", ["a", 1], "for 'keywords' a string, or a list of strings, found 1"),
        ("keywords", [], "found \\[\\]"),
        ("creator", "Ada", "for 'creator' a dict such as"),
        ("creator", {"name": "Ada"}, "for 'creator' a dict such as"),
        ("creator", {"@type": "Person", "name": "Ada", "age": float("nan")}, "what JSON can hold"),
    ],
)
def test_what_a_recipe_says_is_checked(name: str, value: object, words: str):
    with pytest.raises(RequestError, match=rf"Recipe\(metadata=...\): expected .*{words}"):
        Recipe(source=Csv("*.csv"), metadata={name: value})


def test_what_a_recipe_does_not_say_is_its_name_and_its_docstring(tmp_path: Path):
    text = "from penstock import Csv, Recipe\nrecipe = Recipe(source=Csv('*.csv'), metadata={'license': 'MIT'})\n"
    (tmp_path / "pets.py").write_text(f'"""Pets.\n\n    Of all kinds.\n    """\n{text}')
    (tmp_path / "bare.py").write_text(text)
    pets, bare = (load_recipe(str(tmp_path / name)).metadata for name in ("pets.py", "bare.py"))
    assert pets == {"name": "pets", "description": "Pets.\n\nOf all kinds.", "license": "MIT"}
    assert bare == {"name": "bare", "description": "Prepared by the recipe bare.", "license": "MIT"}


def test_every_generation_has_it_and_verify_looks_at_it(damaged: Committed):
    root = damaged.generation
    lines = [line.split("  ") for line in (root / "SHA256SUMS").read_text().splitlines()]
    assert all(hashlib.sha256((root / path).read_bytes()).hexdigest() == sha256 for sha256, path in lines)
    assert sorted(path for _, path in lines) == sorted(f"data/{path.name}" for path in (root / "data").iterdir())
    content = json.loads((root / "croissant.json").read_text())
    assert content["version"] == f"0.0.0+{damaged.manifest.generation}"
    assert [line["splits/examples"] for line in content["recordSet"][0]["data"]] == [
        split.examples for split in damaged.manifest.splits.values()
    ]
    assert not list(verify(str(damaged.path), graph=False))
    (root / "croissant.json").write_text("{}")
    (root / "SHA256SUMS").unlink()
    faults = list(verify(str(damaged.path), graph=False))
    assert any("croissant.json: expected" in fault for fault in faults)
    assert any("SHA256SUMS: the file is missing" in fault for fault in faults)
    assert open_dataset(damaged.path).splits  # no loader needs it


def test_the_same_shards_have_the_same(tmp_path: Path):
    raw = draw(tmp_path / "raw", 12)
    recipe = standard_recipe(source=standard_recipe().source.__class__("images/*.png"), features=None)
    for name in ("one", "two"):
        run_job(recipe, raw, tmp_path / name, "3" * 64)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    for path in (path for path in one if path.endswith(("croissant.json", "SHA256SUMS"))):
        assert one[path] == two[path]


def opened(dataset: Path) -> Any:
    """The dataset as Croissant's own library has it, which finds no fault with it."""
    import mlcroissant

    (path,) = dataset.glob("*/croissant.json")
    found = mlcroissant.Dataset(jsonld=str(path))
    issues = found.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    return found


@pytest.mark.extras("mlcroissant")
def test_croissants_own_library_takes_it(tmp_path: Path):
    raw = draw(tmp_path / "raw", 30, masks=True)
    manifest = run_job(standard_recipe(metadata=METADATA), raw, tmp_path / "dataset").manifest
    metadata = opened(tmp_path / "dataset").metadata
    assert (metadata.name, metadata.version) == ("test", f"0.0.0+{manifest.generation}")
    assert (metadata.license, metadata.keywords) == ([METADATA["license"]], METADATA["keywords"])
    assert [creator.name for creator in metadata.creators] == ["Ada", "Guild"]
    assert metadata.date_published.isoformat() == "2024-02-29T00:00:00"
    assert {record_set.uuid: len(record_set.fields) for record_set in metadata.record_sets} == {
        "splits": 2,
        "examples": 1 + len(manifest.features),
    }


@pytest.mark.extras("mlcroissant")
def test_croissants_own_library_reads_the_rows_of_parquet(make: Callable[..., Made]):
    made = make({"t.csv": ROWS}, splits=SPLITS, format="parquet", shards=2, metadata=METADATA)
    rows = list(opened(made.path).records("examples"))
    ours = open_dataset(made.path)
    for split in SPLITS:
        expected = list(ours.examples(split, len(rows)))
        found = [row for row in rows if row["examples/split_"] == split.encode()]
        assert len(found) == len(expected)
        for row, example in zip(found, expected, strict=True):
            assert row["examples/a"] == example["a"]
            assert (row["examples/split"] or b"") == example["split"]
            assert (row["examples/gr%C3%B6%C3%9Fe%20n"] or b"") == example["größe n"]
            assert row["examples/x%3Ay"] is None or row["examples/x%3Ay"] == example["x:y"]
    assert [row["examples/a"] for row in rows if row["examples/x%3Ay"] is None] == [7]
    only = opened(made.path).records("examples", filters={"examples/split_": "test.2"})
    assert len(list(only)) == ours.splits["test.2"].examples


@pytest.mark.extras("mlcroissant")
def test_of_tfrecord_it_tells_all_but_the_values(make: Callable[..., Made]):
    made = make({"t.csv": ROWS}, splits=SPLITS, metadata=METADATA)
    found = opened(made.path)
    counts = {row["splits/name"]: row["splits/examples"] for row in found.records("splits")}
    assert counts == {name: split.examples for name, split in made.manifest.splits.items()}
    with pytest.raises(Exception, match=r"Read\(shards\)") as error:
        list(found.records("examples"))
    assert "formats: https://www.tensorflow.org/tutorials/load_data/tfrecord" in str(error.value.__cause__)

"""Raw datasets that live: each changes at random, as files come, go, break and are corrected."""

import io
import itertools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_transform as tft
from PIL import Image

from penstock.pipeline import Csv, Images, JsonLines, Parquet, Recipe, by_hash, folder, join
from penstock.transforms import categorical, image, numeric
from penstock.transforms.outcome import keep

WORDS = ("one", "two", "three", "four", "five")
_TIMES = itertools.count(1_700_000_000)  # every file that is written is younger than all before


class World(ABC):
    """A raw dataset and what it is prepared by.

    Attributes:
      root: Its folder.
      variant: Which `features` the recipe has: a change of it changes no example.
    """

    def __init__(self, root: Path, generator: np.random.Generator) -> None:
        self.root = root
        self.variant = 0
        layouts: list[dict[str, Any]] = [{}, {}, {"shards": 2}, {"compression": "gzip"}, {"shuffle": None}]
        self.layout = layouts[int(generator.integers(len(layouts)))]
        self.generator = generator
        self.lookup = {word: float(generator.normal()) for word in WORDS}
        for _ in range(4):
            self.add()
        self.write_lookup()

    def recipe(self) -> Recipe:
        """The recipe as it is now."""
        features = self.features()
        return Recipe(features=features[self.variant % len(features)], **self.layout, **self.fields())

    def change(self) -> list[str]:
        """Changes something, most often one or two things; returns what, in words."""
        names = self.generator.choice(list(self.changes()), self.generator.integers(1, 3), replace=False)
        for name in names:
            self.changes()[name]()
        return [str(name) for name in names]

    def changes(self) -> dict[str, Callable[[], None]]:
        """What may happen, by name."""
        return {
            "add": self.add,
            "remove": self.remove,
            "edit": self.edit,
            "copy": self.copy,
            "break": self.break_one,
            "lookup": self.correct_lookup,
            "features": self.change_features,
            "nothing": lambda: None,
        }

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """The recipe's fields but for `features`."""

    @abstractmethod
    def features(self) -> list[Callable[[Any], dict[str, Any]]]:
        """The variants of `features`."""

    @abstractmethod
    def add(self) -> None:
        """New files or rows."""

    @abstractmethod
    def remove(self) -> None:
        """Fewer of them."""

    @abstractmethod
    def edit(self) -> None:
        """Other content, or another label."""

    @abstractmethod
    def copy(self) -> None:
        """An example that equals another one."""

    @abstractmethod
    def break_one(self) -> None:
        """Something that cannot be prepared."""

    def correct_lookup(self) -> None:
        """Another value in the table that is joined."""
        self.lookup[str(self.generator.choice(list(self.lookup)))] = float(self.generator.normal())
        self.write_lookup()

    def change_features(self) -> None:
        self.variant += 1

    def write_lookup(self) -> None:
        rows = "".join(f"{word},{value!r}\n" for word, value in self.lookup.items())
        self.write("lookup/table.csv", b"word,weight\n" + rows.encode())

    def write(self, name: str, content: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        os.utime(path, (next(_TIMES),) * 2)


class ImageWorld(World):
    """Images in folders that are their labels, most of them with a row in a table."""

    def __init__(self, root: Path, generator: np.random.Generator) -> None:
        self.format = str(generator.choice(["png", "jpg"]))
        self.is_raw = bool(generator.integers(2))
        self.names = itertools.count()
        super().__init__(root, generator)

    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "source": join(Images(f"images/**/*.{self.format}", label=folder()), Csv("lookup/*.csv"), on="word"),
            "prepare": [keep(lambda example: np.asarray(example["image"]).mean() < 200, "bright")],
            "splits": by_hash({"train": 0.7, "test": 0.3}),
        }
        return fields | ({"encode": {"image": image.raw()}} if self.is_raw else {})

    def features(self) -> list[Callable[[Any], dict[str, Any]]]:
        def standardized(inputs: Any) -> dict[str, Any]:
            return {
                "image": image.standardize(inputs, "image"),
                "label": tft.compute_and_apply_vocabulary(inputs["label"], vocab_filename="labels"),
            }

        def scaled(inputs: Any) -> dict[str, Any]:
            return {"image": image.scale(inputs, "image"), "weight": numeric.standardize(inputs, "weight")}

        def averaged(inputs: Any) -> dict[str, Any]:
            weight = tf.where(tf.math.is_nan(inputs["weight"]), 0.0, inputs["weight"])
            return {"weight": tft.scale_to_z_score(tft.scale_to_z_score(weight) ** 2), "image": inputs["image"]}

        return [standardized, scaled, averaged]

    def paths(self) -> list[Path]:
        return sorted((self.root / "images").glob(f"*/*.{self.format}"))

    def chosen(self) -> Path:
        paths = self.paths()
        return paths[int(self.generator.integers(len(paths)))]

    def drawn(self) -> bytes:
        content = io.BytesIO()
        low = self.generator.choice([0, 200], p=[0.9, 0.1])
        pixels = self.generator.integers(low, 256, (6, 5, 3), np.uint8)
        Image.fromarray(pixels).save(content, {"png": "PNG", "jpg": "JPEG"}[self.format])
        return content.getvalue()

    def add(self) -> None:
        for _ in range(self.generator.integers(1, 20)):
            label, name = self.generator.choice(["cat", "dog", "cow"]), f"i{next(self.names):03d}"
            self.write(f"images/{label}/{name}.{self.format}", self.drawn())
            if self.generator.integers(5):
                self.lookup[name] = float(self.generator.normal())
        self.write_lookup()

    def remove(self) -> None:
        for _ in range(self.generator.integers(1, 4)):
            if len(self.paths()) > 20:
                self.chosen().unlink()

    def edit(self) -> None:
        path = self.chosen()
        if self.generator.integers(2):
            self.write(str(path.relative_to(self.root)), self.drawn())
            return
        label = str(self.generator.choice(["cat", "dog", "cow"]))
        target = self.root / "images" / label / path.name
        target.parent.mkdir(exist_ok=True)
        path.rename(target)

    def copy(self) -> None:
        path = self.chosen()
        label = self.generator.choice(["cat", "dog", "cow"])
        self.write(f"images/{label}/i{next(self.names):03d}.{self.format}", path.read_bytes())

    def break_one(self) -> None:
        self.write(str(self.chosen().relative_to(self.root)), b"no image")


class TableWorld(World):
    """A table in files, whose rows have a partner in another table."""

    def __init__(self, root: Path, generator: np.random.Generator) -> None:
        self.format = str(generator.choice(["csv", "jsonl", "parquet"]))
        self.is_joined = bool(generator.integers(2))
        self.is_parquet = bool(generator.integers(4) == 0)
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.names = itertools.count()
        super().__init__(root, generator)

    def fields(self) -> dict[str, Any]:
        columns = {"n": "int64", "x": "float64", "word": "string", "label": "string"}
        source: Any = {"csv": Csv, "jsonl": JsonLines, "parquet": Parquet}[self.format]
        table = source(f"rows/*.{self.format}", **({} if self.format == "parquet" else {"columns": columns}))
        return {
            "source": join(table, Csv("lookup/*.csv"), on="word") if self.is_joined else table,
            "prepare": [keep(lambda example: example["n"] != 13, "unlucky")],
            "splits": {"train": 0.7, "test": 0.3},
            "format": "parquet" if self.is_parquet else "tfrecord",
        }

    def features(self) -> list[Callable[[Any], dict[str, Any]]]:
        def standardized(inputs: Any) -> dict[str, Any]:
            return {
                "x": numeric.standardize(inputs, "x"),
                "word": categorical.vocabulary(inputs, "word"),
                "bucket": numeric.bucketize(inputs, "x", 4),
            }

        def counted(inputs: Any) -> dict[str, Any]:
            return {
                "n": inputs["n"] - tft.min(inputs["n"]),
                "label": tft.compute_and_apply_vocabulary(inputs["label"], vocab_filename="labels"),
                "sum": inputs["n"] + tft.sum(inputs["n"]) + tft.size(inputs["n"]),
            }

        def averaged(inputs: Any) -> dict[str, Any]:
            return {"n": tft.scale_to_z_score(tf.cast(inputs["n"], tf.float32)), "word": inputs["word"]}

        return [standardized, counted, averaged]

    def row(self) -> dict[str, Any]:
        return {
            "n": int(self.generator.integers(-20, 20)),
            "x": float(self.generator.lognormal()) if self.generator.integers(10) else None,
            "word": str(self.generator.choice(WORDS)),
            "label": str(self.generator.choice(["yes", "no"])),
        }

    def chosen(self) -> str:
        return str(self.generator.choice(sorted(self.files)))

    def save(self, name: str) -> None:
        rows, content = self.files[name], io.BytesIO()
        if self.format == "csv":
            lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
            content.write("\n".join(["n,x,word,label", *lines, ""]).encode())
        elif self.format == "jsonl":
            content.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        else:
            types = {"n": pa.int64(), "x": pa.float64(), "word": pa.string(), "label": pa.string()}
            pq.write_table(pa.Table.from_pylist(rows, pa.schema(types)), content)
        self.write(f"rows/{name}.{self.format}", content.getvalue())

    def add(self) -> None:
        name = f"f{next(self.names)}"
        if self.files and self.generator.integers(3) == 0:
            name = self.chosen()
        self.files.setdefault(name, []).extend(self.row() for _ in range(self.generator.integers(3, 40)))
        self.save(name)

    def remove(self) -> None:
        name = self.chosen()
        if len(self.files) > 3 and self.generator.integers(2):
            del self.files[name]
            (self.root / f"rows/{name}.{self.format}").unlink()
        elif len(self.files[name]) > 3:
            self.files[name].pop(int(self.generator.integers(len(self.files[name]))))
            self.save(name)

    def edit(self) -> None:
        name = self.chosen()
        rows = self.files[name]
        rows[int(self.generator.integers(len(rows)))] = self.row()
        self.save(name)

    def copy(self) -> None:
        rows = self.files[self.chosen()]
        name = self.chosen()
        self.files[name].append({**rows[int(self.generator.integers(len(rows)))]})
        self.save(name)

    def break_one(self) -> None:
        """A number that is none; of Parquet, whose numbers are always such, another row."""
        name = self.chosen()
        if self.format == "parquet":
            self.edit()
            return
        rows = self.files[name]
        rows[int(self.generator.integers(len(rows)))]["n"] = "many"
        self.save(name)


WORLDS: tuple[type[World], ...] = (ImageWorld, TableWorld)

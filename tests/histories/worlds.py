"""Raw datasets that live: each changes at random, as files come, go, break and are corrected."""

import contextlib
import io
import itertools
import json
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import tensorflow_transform as tft
from PIL import Image

from penstock.pipeline import Csv, Images, JsonLines, Parquet, Recipe, Sql, by_hash, folder, join
from penstock.transforms import categorical, image, numeric, text
from penstock.transforms.outcome import keep

WORDS = ("one", "two", "three", "four", "five")
_TIMES = itertools.count(1_700_000_000)  # every file that is written is younger than all before


class World(ABC):
    """A raw dataset and what it is prepared by.

    Attributes:
      root: Its folder.
      variant: Which `features` the recipe has: a change of it changes no example.
      version: Which `prepare` it has, all of which give the same.
      forgotten: The keys that are to be forgotten.
      workers: Worker processes of a run.
    """

    def __init__(self, root: Path, generator: np.random.Generator) -> None:
        self.root = root
        self.variant = self.version = 0
        self.forgotten: list[str] = []
        self.workers = 2 if generator.integers(10) == 0 else 1
        self.deduplicate = bool(generator.integers(4) == 0)
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
        chosen = features[self.variant % len(features)]
        return Recipe(features=chosen, deduplicate=self.deduplicate, **self.layout, **self.fields())

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
            "prepare": self.change_prepare,
            "forget": self.forget,
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

    @abstractmethod
    def key(self) -> str:
        """That of one of the examples."""

    def forget(self) -> None:
        """One that is to be forgotten."""
        self.forgotten.append(self.key())

    def correct_lookup(self) -> None:
        """Another value in the table that is joined."""
        self.lookup[str(self.generator.choice(list(self.lookup)))] = float(self.generator.normal())
        self.write_lookup()

    def change_features(self) -> None:
        self.variant += 1

    def change_prepare(self) -> None:
        self.version += 1

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

    def key(self) -> str:
        return str(self.chosen().relative_to(self.root))

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

    formats = ("csv", "jsonl", "parquet")
    columns: Mapping[str, str] = MappingProxyType({"n": "int64", "x": "float64", "word": "string", "label": "string"})

    def __init__(self, root: Path, generator: np.random.Generator) -> None:
        self.format = str(generator.choice(self.formats))
        self.is_joined = "word" in self.columns and bool(generator.integers(2))
        self.is_parquet = bool(generator.integers(4) == 0)
        self.files: dict[str, list[dict[str, Any]]] = {}
        self.names = itertools.count()
        super().__init__(root, generator)

    def fields(self) -> dict[str, Any]:
        table = self.source()
        return {
            "source": join(table, Csv("lookup/*.csv"), on="word") if self.is_joined else table,
            "prepare": [keep(lambda example: example["n"] != 13, "unlucky")],
            "splits": {"train": 0.7, "test": 0.3},
            "format": "parquet" if self.is_parquet else "tfrecord",
        }

    def source(self) -> Any:
        if self.format == "parquet":
            return Parquet("rows/*.parquet")
        source: Any = {"csv": Csv, "jsonl": JsonLines}[self.format]
        return source(f"rows/*.{self.format}", columns=dict(self.columns))

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

    def key(self) -> str:
        name = self.chosen()
        return f"rows/{name}.{self.format}:{self.generator.integers(len(self.files[name]))}"

    def save(self, name: str) -> None:
        """Writes a file as it is now."""
        rows, content = self.files[name], io.BytesIO()
        if self.format == "csv":
            lines = [",".join("" if value is None else str(value) for value in row.values()) for row in rows]
            content.write("\n".join([",".join(self.columns), *lines, ""]).encode())
        elif self.format == "jsonl":
            content.write("".join(json.dumps(row) + "\n" for row in rows).encode())
        else:
            types = {column: pa.type_for_alias(kind) for column, kind in self.columns.items()}
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
            self.delete(name)
        elif len(self.files[name]) > 3:
            self.files[name].pop(int(self.generator.integers(len(self.files[name]))))
            self.save(name)

    def delete(self, name: str) -> None:
        """Removes a file."""
        (self.root / f"rows/{name}.{self.format}").unlink()

    def edit(self) -> None:
        name = self.chosen()
        rows = self.files[name]
        rows[int(self.generator.integers(len(rows)))] = self.row()
        self.save(name)

    def copy(self) -> None:
        rows = self.files[self.chosen()]
        name = self.chosen()
        copied = rows[int(self.generator.integers(len(rows)))]
        self.files[name].append({column: copied[column] for column in self.columns})
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


class TextWorld(TableWorld):
    """Sentences in files, with labels."""

    formats = ("csv", "jsonl")
    columns = MappingProxyType({"n": "int64", "text": "string", "label": "string"})

    def fields(self) -> dict[str, Any]:
        return super().fields() | {"prepare": [text.normalize("text"), text.limit("text", 40)]}

    def features(self) -> list[Callable[[Any], dict[str, Any]]]:
        def padded(inputs: Any) -> dict[str, Any]:
            ids = text.word_ids(text.words(text.lower(inputs["text"])), top_k=20, name="words")
            return {"words": text.pad(ids + 1, 6), "label": categorical.vocabulary(inputs, "label")}

        def weighted(inputs: Any) -> dict[str, Any]:
            ids = text.word_ids(text.ngrams(text.words(inputs["text"]), (1, 2)), top_k=30, min_count=2, name="grams")
            return {"weights": text.tfidf(ids, 31), "n": inputs["n"]}

        return [padded, weighted]

    def row(self) -> dict[str, Any]:
        words = self.generator.choice([*WORDS, "É", "\uff46our", "one.", "FIVE"], self.generator.integers(1, 8))
        return {
            "n": int(self.generator.integers(-20, 20)),
            "text": f" {' '.join(words)}" if self.generator.integers(10) else None,
            "label": str(self.generator.choice(["yes", "no"])),
        }


class SqlWorld(TableWorld):
    """A table of a database, read by ranges of a key."""

    formats = ("db",)

    def __init__(self, root: Path, generator: np.random.Generator) -> None:
        self.ids = itertools.count(1)
        super().__init__(root, generator)

    def source(self) -> Any:
        return Sql("sqlite:///rows.db", table="rows", partition="id", columns=dict(self.columns))

    def key(self) -> str:
        rows = self.files[self.chosen()]
        return f"rows:{rows[int(self.generator.integers(len(rows)))]['id']}"

    def save(self, name: str) -> None:
        """Writes the database anew: rows that are there keep their ids."""
        rows = [row for each in self.files.values() for row in each]
        for row in rows:
            row.setdefault("id", next(self.ids))
        names = ["id", *self.columns]
        path = self.root / "rows.db"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"CREATE TABLE rows ({', '.join(names)})")
            values = [tuple(row[each] for each in names) for row in rows]
            connection.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * len(names))})", values)
        os.utime(path, (next(_TIMES),) * 2)

    delete = save


WORLDS: tuple[type[World], ...] = (ImageWorld, TableWorld, TextWorld, SqlWorld)

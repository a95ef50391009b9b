"""The manifest: what a generation is made of and from, and its checks.

`manifest.json` lists every file of a generation with its bytes and SHA-256. `manifest.sha256`, beside it, has its own
checksum, so that a generation can be told from a damaged one while nothing points to it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import DatasetError, NotCommittedError
from ..storage import files
from . import paths
from .features import Feature
from .json_fields import JsonObject, mismatch
from .pointer import POINTER_BYTES, Pointer, check_format, read_generation_id

LIMIT = "limit"  # the option that says of how many examples a sample is; whole datasets have none
_MANIFEST_BYTES = 1 << 30
_AGAIN = "run the recipe again, which makes what is damaged or missing, or get the dataset again"


@dataclass(frozen=True)
class StoredFile:
    """A file of a generation.

    Attributes:
      path: Relative to the generation's folder; in a manifest, relative to the dataset's.
      examples: How many examples are in it, or, in a quarantine file, how many it tells of; None where it holds none.
      bytes: Its size.
      sha256: Of its content, in hexadecimal digits.
    """

    path: str
    examples: int | None
    bytes: int
    sha256: str

    @classmethod
    def read(cls, entry: JsonObject, count: str | None = None) -> "StoredFile":
        """Reads an entry, in which the examples are called `count`; None: it has no such field."""
        examples = entry.count(count) if count else None
        return cls(entry.path("path"), examples, entry.count("bytes"), entry.string("sha256"))

    def within(self, generation: str) -> "StoredFile":
        """The same file, seen from the dataset's folder."""
        return replace(self, path=f"{generation}/{self.path}")

    def to_json(self, count: str = "examples") -> dict[str, Any]:
        """The file's entry, in which the examples are called `count`."""
        examples = {} if self.examples is None else {count: self.examples}
        return {"path": self.path, **examples, "bytes": self.bytes, "sha256": self.sha256}


def stored_file(path: str, content: bytes, examples: int | None = None) -> StoredFile:
    """The file at a path that has the given content."""
    return StoredFile(path, examples, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Shard:
    """A shard of a split, and the file that says where each of its records begins; None where there is no such file."""

    file: StoredFile
    index: StoredFile | None

    @property
    def path(self) -> str:
        """Where its data is."""
        return self.file.path

    @property
    def examples(self) -> int:
        """How many examples are in it."""
        return self.file.examples or 0

    @classmethod
    def read(cls, entry: JsonObject) -> "Shard":
        """Reads an entry."""
        index = entry.optional_object("index")
        return cls(StoredFile.read(entry, "examples"), StoredFile.read(index, "examples") if index else None)

    def within(self, generation: str) -> "Shard":
        """The same shard, seen from the dataset's folder."""
        return Shard(self.file.within(generation), self.index.within(generation) if self.index else None)

    def to_json(self) -> dict[str, Any]:
        """The shard's entry."""
        return self.file.to_json() | {"index": self.index.to_json() if self.index else None}


@dataclass(frozen=True)
class SplitEntry:
    """How many examples a split has, and its shards in their order."""

    examples: int
    shards: tuple[Shard, ...]

    @property
    def bytes(self) -> int:
        """Of all its shards, without their indexes."""
        return sum(shard.file.bytes for shard in self.shards)

    @classmethod
    def read(cls, entry: JsonObject) -> "SplitEntry":
        """Reads an entry."""
        return cls(entry.count("examples"), tuple(map(Shard.read, entry.objects("shards"))))

    def to_json(self) -> dict[str, Any]:
        """The split's entry."""
        return {"examples": self.examples, "shards": [shard.to_json() for shard in self.shards]}


@dataclass(frozen=True)
class TransformGraphEntry:
    """The transform graph.

    Attributes:
      path: Its folder, relative to the dataset's.
      sha256: Over the lines `<sha256>  <path in the generation>` of its files.
      files: What is in its folder.
      outputs: Output name to dtype.
      golden: The file with what it gave for a few examples when it was written.
    """

    path: str
    sha256: str
    files: tuple[StoredFile, ...]
    outputs: Mapping[str, str]
    golden: StoredFile

    @classmethod
    def read(cls, entry: JsonObject) -> "TransformGraphEntry":
        """Reads an entry."""
        return cls(
            entry.path("path"),
            entry.string("sha256"),
            tuple(map(StoredFile.read, entry.objects("files"))),
            {name: output.string("dtype") for name, output in entry.object("outputs").named_objects()},
            StoredFile.read(entry.object("golden")),
        )

    def to_json(self) -> dict[str, Any]:
        """The graph's entry."""
        return {
            "path": self.path,
            "sha256": self.sha256,
            "files": [file.to_json() for file in self.files],
            "outputs": {name: {"dtype": dtype} for name, dtype in self.outputs.items()},
            "golden": self.golden.to_json(),
        }


@dataclass(frozen=True)
class StatisticsEntry:
    """statistics.json, the split that it tells of, and the file with the values that its columns have."""

    file: StoredFile
    split: str
    values: StoredFile

    @classmethod
    def read(cls, entry: JsonObject) -> "StatisticsEntry":
        """Reads an entry."""
        return cls(StoredFile.read(entry), entry.string("split"), StoredFile.read(entry.object("values")))

    def to_json(self) -> dict[str, Any]:
        """The statistics' entry."""
        return self.file.to_json() | {"split": self.split, "values": self.values.to_json()}


@dataclass(frozen=True)
class UnitsEntry:
    """What is kept of the units that a generation was made in, for runs after it and for `penstock diff`.

    Attributes:
      journals: The file with the journal of each unit, which lists what else is kept of it.
      inputs: The file with what each unit read.
      forgotten: The file with digests of what the dataset is to forget; None where that is nothing.
    """

    journals: StoredFile
    inputs: StoredFile
    forgotten: StoredFile | None = None

    @classmethod
    def read(cls, entry: JsonObject) -> "UnitsEntry":
        """Reads an entry."""
        forgotten = StoredFile.read(entry.object("forgotten"), "lines") if "forgotten" in entry.fields else None
        return cls(StoredFile.read(entry, "lines"), StoredFile.read(entry.object("inputs")), forgotten)

    def to_json(self) -> dict[str, Any]:
        """The units' entry."""
        entry = self.journals.to_json("lines") | {"inputs": self.inputs.to_json()}
        return entry | ({"forgotten": self.forgotten.to_json("lines")} if self.forgotten else {})


@dataclass(frozen=True)
class CroissantEntry:
    """croissant.json, and the file with the shards' checksums that it refers to."""

    file: StoredFile
    checksums: StoredFile

    @classmethod
    def read(cls, entry: JsonObject) -> "CroissantEntry":
        """Reads an entry."""
        return cls(StoredFile.read(entry), StoredFile.read(entry.object("checksums")))

    def to_json(self) -> dict[str, Any]:
        """The entry."""
        return self.file.to_json() | {"checksums": self.checksums.to_json()}


@dataclass(frozen=True)
class DuplicatesEntry:
    """Exact duplicates among the examples that were written.

    Attributes:
      groups: How many groups of equal examples there are.
      across_splits: How many of these lie in more than one split.
      examples: A few groups, as `duplicates.find_duplicates` gives them.
      file: The file with up to 10,000 of them; None where there are none.
      shared: Split to how many of its examples equal one of another split.
      contradicting: How many groups have more than one label.
    """

    groups: int
    across_splits: int
    examples: tuple[Mapping[str, Any], ...]
    file: StoredFile | None
    shared: Mapping[str, int]
    contradicting: int

    @classmethod
    def read(cls, entry: JsonObject) -> "DuplicatesEntry":
        """Reads an entry."""
        file = entry.optional_object("file")
        return cls(
            entry.count("groups"),
            entry.count("across_splits"),
            tuple(group.fields for group in entry.objects("examples")),
            StoredFile.read(file) if file else None,
            entry.object("shared").named_counts(),
            entry.count("contradicting"),
        )

    def to_json(self) -> dict[str, Any]:
        """The duplicates' entry."""
        return {
            "groups": self.groups,
            "across_splits": self.across_splits,
            "examples": list(self.examples),
            "file": self.file.to_json() if self.file else None,
            "shared": dict(self.shared),
            "contradicting": self.contradicting,
        }


@dataclass(frozen=True)
class RecipeName:
    """A recipe's name, and the SHA-256 of its file."""

    name: str
    hash: str


@dataclass(frozen=True)
class Reasons:
    """Why examples were left out.

    Attributes:
      filtered: Filter reason to count.
      quarantined: Reason code of the quarantine to count.
      filtered_examples: Filter reason to the key of an example.
      quarantined_examples: Reason code to the key of an example and what was wrong with it, in words.
    """

    filtered: Mapping[str, int]
    quarantined: Mapping[str, int]
    filtered_examples: Mapping[str, str]
    quarantined_examples: Mapping[str, str]

    @classmethod
    def read(cls, entry: JsonObject) -> "Reasons":
        """Reads an entry."""
        examples = entry.object("examples")
        return cls(
            entry.object("filtered").named_counts(),
            entry.object("quarantined").named_counts(),
            examples.object("filtered").named_strings(),
            examples.object("quarantined").named_strings(),
        )

    def to_json(self) -> dict[str, Any]:
        """The entry."""
        return {
            "filtered": dict(self.filtered),
            "quarantined": dict(self.quarantined),
            "examples": {"filtered": dict(self.filtered_examples), "quarantined": dict(self.quarantined_examples)},
        }


@dataclass(frozen=True)
class Origin:
    """What a generation is made from and by, all of it known before anything is made.

    Attributes:
      recipe: The recipe.
      versions: Package name to the version that made it.
      options: What the recipe and the command line asked for.
      prepare: What reading and `prepare` do to raw data; see `planning/step_configs.py`.
      schema: A table's raw columns (see `raw_schema`); None where files are the input.
    """

    recipe: RecipeName
    versions: Mapping[str, str]
    options: Mapping[str, Any]
    prepare: Mapping[str, Any]
    schema: str | None

    @classmethod
    def read(cls, entry: JsonObject) -> "Origin":
        """Reads a manifest's fields."""
        recipe = entry.object("recipe")
        return cls(
            RecipeName(recipe.string("name"), recipe.string("hash")),
            entry.object("versions").named_strings(),
            entry.object("options").fields,
            entry.object("prepare").fields,
            entry.optional_string("schema"),
        )

    def to_json(self) -> dict[str, Any]:
        """The manifest's fields."""
        return {
            "recipe": asdict(self.recipe),
            "versions": dict(self.versions),
            "options": dict(self.options),
            "prepare": dict(self.prepare),
            "schema": self.schema,
        }


@dataclass(frozen=True)
class Identity:
    """What tells whether a generation, or parts of it, are what a run would make; see `planning/identity.py`.

    Attributes:
      content: Of all examples, the statistics and the graph, in whatever layout.
      shape: Of what becomes of a piece of the input.
      statistics: Of what units keep for the statistics.
      frame: As `shape`, but for the code of `prepare`; empty where it is not known.
    """

    content: str
    shape: str
    statistics: str
    frame: str = ""

    @classmethod
    def read(cls, entry: JsonObject) -> "Identity":
        """Reads an entry."""
        frame = entry.string("frame") if "frame" in entry.fields else ""
        return cls(entry.string("content"), entry.string("shape"), entry.string("statistics"), frame)


@dataclass(frozen=True)
class DeltaEntry:
    """What a generation has taken over from another one, its base.

    Attributes:
      base: The base's id.
      units: How many of its units are the base's as a whole.
      examples: How many examples it read were not prepared again.
      shapes: The shape ids of examples among them that an earlier `prepare` has made; see `--keep-prepared`.
    """

    base: str
    units: int
    examples: int
    shapes: tuple[str, ...] = ()

    @classmethod
    def read(cls, entry: JsonObject) -> "DeltaEntry":
        """Reads an entry."""
        reused = entry.object("reused")
        shapes = entry.strings("shapes") if "shapes" in entry.fields else ()
        return cls(entry.string("base"), reused.count("units"), reused.count("examples"), shapes)

    def to_json(self) -> dict[str, Any]:
        """The entry."""
        entry = {"base": self.base, "reused": {"units": self.units, "examples": self.examples}}
        return entry | ({"shapes": list(self.shapes)} if self.shapes else {})


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. Its files' paths are relative to the dataset.

    Attributes:
      origin: What the generation is made from and by.
      warnings: What was found to warn of, in words.
      generation: The generation's id.
      created: When the run that made it began (ISO 8601, UTC).
      read: How many examples the source has: those written, filtered and quarantined.
      written: How many are in the shards.
      filtered: How many were left out for a reason that the recipe names.
      quarantined: How many could not be prepared.
      reasons: Why.
      quarantine: The files that tell of each of the quarantined.
      filtered_lists: The files that list the filtered, or the first ones of each reason.
      features: Feature name to what is stored of it.
      splits: Split name to its shards.
      transform_graph: The transform graph.
      statistics: The statistics of one split.
      duplicates: Exact duplicates.
      units: What is kept of its units; None in generations that were made before any of it was kept.
      croissant: Its Croissant metadata; None in generations that were made before it was written.
      identity: What it is compared with a run by; None in generations that were made before any was written.
      delta: What it has taken over from another generation; None: nothing.
    """

    origin: Origin
    warnings: tuple[str, ...]
    generation: str
    created: str
    read: int
    written: int
    filtered: int
    quarantined: int
    reasons: Reasons
    quarantine: tuple[StoredFile, ...]
    filtered_lists: tuple[StoredFile, ...]
    features: Mapping[str, Feature]
    splits: Mapping[str, SplitEntry]
    transform_graph: TransformGraphEntry
    statistics: StatisticsEntry
    duplicates: DuplicatesEntry
    units: UnitsEntry | None = None
    croissant: CroissantEntry | None = None
    identity: Identity | None = None
    delta: DeltaEntry | None = None

    @property
    def content(self) -> str:
        """Its content id, which is its own id where it has the canonical layout."""
        return self.identity.content if self.identity else self.generation

    def files(self) -> Iterator[StoredFile]:
        """Every file of the generation that its readers need, but the manifest itself, once; see `damage.all_files`."""
        for split in self.splits.values():
            for shard in split.shards:
                yield shard.file
                if shard.index:
                    yield shard.index
        yield from self.quarantine
        yield from self.filtered_lists
        yield from self.transform_graph.files
        yield self.transform_graph.golden
        yield self.statistics.file
        yield self.statistics.values
        if self.duplicates.file:
            yield self.duplicates.file

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        return {
            **self.origin.to_json(),
            "warnings": list(self.warnings),
            "format": paths.FORMAT,
            "generation": self.generation,
            "created": self.created,
            "read": self.read,
            "written": self.written,
            "filtered": self.filtered,
            "quarantined": self.quarantined,
            "reasons": self.reasons.to_json(),
            "quarantine": [file.to_json("lines") for file in self.quarantine],
            "filtered_lists": [file.to_json("lines") for file in self.filtered_lists],
            "features": {name: feature.to_json() for name, feature in self.features.items()},
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "transform_graph": self.transform_graph.to_json(),
            "statistics": self.statistics.to_json(),
            "duplicates": self.duplicates.to_json(),
            **({"units": self.units.to_json()} if self.units else {}),
            **({"croissant": self.croissant.to_json()} if self.croissant else {}),
            **({"identity": asdict(self.identity)} if self.identity else {}),
            **({"delta": self.delta.to_json()} if self.delta else {}),
        }

    @classmethod
    def from_json(cls, value: object) -> "Manifest":
        """Reads the JSON object back.

        Raises:
          ValueError: a field is missing, of another type, or leads out of the dataset; the message names its key.
        """
        entry = JsonObject.of(value)
        return cls(
            origin=Origin.read(entry),
            warnings=entry.strings("warnings"),
            generation=read_generation_id(entry),
            created=entry.string("created"),
            read=entry.count("read"),
            written=entry.count("written"),
            filtered=entry.count("filtered"),
            quarantined=entry.count("quarantined"),
            reasons=Reasons.read(entry.object("reasons")),
            quarantine=tuple(StoredFile.read(file, "lines") for file in entry.objects("quarantine")),
            filtered_lists=tuple(StoredFile.read(file, "lines") for file in entry.objects("filtered_lists")),
            features={name: _feature(feature) for name, feature in entry.object("features").named_objects()},
            splits={name: SplitEntry.read(split) for name, split in entry.object("splits").named_objects()},
            transform_graph=TransformGraphEntry.read(entry.object("transform_graph")),
            statistics=StatisticsEntry.read(entry.object("statistics")),
            duplicates=DuplicatesEntry.read(entry.object("duplicates")),
            units=UnitsEntry.read(entry.object("units")) if "units" in entry.fields else None,
            croissant=CroissantEntry.read(entry.object("croissant")) if "croissant" in entry.fields else None,
            identity=Identity.read(entry.object("identity")) if "identity" in entry.fields else None,
            delta=DeltaEntry.read(entry.object("delta")) if "delta" in entry.fields else None,
        )

    def encode(self) -> bytes:
        """The bytes of manifest.json."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()

    @classmethod
    def decode(cls, content: bytes, uri: str) -> "Manifest":
        """Reads the bytes of a manifest.json.

        Raises:
          DatasetError: they are not a manifest, or one of a newer format.
        """
        try:
            value = json.loads(content)
            check_format(JsonObject.of(value), uri)
            return cls.from_json(value)
        except ValueError as error:
            raise DatasetError(
                f"{uri}: expected a manifest as this penstock writes it: {error}; install the one that wrote it, or "
                f"{_AGAIN}"
            ) from error

    @classmethod
    def load(cls, dataset: str) -> "Manifest":
        """The manifest of a dataset's current generation.

        Raises:
          NotCommittedError: nothing was committed there.
          DatasetError: the manifest is missing or damaged.
        """
        pointer = Pointer.read(dataset)
        if pointer is None:
            raise not_committed(dataset)
        return cls.load_pointed(dataset, pointer)

    @classmethod
    def load_pointed(cls, dataset: str, pointer: Pointer) -> "Manifest":
        """The manifest that a pointer names.

        Raises:
          DatasetError: the manifest is missing or damaged.
        """
        uri = files.join(dataset, pointer.manifest)
        content = _read_manifest(uri)
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != pointer.sha256:
            raise DatasetError(f"{uri}: expected SHA-256 {pointer.sha256}, found {sha256}: it was changed; {_AGAIN}")
        return cls._decode_of(content, uri, pointer.generation)

    @classmethod
    def read_generation(cls, dataset: str, generation: str) -> tuple["Manifest", "Pointer"]:
        """The manifest of any generation that was committed once, and the pointer that would make it current.

        Raises:
          DatasetError: it has no manifest, or one that is not as it was written.
        """
        root = files.join(dataset, generation)
        uri, sum_uri = files.join(root, paths.MANIFEST), files.join(root, paths.MANIFEST_SHA256)
        content = _read_manifest(uri)
        pointer = Pointer.to(generation, content)
        try:
            expected = files.read_bytes(sum_uri, POINTER_BYTES)
        except OSError as error:
            raise DatasetError(f"{sum_uri}: expected the manifest's checksum, found: {error}; {_AGAIN}") from error
        if expected != pointer.manifest_sum():
            raise DatasetError(f"{uri}: expected the SHA-256 in {sum_uri}, found {pointer.sha256}; {_AGAIN}")
        return cls._decode_of(content, uri, generation), pointer

    @classmethod
    def _decode_of(cls, content: bytes, uri: str, generation: str) -> "Manifest":
        """Reads the bytes of the manifest of a generation."""
        manifest = cls.decode(content, uri)
        if manifest.generation != generation:
            raise DatasetError(f"{uri}: expected generation {generation}, found {manifest.generation}; {_AGAIN}")
        return manifest


def read_stored(dataset: str, file: StoredFile) -> bytes:
    """The content of a file that a manifest lists, checked.

    Raises:
      DatasetError: it is missing, or is not as it was written.
    """
    uri = files.join(dataset, file.path)
    try:
        content = files.read_bytes(uri, file.bytes)
    except OSError as error:
        raise DatasetError(f"{uri}: expected {file.bytes} bytes, found: {error}; run `penstock verify`") from error
    if stored_file(file.path, content).sha256 != file.sha256:
        raise DatasetError(f"{uri}: expected SHA-256 {file.sha256}, found another; run `penstock verify`")
    return content


def _read_manifest(uri: str) -> bytes:
    try:
        return files.read_bytes(uri, _MANIFEST_BYTES)
    except OSError as error:
        raise DatasetError(f"{uri}: expected a manifest, found: {error}; {_AGAIN}") from error


def _feature(entry: JsonObject) -> Feature:
    """Reads a feature; a property that this penstock does not know may change what the stored bytes mean."""
    known = Feature.__dataclass_fields__.keys()
    if entry.fields.keys() - known:
        raise mismatch(entry.key, f"no field but {', '.join(known)}", sorted(entry.fields))
    shape = entry.array("shape")
    if not all(size is None or (type(size) is int and size >= 0) for size in shape):
        raise mismatch(entry.key_of("shape"), "a list of whole numbers from 0 or null", shape)
    return Feature(
        entry.string("kind"),
        entry.string("dtype"),
        tuple(shape),
        entry.optional_string("encoding"),
        entry.boolean("optional"),
    )


def not_committed(dataset: str) -> NotCommittedError:
    """What is there, where there is no pointer."""
    if files.exists(files.join(dataset, paths.MANIFEST)):
        return NotCommittedError(f"{dataset}: expected a dataset, found a generation of one; open its parent folder")
    if files.exists(dataset):
        return NotCommittedError(
            f"{dataset} is not committed: it has no {paths.POINTER}; a run has not ended yet, or has failed: "
            "run the recipe again to resume it"
        )
    return NotCommittedError(f"expected a dataset at {dataset}, found nothing there; check the path")

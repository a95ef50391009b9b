"""A committed dataset, open for reading."""

import json
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DatasetError, PenstockError, RequestError
from ..formats import class_order
from ..formats.decode import Array, Decoder, allocate, dtype_of
from ..formats.features import IMAGE, LABEL
from ..formats.generations import load_generation
from ..formats.manifest import Manifest, StoredFile, read_stored
from ..graph.executor import CompiledGraph
from ..graph.transform import Transform
from ..storage import files
from . import show
from .ahead import Stretch, Use
from .batches import Batches, make_options, with_state
from .block_cache import BlockCache
from .examples import Examples
from .open_files import KEPT_BYTES, OpenFiles
from .order import WINDOW, Order, Shuffle, check_int, choose_shuffle
from .reader import Reader, RecordReader
from .records import ShardRecords
from .shard_files import shard_files

if TYPE_CHECKING:
    from ..serving.export import Export
    from .jax import JaxBatches
    from .torch import TorchBatches

Features = bool | Literal["host"]
_BLOCK = 1024  # examples of which a column is read at a time
_BLOCKS = "penstock-blocks"  # the folder in a cache_dir, in which others may keep what they want
_REACH_BYTES = KEPT_BYTES // 2  # of shards or row groups that are kept in memory, in which any order costs the same
_COMPRESSION = 4  # how much smaller a compressed shard is taken to be
_SHOWN_EXAMPLES = 8  # in a notebook
_SHOWN_PIXELS = 1 << 24  # of larger images none is shown: they would be decoded whole
_LIST = 8  # how many items a list of any length is taken to have


@dataclass(frozen=True)
class SplitInfo:
    """A split: its name, how many examples it has, in how many shards of how many bytes."""

    name: str
    examples: int
    shards: int
    bytes: int


def open_dataset(
    uri: str | os.PathLike[str],
    *,
    generation: str | None = None,
    verify: bool = False,
    trust: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> "Dataset":
    """Opens a committed dataset: reads its pointer and a manifest, and checks that its files are there and whole.

    A dataset in a store (`s3://`, `gs://`, ...) is read ahead of its use, in memory. With a `cache_dir`, what was read
    is also kept on this machine's disk, for the epochs that follow and for other processes: docs/loading.md.

    Args:
      uri: The dataset's folder, as given to `penstock run --output`.
      generation: The id of the generation to read, as `penstock log` lists them, or the beginning of it that no other
        one has; None: the current one. It stays readable until `penstock prune` removes it.
      verify: Whether to check every file's SHA-256, too, which reads all of them; sizes are always checked.
      trust: Whether the transform graph may do whatever it wants where TensorFlow runs it (`tf` with the saved graph,
        `export`). A graph is a program, which could read and write files: by default it is refused, before any of it
        runs, unless all of its operations are known to be harmless. docs/security.md has the whole of it.
      cache_dir: A local folder in which parts of the shards are kept, if the dataset is in a store; processes may share
        it, and datasets, too. None: nothing is written.
      cache_bytes: What the folder may take at most, at any moment. None: 10 GiB, but no more than half of what the disk
        has left.

    Raises:
      RequestError: `cache_dir` cannot be written to, `cache_bytes` is too small, or there is no such generation.
      NotCommittedError: there is no dataset, or none that was committed.
      DatasetError: a file is missing or damaged, or a newer penstock wrote it.
    """
    uri = os.fspath(uri)
    if not uri:
        raise RequestError("expected the URI of a dataset's folder, found an empty string")
    uri = uri.rstrip("/") or "/"
    dataset = Dataset(uri, load_generation(uri, generation)[0], trust, _cache(uri, cache_dir, cache_bytes))
    stored = {files.join(uri, file.path): file for file in dataset.files()}
    sizes = _listed_sizes(files.join(uri, dataset.generation))
    for _ in files.map_files(lambda each: _check_file(each, stored[each], sizes.get(each), verify), stored):
        pass
    return dataset


def _cache(uri: str, folder: str | os.PathLike[str] | None, limit: int | None) -> BlockCache | None:
    """The cache of a dataset in a store; a local one has none."""
    if folder is None:
        if limit is not None:
            raise RequestError(f"cache_bytes: expected a cache_dir with it, found {limit} alone; name a local folder")
        return None
    path = os.fspath(folder)
    if not path or not files.is_local(path):
        raise RequestError(f"cache_dir: expected a local folder, found {path!r}")
    if files.is_local(uri):
        return None
    return BlockCache(os.path.join(path, _BLOCKS), None if limit is None else check_int("cache_bytes", limit, 1))


def _listed_sizes(folder: str) -> dict[str, int]:
    """The sizes of the files in a store's folder, by their URIs, as far as it lists them: it takes fewer requests."""
    if files.is_local(folder) or files.is_unlisted(folder):
        return {}
    try:
        return {info.uri: info.size for info in files.list_folder(folder)}
    except OSError:  # who may read files may not list them everywhere
        return {}


def _check_file(uri: str, file: StoredFile, size: int | None, verify: bool) -> None:
    """Checks a file's size, which is None where it is not known, and if it is asked for its content."""
    try:
        size = files.size(uri) if size is None else size
        if size != file.bytes:
            raise DatasetError(f"{uri}: expected {file.bytes} bytes, found {size}; run `penstock verify`")
        if verify and files.sha256(uri)[0] != file.sha256:
            raise DatasetError(f"{uri}: expected SHA-256 {file.sha256}, found another; run `penstock verify`")
    except FileNotFoundError as error:
        raise DatasetError(f"{uri}: a file that the manifest lists is missing; run `penstock verify`") from error
    except OSError as error:
        raise DatasetError(f"{uri}: the file cannot be read: {error}; run `penstock verify`") from error


class Dataset:
    """What `open_dataset` returns. It pickles: another process opens the files again.

    Attributes:
      uri: The dataset's folder.
      manifest: What was made, of what, and where it is.
      trust: Whether the transform graph may do whatever it wants; see `open_dataset`.
      cache: Where parts of its shards are kept, if it is in a store; None: nowhere.
      generation: The generation's id.
      splits: Split name to its counts.
      features: Feature name to what is stored of it.
    """

    def __init__(self, uri: str, manifest: Manifest, trust: bool = False, cache: BlockCache | None = None) -> None:
        self.uri = uri
        self.manifest = manifest
        self.trust = trust
        self.cache = cache
        self.generation = manifest.generation
        self.splits = {
            name: SplitInfo(name, split.examples, len(split.shards), split.bytes)
            for name, split in manifest.splits.items()
        }
        self.features = dict(manifest.features)
        self._open_files = OpenFiles()

    def __getstate__(self) -> tuple[str, Manifest, bool, BlockCache | None]:
        return self.uri, self.manifest, self.trust, self.cache

    def __setstate__(self, state: tuple[str, Manifest, bool, BlockCache | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return show.text(self.uri, self.manifest)

    def _repr_html_(self) -> str:
        return show.html(self.uri, self.manifest, *self._shown())

    def _shown(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The statistics, and a few examples with images, as far as they can be read: a display never fails."""
        statistics: dict[str, Any] = {}
        examples: list[dict[str, Any]] = []
        try:
            statistics = self._statistics
            image, split = self.features.get(IMAGE), self.manifest.statistics.split
            if image is not None and image.is_pixels and math.prod(image.pixel_shape) <= _SHOWN_PIXELS:
                examples = self.examples(split, _SHOWN_EXAMPLES)
        except (PenstockError, OSError, ValueError):  # what cannot be read is left out
            pass
        return statistics, examples

    def __len__(self) -> int:
        """Examples in all splits."""
        return sum(split.examples for split in self.splits.values())

    @property
    def remote(self) -> bool:
        """Whether it is in a store, and not on this machine's disks."""
        return not files.is_local(self.uri)

    def files(self) -> Iterator[StoredFile]:
        """Every file that the manifest lists; paths are relative to the dataset."""
        return self.manifest.files()

    @cached_property
    def statistics(self) -> Mapping[str, Any]:
        """Feature name to its full-pass statistics, as attributes: `statistics["image"].mean`."""
        return {name: SimpleNamespace(**_in_class_order(entry)) for name, entry in self._statistics["features"].items()}

    @cached_property
    def labels(self) -> Mapping[str, Mapping[str, int]]:
        """Split to label to how many examples have it; empty where examples have no labels.

        Labels are in the order of their names, numbers in the order of numbers.
        """
        counts: Mapping[str, Mapping[str, int]] = self._statistics.get("labels", {})
        return {split: class_order.ordered(labels) for split, labels in counts.items()}

    def vocabulary(self, output: str = "label") -> list[str]:
        """What the ids of an output stand for, without TensorFlow: `ds.vocabulary("label")[id]` is a class's name.

        Args:
          output: An output of the transform graph that numbers the values of one string or integer.

        Returns:
          The value of each id, "" where none has it; ids that come after stand for values that are missing or unknown.

        Raises:
          RequestError: there is no such output, or its numbers are no ids of one value each.
          NotPortableError: the output needs an operation that only TensorFlow can do.
        """
        from ..graph.vocabulary import names_of_ids

        graph = self.transform.portable_part
        if output in self.transform.outputs and output not in graph.outputs:
            graph = self.transform.graph  # says why it has no portable form
        return names_of_ids(graph, output, self.features, self._known_values())

    def _known_values(self) -> dict[str, list[bytes]]:
        """Of stored strings, all values that the statistics list."""
        values = {
            name: list(entry["top"])
            for name, entry in self._statistics["features"].items()
            if len(entry.get("top", ())) == entry.get("distinct")
        }
        if self.labels:
            values[LABEL] = [label for labels in self.labels.values() for label in labels]
        return {name: [value.encode() for value in dict.fromkeys(each)] for name, each in values.items()}

    def column(self, split: str, name: str = LABEL) -> Array:
        """All stored values of one feature of a split, in the order of storage: no pixels are decoded.

        Args:
          split: The split's name.
          name: A stored feature without pixels; the labels of images.

        Returns:
          An array `[examples, *shape]`; strings are bytes objects.

        Raises:
          RequestError: there is no such feature.
          DatasetError: an example is damaged.
        """
        without_pixels = [each for each, feature in self.features.items() if not feature.is_pixels]
        if name not in without_pixels:
            raise RequestError(f"column: expected one of the stored features {without_pixels}, found {name!r}")
        reader = self._reader(split, False, names=[name])
        values = allocate(reader.features, len(reader))
        stretches = (Stretch(start, min(start + _BLOCK, len(reader))) for start in range(0, len(reader), _BLOCK))
        for stretch, part in reader.ahead(stretches, Use(Order(reader.sizes))):
            reader.fill(values, range(stretch.first, stretch.end), stretch.first, part)
        return values[name]

    @cached_property
    def _statistics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(read_stored(self.uri, self.manifest.statistics.file))
        return content

    @property
    def schema(self) -> dict[str, Any]:
        """What `features=False` gives: feature name to (dtype, shape), without the batch."""
        return {name: (dtype_of(feature), feature.shape) for name, feature in self.features.items()}

    @cached_property
    def transform(self) -> Transform:
        """The transform graph, as a function of batches: `transform(batch)`, `transform.host`, `transform.device`."""
        graph = self.manifest.transform_graph
        return Transform(files.join(self.uri, graph.path), graph.outputs, self.trust)

    def source(self, split: str, *, features: Features = False) -> Examples:
        """A split as a sequence with random access: `len(s)`, `s[i]`, `s[[i, j]]`.

        It is a map-style PyTorch Dataset (with `__getitems__`) and a Grain RandomAccessDataSource.

        Args:
          split: The split's name.
          features: Whether the transform graph is applied; "host" applies the host's part of it.
        """
        return Examples(self._reader(split, False, features), self.transform, features)

    def examples(self, split: str, count: int = 5) -> list[dict[str, Any]]:
        """The first stored examples of a split, decoded: to look at."""
        source = self.source(split)
        return [source[number] for number in range(min(count, len(source)))]

    def numpy(
        self,
        split: str,
        batch_size: int = 32,
        *,
        shuffle: bool | Shuffle = False,
        seed: int = 0,
        repeat: int | None = 1,
        shard: tuple[int, int] | None = None,
        features: Features = True,
        drop_remainder: bool = False,
        equal: bool = False,
        cache: bool = False,
        threads: int | None = None,
        prefetch: int = 2,
        window: int | None = None,
        skip_damaged: bool = False,
        state: Mapping[str, int] | None = None,
    ) -> Batches:
        """Batches of NumPy arrays; an iterable with `state()` and `restore()`.

        Each iteration begins the next epoch, also after one that was broken off; only after `restore`, or with `state`,
        the first one goes on where it was.

        Args:
          split: The split's name.
          batch_size: Examples in a batch.
          shuffle: "exact": a permutation of the whole split, anew in every epoch. "window": stretches of neighbours in
            random order, and examples within a window of many of them. True: "exact" where that costs little (a
            split of up to 4 GiB on a disk, not compressed) and no window is named, else "window"; the loader's repr
            tells which.
          seed: Chooses the orders: the same on every machine.
          repeat: Epochs of an iteration; None for ever. A batch holds examples of one epoch.
          shard: (index, count): this host's number, and how many hosts there are. Hosts get disjoint examples, and
            together all. None: all examples here; but `torch` and `jax` ask their frameworks which process this is.
          features: Whether the transform graph is applied; "host" applies only what the host must do (strings
            and look-ups) and leaves the rest to `transform.device`.
          drop_remainder: Whether only full batches are made; then all hosts make equally many.
          equal: Whether all hosts get equally many examples, which leaves out fewer than there are hosts.
          cache: Whether decoded examples are kept in memory, so that only the first epoch decodes.
          threads: Decoding threads; None: one a core, but no more than pay; docs/loading.md says how many do.
          prefetch: Batches that are made ahead.
          window: How many examples change places, with shuffle="window"; None: 16,384.
          skip_damaged: Whether damaged examples are passed over, with a warning; `loader.skipped` counts them. A batch
            is smaller by them; with drop_remainder, other examples of the batch take their places. Without it, a
            damaged example is an error, after the batches before it were given.
          state: Where to go on: what `state()` returned. The first iteration gives what is left of the interrupted one.

        Raises:
          RequestError: an argument is wrong.
          NotPortableError: features are asked for, and the graph has an operation that only TensorFlow can do.
        """
        options = make_options(
            shard,
            batch_size=batch_size,
            repeat=repeat,
            drop_remainder=drop_remainder,
            equal=equal,
            cache=cache,
            threads=threads,
            prefetch=prefetch,
            skip_damaged=skip_damaged,
        )
        if features not in (True, False, "host"):
            raise RequestError(f'features: expected True, False or "host", found {features!r}')
        reader = self._reader(split, cache, features)
        reach = self._reach(split)
        how = _shuffle(shuffle)
        if shuffle is True and window is None:
            how = choose_shuffle(not self.remote, self.splits[split].bytes, len(reader), reach)
        window = WINDOW if window is None else window
        order = Order(reader.sizes, how, seed, window, f"{self.generation}/{split}", reach)
        return with_state(Batches(reader, order, options, self._compiled(reader, features)), state)

    def torch(self, split: str, batch_size: int = 32, *, device: Any = None, **options: Any) -> "TorchBatches":
        """Batches of PyTorch tensors: an IterableDataset that makes batches, so give DataLoader batch_size=None.

        It decodes in threads of its own and needs no DataLoader, but takes one: workers make alternate batches, so that
        the order stays the same. It has `state_dict()` and `load_state_dict()`, which Lightning and torchdata's
        StatefulDataLoader call. Strings are lists of bytes objects.

        Args:
          split: The split's name.
          batch_size: Examples in a batch.
          device: Where batches go; there the device's part of the graph runs, and pixels travel as they are stored.
          **options: As for `numpy`. With shard=None, the rank in torch.distributed says which examples this process
            gets, if it is initialized when an iteration begins; shard=(0, 1) gives all examples to every process.
        """
        from .torch import TorchBatches

        features, by_rank = options.get("features", True), options.get("shard") is None
        on_device = device is not None and features is not False
        engine = self.numpy(split, batch_size, **{**options, "features": "host" if on_device else features})
        apply = self.transform.device if on_device and features is True else None
        return TorchBatches(engine, device, apply, by_rank)

    def jax(self, split: str, batch_size: int = 32, *, sharding: Any = None, **options: Any) -> "JaxBatches":
        """Batches of JAX arrays, on their way to the devices while the last one is in use.

        Args:
          split: The split's name.
          batch_size: Examples in this process's batch; a multiple of the parts into which the sharding divides it.
          sharding: A jax.sharding.Sharding for the first axis; None: evenly over this process's devices. One over the
            devices of several processes makes arrays with the rows of all of them.
          **options: As for `numpy`. With features=True the device's part of the graph is compiled and runs there.
            JAX makes 64-bit integers 32-bit unless jax_enable_x64 is set. Strings stay NumPy arrays. With shard=None,
            processes share the examples; those to which the sharding gives the same rows get the same examples.
        """
        from .jax import JaxBatches

        features = options.get("features", True)
        host = {**options, "features": "host" if features else False}
        transform = self.transform if features is True else None
        return JaxBatches(self.numpy(split, batch_size, **host), sharding, transform, options.get("shard") is None)

    def tf(
        self, split: str, batch_size: int = 32, *, deterministic: bool = True, graph: str | None = None, **options: Any
    ) -> Any:
        """A tf.data.Dataset of batches.

        Its attribute `loader` has `state_after(batches)`, counted from the beginning of the iteration begun last; go on
        from a state with `state=`. What `map` and the like make of the dataset has no such attribute. Each iteration
        begins the next epoch; one that is begun while another is under way, as by tf.data.Dataset.zip, gives the same.

        Args:
          split: The split's name.
          batch_size: Examples in a batch.
          deterministic: False lets batches overtake each other, where the saved graph is applied.
          graph: "portable" applies the portable graph as batches are made, "saved" the SavedModel to batches, on the
            other side of TensorFlow's thread pools; None: the portable one where there is one, which is faster.
          **options: As for `numpy`.
        """
        from .tf import make

        features = options.pop("features", True)
        if features not in (True, False):
            raise RequestError(f"features: expected True or False, found {features!r}; TensorFlow runs the whole graph")
        if graph not in (None, "portable", "saved"):
            raise RequestError(f'graph: expected "portable", "saved" or None, found {graph!r}')
        portable = features and graph != "saved" and (graph == "portable" or self.transform.portable)
        loader = self.numpy(split, batch_size, features=portable, **options)
        stored = None if portable else self.features
        saved = self.transform if features and not portable else None
        return make(loader, stored, saved, deterministic, resumed=options.get("state") is not None)

    def export(self, path: str, outputs: Sequence[str] | None = None, without: Sequence[str] = ()) -> "Export":
        """Writes a SavedModel whose `serving_default` takes raw inputs: photos as files, or a table's raw columns.

        It does what `prepare` and the transform graph did in training, to the bit (docs/loading.md has the limits), and
        needs TensorFlow alone. A function of your own in `prepare` cannot be included: then it takes prepared examples,
        and `not_included` names the function. One that says by `transforms.touches` that it changes nothing which the
        outputs need does not matter. One more output, `valid`, is false for an input that a run would quarantine; its
        other outputs are zeros. A second signature, `examples`, takes the same inputs as serialized
        tf.train.Examples; there is none where they are prepared pixels.

        Args:
          path: A new folder, or an empty one; TensorFlow Serving wants the version as its name: "served/pets/1".
          outputs: Which of the graph's outputs it gives; only what they need is asked for. None: all but those that
            need a label, a mask or a key; name them where other features are targets, too.
          without: Outputs that it does not give.

        Raises:
          RequestError: something is in the folder, it cannot be written to, or an output cannot be given.
        """
        from ..serving.export import export

        return export(self.transform, self.features, self.manifest.origin.prepare, path, outputs, without)

    def _reach(self, split: str) -> int | None:
        """How many examples of a split can be read in any order at about the same cost; None: all.

        Of a compressed shard, and of a Parquet one's row groups, what was read is kept as a whole, and not too many.
        """
        info = self.splits[split]
        paths = [shard.path for shard in self.manifest.splits[split].shards]
        if not any(path.endswith((".gz", ".parquet")) for path in paths) or not info.examples:
            return None
        values = sum(math.prod(size or _LIST for size in feature.shape) for feature in self.features.values())
        decoded = 2 * info.bytes / info.examples + 8 * values
        return max(1, int(_REACH_BYTES / max(decoded, _COMPRESSION * info.bytes / info.examples)))

    def _compiled(self, reader: Reader, features: Features) -> CompiledGraph | None:
        if not features or not len(reader):
            return None
        return self.transform.compiled(features, reader.sample())

    def _reader(
        self, split: str, cache: bool, features: Features = False, names: Collection[str] | None = None
    ) -> Reader:
        if split not in self.splits:
            raise RequestError(f"split: expected one of {list(self.splits)}, found {split!r}")
        shards = shard_files(self.uri, self.manifest.splits[split].shards)
        if names is None:
            names = self.transform.inputs if features else self.features.keys()
        features_read = {name: feature for name, feature in self.features.items() if name in names}
        if shards and all(shard.uri.endswith(".parquet") for shard in shards):
            from .parquet import ParquetReader  # Arrow takes a while to import

            return ParquetReader(shards, features_read, cache, self._open_files, self.cache)
        records = ShardRecords(shards, self._open_files, self.cache)
        return RecordReader(records, Decoder(features_read, self.features), cache)


def _in_class_order(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A feature's statistics, with classes of labels and masks in the order in which they are shown."""
    return {
        name: class_order.ordered(value) if name in ("classes", "counts") and isinstance(value, Mapping) else value
        for name, value in entry.items()
    }


def _shuffle(shuffle: bool | Shuffle) -> Shuffle:
    if shuffle is True:
        return "window"
    if shuffle in (False, None):
        return None
    if shuffle in ("window", "exact"):
        return shuffle
    raise RequestError(f'shuffle: expected True, False, "window" or "exact", found {shuffle!r}')

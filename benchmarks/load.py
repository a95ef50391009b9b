"""Measures how fast prepared photos reach a training loop, next to other loaders on the same examples, in one run.

    .venv/bin/python benchmarks/load.py [--quick] [--photos FOLDER] [--rounds N] [--seconds S] [--mosaic PYTHON]

It prepares two datasets first: photos stored as JPEG, and the same photos stored raw. Every reference reads the same
JPEG bytes in its own format and yields batches of 64 decoded photos; a package that is not installed is left out.
MosaicML Streaming needs an environment of its own: name its Python. Each loader runs in a process of its own; they take
turns, for several rounds. "warm": from the page cache, after an epoch. "cold": the first epoch, with the files dropped
from the page cache. Workers are threads for Penstock and tf.data, processes for the others. The best round of each is
reported, because other work on the machine can only slow a loader down; the spread shows by how much it did.
"""

import argparse
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import _photos

HERE = Path(__file__).parent
PHOTOS = 700
BATCH = 64
COPIES = 6  # of the split in every epoch, so that starting an epoch costs little in proportion
RECIPE = """
from penstock import Images, Recipe, folder
from penstock.transforms import image


def features(inputs):
    return {"image": image.standardize(inputs, "image"), "label": inputs["label"]}


def recipe_of(encoding):
    return Recipe(
        source=Images("*/*/*.jpg", label=folder()),
        prepare=[image.resize(224, 224, fit="cover")],
        features=features,
        encode={"image": encoding},
    )


jpeg, raw = recipe_of(image.jpeg(95)), recipe_of(image.raw())
"""
Batches = Iterable[Any]


def _stored(uri: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the stored JPEG bytes and the key of every example."""
    from penstock.pipeline.formats import example_reader

    source = _penstock(uri).source("train")
    for number in range(COPIES * len(source)):
        values = example_reader.parse(source.records[number % len(source)])
        yield bytes(values["image"][1]), bytes(values["key"][1])


def _penstock(uri: str) -> Any:
    from penstock import open_dataset

    return open_dataset(uri)


def _numpy(features: Any, **options: Any) -> Callable[[str, Path, int], Batches]:
    return lambda uri, _, workers: _penstock(uri).numpy(
        "train", BATCH, shuffle=True, repeat=COPIES, features=features, threads=workers, **options
    )


def _torch(features: Any) -> Callable[[str, Path, int], Batches]:
    return lambda uri, _, workers: _penstock(uri).torch(
        "train", BATCH, shuffle=True, features=features, threads=workers
    )


def _tf(features: bool) -> Callable[[str, Path, int], Batches]:
    return lambda uri, _, workers: _penstock(uri).tf(
        "train", BATCH, shuffle=True, repeat=COPIES, features=features, threads=workers
    )


def _tf_by_hand(autotune: bool) -> Callable[[str, Path, int], Batches]:
    return lambda uri, _, workers: _tf_data(uri, workers, autotune)


def _tf_data(uri: str, workers: int, autotune: bool) -> Batches:
    import tensorflow as tf

    dataset = _penstock(uri)
    shards = [f"{uri}/{shard.path}" for shard in dataset.manifest.splits["train"].shards]
    spec = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.string)}

    def parse(record: Any) -> Any:
        example = tf.io.parse_single_example(record, spec)
        return tf.io.decode_jpeg(example["image"], 3), example["label"]

    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    options.autotune.enabled = autotune
    files = tf.data.Dataset.from_tensor_slices(shards * COPIES).shuffle(len(shards) * COPIES)
    records = files.interleave(tf.data.TFRecordDataset, num_parallel_calls=workers).shuffle(1000)
    batches = records.map(parse, num_parallel_calls=workers).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return batches.with_options(options)  # type: ignore[no-any-return]


def _write_litdata(uri: str, folder: Path) -> None:
    from litdata.streaming.writer import BinaryWriter
    from PIL import Image

    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, (content, _) in enumerate(_stored(uri)):
        path = folder / "one.jpg"  # LitData stores a JPEG unchanged only if it is a file
        path.write_bytes(content)
        writer[number] = {"image": Image.open(path), "index": number}
    writer.done()
    writer.merge()


def _litdata(uri: str, folder: Path, workers: int) -> Batches:
    from litdata import StreamingDataLoader, StreamingDataset

    return StreamingDataLoader(
        StreamingDataset(str(folder), shuffle=True), batch_size=BATCH, num_workers=workers, persistent_workers=True
    )


def _write_webdataset(uri: str, folder: Path) -> None:
    import webdataset

    with webdataset.TarWriter(str(folder / "0.tar")) as sink:
        for number, (content, key) in enumerate(_stored(uri)):
            sink.write({"__key__": f"{number:06d}", "jpg": content, "txt": key})


def _webdataset(uri: str, folder: Path, workers: int) -> Batches:
    import webdataset

    # one tar per worker: it cannot divide a tar between workers
    urls = [str(folder / "0.tar")] * workers  # an epoch is that many times longer
    dataset = webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=None).shuffle(1000).decode("rgb8")
    batches = dataset.to_tuple("jpg", "txt").batched(BATCH)
    return webdataset.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=True)  # type: ignore[no-any-return]


def _write_grain(uri: str, folder: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(folder / "0.array_record"), "group_size:1")
    for content, _ in _stored(uri):
        writer.write(content)
    writer.close()


def _grain(uri: str, folder: Path, workers: int) -> Batches:
    import grain
    import numpy as np
    from PIL import Image

    source = grain.sources.ArrayRecordDataSource([str(folder / "0.array_record")])
    decoded = grain.MapDataset.source(source).shuffle(seed=0).map(lambda r: np.asarray(Image.open(io.BytesIO(r))))
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=4 * BATCH)
    return decoded.to_iter_dataset(options).batch(BATCH)  # type: ignore[no-any-return]


def _write_mosaic(uri: str, folder: Path) -> None:
    from PIL import Image
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns={"image": "jpeg", "index": "int"}) as writer:
        for number, path in enumerate(sorted(Path(uri).glob("*.jpg"))):
            writer.write({"image": Image.open(path), "index": number})  # a JPEG from a file is stored unchanged


def _mosaic(uri: str, folder: Path, workers: int) -> Batches:
    import numpy as np
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    class Decoded(StreamingDataset):
        def __getitem__(self, number: Any) -> Any:
            return np.asarray(super().__getitem__(number)["image"])

    dataset = Decoded(local=str(folder), shuffle=True, batch_size=BATCH)
    return DataLoader(dataset, batch_size=BATCH, num_workers=workers, persistent_workers=True)


# name -> (its package, the function that writes its files, the function that makes its batches)
LOADERS: dict[str, tuple[str, Callable[..., None] | None, Callable[[str, Path, int], Batches]]] = {
    "penstock numpy, decoded": ("penstock", None, _numpy(False)),
    "penstock numpy, host part": ("penstock", None, _numpy("host")),
    "penstock numpy, features": ("penstock", None, _numpy(True)),
    "penstock torch, decoded": ("torch", None, _torch(False)),
    "penstock torch, features": ("torch", None, _torch(True)),
    "penstock tf, decoded": ("tensorflow", None, _tf(False)),
    "penstock tf, features": ("tensorflow", None, _tf(True)),
    "tf.data by hand": ("tensorflow", None, _tf_by_hand(autotune=True)),
    "tf.data by hand, not autotuned": (
        "tensorflow",
        None,
        _tf_by_hand(autotune=False),
    ),  # autotuning waits at the end of an epoch
    "litdata": ("litdata", _write_litdata, _litdata),
    "webdataset": ("webdataset", _write_webdataset, _webdataset),
    "grain, array_record": ("grain", _write_grain, _grain),
    "mosaicml streaming": ("streaming", _write_mosaic, _mosaic),
}
RAW = "penstock numpy, decoded, raw"


def _size(batch: Any) -> int:
    while not hasattr(batch, "shape"):
        batch = batch["image"] if isinstance(batch, dict) else batch[0]
    return int(batch.shape[0])


def measure(name: str, uri: str, folder: Path, workers: int, seconds: float) -> dict[str, float]:
    """Measures one loader's examples per second, in the first epoch and later; runs in a process of its own."""
    _drop_from_cache(Path(uri) if name.startswith(("penstock", "tf.")) else folder)
    make = LOADERS[name][2]
    start = time.perf_counter()
    batches = make(uri, folder, workers)
    first = sum(_size(batch) for batch in batches)
    cold = first / (time.perf_counter() - start)
    examples, cpu, start = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        examples += sum(_size(batch) for batch in batches)
    elapsed = time.perf_counter() - start
    return {"cold": cold, "warm": examples / elapsed, "cpu": (time.process_time() - cpu) / elapsed}


def _drop_from_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _call(python: str, arguments: list[str]) -> Any:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [python, __file__, *arguments], capture_output=True, text=True, env=environment, timeout=600
    )
    if result.returncode:
        raise RuntimeError(f"{arguments}: exit code {result.returncode}\n{result.stderr[-1500:]}")
    return json.loads(result.stdout.splitlines()[-1]) if result.stdout.strip() else None


def _write_inputs(options: argparse.Namespace, scratch: Path) -> dict[str, str]:
    """Writes each reference's files; returns the loaders that can run, and the Python of each."""
    pythons = {}
    uri = options.jpeg
    for name, (package, writer, _) in LOADERS.items():
        if options.only and not name.startswith(tuple(options.only)):
            continue
        python = options.mosaic if name.startswith("mosaic") else sys.executable
        if python is None or (python == sys.executable and importlib.util.find_spec(package) is None):
            continue
        folder = scratch / name.replace(" ", "_")
        folder.mkdir()
        if name.startswith("mosaic"):  # its environment has no Penstock: give it files
            (scratch / "jpegs").mkdir()
            for number, (content, _) in enumerate(_stored(uri)):
                (scratch / "jpegs" / f"{number:06d}.jpg").write_bytes(content)
            _call(python, ["--write", name, "--jpeg", str(scratch / "jpegs"), "--scratch", str(folder)])
        elif writer:
            _call(python, ["--write", name, "--jpeg", uri, "--scratch", str(folder)])
        pythons[name] = python
    return pythons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos",
        type=Path,
        default=HERE.parent.parent / "shared/data/clothing",
        metavar="FOLDER",
        help="photos as .../<label>/<name>.jpg; drawn ones if there is no such folder (default: %(default)s)",
    )
    parser.add_argument("--jpeg", metavar="DATASET", help="a committed dataset to load instead, stored as JPEG")
    parser.add_argument("--raw", metavar="DATASET", help="with --jpeg: the same photos stored raw")
    parser.add_argument("--mosaic", metavar="PYTHON", help="a Python that has mosaicml-streaming")
    parser.add_argument("--rounds", type=int, help="how many times everything is run (default: 3)")
    parser.add_argument("--seconds", type=float, help="for each loader and round (default: 3)")
    parser.add_argument("--workers", type=int, nargs="+", help="threads or processes (default: 1 and 2)")
    parser.add_argument("--quick", action="store_true", help="one round of half a second with 2 workers: two minutes")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only loaders whose names start like this")
    parser.add_argument("--json", metavar="FILE", help="write all measurements there")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        writer = LOADERS[options.write][1]
        assert writer is not None
        return writer(options.jpeg, Path(options.scratch))
    if options.measure:
        figures = measure(options.measure, options.jpeg, Path(options.scratch), options.workers[0], options.seconds)
        return print(json.dumps(figures))
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.5 if options.quick else 3)
    options.workers = options.workers or ([2] if options.quick else [1, 2])
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        if not options.jpeg:
            options.jpeg, options.raw = _prepare(options.photos, Path(scratch))
        figures = _all_rounds(options, Path(scratch))
    _show(figures)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1))
    return None


def _prepare(photos: Path, scratch: Path) -> tuple[str, str]:
    """Prepares the photos twice; returns the dataset stored as JPEG and the one stored raw."""
    _photos.write(_photos.load(photos), PHOTOS, scratch / "photos")
    (scratch / "photos.py").write_text(RECIPE)
    for name in ("jpeg", "raw"):
        command = [sys.executable, "-m", "penstock.runners", "run", "--quiet", f"{scratch}/photos.py:{name}"]
        subprocess.run([*command, "--input", scratch / "photos", "--output", scratch / name], check=True)
    return str(scratch / "jpeg"), str(scratch / "raw")


def _all_rounds(options: argparse.Namespace, scratch: Path) -> dict[str, list[dict[str, float]]]:
    pythons = _write_inputs(options, scratch)
    figures: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.rounds):
        for workers in options.workers:
            for name, python in pythons.items():
                _one(figures, name, name, python, options.jpeg, scratch, workers, options.seconds)
            if options.raw:
                base = next(iter(LOADERS))
                _one(figures, RAW, base, sys.executable, options.raw, scratch, workers, options.seconds)
    return figures


def _one(
    figures: dict[str, list[dict[str, float]]], label: str, name: str, python: str, uri: str, scratch: Path,
    workers: int, seconds: float,
) -> None:  # fmt: skip
    folder = scratch / name.replace(" ", "_")
    arguments = ["--measure", name, "--jpeg", uri, "--scratch", str(folder), "--seconds", str(seconds)]
    measured = _call(python, [*arguments, "--workers", str(workers)])
    figures.setdefault(f"{label} x{workers}", []).append(measured)


def _show(figures: dict[str, list[dict[str, float]]]) -> None:
    print(f"{'examples/s':40} {'cold':>8} {'warm':>8}   warm, all rounds")
    for name, rounds in sorted(figures.items(), key=lambda item: item[0][-1] + item[0]):
        warm = sorted(entry["warm"] for entry in rounds)
        cold = max(entry["cold"] for entry in rounds)
        print(f"{name:40} {cold:8.0f} {warm[-1]:8.0f}   {' '.join(f'{value:.0f}' for value in warm)}")
    most = max(int(name.rpartition("x")[2]) for name in figures)

    def ratio(title: str, ours: str, theirs: list[str]) -> None:
        """Prints ours divided by the best of theirs: the median of the rounds."""
        names = [f"{name} x{most}" for name in theirs if f"{name} x{most}" in figures]
        if f"{ours} x{most}" not in figures or not names:
            return
        pairs = zip(figures[f"{ours} x{most}"], *(figures[name] for name in names), strict=True)
        ratios = sorted(mine["warm"] / max(other["warm"] for other in others) for mine, *others in pairs)
        print(f"{title:66} {statistics.median(ratios):5.2f}   ({ratios[0]:.2f} to {ratios[-1]:.2f})")

    peers = ["litdata", "webdataset", "mosaicml streaming"]
    print(f"\nratios with {most} workers: the median of the rounds, and the spread")
    ratio("tf with features / tf.data by hand without       (bar >= 1.0)", "penstock tf, features", ["tf.data by hand"])
    tuned = ["tf.data by hand, not autotuned"]
    ratio("tf with features / the same, without autotuning", "penstock tf, features", tuned)
    ratio("tf decoded / the same", "penstock tf, decoded", tuned)
    ratio("torch decoded / best of LitData, Mosaic, WebDataset", "penstock torch, decoded", peers)
    ratio("torch with features / best of LitData, Mosaic, WebDataset (>= 1.4)", "penstock torch, features", peers)
    ratio("numpy decoded / Grain with ArrayRecord", "penstock numpy, decoded", ["grain, array_record"])
    ratio("raw / JPEG                                         (bar >= 4)", RAW, ["penstock numpy, decoded"])
    ratio("host part / decoded alone                       (bar >= 0.95)", *_pair("host part"))
    ratio("all features on the CPU / decoded alone", *_pair("features"))


def _pair(part: str) -> tuple[str, list[str]]:
    return f"penstock numpy, {part}", ["penstock numpy, decoded"]


if __name__ == "__main__":
    main()

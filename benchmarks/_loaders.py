"""The loaders that `load.py` compares. Each is measured in a process of its own, by the Python that has its package.

Usage:
  _loaders.py write KIND FOLDER OUTPUT            writes the JPEG files of a folder in another format
  _loaders.py measure NAME DATA WORKERS SECONDS   prints a loader's figures as JSON
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

BATCH = 64
ROWS_BATCH = 256
TARS = 8
BUFFER = 1000  # examples, of a buffer that shuffles
NUMBERS = ("age", "capital-gain", "capital-loss", "hours-per-week")
STRINGS = (
    "workclass", "education", "marital-status", "occupation", "relationship", "race", "sex", "native-country",
    "classification",
)  # fmt: skip

Batches = Iterable[Any]


@dataclass(frozen=True)
class Loader:
    """What makes batches of examples.

    Attributes:
      package: What it needs, by the name of its distribution.
      data: What it reads: the dataset "jpeg", "raw" or "rows", the folder "files" of JPEG files, or one of WRITERS.
      batches: Of where the data is and the number of workers: what is iterated over for each epoch.
    """

    package: str
    data: str
    batches: Callable[[str, int], Batches]


def _numpy(batch: int = BATCH, **options: Any) -> Callable[[str, int], Batches]:
    return lambda data, workers: _open(data).numpy("train", batch, shuffle=True, threads=workers, **options)


def _torch(**options: Any) -> Callable[[str, int], Batches]:
    return lambda data, workers: _open(data).torch("train", BATCH, shuffle=True, threads=workers, **options)


def _tf(batch: int = BATCH, **options: Any) -> Callable[[str, int], Batches]:
    return lambda data, workers: _open(data).tf("train", batch, shuffle=True, threads=workers, **options)


def _open(data: str) -> Any:
    from penstock import open_dataset

    return open_dataset(data)


def _bare(data: str, workers: int) -> Batches:
    """A decoder in a thread pool, on contents that are in memory: the least that decoding takes."""
    import random
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import simplejpeg

    contents = [path.read_bytes() for path in sorted(Path(data).glob("*.jpg"))]
    pool = ThreadPoolExecutor(workers)

    def batch(some: list[bytes]) -> Any:
        pixels = np.empty((len(some), 224, 224, 3), np.uint8)
        for content, buffer in zip(some, pixels, strict=True):
            simplejpeg.decode_jpeg(content, buffer=buffer)
        return pixels

    class Pool:
        def __iter__(self) -> Any:
            random.shuffle(contents)
            return pool.map(batch, [contents[at : at + BATCH] for at in range(0, len(contents), BATCH)])

    return Pool()


def _tf_data(autotune: bool) -> Callable[[str, int], Batches]:
    """Photos by tf.data, by hand, without features."""

    def batches(data: str, workers: int) -> Batches:
        import tensorflow as tf

        spec = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.string)}

        def parse(record: Any) -> Any:
            example = tf.io.parse_single_example(record, spec)
            return tf.io.decode_jpeg(example["image"], 3), example["label"]

        records = _tf_records(data, workers, autotune).map(parse, num_parallel_calls=workers)
        return records.batch(BATCH).prefetch(tf.data.AUTOTUNE)  # type: ignore[no-any-return]

    return batches


def _tf_rows(data: str, workers: int) -> Batches:
    """Rows of a table by tf.data, by hand, without features."""
    import tensorflow as tf

    spec = {name: tf.io.FixedLenFeature([], tf.int64) for name in NUMBERS}
    spec |= {name: tf.io.FixedLenFeature([], tf.string, default_value="") for name in STRINGS}
    records = _tf_records(data, workers, autotune=False).batch(ROWS_BATCH)
    parsed = records.map(lambda batch: tf.io.parse_example(batch, spec), num_parallel_calls=workers)
    return parsed.prefetch(tf.data.AUTOTUNE)  # type: ignore[no-any-return]


def _tf_records(data: str, workers: int, autotune: bool) -> Any:
    """Shuffled records of a dataset's shards; autotuning waits at the end of an epoch."""
    import tensorflow as tf

    shards = [f"{data}/{shard.path}" for shard in _open(data).manifest.splits["train"].shards]
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    options.autotune.enabled = autotune
    files = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards)).with_options(options)
    return files.interleave(tf.data.TFRecordDataset, num_parallel_calls=workers).shuffle(BUFFER)


def _litdata(data: str, workers: int) -> Batches:
    from litdata import StreamingDataLoader, StreamingDataset

    return StreamingDataLoader(
        StreamingDataset(data, shuffle=True), batch_size=BATCH, num_workers=workers, persistent_workers=True
    )


def _webdataset(data: str, workers: int) -> Batches:
    import webdataset

    urls = [str(path) for path in sorted(Path(data).glob("*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=TARS).shuffle(BUFFER).decode("rgb8").to_tuple("jpg", "txt")
    return webdataset.WebLoader(  # type: ignore[no-any-return]
        dataset.batched(BATCH), batch_size=None, num_workers=workers, persistent_workers=True
    )


def _grain(processes: bool) -> Callable[[str, int], Batches]:
    def batches(data: str, workers: int) -> Batches:
        import grain
        import numpy as np
        from PIL import Image

        source = grain.sources.ArrayRecordDataSource([str(path) for path in Path(data).iterdir()])
        decoded = grain.MapDataset.source(source).shuffle(seed=0).map(lambda r: np.asarray(Image.open(io.BytesIO(r))))
        if processes:
            batched = decoded.batch(BATCH).to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
            return batched.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))  # type: ignore[no-any-return]
        options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=4 * BATCH)
        return decoded.to_iter_dataset(options).batch(BATCH)  # type: ignore[no-any-return]

    return batches


def _mosaic(data: str, workers: int) -> Batches:
    import numpy as np
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    class Decoded(StreamingDataset):
        def __getitem__(self, number: Any) -> Any:
            return np.asarray(super().__getitem__(number)["image"])

    dataset = Decoded(local=data, shuffle=True, batch_size=BATCH)
    return DataLoader(dataset, batch_size=BATCH, num_workers=workers, persistent_workers=True)


def _spdl(data: str, workers: int) -> Batches:
    import random

    import spdl.io
    from spdl.pipeline import PipelineBuilder

    paths = [str(path) for path in sorted(Path(data).glob("*.jpg"))]

    def load(some: list[str]) -> Any:
        return spdl.io.to_numpy(spdl.io.load_image_batch(some, width=None, height=None, pix_fmt="rgb24"))

    class Epochs:
        def __iter__(self) -> Any:
            random.shuffle(paths)
            builder = PipelineBuilder().add_source(paths).aggregate(BATCH).pipe(load, concurrency=workers).add_sink(3)
            pipeline = builder.build(num_threads=workers)
            with pipeline.auto_stop():
                yield from pipeline

    return Epochs()


def _dali(data: str, workers: int) -> Batches:
    from nvidia.dali import fn, pipeline_def, types
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    tars = [str(path) for path in sorted(Path(data).glob("*.tar"))]

    @pipeline_def(batch_size=BATCH, num_threads=workers, device_id=None)
    def decoded() -> Any:
        jpeg = fn.readers.webdataset(paths=tars, ext=["jpg"], random_shuffle=True, initial_fill=BUFFER, name="reader")
        return fn.decoders.image(jpeg, device="cpu", output_type=types.RGB)

    return DALIGenericIterator([decoded()], ["image"], reader_name="reader", auto_reset=True)  # type: ignore[no-any-return]


LOADERS = {
    "penstock numpy, decoded": Loader("penstock", "jpeg", _numpy(features=False)),
    "penstock numpy, host part": Loader("penstock", "jpeg", _numpy(features="host")),
    "penstock numpy, features": Loader("penstock", "jpeg", _numpy(features=True)),
    "penstock numpy, raw": Loader("penstock", "raw", _numpy(features=False)),
    "penstock torch, decoded": Loader("torch", "jpeg", _torch(features=False)),
    "penstock torch, features": Loader("torch", "jpeg", _torch(features=True)),
    "penstock torch, raw": Loader("torch", "raw", _torch(features=False)),
    "penstock tf, decoded": Loader("tensorflow", "jpeg", _tf(features=False)),
    "penstock tf, features": Loader("tensorflow", "jpeg", _tf(features=True)),
    "bare decoder": Loader("simplejpeg", "files", _bare),
    "tf.data by hand": Loader("tensorflow", "jpeg", _tf_data(autotune=True)),
    "tf.data by hand, not autotuned": Loader("tensorflow", "jpeg", _tf_data(autotune=False)),
    "litdata": Loader("litdata", "litdata", _litdata),
    "webdataset": Loader("webdataset", "tar", _webdataset),
    "grain, threads": Loader("array_record", "array_record", _grain(processes=False)),
    "grain, processes": Loader("array_record", "array_record", _grain(processes=True)),
    "mosaicml streaming": Loader("mosaicml-streaming", "mds", _mosaic),
    "spdl": Loader("spdl", "files", _spdl),
    "dali": Loader("nvidia-dali-cuda120", "tar", _dali),
    "penstock rows numpy, features": Loader("penstock", "rows", _numpy(ROWS_BATCH, features=True)),
    "penstock rows tf, decoded": Loader("tensorflow", "rows", _tf(ROWS_BATCH, features=False)),
    "penstock rows tf, features": Loader("tensorflow", "rows", _tf(ROWS_BATCH, features=True)),
    "tf.data rows by hand": Loader("tensorflow", "rows", _tf_rows),
}


def _write_litdata(files: list[Path], output: Path) -> None:
    from litdata.streaming.writer import BinaryWriter
    from PIL import Image

    writer = BinaryWriter(str(output), chunk_bytes="64MB")
    for number, path in enumerate(files):
        writer[number] = {"image": Image.open(path), "index": number}  # a JPEG from a file is stored unchanged
    writer.done()
    writer.merge()


def _write_tar(files: list[Path], output: Path) -> None:
    import webdataset

    for tar in range(TARS):
        with webdataset.TarWriter(str(output / f"{tar}.tar")) as sink:
            for path in files[tar::TARS]:
                sink.write({"__key__": path.stem, "jpg": path.read_bytes(), "txt": path.stem})


def _write_array_record(files: list[Path], output: Path) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(output / "0.array_record"), "group_size:1")
    for path in files:
        writer.write(path.read_bytes())
    writer.close()


def _write_mds(files: list[Path], output: Path) -> None:
    from PIL import Image
    from streaming import MDSWriter

    with MDSWriter(out=str(output), columns={"image": "jpeg", "index": "int"}) as writer:
        for number, path in enumerate(files):
            writer.write({"image": Image.open(path), "index": number})  # a JPEG from a file is stored unchanged


WRITERS = {"litdata": _write_litdata, "tar": _write_tar, "array_record": _write_array_record, "mds": _write_mds}


def measure(name: str, data: str, workers: int, seconds: float) -> dict[str, float]:
    """One loader's figures.

    Returns:
      cold: Examples a second of the first epoch, with the files dropped from the page cache and all imports.
      warm: Examples a second of the epochs after it.
      cpu: CPU seconds an example of these epochs, of this process and its children.
      first: Seconds from the beginning of such an epoch to its first batch, the median.
      examples: In an epoch.
    """
    _drop_from_cache(Path(data))
    start = time.perf_counter()
    batches = LOADERS[name].batches(data, workers)
    epoch = sum(_size(batch) for batch in batches)
    cold = epoch / (time.perf_counter() - start)
    examples, firsts, cpu, start = 0, [], cpu_seconds(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        iterator = iter(batches)
        examples += _size(next(iterator))
        firsts.append(time.perf_counter() - begun)
        examples += sum(_size(batch) for batch in iterator)
    elapsed = time.perf_counter() - start
    cpu = (cpu_seconds() - cpu) / examples
    return {"cold": cold, "warm": examples / elapsed, "cpu": cpu, "first": median(firsts), "examples": epoch}


def _size(batch: Any) -> int:
    while not hasattr(batch, "shape"):
        batch = batch.get("image", next(iter(batch.values()))) if isinstance(batch, dict) else batch[0]
    return int(batch.shape[0])


def _drop_from_cache(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def cpu_seconds() -> float:
    """Of this process and of all that it started, running and waited for."""
    tree, total = {os.getpid()}, 0
    stats = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    for number in stats:  # a process has a larger number than its parent
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
        except OSError:  # it ended
            continue
        if number in tree or int(fields[1]) in tree:
            tree.add(number)
            total += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return total / os.sysconf("SC_CLK_TCK")


def main(command: str, name: str, *words: str) -> None:
    if command == "write":
        WRITERS[name](sorted(Path(words[0]).glob("*.jpg")), Path(words[1]))
    else:
        print(json.dumps(measure(name, words[0], int(words[1]), float(words[2]))), flush=True)
        os._exit(0)  # loaders with processes take seconds to end, and some print


if __name__ == "__main__":
    main(*sys.argv[1:])

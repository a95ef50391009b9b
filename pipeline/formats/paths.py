"""The only owner of paths and names in a dataset, both ways. Standard library only.

    DATASET/
      _DATASET.json                                   pointer to the current generation
      <generation>.removed/                           what `penstock prune` is about to remove
      <generation>.hashes/                            hashes of payloads, while a run looks for duplicates
      <generation>/
        manifest.json
        manifest.sha256                               its checksum, as sha256sum writes it
        croissant.json  SHA256SUMS                    what it holds, for other tools, and the checksums of its shards
        data/<split>-<index>-of-<count>.tfrecord[.gz]   or .parquet
        index/<split>-<index>-of-<count>.u64            where each record begins in its shard
        transform_graph/{transform_fn,transformed_metadata}/
        statistics/statistics.json  statistics/values.arrow  statistics/golden.json
        quarantine/plan.jsonl  quarantine/unit-<unit>.jsonl
        filtered/plan.jsonl  filtered/unit-<unit>.jsonl
        units/journals.jsonl  units/inputs.arrow        what later runs need: what each unit read, and what came out
        units/forgotten.txt                             digests of what the dataset is to forget
        units/<unit>.{arrow,summaries,accumulators}     its examples' hashes, and its part of the statistics
        _work/                                        plan and journals of a run; gone after the commit

Paths handed to users and written to the manifest are relative to the dataset and use `/`.
"""

import re
from dataclasses import dataclass

FORMAT = 1
POINTER = "_DATASET.json"
MANIFEST = "manifest.json"
MANIFEST_SHA256 = "manifest.sha256"
CROISSANT = "croissant.json"
CHECKSUMS = "SHA256SUMS"
DATA = "data"
INDEX = "index"
TRANSFORM_GRAPH = "transform_graph"
STATISTICS = "statistics/statistics.json"
VALUES = "statistics/values.arrow"
DUPLICATES = "statistics/duplicates.json"
GOLDEN = "statistics/golden.json"
QUARANTINE = "quarantine"
PLAN_QUARANTINE = "quarantine/plan.jsonl"
FILTERED = "filtered"
PLAN_FILTERED = "filtered/plan.jsonl"
KEPT = "units"
JOURNALS = "units/journals.jsonl"
INPUTS = "units/inputs.arrow"
FORGOTTEN = "units/forgotten.txt"
WORK = "_work"
PLAN = "_work/plan.arrow"
NOMINAL = "_work/nominal.arrow"
RESOLVED = "_work/resolved.arrow"
RUN = "_work/run"
LEASE = "_work/lease.json"
JOB = "_work/job.json"
BASE = "_work/base"
PLAN_UNITS = "_work/units.jsonl"
JOINED = "_work/joined"
UNITS = "_work/units"
DEATHS = "_work/deaths"
SEGMENT_DIGESTS = "_work/segments/groups.sha256"

_SPLIT = r"[A-Za-z0-9][A-Za-z0-9_.]*"
_SHARD = re.compile(
    rf"(?P<split>{_SPLIT})-(?P<index>\d{{5,}})-of-(?P<count>\d{{5,}})\.(?P<format>tfrecord|parquet)(?P<gzip>\.gz)?"
)


def is_split_name(name: str) -> bool:
    """Whether `name` can name a split: letters, digits, `_` and `.`, so that a shard's name can be read back."""
    return re.fullmatch(_SPLIT, name) is not None


def is_generation(name: str) -> bool:
    """Whether `name` can be a generation's id: 16 lower-case hexadecimal digits."""
    return re.fullmatch(r"[0-9a-f]{16}", name) is not None


def removed(generation: str) -> str:
    """What a generation's folder is called while it is removed: nobody takes it for a generation any more."""
    return f"{generation}.removed"


def payload_hashes(generation: str) -> str:
    """A folder beside a generation that is to be made, with hashes of its payloads, until it is planned."""
    return f"{generation}.hashes"


def is_payload_hashes(name: str) -> bool:
    """Whether a folder is such a one."""
    return name.endswith(".hashes") and is_generation(name.removesuffix(".hashes"))


def is_removed(name: str) -> bool:
    """Whether a folder is one that was to be removed."""
    return name.endswith(".removed") and is_generation(name.removesuffix(".removed"))


@dataclass(frozen=True, order=True)
class ShardName:
    """The name of one shard of prepared examples.

    Attributes:
      split: The split that it belongs to.
      index: Its position among the split's shards, from 0.
      count: How many shards the split has.
      gzip: Whether the file is gzip-compressed.
      format: `tfrecord` or `parquet`.
    """

    split: str
    index: int
    count: int
    gzip: bool = False
    format: str = "tfrecord"

    def __str__(self) -> str:
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}.{self.format}{'.gz' if self.gzip else ''}"

    @property
    def path(self) -> str:
        """The path inside a generation."""
        return f"{DATA}/{self}"

    @property
    def index_path(self) -> str:
        """The path of its record offsets: uint64, little-endian, one more than there are records."""
        return f"{INDEX}/{self.split}-{self.index:05d}-of-{self.count:05d}.u64"

    @classmethod
    def parse(cls, name: str) -> "ShardName":
        """Reads a name or a path back.

        Raises:
          ValueError: it is not a shard's name.
        """
        match = _SHARD.fullmatch(name.rsplit("/", 1)[-1])
        if match is None:
            raise ValueError(f"expected a shard's name like train-00000-of-00012.tfrecord, found {name!r}")
        return cls(match["split"], int(match["index"]), int(match["count"]), match["gzip"] is not None, match["format"])


def unit_quarantine(unit: int) -> str:
    """Where a unit's quarantined examples are listed."""
    return f"{QUARANTINE}/unit-{unit:05d}.jsonl"


def unit_filtered(unit: int) -> str:
    """Where a unit's filtered examples are listed."""
    return f"{FILTERED}/unit-{unit:05d}.jsonl"


def scan(task: int) -> str:
    """What a task found of where rows begin in some ranges of the input."""
    return f"{WORK}/scans/{task:05d}.arrow"


def unit_contents(unit: int) -> str:
    """The hashes of a unit's rows, by partition, among which duplicates are looked for."""
    return f"{WORK}/contents/{unit:05d}.u64"


def duplicates(partition: int) -> str:
    """The rows that equal an earlier one, by unit, whose hashes are in a partition."""
    return f"{WORK}/duplicates/{partition:05d}.u64"


def unit_journal(unit: int) -> str:
    """The JSON that says a unit is finished, and what came out of it."""
    return f"{UNITS}/{unit:05d}.json"


def attempt(unit: int) -> str:
    """The mark of the last attempt at a unit that began."""
    return f"{WORK}/attempts/{unit:05d}.json"


def hashing_attempt(unit: int) -> str:
    """The mark of the last attempt at hashing a unit's rows that began."""
    return f"{WORK}/attempts/{unit:05d}.hashing.json"


def unit_hashes(unit: int) -> str:
    """The content hashes of a unit's examples (Arrow IPC), by which duplicates and changes are found."""
    return f"{KEPT}/{unit:05d}.arrow"


def unit_summaries(unit: int) -> str:
    """The summaries of a unit's columns (see `summaries.encode`)."""
    return f"{KEPT}/{unit:05d}.summaries"


def unit_ranges(unit: int) -> str:
    """What became of each range of a unit of a table (see `range_totals.encode`)."""
    return f"{KEPT}/{unit:05d}.ranges"


def unit_accumulators(unit: int) -> str:
    """What tft's analyzers have accumulated of a unit in the first phase of their analysis."""
    return f"{KEPT}/{unit:05d}.accumulators"


def unit_files(unit: int) -> list[str]:
    """Where all files of a unit are that are named after it, but for its journal."""
    makers = (unit_quarantine, unit_filtered, unit_hashes, unit_summaries, unit_ranges, unit_accumulators)
    return [make_path(unit) for make_path in makers]


def phase_accumulators(phase: int, results: str, unit: int, content: str) -> str:
    """What they have in a later phase, given digests of the results of the one before, and of what the unit holds."""
    return f"{WORK}/phases/{phase}-{results}/{unit:05d}-{content}.accumulators"


def phase_results(phase: int) -> str:
    """What tft's analyzers give in a phase and in those before it."""
    return f"{WORK}/phases/{phase}.results"


def unit_segments(unit: int) -> str:
    """A unit's prepared rows, on their way to other units' shards: a .tfrecord, and its index, a .u64."""
    return f"{UNITS}/{unit:05d}"


def combined_segments(units: int, targets: int, digest: str) -> str:
    """The rows of a group of units for the shards of a group: a .tfrecord, and its index, a .u64."""
    return f"{WORK}/segments/{units:05d}-{targets:05d}-{digest}"


def unit_of_journal(path: str) -> int | None:
    """The unit whose journal a path is; None: it is something else."""
    match = re.fullmatch(rf"{UNITS}/(\d{{5,}})\.json", path)
    return int(match[1]) if match else None


def progress(run: str) -> str:
    """The folder where a run's workers tell how far they are, when they are not on the launcher's machine."""
    return f"{WORK}/progress/{run}"


def outcome(run: str) -> str:
    """How a run ended."""
    return f"{WORK}/outcomes/{run}.json"


def commit_record(sha256: str) -> str:
    """What an attempt at a commit writes, by the SHA-256 of its manifest.json."""
    return f"{WORK}/commits/{sha256}.arrow"

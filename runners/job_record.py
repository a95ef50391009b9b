"""What a generation says of the job that makes it, where that job goes on without the process that submitted it."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..pipeline.errors import DatasetError, RequestError
from ..pipeline.formats import paths
from ..pipeline.formats.pointer import Pointer
from ..pipeline.storage import files
from .engine import Engine, EngineOptions, make_engine

# What of Beam's options leads back to a job. All others stay where they were given: some are secrets; and an endpoint
# that gets the user's credentials must not be one that whoever can write here has chosen.
_LEADING = ("environment_type", "job_endpoint", "project", "region")


@dataclass(frozen=True)
class JobRecord:
    """A job that makes a generation.

    Attributes:
      dataset: The dataset's URI.
      generation: The generation's id.
      run: The id of the run that submitted it.
      engine: The engine's name.
      job_id: What the engine calls it.
      url: A page that shows it; None where there is none.
      started: When it was submitted, as ISO 8601.
      units: How many units it has.
      examples: How many examples they hold; None where that is not known.
      replaces: The SHA-256 of the manifest that the dataset had before; None: it had none.
      flink_master: Address of a Flink cluster.
      beam_arguments: Those of Beam's options that lead to the job.
    """

    dataset: str
    generation: str
    run: str
    engine: str
    job_id: str
    url: str | None
    started: str
    units: int
    examples: int | None
    replaces: str | None
    flink_master: str | None = None
    beam_arguments: Sequence[str] = field(default=())

    @property
    def root(self) -> str:
        """The generation's URI."""
        return files.join(self.dataset, self.generation)

    @property
    def name(self) -> str:
        """The job, in words."""
        return f"{self.engine} job {self.job_id}" + (f" ({self.url})" if self.url else "")

    def make_engine(self, options: EngineOptions | None = None) -> Engine:
        """The engine that the job is on.

        Args:
          options: What leads to it besides; None: the record alone.

        Raises:
          RequestError: there is no such engine, or the record names a class to be imported, as no record may.
        """
        if not self.engine.isalpha():
            raise RequestError(
                f"{self.root}: expected a record that names an engine, found {self.engine!r}; run the recipe again"
            )
        given = options or EngineOptions()
        master = given.flink_master or self.flink_master
        arguments = (*self.beam_arguments, *given.beam_arguments)
        return make_engine(self.engine, EngineOptions(flink_master=master, beam_arguments=arguments))

    def with_options(self, options: EngineOptions) -> "JobRecord":
        """The record with those of an engine's options in it that lead to the job."""
        leading = leading_options(options.beam_arguments)
        return replace(self, flink_master=options.flink_master, beam_arguments=leading)

    def is_committed(self) -> bool:
        """Whether the dataset names what the job made: a manifest that was not there before."""
        current = Pointer.read(self.dataset)
        return current is not None and current.generation == self.generation and current.sha256 != self.replaces

    def write(self) -> None:
        """Writes it into the generation."""
        entry = {name: value for name, value in asdict(self).items() if name != "dataset"}
        files.write_bytes(files.join(self.root, paths.JOB), (json.dumps(entry, indent=2) + "\n").encode())

    def remove(self) -> None:
        """Removes it, if that can be done: the job has ended, and the next run finds out the same."""
        with contextlib.suppress(OSError):
            files.remove_files([files.join(self.root, paths.JOB)])

    @classmethod
    def read(cls, dataset: str, generation: str) -> "JobRecord | None":
        """The record of a generation; None where there is none, or it is damaged."""
        try:
            content: Mapping[str, Any] = json.loads(files.read_bytes(files.join(dataset, generation, paths.JOB)))
            record = cls(**{"dataset": dataset, **content, "beam_arguments": tuple(content["beam_arguments"])})
            return record if record._is_sound() else None
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return None

    def _is_sound(self) -> bool:
        """Whether it is of the kinds that `write` leaves: whoever can write the dataset may have written it."""
        strings = (self.generation, self.run, self.engine, self.job_id, self.started, *self.beam_arguments)
        optional = (self.url, self.replaces, self.flink_master)
        numbers = (self.units, 0 if self.examples is None else self.examples)
        return (
            all(isinstance(each, str) for each in strings)
            and all(each is None or isinstance(each, str) for each in optional)
            and all(isinstance(each, int) for each in numbers)
            and leading_options(self.beam_arguments) == tuple(self.beam_arguments)
        )

    @classmethod
    def find(cls, dataset: str) -> "JobRecord | None":
        """The record of the job that was submitted last, of all generations; None where there is none.

        Raises:
          DatasetError: the dataset cannot be read.
        """
        try:
            generations = [name for name in files.list_names(dataset) if paths.is_generation(name)]
            records = [record for each in generations if (record := cls.read(dataset, each))]
        except (FileNotFoundError, NotADirectoryError):  # a store has no folders, and lists nothing then
            return None
        except OSError as error:
            raise DatasetError(f"{dataset}: expected a dataset that can be read, found: {error}") from error
        return max(records, key=lambda record: record.started, default=None)


def leading_options(arguments: Sequence[str]) -> tuple[str, ...]:
    """Those of Beam's options that lead back to a job, each as `--name=value`.

    Args:
      arguments: What follows `--`: `--name=value`, `--name value`, or `--name` alone.
    """
    leading = []
    for at, argument in enumerate(arguments):
        name, equals, _ = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in _LEADING:
            continue
        value = arguments[at + 1] if not equals and at + 1 < len(arguments) else ""
        leading.append(f"{argument}={value}" if value and not value.startswith("--") else argument)
    return tuple(leading)

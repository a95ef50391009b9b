"""The base of a run: an earlier generation of the dataset, from which the run takes over what did not change."""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from ..errors import DatasetError, PenstockError
from ..formats.manifest import Manifest, StoredFile, read_stored
from ..planning.plan_file import Unit
from ..storage import files
from .journal import Journal, decode_hashes, read_kept

_LINKS = 8  # of a unit's files at a time
_REMEDY = ", remove the files that it names, and run again: all is prepared anew then"


@dataclass(frozen=True)
class BaseGeneration:
    """The generation that a run takes over from.

    Attributes:
      root: Its URI.
      same_statistics: Whether what its units keep for the statistics and for tft's analyzers is what this run's would
        keep of the same examples.
    """

    root: str
    same_statistics: bool

    @cached_property
    def journals(self) -> dict[int, Journal]:
        """The journals of its units by their numbers, read once.

        Raises:
          PenstockError: they are not there any more, or are damaged.
        """
        dataset, generation = self._place
        try:
            manifest, _ = Manifest.read_generation(dataset, generation)
            return {journal.unit: journal for journal in read_kept(dataset, manifest)}
        except DatasetError as error:
            raise self.gone(error) from error

    def journal(self, unit: int) -> Journal:
        """The journal of one of its units.

        Raises:
          PenstockError: it has none.
        """
        if unit not in self.journals:
            raise self.damaged(f"expected a journal of unit {unit}, found none")
        return self.journals[unit]

    def read(self, file: StoredFile) -> bytes:
        """The content of a file of one of its units, checked.

        Raises:
          PenstockError: it is not there any more, or is damaged.
        """
        dataset, generation = self._place
        try:
            return read_stored(dataset, file.within(generation))
        except DatasetError as error:
            raise self._unlike(f"{error}{_REMEDY}") from error  # it says to verify

    def hashes(self, journal: Journal) -> pa.Table:
        """The hashes of the examples of one of its units (see `journal.read_hashes`), as many as are in its shards.

        Args:
          journal: The unit's.

        Raises:
          PenstockError: they are not there any more, or are damaged.
        """
        table = decode_hashes(self.read(journal.hashes) if journal.hashes else None)
        if len(table) != journal.written:
            raise self.damaged(
                f"expected the hashes of {journal.written} examples of unit {journal.unit}, found {len(table)}"
            )
        return table

    def link(self, file: StoredFile, root: str, path: str) -> None:
        """Gives a file of one of its units a name in another generation; see `files.link_or_copy`.

        Raises:
          PenstockError: it is not there any more, or is damaged.
        """
        source = files.join(self.root, file.path)
        try:
            files.link_or_copy(source, files.join(root, path), file.bytes)
        except (FileNotFoundError, files.SizeMismatch) as error:
            raise self.gone(error) from error

    @property
    def _place(self) -> tuple[str, str]:
        dataset, _, generation = self.root.rpartition("/")
        return dataset, generation

    def gone(self, error: Exception) -> PenstockError:
        """What to say where a file of it is not there any more, or has another length: the next run sees that."""
        return self._unlike(f"{error}; run again")

    def damaged(self, fault: str) -> PenstockError:
        """What to say where the content of a file is not what was written, which the next run would meet again."""
        return self._unlike(f"{fault}; run `penstock verify`{_REMEDY}")

    def _unlike(self, fault: str) -> PenstockError:
        return PenstockError(
            f"{self.root}: expected the generation that this run takes examples over from, found: {fault}"
        )


def link_unit(base: BaseGeneration, root: str, unit: Unit) -> Journal:
    """Gives the files of the base's unit that a unit is, but for what is kept for the statistics, the unit's names.

    What is kept for the statistics is among them only where it is the same.

    Args:
      base: The base.
      root: The URI of the generation that is made.
      unit: The unit, of a base's.

    Returns:
      The unit's journal, which is not written yet.

    Raises:
      PenstockError: the base's unit is not there any more, or has other splits.
    """
    assert unit.base is not None
    before = base.journal(unit.base)
    if before.shards.keys() != unit.shards.keys() or before.segment_file:
        raise base.damaged(
            f"expected shards of {sorted(unit.shards)} of unit {unit.base}, found {sorted(before.shards)}"
        )
    if not base.same_statistics:
        before = before.without_statistics()
    journal = before.moved(unit.index, unit.shards)

    def link(pair: tuple[StoredFile, StoredFile]) -> None:
        base.link(pair[0], root, pair[1].path)

    for _ in files.map_files(link, zip(before.files, journal.files, strict=True), _LINKS):
        pass
    return journal

"""Jobs whose units take over, or are put together from, what an earlier generation has stored: plans made by hand."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from helpers import prepare_job, request

from penstock.pipeline import job
from penstock.pipeline.build.base import BaseGeneration
from penstock.pipeline.build.journal import FinishedUnits
from penstock.pipeline.formats import paths
from penstock.pipeline.planning.plan_file import BASE, BASE_PLACE, PlannedUnits, Unit, read_inputs
from penstock.pipeline.storage import files

Planned = tuple[Unit, pa.RecordBatch]
HASH = "d" * 64


def planned_batches(units: PlannedUnits, folder: Path) -> list[Planned]:
    """The units of a plan, and the columns of what each reads."""
    units.write(str(folder / "plan.arrow"))
    with pa.ipc.open_file((folder / "plan.arrow").read_bytes()) as reader:
        return [(unit, reader.get_batch(unit.index)) for unit in units.units]


def with_bases(planned: Planned, bases: list[tuple[int, int] | None]) -> Planned:
    """A unit of which some references or ranges are stored in units of a base, at some places there."""
    unit, batch = planned
    for at, name in enumerate((BASE, BASE_PLACE)):
        batch = batch.append_column(name, pa.array([each and each[at] for each in bases], pa.int32()))
    return unit, batch


def unchanged(base: Path) -> Callable[[list[Planned]], list[Planned]]:
    """Says of every reference or range of a plan where a base has what became of it, unless it has changed."""

    def identity(unit: Unit, row: dict[str, Any]) -> str:
        known = {name: value for name, value in row.items() if name not in ("uri", "mask", "root", "number", "version")}
        return json.dumps([list(unit.shards), known], sort_keys=True, default=str)

    stored = {
        identity(unit, row): (unit.index, place)
        for unit, batch in read_inputs(str(base / paths.INPUTS))
        for place, row in enumerate(batch.to_pylist())
    }

    def arrange(planned: list[Planned]) -> list[Planned]:
        return [
            with_bases((unit, batch), [stored.get(identity(unit, row)) for row in batch.to_pylist()])
            for unit, batch in planned
        ]

    return arrange


def begin_delta(
    recipe: Any,
    source: Path,
    output: str | Path,
    folder: Path,
    base: str | Path | None = None,
    arrange: Callable[[list[Planned]], Iterable[Planned]] = iter,
    same_statistics: bool = True,
    **options: Any,
) -> Any:
    """A job whose plan is written and no unit made: that of a run, with its units arranged anew, and a base."""
    asked = request(recipe, source, output, HASH, **options)  # type: ignore[arg-type]
    planned = job.plan(asked)
    arranged = PlannedUnits(iter(list(arrange(planned_batches(planned.plan.units, folder)))))
    planned = replace(planned, plan=replace(planned.plan, units=arranged))
    prepared = prepare_job(asked, planned)
    of_base = BaseGeneration(str(base), same_statistics) if base else None
    prepared = replace(prepared, make=replace(prepared.make, base=of_base))
    job.begin(prepared, planned, FinishedUnits(prepared.make.root))
    return prepared


def written(root: str) -> dict[str, bytes]:
    """The files of a generation, without its plan and what only a run needs."""
    uris = {info.uri[len(root) + 1 :]: info.uri for info in files.list_folder(root)}
    return {path: files.read_bytes(uri) for path, uri in uris.items() if not path.startswith("_work/")}

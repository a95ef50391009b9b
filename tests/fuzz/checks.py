"""What must hold for a damaged file, whatever the damage is. A crash, a hang and memory are `isolation`'s to see."""

import os
import tempfile

from .adapters import Table, prepare_image, read_table
from .mutations import Case, Damage
from .seeds import IMAGES, Seed, compressed

_RANGES = (1 << 30, 1, 64, 1000)  # bytes; the first reads the file as a whole


def examine(case: Case, folder: str) -> tuple[str, list[str]]:
    """Reads a case's file.

    Args:
      case: Which.
      folder: An empty folder for the file.

    Returns:
      What came out, which must be the same in every process; and what of it is wrong.
    """
    path = os.path.join(folder, "x" + case.seed.suffix)
    with open(path, "wb") as file:
        file.write(case.content)
    if case.seed.format in IMAGES:
        number = case.number // 3
        return prepare_image(path, mask=number % 4 == 0, first_frame=number % 2 == 0, strict=number % 5 != 0), []
    sizes = _RANGES[:2] if case.seed.is_gzip else _RANGES  # a compressed file is one range, whatever its size
    tables = [_read(case.seed, folder, size) for size in sizes]
    wrong = [planned(table, size) for table, size in zip(tables, sizes, strict=True)]
    wrong += [same(tables[0], table, size) for table, size in zip(tables[1:], sizes[1:], strict=True)]
    if case.damage:
        wrong.append(one_lost(_whole(case.seed), tables[0], case.damage))
    return repr(tables[0]), [each for each in wrong if each]


def _read(seed: Seed, folder: str, range_bytes: int) -> Table:
    return read_table(seed.format, folder, "x" + seed.suffix, seed.options, range_bytes)


_undamaged: dict[str, Table] = {}


def _whole(seed: Seed) -> Table:
    """What the seed itself holds: every row of it, and nothing in the quarantine."""
    name = f"{seed.format} {seed.name}"
    if name not in _undamaged:
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "x" + seed.suffix), "wb") as file:
                file.write(compressed(seed.content) if seed.is_gzip else seed.content)
            table = _read(seed, folder, _RANGES[0])
        assert len(table.rows) == len(seed.rows), f"{name} is not valid: {table}"
        _undamaged[name] = table
    return _undamaged[name]


def planned(table: Table, size: int) -> str:
    read = len(table.rows) + len(table.quarantined)
    if table.planned in (None, read):
        return ""
    return f"planned: ranges of {size} bytes say {table.planned} rows, and hold {read}"


def same(whole: Table, cut: Table, size: int) -> str:
    """How the rows differ between two ways to cut the file; a refusal may be worded otherwise."""
    if bool(whole.refused) != bool(cut.refused):
        return f"cut: read as a whole {_words(whole)}; in ranges of {size} bytes {_words(cut)}"
    for name in ("schema", "rows", "quarantined"):
        one, other = getattr(whole, name), getattr(cut, name)
        if one != other:
            return f"cut: in ranges of {size} bytes other {name}: {_difference(one, other)}"
    return ""


def one_lost(before: Table, after: Table, damage: Damage) -> str:
    """Which rows were lost or changed though the damaged byte is not theirs."""
    if after.refused:
        return "" if damage.may_refuse else f"one row: the file was refused: {after.refused}"
    if after.schema != before.schema:
        return f"one row: the columns changed: {_difference(before.schema, after.schema)}"
    first, last = before.rows[: damage.first], before.rows[damage.stop :]
    if not damage.renumbers:
        others = [row for row in after.rows if not damage.first <= row[0] < damage.stop]
        return "" if others == first + last else f"one row: others changed: {_difference(first + last, others)}"
    values = [value for _, value in after.rows]
    if after.rows[: len(first)] != first:
        return f"one row: those before it changed: {_difference(first, after.rows[: len(first)])}"
    if last and values[len(first) :][-len(last) :] != [value for _, value in last]:
        return f"one row: those behind it changed: {_difference(last, after.rows[-len(last) :])}"
    return ""


def _words(table: Table) -> str:
    if table.refused:
        return f"refused ({table.refused})"
    return f"{len(table.rows)} rows, {len(table.quarantined)} quarantined"


def _difference(one: list, other: list) -> str:
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{len(one)} and {len(other)}; at {at} {str(one[at : at + 1])[:150]} and {str(other[at : at + 1])[:150]}"

"""A table's columns and how their values are read: listing gives it, reading takes it, the manifest keeps it."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import pyarrow as pa

from .column_types import Policies, numbers_among, policy


@dataclass(frozen=True)
class ReadRules:
    """How a column's values are read.

    Attributes:
      missing: What stands for a missing value, as it is written in the source.
      strip: Of strings and bytes, whether blanks around them are left out; None of numbers.
      nonfinite: Of floats, what is done with NaN and infinities: one of `column_types.POLICIES`; None of all others.
    """

    missing: tuple[str, ...] = ()
    strip: bool | None = None
    nonfinite: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The rules in the manifest."""
        rules = {"missing": list(self.missing), "strip": self.strip, "nonfinite": self.nonfinite}
        return {name: value for name, value in rules.items() if value is not None}


@dataclass(frozen=True)
class RulesByTable:
    """How a column of a union is read, whose tables read it differently: their rules, by the table's name."""

    tables: Mapping[str, "ReadRules | RulesByTable"]

    def to_json(self) -> dict[str, Any]:
        """The rules in the manifest."""
        return {"tables": {name: rules.to_json() for name, rules in self.tables.items()}}


ColumnRules = ReadRules | RulesByTable


@dataclass(frozen=True)
class TableSchema:
    """A table's columns. Sources that are put together of others add to it what reading them needs.

    Attributes:
      columns: Their names and types, normalised; see `column_types.normalise`.
      rules: How each is read, by name, whatever source it came through; without those of a source that does not tell.
      reasons: Why each is of its type, by name, in words; without those of a source that does not tell.
    """

    columns: pa.Schema
    rules: Mapping[str, ColumnRules]
    _: KW_ONLY
    reasons: Mapping[str, str] = field(default_factory=dict)


NO_COLUMNS = TableSchema(pa.schema([]), {})


def with_rules(
    columns: pa.Schema,
    nonfinite: Policies = "missing",
    missing: Sequence[str] = (),
    strip: bool = False,
    reasons: Mapping[str, str] | None = None,
) -> TableSchema:
    """The schema of a source that reads all its columns by the same arguments.

    Args:
      columns: Its columns.
      nonfinite: What is done with NaN and infinities.
      missing: Strings that stand for a missing value.
      strip: Whether blanks around values are left out.
      reasons: Why its columns are of their types.
    """

    def rules(column: pa.Field) -> ReadRules:
        kind = column.type.value_type if pa.types.is_list(column.type) else column.type
        if kind in (pa.string(), pa.binary()):
            return ReadRules(tuple(missing), strip=strip)
        numbers = numbers_among(tuple(missing), kind)
        tokens = tuple(token for token, number in numbers.items() if number == number)  # NaN is missing anyway
        return ReadRules(tokens, nonfinite=policy(nonfinite, column.name) if kind == pa.float64() else None)

    return TableSchema(columns, {each.name: rules(each) for each in columns}, reasons=reasons or {})

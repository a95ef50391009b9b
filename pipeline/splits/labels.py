"""What of the labels a split lacks: a class that a model never sees, or that its test never asks for."""

from collections.abc import Mapping

_MOST = 1_000  # with more labels than this, or fewer than two examples of each, they are no classes
_SHOWN = 5


def missing_labels(labels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warnings of labels that some splits have and another lacks.

    Args:
      labels: Split name to label to count of its examples.
    """
    total: dict[str, int] = {}
    for counts in labels.values():
        for label, count in counts.items():
            total[label] = total.get(label, 0) + count
    if not total or len(total) > _MOST or sum(total.values()) < 2 * len(total):
        return []
    warnings = []
    for split, counts in labels.items():
        lacking = sorted(label for label in total if not counts.get(label))
        if lacking and counts:
            shown = ", ".join(map(repr, lacking[:_SHOWN])) + (", …" if len(lacking) > _SHOWN else "")
            warnings.append(
                f"split {split!r} has no example of {len(lacking)} of {len(total)} labels: {shown}; "
                "by_hash(..., stratify='label') gives every split its share of each label"
            )
    return warnings
